"""Superposed Decoding: several short drafts of a text for the passes of one.

Every step feeds one vector, the mixture of the last tokens' embeddings of all drafts by their
probabilities, so that there is one forward pass and one entry of the cache, whatever their number.
N-grams counted in plain text tell which of the likely next tokens belongs to which draft.

Shen, Fan, Pratt, Park, Wallingford, Kakade, Holtzman, Krishna, Farhadi, Kusupati: Superposed
Decoding, NeurIPS 2024, arXiv 2405.18400.

Deviations (paper; official code; here; why):
- Candidates of a step: k; 3k; 3k, an option: more of them lets drafts differ.
- Temperature: named in appendix B only; divides the logits first, so that ranking and mixing
  follow; as the code, as the published figures are its.
- First token: the model alone; with the n-grams; as the code, and `first_token_ngrams=False` is the
  paper's.
- Logarithms: nothing; of a softmax in float32, in which unlikely tokens become 0; taken directly,
  so that none is lost.
- Weights of the mixture: p_i / sum p_j; a softmax that adds the maximum where it should subtract
  it; a softmax.
- Finished drafts: until a stop token; a division by zero loses them; they are kept, compared by
  score per token, and their place is given to another draft.
- Resets: one draft is drawn; absent; the cache goes back to the last exact token, and the tokens of
  that draft are read in one pass.
- Fewer than k candidates of finite score: nothing; any token; those that the n-grams do not know,
  at the penalty.
- Text for the n-grams: nothing; with BOS here and there; without special tokens.
- Batches: one prompt; all begin at the shortest; rows are independent of each other.

Extensions that neither has: `anchor_first`, `weight_temperature`, `rescore`, `heal`, `min_hit_rate`
and text behind the cursor.
"""

from attar.methods.superposed.completions import Completion as Completion
from attar.methods.superposed.completions import Completions as Completions
from attar.methods.superposed.config import SuperposedConfig as SuperposedConfig
from attar.methods.superposed.custom import save_custom_generate as save_custom_generate
from attar.methods.superposed.decoder import SuperposedDecoder as SuperposedDecoder
from attar.methods.superposed.generate import PAPER as PAPER
from attar.methods.superposed.generate import generate_drafts as generate_drafts
from attar.methods.superposed.linearity import Linearity as Linearity
from attar.methods.superposed.linearity import linearity as linearity
from attar.methods.superposed.search import NGramSearchConfig as NGramSearchConfig
from attar.methods.superposed.search import search_options as search_options
from attar.methods.superposed.stream import DraftStream as DraftStream
from attar.methods.superposed.tune import Tuning as Tuning
from attar.methods.superposed.tune import tune as tune
from attar.methods.superposed.tune import tuned as tuned
from attar.methods.superposed.tune import tuned_for as tuned_for
