"""Sound, through soundfile: to signals and back."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from attar.coding.latents import Dtype, Form
from attar.data.files import reason
from attar.data.media.signals import BLOCK, Signal, normalise, restore
from attar.errors import ConfigError, DataError, MissingExtraError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au")
"""Names of recordings that are read."""

WRITERS: dict[str, tuple[str, dict[Dtype, str]]] = {
    ".wav": ("WAV", {"int16": "PCM_16", "int32": "PCM_24", "float32": "FLOAT"}),
    ".flac": ("FLAC", {"int16": "PCM_16", "int32": "PCM_24", "float32": "PCM_24"}),
    ".ogg": ("OGG", dict.fromkeys(("int16", "int32", "float32"), "VORBIS")),
    ".mp3": ("MP3", dict.fromkeys(("int16", "int32", "float32"), "MPEG_LAYER_III")),
}
"""How soundfile writes sound: the format, and the kind of its samples for each type."""

MOST_CHANNELS = 256
"""No sound has more: with more, channels and samples are the wrong way round."""

#: samples that an MP3 file may hold less than it says, as players do not mind
_MP3_SLACK = 2304
#: bytes of the largest page
_OGG_PAGE = 65_307
#: bytes of sound that a file written into a pipe says it has, or a little less
_UNKNOWN = 2**32 - 2**16
_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


def read_sound(file: BinaryIO, *, name: str) -> Signal:
    """The recording in a file.

    Samples of up to 16 bits are int16, others int32 (24 bits are kept) or float32. What a lossy
    format decodes to is kept as floats, and comes back as the int16 that a player makes of it.

    Raises:
        DataError: it cannot be read, breaks off, is empty, or has infinite samples.
        MissingExtraError: soundfile is not installed.
    """
    with unreadable(name), open_sound(file) as source:
        subtype, rate, said = source.subtype, source.samplerate, source.frames
        read, dtype, units = types_of(subtype)
        # at once: soundfile seeks after every read, and would step over what is missing
        samples = source.read(dtype=read, always_2d=True)
        logged = source.extra_info
    slack = _MP3_SLACK if subtype.startswith("MPEG") else 0
    if len(samples) + slack < said or breaks_off(logged) or _ogg_is_open(file):
        raise damaged(name, len(samples))
    if units != 1:
        samples *= units
    return _signal(samples.T, dtype=dtype, rate=rate, name=name)


def open_sound(file: BinaryIO | Path) -> Any:
    """A `soundfile.SoundFile` to read from.

    Raises:
        MissingExtraError: soundfile is not installed.
    """
    return soundfile().SoundFile(file)


@contextmanager
def unreadable(name: str) -> Iterator[None]:
    """Say in one sentence why a recording cannot be read.

    Raises:
        DataError: reading it failed.
    """
    library = soundfile()
    try:
        yield
    except (library.SoundFileError, OSError, MemoryError, TypeError) as error:
        raise DataError(
            f"cannot read the sound {name}: {_told(error)}; take another copy of the file, or "
            "leave it out"
        ) from error


def damaged(name: str, samples: int) -> DataError:
    """The error of a recording that is shorter than it says."""
    return DataError(
        f"the recording {name} breaks off after {samples:,} samples; take another copy of the "
        "file, or leave it out"
    )


def from_samples(samples: NDArray, *, rate: int, name: str = "the sound") -> Signal:
    """A recording that is in memory.

    Args:
        samples: (L,) or (L, C), of int16, int32 (24 bits are kept), float32 or float64.
        rate: samples a second.
        name: for errors.

    Raises:
        DataError: it is empty, of another type or shape, or has infinite samples.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not 0 < rate < 2**32:
        raise DataError(
            f"expected a whole number of samples a second for {name}, found {rate!r}; give "
            "(samples, rate)"
        )
    samples = samples[:, None] if samples.ndim == 1 else samples
    if samples.ndim != 2 or samples.shape[1] > MOST_CHANNELS:
        raise DataError(
            f"expected sound of the shape (samples,) or (samples, channels) in {name}, found "
            f"{samples.shape}; in NumPy arrays channels come last, in tensors first"
        )
    if samples.dtype == np.float64:
        with np.errstate(over="ignore"):  # infinity is refused
            samples = samples.astype(np.float32)
    kinds: dict[str, Dtype] = {"int16": "int16", "int32": "int32", "float32": "float32"}
    dtype = kinds.get(samples.dtype.name)
    if dtype is None:
        raise DataError(
            f"expected samples of int16, int32 or a float type in {name}, found "
            f"{samples.dtype}; convert them"
        )
    return _signal(samples.T, dtype=dtype, rate=int(rate), name=name)


