"""Live active learning for word segmentation: people label while the experiment runs, and a random
control arm shows whether sentences that a model picks are worth more than random ones.

Kagy, Kayadelen, Ma, Rostamizadeh, Strnadova: The Practical Challenges of Active Learning: Lessons
Learned from Live Experimentation, 2019, arXiv 1907.00038.
"""

from attar.methods.active_segmentation.beliefs import Beliefs as Beliefs
from attar.methods.active_segmentation.config import SegmenterConfig as SegmenterConfig
from attar.methods.active_segmentation.segmenter import Segmenter as Segmenter
from attar.methods.active_segmentation.segmenter import fit as fit
from attar.report.record import Paper

PAPER = Paper(
    title=(
        "The Practical Challenges of Active Learning: Lessons Learned from Live Experimentation"
    ),
    authors=(
        "Jean-François Kagy",
        "Tolga Kayadelen",
        "Ji Ma",
        "Afshin Rostamizadeh",
        "Jana Strnadova",
    ),
    year=2019,
    arxiv="1907.00038",
)
