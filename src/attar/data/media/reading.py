"""One way to read pictures, sound and arrays, and one to write them."""

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attar.artefacts import expanded, new_file, require_new_file
from attar.coding.latents import Dtype, Form
from attar.data.media import audio, images
from attar.data.media.signals import RANGES, Signal, picture, restore, scale
from attar.errors import ConfigError, DataError

ARRAYS = (".npy",)
"""Names of arrays that are read and written."""

_HEAD = 16
_SOUND = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"RF64", b"FORM")
_NUMPY = b"\x93NUMPY"


def read_signal(
    source: Any, *, value_range: tuple[float, float] | None = None, name: str | None = None
) -> Signal:
    """A picture, a recording or an array as a signal.

    What a file holds is told by its first bytes, and sound without a head by its name.

    Args:
        source: a path or the bytes of a picture, of sound, or of a NumPy array (.npy); a picture
            of Pillow's; `(samples, rate)`; a row of a `datasets` column, `{"bytes", "path"}`; an
            array (H, W), (H, W, C) or (L,), or a tensor (C, H, W) or (C, L), of uint8, uint16 or,
            with a range, floats. In arrays channels come last, in tensors first.
        value_range: lowest and highest value that floats may have.
        name: for errors. None: the path.

    Raises:
        DataError: it cannot be read, breaks off, is empty, is of a type or shape that is not
            taken, or floats come without a range, or leave it.
        MissingExtraError: the package that reads it is not installed.
    """
    if isinstance(source, Mapping):
        source, name = _cell(source, name)
    if isinstance(source, str | Path):
        return _from_path(expanded(source), value_range, name or str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(source), value_range, name or "the given bytes")
    if isinstance(source, tuple) and len(source) == 2:
        samples, rate = source
        if isinstance(samples, Tensor):
            samples = samples.detach().cpu().numpy().T
        return audio.from_samples(np.asarray(samples), rate=rate, name=name or "the sound")
    if isinstance(source, np.ndarray):
        return from_array(source, value_range=value_range, name=name or "the array")
    if isinstance(source, Tensor):
        return from_tensor(source, value_range=value_range, name=name or "the tensor")
    pillow: Any = sys.modules.get("PIL.Image")
    image: Any = source
    if pillow is not None and isinstance(image, pillow.Image):
        return images.from_pil(image, name=name or "the picture")
    raise DataError(
        "expected a path, bytes, a picture of Pillow's, an array, a tensor or (samples, rate)"
        f"{f' for {name}' if name else ''}, found {type(source).__name__}; convert it"
    )


def from_array(
    array: NDArray, *, value_range: tuple[float, float] | None = None, name: str = "the array"
) -> Signal:
    """A NumPy array (H, W), (H, W, C) or (L,) as a signal; see `read_signal`."""
    if array.ndim not in (1, 2, 3):
        raise DataError(
            f"expected an array (H, W), (H, W, C) or (L,) in {name}, found the shape {array.shape}"
            "; give one item at a time"
        )
    first = array[None] if array.ndim < 3 else np.moveaxis(array, 2, 0)
    first = np.array(first, order="C", dtype=first.dtype.newbyteorder("="))
    if first.dtype == np.float16:
        first = first.astype(np.float32)
    if str(first.dtype) not in (*RANGES, "float32", "float64"):
        raise _wrong_type(str(first.dtype), name)
    return from_tensor(torch.from_numpy(first), value_range=value_range, name=name)


