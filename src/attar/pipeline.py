"""`attar pipeline` in Python: searches over distillation pipelines."""

from attar.methods.distiller.search import SearchConfig as Config
from attar.methods.distiller.search import search as search
from attar.methods.distiller.study import evaluate_studies as evaluate

__all__ = ["Config", "evaluate", "search"]
