"""Whether a tokenizer is sound: its files, its strings, and that what it encodes comes back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers.dynamic_module_utils import get_relative_imports

from attar.errors import DataError
from attar.models import DocumentTokenizer
from attar.portable.equal_info_windows import WindowDictionary
from attar.runtime import Bar

_CODE = "tokenization_equal_info.py"


def verify_tokenizer(tokenizer: DocumentTokenizer, texts: Sequence[str]) -> dict[str, int]:
    """Check that a tokenizer is sound, and that texts and random bytes come back.

    Returns:
        How much was checked, by name.

    Raises:
        DataError: something is wrong, or its folder lacks a file.
    """
    checked = {}
    if tokenizer.name_or_path:
        _require_files(Path(tokenizer.name_or_path))
    dictionary = getattr(tokenizer, "dictionary", None)
    if isinstance(dictionary, WindowDictionary):  # strings of long windows are not listed
        _check_strings(dictionary)
        checked["strings"] = len(dictionary.parent)
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, 256, size, np.uint8).tobytes() for size in (0, 1, 1000, 100_000)]
    originals = [*samples, *(text.encode() for text in texts)]
    for sample in Bar(originals, desc="checking", unit="text", leave=False):
        if tokenizer.decode_bytes(tokenizer.encode_bytes(sample)) != sample:
            raise DataError("a text does not decode to what was encoded; please report this")
    checked["random bytes"] = sum(map(len, samples))
    checked["bytes of text"] = sum(len(text.encode()) for text in texts)
    return checked


def _check_strings(dictionary: WindowDictionary) -> None:
    codes = np.arange(len(dictionary.parent))
    pairs = dictionary.parent.astype(np.int64) * 512 + dictionary.symbol
    alone = np.unique(dictionary.symbol[dictionary.parent < 0]).tolist()
    if len(np.unique(pairs)) != len(codes) or alone[:256] != list(range(256)):
        raise DataError("the dictionary lacks a byte or has a string twice; train it again")
    if not all(dictionary.encode(dictionary.decode([c])).tolist() == [c] for c in codes):
        raise DataError("a string of the dictionary is not its own longest match; train it again")


def _require_files(folder: Path) -> None:
    """What transformers needs to load a tokenizer whose class is not its own."""
    if not folder.is_dir():
        return
    names = ["tokenizer_config.json", _CODE]
    if (folder / _CODE).exists():
        names += [f"{name}.py" for name in get_relative_imports(folder / _CODE)]
    for name in names:
        if not (folder / name).exists():
            raise DataError(
                f"the tokenizer in {str(folder)!r} lacks {name}, without which AutoTokenizer "
                "cannot load it; copy all files of the tokenizer"
            )
