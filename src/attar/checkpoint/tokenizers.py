"""Loading tokenizers."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from attar.checkpoint.gguf import located
from attar.checkpoint.identity import name_of
from attar.checkpoint.sources import folder_of, read_from
from attar.coding.windows import LiveWindows
from attar.errors import ConfigError, DataError
from attar.foreign import read_json
from attar.models import DocumentTokenizer
from attar.portable.equal_info_windows import COMPILED
from attar.portable.tokenization_equal_info import CODEC_FILE, DICTIONARY_FILE, EqualInfoTokenizer


def load_tokenizer(
    path: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint.

    Args:
        path: folder, GGUF file or Hub name, as for `load`.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run code that comes with it. Attar's own needs none.

    Raises:
        DataError: the folder has none, or it is damaged.
    """
    path = located(path, revision=revision)
    folder = folder_of(path)
    if folder.is_dir() and not any(folder.glob("token*")) and not any(folder.glob("vocab*")):
        raise DataError(
            f"the folder {str(path)!r} holds no tokenizer; copy the one that the model was trained "
            "with into it (tokenizer.json, tokenizer_config.json)"
        )
    if _has_windows(folder):
        return read_from("tokenizer", path, lambda: _load_windows(folder))
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    return read_from("tokenizer", path, lambda: AutoTokenizer.from_pretrained(path, **options))


def tokenizer_of(
    model: str | Path | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **options: Any,
) -> PreTrainedTokenizerBase:
    """The tokenizer that is given, or else the model's, with the options of `load_tokenizer`.

    Raises:
        ConfigError: none is given, and the model was never stored.
        DataError: it cannot be read.
    """
    if tokenizer is not None:
        return tokenizer
    if not (name := name_of(model)):
        raise ConfigError("a model in memory comes without a tokenizer; give one as `tokenizer`")
    return load_tokenizer(name, **options)


def load_document_tokenizer(path: str | Path) -> DocumentTokenizer:
    """The tokenizer in a folder, which encodes whole documents.

    Raises:
        DataError: it is absent, damaged, or an ordinary one.
    """
    tokenizer = load_tokenizer(path)
    if not isinstance(tokenizer, DocumentTokenizer):
        raise DataError(
            f"expected a tokenizer of equal-information windows in {str(path)!r}, found "
            f"{type(tokenizer).__name__}; make one with attar tokenizer train"
        )
    return tokenizer


def _load_windows(folder: Path) -> EqualInfoTokenizer:
    """Our own tokenizer; the byte model of windows too long for a table is put to work here."""
    codec = read_json(folder / CODEC_FILE, "the codec")
    options: dict[str, Any] = {}
    if codec["window_bits"] > COMPILED:
        file = folder / DICTIONARY_FILE
        options["dictionary"] = LiveWindows.load(file, window_bits=codec["window_bits"])
    return EqualInfoTokenizer.from_pretrained(folder, **options)


def _has_windows(folder: Path) -> bool:
    """Whether a folder holds our own tokenizer, whose code need not be trusted: it is here."""
    present = [name for name in (DICTIONARY_FILE, CODEC_FILE) if (folder / name).exists()]
    if len(present) == 1:
        lacks = CODEC_FILE if present[0] == DICTIONARY_FILE else DICTIONARY_FILE
        raise DataError(
            f"the tokenizer in {str(folder)!r} lacks {lacks}; copy all files of the tokenizer"
        )
    return bool(present)
