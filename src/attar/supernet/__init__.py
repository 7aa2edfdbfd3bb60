"""`attar supernet` in Python: many networks of one training."""

from attar.search.elastic_training import SupernetConfig as Config
from attar.supernet.evaluating import evaluate as evaluate
from attar.supernet.exporting import export as export
from attar.supernet.searching import search as search
from attar.supernet.training import train as train

__all__ = ["Config", "evaluate", "export", "search", "train"]
