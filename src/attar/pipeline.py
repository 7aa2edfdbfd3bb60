"""`attar pipeline` in Python: searches over distillation pipelines."""

from attar.methods.distiller.importance import evaluate_studies as evaluate
from attar.methods.distiller.search import SearchConfig as Config
from attar.methods.distiller.search import search as search

__all__ = ["Config", "evaluate", "search"]
