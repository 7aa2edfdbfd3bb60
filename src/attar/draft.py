"""`attar draft` in Python: drafts for speculative decoding."""

from attar.methods.distillspec import DistillSpecConfig as Config
from attar.methods.distillspec import evaluate_draft as evaluate
from attar.methods.distillspec import init_draft as init
from attar.methods.distillspec import search_drafts as search
from attar.methods.distillspec import train_draft as train

__all__ = ["Config", "evaluate", "init", "search", "train"]
