"""What a learned audio codec is measured against: the formats that libsndfile writes, and a lower
sampling rate.

Every baseline takes samples as `soundfile` reads them, `(T, C)` in int16 or floats from -1 to 1,
and returns them `Coded`: real bytes, and samples that were decoded from them, of the same length
and at the same times.
"""

import io
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor

from attar.data.media import audio
from attar.errors import ConfigError, DataError, MissingExtraError, did_you_mean, require
from attar.evaluation.rates import Coded, stopwatch

Samples = NDArray[Any]
CodedSamples = Coded[NDArray[Any]]

_FULL_SCALE = 32768.0  # int16 over floats
_BLOCK = 2**14  # frames written at a time: libsndfile's Vorbis overflows its stack on long ones
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MOST_CHANNELS = 8
"""Channels that each format holds."""
#: Hz; the header of a FLAC file does not hold every higher rate
_FLAC_RATE = 65_535
LARGEST_RATIO = 64
"""By how much `resample` leaves fewer samples at most."""


class AudioFormat(NamedTuple):
    """An audio format: libsndfile's names of it, and settings that make a curve; none: lossless."""

    container: str
    subtype: str
    curve: tuple[float, ...]


FORMATS: Mapping[str, AudioFormat] = MappingProxyType(
    {
        "flac": AudioFormat("FLAC", "PCM_16", ()),
        "opus": AudioFormat("OGG", "OPUS", (0.02, 0.1, 0.3, 0.6, 0.95)),
        "vorbis": AudioFormat("OGG", "VORBIS", (0.0, 0.2, 0.4, 0.6, 0.9)),
    }
)
"""Audio formats by name."""


def available_formats() -> list[str]:
    """The names of the formats that this build of libsndfile can write; none without soundfile."""
    try:
        soundfile = audio.soundfile()
    except MissingExtraError:
        return []
    return [
        name
        for name, form in FORMATS.items()
        if form.subtype in soundfile.available_subtypes(form.container)
    ]


def missing_formats() -> dict[str, str]:
    """A sentence for each format that it cannot write."""
    present = available_formats()
    return {
        name: f"{name} is left out: soundfile is missing, or its libsndfile was built without it; "
        "run pip install '.[codec]' in the checkout of Attar"
        for name in FORMATS
        if name not in present
    }


def as_signal(samples: Samples) -> Tensor:
    """Samples as `(C, T)` float64 from -0.5 to 0.5, as fidelity is measured."""
    values = torch.from_numpy(np.array(_checked(samples), dtype=np.float64).T)
    return values / (2 * _FULL_SCALE if samples.dtype == np.int16 else 2)


def audio_file(
    samples: Samples, *, rate: int, format: str, quality: float = 0.5, repeats: int = 1
) -> CodedSamples:
    """Samples as a file in a format, and read back.

    FLAC keeps int16 as it is, and rounds floats to 16 bits. Opus knows five sampling rates: others
    are resampled to the next higher one (48 kHz at most) and back, within the time that is
    measured.

    Args:
        samples: `(T, C)`.
        rate: in Hz.
        format: a key of `FORMATS`.
        quality: of Opus and Vorbis, 0 to 1, better when larger: `1 - compression_level` of
            libsndfile. FLAC takes no notice.
        repeats: how often both ways are timed.

    Raises:
        ConfigError: the format is unknown or not in this build of libsndfile, or has no such
            quality or rate.
        DataError: there are no samples, or not in that form or range, or more than 8 channels.
        MissingExtraError: soundfile is not installed.
    """
    soundfile, form = audio.soundfile(), _format(format)
    require(0 <= quality <= 1, "quality", quality, "from 0 to 1")
    require(0 < rate < 2**20, "rate", rate, "from 1 to 1,048,575 Hz")
    _checked(samples)
    opus = form.subtype == "OPUS"
    written_rate = min((r for r in _OPUS_RATES if r >= rate), default=48000) if opus else rate
    change = Fraction(written_rate, rate)
    level = {} if form.container == "FLAC" else {"compression_level": 1 - quality}

    def encode() -> bytes:
        frames, file = _resampled(samples, change), io.BytesIO()
        with soundfile.SoundFile(
            file, "w", written_rate, samples.shape[1], form.subtype, None, form.container, **level
        ) as writer:
            for block in range(0, len(frames), _BLOCK):
                writer.write(frames[block : block + _BLOCK])
        return file.getvalue()

    def decode() -> Samples:
        kind = "int16" if samples.dtype == np.int16 and not level else "float32"
        frames, _ = soundfile.read(io.BytesIO(data), dtype=kind, always_2d=True)
        return _fitted(_resampled(frames, 1 / change), len(samples))

    try:
        data, encode_seconds = stopwatch(encode, repeats=repeats)
        decoded, decode_seconds = stopwatch(decode, repeats=repeats)
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"libsndfile cannot keep {len(samples):,} samples of {samples.shape[1]} channels at "
            f"{rate} Hz as {format} ({error}); cut them, or leave this format out"
        ) from error
    return Coded(
        bytes=len(data),
        decoded=decoded,
        total=samples.size,
        kept=samples.size,
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )


