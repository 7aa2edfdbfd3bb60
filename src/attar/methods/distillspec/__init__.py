"""DistillSpec: a draft model that is trained until speculative decoding with it pays.

A draft learns from its target by white-box distillation on texts that it writes itself, with the
divergence that fits the task; the decoding does not change, and the text keeps the
target's distribution.

Zhou, Lyu, Rawat, Menon, Rostamizadeh, Kumar, Kagy, Agarwal: DistillSpec, 2023, arXiv 2310.08461.
The loop is that of Agarwal et al.: On-Policy Distillation (GKD), 2023, arXiv 2306.13649.

Deviations (paper; here; why):
- Selection: the last weights; the best by block efficiency at the serving temperature, which is
  read off the target's own texts without decoding. `select_best=False` restores the paper's.
- Source of the texts: drawn for each batch; the same, but the random numbers depend on seed, step
  and prompt alone, so that a resumed or split run sees the same texts.
- Optimizer: Adafactor for tens of thousands of steps; AdamW for hundreds, as drafts here are cut
  from their targets and small.
- Speed-up: the paper's formula tau / (c g + 1) takes a pass over many tokens for one over a single
  token; here both are printed, it and one with measured times.
- LK losses (arXiv 2602.23881) stand next to the paper's divergences.
"""

from attar.methods.distillspec.config import DistillSpecConfig as DistillSpecConfig
from attar.methods.distillspec.distill import PAPER as PAPER
from attar.methods.distillspec.distill import train_draft as train_draft
from attar.methods.distillspec.loop import fit_draft as fit_draft
from attar.methods.distillspec.profile import evaluate_draft as evaluate_draft
from attar.methods.distillspec.profile import profile_pair as profile_pair
from attar.methods.distillspec.search import search_drafts as search_drafts
from attar.methods.distillspec.start import init_draft as init_draft
