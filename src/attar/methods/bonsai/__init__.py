"""Bonsai: structured pruning from forward passes alone.

Whole parts of a decoder (KV groups, blocks of feed-forward neurons, layers) are switched off at
random, the loss of each such sub-model is measured, and a regression of the losses on the switches
tells what each part is worth. The least valuable parts go, a little at a time, until the budget
holds. No gradients; the figure of merit may be any function of the model.

Dery, Kolawole, Kagy, Smith, Neubig, Talwalkar: Everybody Prune Now, 2024, arXiv 2402.05406.

Deviations (paper; official code; here; why):
- Units: single neurons; same; *blocks* of width / 32 neurons adjacent in prior rank, because with a
  few hundred evaluations single neurons drown in noise. `ffn_block=1` restores the paper's.
- Heads: paper prunes heads of MHA models; here a KV group (key/value head and its query heads),
  which is safe under grouped queries.
- Fit: ridge; L1 by Adam over a grid; closed-form ridge, lambda by leave-one-*pair*-out error.
- Masks: prior-weighted fixed counts; here a coin per candidate with its complement, so that each
  module's total varies and the fit can tell what a layer can lose. `sampling="prior_weighted"`
  restores the paper's.
- Evaluations: all modules at once; the same; here attention and feed-forward candidates apart, as
  half of both off at once drowns the small effects of neurons. `joint=True` restores the paper's.
- Pool: the lowest 2p of the *present* size while p of the *original* is removed, so that late steps
  ignore the regression; here `pool_factor` times what the step removes.
- Utility: minus perplexity clipped at 1e8; here minus mean NLL per token. `utility="perplexity"`
  restores the paper's.
- Windows: the code reseeds and sees the same text every step; here new windows every step.
- Removal order: by value; here value per unit of the budget's currency. `rank_by="value"` restores
  the paper's.
"""

from attar.methods.bonsai.config import BonsaiConfig, Layout, Method
from attar.methods.bonsai.prune import PAPER, apply_plan, prune
from attar.methods.bonsai.search import Search, search

__all__ = [
    "PAPER",
    "BonsaiConfig",
    "Layout",
    "Method",
    "Search",
    "apply_plan",
    "prune",
    "search",
]