def resample(samples: Samples, *, rate: int, ratio: float, repeats: int = 1) -> CodedSamples:
    """The baseline of every codec with fewer dimensions: a lower sampling rate, raised again, both
    by `scipy.signal.resample_poly`.

    Its bytes are those of the lower rate as 16-bit FLAC.

    Args:
        samples: `(T, C)`.
        rate: in Hz.
        ratio: by how much there are fewer samples, as near as a fraction of two numbers up to
            `LARGEST_RATIO` comes to it.
        repeats: how often both ways are timed.

    Raises:
        ConfigError: the ratio is not from 1 to `LARGEST_RATIO`, or the rate as in `audio_file`.
        DataError, MissingExtraError: as `audio_file`.
    """
    require(1 <= ratio <= LARGEST_RATIO, "ratio", ratio, f"from 1 to {LARGEST_RATIO}")
    fewer = _fraction(ratio)
    low_rate = min(_FLAC_RATE, max(1, round(rate / fewer)))  # its samples are the same at any

    def encode() -> Samples:
        return _resampled(_floats(samples), 1 / fewer)

    def decode() -> Samples:
        return _fitted(_resampled(stored.decoded, fewer), len(samples))

    _checked(samples)
    low, low_seconds = stopwatch(encode, repeats=repeats)
    stored = audio_file(np.clip(low, -1, 1), rate=low_rate, format="flac", repeats=repeats)
    decoded, high_seconds = stopwatch(decode, repeats=repeats)
    return Coded(
        bytes=stored.bytes,
        decoded=decoded,
        total=samples.size,
        kept=low.size,
        encode_seconds=low_seconds + stored.encode_seconds,
        decode_seconds=high_seconds + stored.decode_seconds,
    )


def _fraction(ratio: float) -> Fraction:
    """The nearest fraction with a numerator and a denominator of at most `LARGEST_RATIO`."""
    return 1 / Fraction(1 / ratio).limit_denominator(LARGEST_RATIO)


def _floats(samples: Samples) -> NDArray[np.float32]:
    if samples.dtype == np.int16:
        return (samples / _FULL_SCALE).astype(np.float32)
    return samples.astype(np.float32)


def _resampled(samples: Samples, change: Fraction) -> Samples:
    """At a sampling rate that is so many times as high."""
    if change == 1:
        return samples
    values = resample_poly(_floats(samples), change.numerator, change.denominator, axis=0)
    return values.astype(np.float32)


def _fitted(samples: Samples, length: int) -> Samples:
    """Cut, or filled with silence, to a length."""
    missing = max(0, length - len(samples))
    return np.pad(samples, ((0, missing), (0, 0)))[:length]


def _format(name: str) -> AudioFormat:
    if name not in FORMATS:
        raise ConfigError(
            f"format must be one of {', '.join(FORMATS)}; found {name!r}"
            + did_you_mean(name, FORMATS)
        )
    if name not in available_formats():
        raise ConfigError(missing_formats()[name])
    return FORMATS[name]


def _checked(samples: Samples) -> Samples:
    floats = np.issubdtype(samples.dtype, np.floating)
    if samples.ndim != 2 or not samples.size or not (floats or samples.dtype == np.int16):
        raise DataError(
            "expected samples (T, C) in int16 or floats, not empty; "
            f"found {samples.dtype} of the shape {samples.shape}"
        )
    if samples.shape[1] > MOST_CHANNELS:
        raise DataError(
            f"audio formats hold up to {MOST_CHANNELS} channels; found {samples.shape[1]}; "
            "are these samples (T, C)?"
        )
    if floats and not np.abs(samples).max() <= 1:  # NaN included
        raise DataError(
            f"expected samples from -1 to 1, found {np.abs(samples).max():g}; scale them first"
        )
    return samples