def from_tensor(
    tensor: Tensor, *, value_range: tuple[float, float] | None = None, name: str = "the tensor"
) -> Signal:
    """A tensor (C, H, W) or (C, L) as a signal, on its device; see `read_signal`.

    uint8 of two axes with 1 to 4 channels is a picture, as is uint16 with one; all else, and all
    floats, are arrays.
    """
    if tensor.dim() not in (2, 3) or tensor.numel() == 0:
        raise DataError(
            f"expected a tensor (C, H, W) or (C, L) with values in {name}, found the shape "
            f"{tuple(tensor.shape)}; give one item at a time"
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype in RANGES:
        low, high = 0, RANGES[dtype]
    elif not tensor.is_floating_point():
        raise _wrong_type(dtype, name)
    elif value_range is None:
        raise DataError(
            f"expected the range of the floats in {name}, as nothing else tells it; give "
            "value_range, such as (0, 1)"
        )
    else:
        low, high = value_range
        dtype = "float32"
        _check_range(tensor, low=low, high=high, name=name)
    channels = len(tensor)
    if tensor.dim() == 3 and dtype in RANGES and channels <= (4 if dtype == "uint8" else 1):
        mode = "I;16" if dtype == "uint16" else ("L", "LA", "RGB", "RGBA")[channels - 1]
        return picture(tensor, mode=mode, name=name)
    values = scale(tensor.detach(), low=low, high=high)
    form = Form(kind="array", dtype=cast("Dtype", dtype), channels=channels)
    gain, mean = (1.0, 0.0) if dtype in RANGES else ((high - low) / 2, (high + low) / 2)
    return Signal(values=values, form=form, gain=gain, mean=mean, name=name)


def to_array(signal: Signal) -> NDArray:
    """The numbers of a signal, channels last: (H, W, C), (L, C), or (L,) of an array with one.

    Raises:
        DataError: a value is infinite or NaN.
    """
    array = np.moveaxis(restore(signal), 0, -1)
    flat = signal.form.kind == "array" and array.ndim == 2 and array.shape[1] == 1
    return np.ascontiguousarray(array[:, 0] if flat else array)


def suffixes_of(form: Form) -> tuple[str, ...]:
    """Names of the files that can hold a signal of this form, the usual one first."""
    writers = {"image": (*images.WRITERS, *ARRAYS), "audio": (*audio.WRITERS,), "array": ARRAYS}
    return writers[form.kind]


def write_signal(signal: Signal, path: str | Path) -> None:
    """Write a signal as what it was, in a format that the name of the file tells; see
    `suffixes_of`.

    Raises:
        ConfigError: the file exists, or such a file cannot hold the signal.
        DataError: it cannot be written, or the signal has values that are infinite or NaN.
        MissingExtraError: the package that writes it is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes_of(signal.form):
        kind = {"image": "a picture", "audio": "sound", "array": "an array"}[signal.form.kind]
        raise ConfigError(
            f"expected the name of a file for {kind} ({', '.join(suffixes_of(signal.form))}), "
            f"found {str(path)!r}; give it such an ending"
        )
    require_new_file(expanded(path))
    if suffix in ARRAYS:
        out = io.BytesIO()
        np.save(out, to_array(signal), allow_pickle=False)
        raw = out.getvalue()
    elif suffix in audio.WRITERS:
        raw = audio.encode_sound(signal, suffix=suffix)
    else:
        raw = images.encode_picture(images.to_pil(signal), suffix=suffix, name=signal.name)
    with new_file(path) as file:
        file.write(raw)


def _cell(cell: Mapping[str, Any], name: str | None) -> tuple[Any, str | None]:
    """Bytes or path of a row of a column of pictures or sound."""
    raw, path = cell.get("bytes"), cell.get("path")
    if raw is None and path is None:
        raise DataError(
            f"expected a picture or sound in {name or 'the row'}, found neither bytes nor a path; "
            "leave the row out"
        )
    return (path if raw is None else raw), name or path


def _from_path(path: Path, value_range: tuple[float, float] | None, name: str) -> Signal:
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            raise DataError(
                f"expected a picture, sound or array in {name}, found {found}; correct the path"
            )
        with path.open("rb") as file:
            return _from_file(file, value_range, name)
    except OSError as error:
        raise DataError(
            f"cannot read {name}: {error.strerror}; correct the path or leave the file out"
        ) from error


def _from_file(file: BinaryIO, value_range: tuple[float, float] | None, name: str) -> Signal:
    head = file.read(_HEAD)
    file.seek(0)
    if not head:
        raise DataError(f"expected a picture or sound in {name}, found an empty file; leave it out")
    if head.startswith(_NUMPY):
        return from_array(_numpy(file, name), value_range=value_range, name=name)
    riff = head[:4] == b"RIFF" and head[8:12] != b"WEBP"
    frame = head[0] == 0xFF and len(head) > 1 and head[1] & 0xE0 == 0xE0  # of MP3
    named = Path(name).suffix.lower() in audio.SUFFIXES
    if riff or frame or named or head.startswith(_SOUND):
        return audio.read_sound(file, name=name)
    return images.read_picture(file, name=name)


def _numpy(file: BinaryIO, name: str) -> NDArray:
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError) as error:
        raise DataError(
            f"cannot read the array {name}: {' '.join(str(error).split())[:200]}; save it again "
            "with numpy.save"
        ) from error


def _check_range(tensor: Tensor, *, low: float, high: float, name: str) -> None:
    if not -np.inf < low < high < np.inf:
        raise DataError(
            f"expected the lowest and the highest value of {name}, found ({low}, {high}); give "
            "value_range, such as (0, 1)"
        )
    least, most = tensor.min().item(), tensor.max().item()
    if not (low <= least and most <= high):  # also NaN
        raise DataError(
            f"expected values from {low} to {high} in {name}, found {least:.6g} to {most:.6g}; "
            "give the range that they have, or correct them"
        )


def _wrong_type(dtype: str, name: str) -> DataError:
    return DataError(
        f"expected values of uint8, uint16 or a float type in {name}, found {dtype}; convert them"
    )