def to_samples(signal: Signal) -> NDArray:
    """The samples of a recording, (L, C), of the type and in the units that it came with.

    Raises:
        DataError: the signal is no sound.
    """
    if signal.form.kind != "audio":
        raise DataError(
            f"expected sound, found {signal.name}, which is of kind {signal.form.kind}; write it "
            f"to a {'.png' if signal.form.kind == 'image' else '.npy'} file"
        )
    return np.ascontiguousarray(restore(signal).T)


def encode_sound(signal: Signal, *, suffix: str) -> bytes:
    """The file of a recording; .wav keeps every sample, .flac those of 16 and 24 bits.

    Args:
        signal: the recording.
        suffix: one of `WRITERS`.

    Raises:
        ConfigError: such a file cannot hold it.
    """
    library, samples, rate = soundfile(), to_samples(signal), signal.form.rate or 0
    name, subtypes = WRITERS[suffix]
    out = io.BytesIO()
    options: dict[str, Any] = {"format": name, "subtype": subtypes[signal.form.dtype]}
    try:
        with library.SoundFile(out, "w", rate, samples.shape[1], **options) as file:
            for start in range(0, len(samples), BLOCK):
                file.write(samples[start : start + BLOCK])
    except (library.SoundFileError, ValueError, TypeError) as error:
        raise ConfigError(
            f"a {suffix} file cannot hold {signal.name}, {samples.shape[1]} channels of {rate} "
            f"samples a second ({_told(error)}); write a .wav file"
        ) from error
    return out.getvalue()


def _signal(samples: NDArray, *, dtype: Dtype, rate: int, name: str) -> Signal:
    values, gain, mean = normalise(samples, name=name)
    form = Form(kind="audio", dtype=dtype, rate=rate, channels=len(values))
    return Signal(values=values, form=form, gain=gain, mean=mean, name=name)


def _told(error: Exception) -> str:
    """What libsndfile says, without the name that it gives to the file."""
    text = getattr(error, "error_string", None) or reason(error)
    return " ".join(text.removeprefix("Error : ").split()).rstrip(".")


def types_of(subtype: str) -> tuple[str, Dtype, float]:
    """As what to read samples, the type that they come back as, and its units in what is read."""
    if subtype in ("PCM_24", "PCM_32"):
        return "int32", "int32", 1
    if subtype in ("FLOAT", "DOUBLE"):
        return "float32", "float32", 1
    if subtype in ("VORBIS", "OPUS") or subtype.startswith("MPEG"):
        return "float32", "int16", 2**15
    return "int16", "int16", 1


def breaks_off(logged: str) -> bool:
    """Whether libsndfile noted that a file has less sound than its header says."""
    pairs = ((int(said), int(found)) for said, found in _SHORT.findall(logged))
    return any(found < said < _UNKNOWN for said, found in pairs)


def _ogg_is_open(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file is not marked as such, or not whole."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    file.seek(0, io.SEEK_END)
    file.seek(max(0, file.tell() - 2 * _OGG_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return not sizes or not page[5] & 4 or len(page) < 27 + len(sizes) + sum(sizes)


def soundfile() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed, or does not find its library.
    """
    try:
        return import_module("soundfile")
    except ModuleNotFoundError:
        raise MissingExtraError(
            "reading and writing sound needs the package soundfile; run pip install '.[codec]' in "
            "the checkout of Attar"
        ) from None
    except OSError as error:
        raise MissingExtraError(
            f"the package soundfile does not find the library libsndfile ({error}); install it"
        ) from None
