"""Text, token blocks and tokenizers: what models are trained, pruned and scored on.

Names load on first use: what reads plain files needs no torch.
"""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attar.data.data import Data as Data
    from attar.data.encoded import load_encoded as load_encoded
    from attar.data.text import SPLITS as SPLITS
    from attar.data.text import load_text as load_text
    from attar.data.tokens import pack as pack
    from attar.data.tokens import pack_ids as pack_ids
    from attar.data.tokens import train_bpe as train_bpe

_HOMES = MappingProxyType(
    {
        "Data": "data",
        "load_encoded": "encoded",
        "SPLITS": "text",
        "load_text": "text",
        "pack": "tokens",
        "pack_ids": "tokens",
        "train_bpe": "tokens",
    }
)
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
