"""Distiller: every choice of a distillation pipeline behind one configuration.

A pipeline is an augmentation policy, a loss between inner features over a map of layers, and a loss
between predictions. The usual feature losses are lower bounds on the mutual information between
student and teacher; MI-alpha is a family of such bounds with a learned critic.

He, Shi, Mueller, Zha, Li, Karypis: Distiller: A Systematic Study of Model Distillation Methods in
Natural Language Processing, 2021, arXiv 2109.11105.

Deviations (paper and code; here; why):
- Prediction loss: not multiplied by the temperature squared; here it is, so that the weight of the
  loss does not depend on the temperature. `tau_squared` restores it.
- Projection: only where the student is narrower; here wherever the widths differ.
- Intermediate loss: MI-alpha by default for all; here MSE for students with random weights, for
  which one vector a text teaches too little.
- Batches of one source and last batches of one row have no mutual information: left out.
- Augmented texts are made once, before training, so that the teacher's outputs can be stored; the
  code makes new ones every few passes. `copies` gives more of them.
- Mixup: attention masks are united, and texts of other segments are no partners; the code keeps the
  first text's mask.
"""

from attar.methods.distiller.config import DistillConfig as DistillConfig
from attar.methods.distiller.distill import PAPER as PAPER
from attar.methods.distiller.distill import distill as distill
from attar.methods.distiller.search import SearchConfig as SearchConfig
from attar.methods.distiller.search import search as search
