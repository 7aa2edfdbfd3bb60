"""Text, token blocks and tokenizers: what models are trained, pruned and scored on."""

from attar.data.data import Data as Data
from attar.data.encoded import load_encoded as load_encoded
from attar.data.text import SPLITS as SPLITS
from attar.data.text import load_text as load_text
from attar.data.tokens import pack as pack
from attar.data.tokens import pack_ids as pack_ids
from attar.data.tokens import train_bpe as train_bpe
