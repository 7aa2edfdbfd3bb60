"""Where a loader's latents come from: a folder, the Hub or rows, and the codec beside them."""

import copy
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from huggingface_hub import snapshot_download

from attar import artefacts
from attar.checkpoint.sources import not_on_hub
from attar.codec.compressing import LATENTS
from attar.codec.dataset import FOLDER, load_compressed
from attar.codec.opening import load_codec
from attar.data.files import reason
from attar.errors import ConfigError, DataError
from attar.methods.walloc.codec import WaveletCodec
from attar.report.record import FILE_NAME, Run


def open_latents(data: str | Path | Dataset | DatasetDict) -> tuple[Path | None, Any]:
    """Where a data set lies, and its splits.

    Raises:
        DataError: there is none, or it is damaged.
    """
    if isinstance(data, Dataset):
        return None, {"train": data}
    if isinstance(data, DatasetDict):
        return None, data
    if not isinstance(data, str | Path):
        raise DataError(
            "expected a folder that attar codec encode wrote, the name of one on the Hub, or its "
            f"rows, found {type(data).__name__}; give one of these"
        )
    folder = artefacts.expanded(data)
    if not folder.exists() and not str(data).startswith((".", "/", "~")):
        folder = _fetched(str(data))
    return folder, load_compressed(folder)


def _fetched(name: str) -> Path:
    """A data set of the Hub, as a folder.

    Raises:
        DataError: there is none.
    """
    try:
        return Path(snapshot_download(name, repo_type="dataset"))
    except Exception as error:
        absent = not_on_hub(error, "data set")
        absent = absent or f"the Hugging Face Hub does not give it: {reason(error)}"
        raise DataError(
            f"expected a folder that attar codec encode wrote, found none at {name!r}, and {absent}"
        ) from error


def split_of(splits: Any, split: str) -> Dataset:
    """The rows of a split.

    Raises:
        ConfigError: there is no such split.
        DataError: it has no latents.
    """
    if split not in splits:
        raise ConfigError(
            f"expected a split of the data set, which has {', '.join(map(str, splits))}, found "
            f"{split!r}; name one of these"
        )
    rows = splits[split]
    if LATENTS not in rows.column_names or not len(rows):
        raise DataError(
            f"expected rows with a column {LATENTS!r}, found {len(rows)} with the columns "
            f"{', '.join(rows.column_names)}; give a data set that attar codec encode wrote"
        )
    return rows


def codec_of(
    codec: str | Path | WaveletCodec | None,
    folder: Path | None,
    *,
    device: torch.device | str | None = None,
) -> WaveletCodec:
    """The codec, of the folder where none is given, on a device; one of the caller's stays where it
    is.

    Raises:
        ConfigError: none is given, and there is no folder to take it from.
    """
    if codec is None and folder is None:
        raise ConfigError("expected a codec for rows without a folder, found none; give codec")
    assert folder is not None or codec is not None
    loaded = load_codec(codec if codec is not None else Path(folder or "") / FOLDER)
    device = device_of(device)
    if device is None or loaded.analysis.weight.device == device:
        return loaded
    own: Any = copy.deepcopy(loaded) if loaded is codec else loaded
    return own.to(device)


def device_of(name: torch.device | str | None) -> torch.device | None:
    """A device that can be used.

    Raises:
        ConfigError: PyTorch knows none of this name, or this machine has none.
    """
    if name is None:
        return None
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        count = torch.cuda.device_count()
        found = f"or cuda:0 to cuda:{count - 1}" if count else "as PyTorch finds no GPU"
        raise ConfigError(f"device must be cpu, {found}; found {str(name)!r}") from error


def recorded_rms(folder: Path | None) -> float | None:
    """Root of the mean square of the features of `train`, as the record of a folder tells."""
    if folder is None or not (folder / FILE_NAME).is_file():
        return None
    quality = Run.load(folder).quality
    counted = quality.get("train") or next(iter(quality.values()), {})
    return counted.get("rms")


def file_of(rows: Dataset, row: int) -> bytes:
    """The file of latents of a row."""
    found: Any = rows.select_columns([LATENTS])[row]
    return found[LATENTS]
