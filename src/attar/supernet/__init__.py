"""`attar supernet` in Python: many networks of one training."""

from attar.search.elastic_training import SupernetConfig as Config
from attar.supernet.exporting import export as export
from attar.supernet.gap import evaluate as evaluate
from attar.supernet.training import train as train

__all__ = ["Config", "evaluate", "export", "train"]
