"""Attar makes language models, and the data around them, small, fast and cheap.

Public names load on first use, so that `import attar` stays quick and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from attar.budget import Budget as Budget
    from attar.budget import Cost as Cost
    from attar.budget import cost_of as cost_of
    from attar.checkpoint import load as load
    from attar.checkpoint import load_tokenizer as load_tokenizer
    from attar.checkpoint import save as save
    from attar.evaluate import score as score
    from attar.methods.bonsai import BonsaiConfig as BonsaiConfig
    from attar.methods.bonsai import prune as prune
    from attar.methods.distiller import DistillConfig as DistillConfig
    from attar.methods.distiller import distill as distill
    from attar.report import Run as Run
    from attar.slicing import SlicePlan as SlicePlan
    from attar.train.distill import HealConfig as HealConfig
    from attar.train.distill import heal as heal
    from attar.train.pretrain import PretrainConfig as PretrainConfig
    from attar.train.pretrain import pretrain as pretrain

_HOMES = {
    "Budget": "attar.budget",
    "Cost": "attar.budget",
    "cost_of": "attar.budget",
    "load": "attar.checkpoint",
    "load_tokenizer": "attar.checkpoint",
    "save": "attar.checkpoint",
    "score": "attar.evaluate",
    "BonsaiConfig": "attar.methods.bonsai",
    "prune": "attar.methods.bonsai",
    "DistillConfig": "attar.methods.distiller",
    "distill": "attar.methods.distiller",
    "Run": "attar.report",
    "SlicePlan": "attar.slicing",
    "HealConfig": "attar.train.distill",
    "heal": "attar.train.distill",
    "PretrainConfig": "attar.train.pretrain",
    "pretrain": "attar.train.pretrain",
}
__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'attar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
