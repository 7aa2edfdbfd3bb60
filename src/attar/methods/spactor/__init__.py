"""SpacTor-T5: a T5 is pre-trained to find replaced tokens while it restores spans, then to restore
spans alone.

For the first tau steps, some tokens of an input with corrupted spans are replaced by samples of a
small masked language model, the generator. The encoder says of each token whether it was replaced,
which gives a signal at every position, while the decoder restores the spans from an input that is
partly wrong. Later that noise costs more than the signal is worth: the generator and the head are
thrown away, and the rest is plain span corruption. What is left is an ordinary T5.

    L_G   = mean over masked places of    -log p_G(x_u | X_c^M)
    L_RTD = mean over scored places of    BCE(sigmoid(h(encoder(X^_c)_i)), t_i)
    L_SC  = mean over target tokens of    -log p_D(y_j | y_<j, X^_c)
    L     = L_SC + w_rtd L_RTD + w_mlm L_G

Ye, Jiang, Rostamizadeh, Chakrabarti, DeSalvo, Kagy, Karydas, Citovsky, Kumar: SpacTor-T5, 2024,
arXiv 2401.13160. There is no official code; where the paper leaves a choice open, ELECTRA
(arXiv 2003.10555) and METRO-T0 (arXiv 2305.12567) decide.

Deviations (paper; here; why):
- Loss: L_G + 10 L_RTD + 10 L_SC; the same divided by 10, so that L_SC has one scale in both stages.
  Otherwise gradients shrink tenfold at tau, while the optimizer still divides by the old ones.
- Mask token: one of the vocabulary; a vector of the generator's own, as T5 tokenizers have none and
  the model never reads it.
- Logits of the generator: not said; at masked places alone, which is a good part of its cost.
- Sampled tokens: not said; text alone, no special token or sentinel.
- Detection head: not said, zero in its relatives; random, as optimizers whose steps are in
  proportion to the weights hardly move one of zeros.
- Size of the generator: not known for certain; the model's width, and a third of its depth.
"""

from attar.methods.spactor.config import SpacTorConfig as SpacTorConfig
from attar.methods.spactor.cost import TrainingFlops as TrainingFlops
from attar.methods.spactor.cost import training_cost as training_cost
from attar.methods.spactor.first_stage import FirstStage as FirstStage
from attar.methods.spactor.first_stage import plain_state as plain_state
from attar.methods.spactor.first_stage import require_t5 as require_t5
from attar.methods.spactor.objective import detect_and_restore as detect_and_restore
from attar.methods.spactor.training import train as train
from attar.report.record import Paper

PAPER = Paper(
    title=("SpacTor-T5: Pre-training T5 Models with Span Corruption and Replaced Token Detection"),
    authors=(
        "Ke Ye",
        "Heinrich Jiang",
        "Afshin Rostamizadeh",
        "Ayan Chakrabarti",
        "Giulia DeSalvo",
        "Jean-François Kagy",
        "Lazaros Karydas",
        "Gui Citovsky",
        "Sanjiv Kumar",
    ),
    year=2024,
    arxiv="2401.13160",
)
