"""`Signal`: a picture, a recording or an array as a codec sees it, and back to its own numbers."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attar.coding.latents import Dtype, Form
from attar.errors import DataError

BLOCK = 2**20
"""Samples of sound that are read, normalised or encoded at a time: no result depends on it."""

#: numbers that are brought back at a time, in the cache of a processor
_CACHED = 2**16

RANGES: dict[str, float] = {"uint8": 255.0, "uint16": 65535.0}
"""The highest number of pictures and arrays of integers."""

#: sound in int32 has 24 bits that count, as float32 holds no more: the others are 0
_STEP = 256
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_LIMITS: dict[Dtype, tuple[int, int]] = {
    "uint8": (0, 255),
    "uint16": (0, 65535),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - _STEP),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Signal:
    """What codecs encode and give back.

    Pictures and arrays of uint8 are x / 255 - 0.5, those of uint16 x / 65535 - 0.5. Sound, and
    arrays of floats, are (x - mean) / (2 gain).

    Attributes:
        values: float32 (C, H, W) or (C, L), all in [-0.5, 0.5].
        form: what it was, for writing it again.
        gain: of sound the largest distance from the mean, 0 for silence; of floats half the range;
            of other integers 1, as it is not used.
        mean: of sound that of all samples and channels; of floats the middle of the range; of
            other integers 0.
        name: what errors call it.
    """

    values: Tensor
    form: Form
    gain: float = 1.0
    mean: float = 0.0
    name: str = "the signal"

    @property
    def channels(self) -> int:
        """How many channels the values have."""
        return self.values.shape[0]

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width, or samples."""
        return tuple(self.values.shape[1:])


class Scale:
    """What the samples of a recording, which come in parts, are to be scaled by.

    The mean is that of the whole recording, all channels, so that they keep their balance; the gain
    is the largest distance from it. Unlike in the codec as published nothing is added to the gain:
    that of silence is 0.
    """

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._sums: list[float] = []
        self._count, self._bad, self._nan = 0, 0, False

    def add(self, samples: NDArray) -> None:
        """The next part, (C, n) of any type; the mean depends on how they are cut, by rounding."""
        if samples.size == 0:
            return
        low, high = float(samples.min()), float(samples.max())
        self._count += samples.size
        if np.isfinite(low) and np.isfinite(high):
            self._low, self._high = min(self._low, low), max(self._high, high)
            self._sums.append(float(samples.sum(dtype=np.float64)))
        else:
            self._bad += int((~np.isfinite(samples)).sum())
            self._nan = self._nan or bool(np.isnan(samples).any())

    def gain_and_mean(self, *, name: str) -> tuple[float, float]:
        """Of all parts, in units of the samples.

        Args:
            name: for errors.

        Raises:
            DataError: there are no samples, or one is infinite or NaN.
        """
        if not self._count:
            raise DataError(f"expected sound in {name}, found no samples; leave it out")
        if self._bad:
            raise DataError(
                f"expected finite samples in {name}, found {'NaN' if self._nan else 'infinity'} "
                f"({self._bad:,} of {self._count:,}); correct the recording or leave it out"
            )
        if self._low == self._high:
            return 0.0, self._low
        mean = math.fsum(self._sums) / self._count
        return max(self._high - mean, mean - self._low), mean


def normalise(samples: NDArray, *, name: str) -> tuple[Tensor, float, float]:
    """Sound without its mean, divided by twice the largest distance from it; see `Scale`.

    Args:
        samples: (C, L) of any type.
        name: for errors.

    Returns:
        The values, float32 (C, L), the gain and the mean, in units of the samples.

    Raises:
        DataError: there are no samples, or one is infinite or NaN.
    """
    found = Scale()
    for start in range(0, samples.shape[1], BLOCK):
        found.add(samples[:, start : start + BLOCK])
    gain, mean = found.gain_and_mean(name=name)
    values = np.empty(samples.shape, np.float32)
    for start in range(0, samples.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        values[:, part] = _scaled(samples[:, part], gain, mean)
    return torch.from_numpy(values), gain, mean


def scaled(samples: Tensor, *, gain: float, mean: float) -> Tensor:
    """(samples - mean) / (2 gain) in float32, and zeros where the gain is 0: silence."""
    return torch.from_numpy(_scaled(samples.numpy(force=True), gain, mean)).to(samples.device)


def _scaled(samples: NDArray, gain: float, mean: float) -> NDArray[np.float32]:
    if not gain:
        return np.zeros(samples.shape, np.float32)
    return ((samples.astype(np.float64) - mean) / (2 * gain)).astype(np.float32)


def scale(numbers: Tensor, *, low: float, high: float) -> Tensor:
    """Numbers of a known range as values in [-0.5, 0.5]."""
    values = numbers.to(torch.float32, copy=True)
    return values.sub_(low).div_(high - low).sub_(0.5)


def picture(pixels: Tensor, *, mode: str, name: str) -> Signal:
    """Pixels as a signal; an alpha channel that is opaque everywhere is left out.

    Args:
        pixels: (C, H, W) of uint8, or of uint16 with one channel.
        mode: what Pillow calls them.
        name: for errors.
    """
    dtype: Dtype = "uint8" if pixels.dtype == torch.uint8 else "uint16"
    values = scale(pixels, low=0, high=RANGES[dtype])
    colours, alpha = _split(values)
    values = colours if alpha is not None and bool((alpha == 0.5).all()) else values
    form = Form(kind="image", dtype=dtype, mode=mode, channels=len(values))
    return Signal(values=values, form=form, name=name)


def restore(signal: Signal) -> NDArray:
    """The numbers that a signal stands for, with the channels and of the type that it came with.

    Integers are rounded, half to even, and clipped to their type. Sound in int32 has 24 bits.

    Returns:
        An array (C, H, W) or (C, L).

    Raises:
        DataError: a value is infinite or NaN.
    """
    own = own_channels(signal).values.detach().to("cpu", torch.float32).contiguous().numpy()
    if not np.isfinite(own).all():
        raise DataError(
            f"expected finite values for {signal.name}, found {_not_finite(own)}; check the codec "
            "that made them"
        )
    dtype = signal.form.dtype
    half = RANGES.get(dtype, 0) / 2
    gain, mean = (half, half) if half else (signal.gain, signal.mean)
    restored = np.empty(own.shape, dtype)
    flat, out = own.reshape(-1), restored.reshape(-1)
    for start in range(0, flat.size, _CACHED):
        part = flat[start : start + _CACHED].astype(np.float64)
        part *= 2 * gain
        part += mean
        if dtype in _LIMITS:
            step = _STEP if dtype == "int32" else 1
            if step > 1:
                part /= step
            np.rint(part, out=part)
            if step > 1:
                part *= step
            np.clip(part, *_LIMITS[dtype], out=part)
        out[start : start + _CACHED] = part
    return restored


# ------------------------------------------------------------------------------------- channels


def fit_channels(signal: Signal, channels: int) -> Signal:
    """The signal with as many channels as a codec has, where that loses nothing.

    Grey becomes RGB, one channel of sound becomes several equal ones, and a picture without alpha
    gets an opaque one; `restore` undoes it, as the form says how many channels there were.

    Raises:
        DataError: colour, alpha or channels would be lost.
    """
    there = signal.channels
    if there == channels:
        return signal
    form, values = signal.form, signal.values
    if form.kind == "audio" and there == 1:
        fitted = values.expand(channels, -1)
    elif form.kind == "image" and channels <= 4:
        colours, alpha = _split(values)
        wanted = 3 if channels > 2 else 1
        if colours.shape[0] > wanted:
            raise DataError(
                f"expected grey in {signal.name}, as the codec has no colour, found a picture of "
                f"mode {form.mode}; convert it to grey, or train a codec on colour"
            )
        if alpha is not None and channels in (1, 3):
            raise DataError(
                f"expected a picture without transparent places in {signal.name}, found one of "
                f"mode {form.mode} with some; put it on a background, or train a codec on such "
                "pictures"
            )
        parts = [colours.expand(wanted, -1, -1)]
        if channels in (2, 4):
            opaque = values.new_full((1, *signal.size), 0.5)
            parts.append(opaque if alpha is None else alpha)
        fitted = torch.cat(parts)
    else:
        raise DataError(
            f"expected {channels} channels in {signal.name}, found {there}; give what the codec "
            "was made for, or train one on such data"
        )
    return replace(signal, values=fitted, form=replace(form, channels=form.channels or there))


def own_channels(signal: Signal) -> Signal:
    """Undo `fit_channels`: equal channels become their mean, an alpha that was added goes, and one
    that was left out as it was opaque comes back.

    Raises:
        DataError: the form cannot have come with so many channels.
    """
    form, values = signal.form, signal.values
    there, channels = signal.channels, signal.form.channels or signal.channels
    if form.kind == "audio" and channels == 1:
        return replace(signal, values=values.mean(0, keepdim=True))
    if there != channels and (form.kind != "image" or there > 4 or channels > there):
        raise DataError(
            f"expected {channels} channels for {signal.name}, found {there}; decode it with the "
            "codec that encoded it"
        )
    if form.kind != "image" or channels > 4:
        return signal
    colours, alpha = _split(values)
    if channels < 3 and len(colours) == 3:
        colours = colours.mean(0, keepdim=True)
    if channels in (1, 3):
        opaque = form.mode in _WITH_ALPHA
        alpha = values.new_full((1, *signal.size), 0.5) if opaque else None
    return replace(signal, values=colours if alpha is None else torch.cat([colours, alpha]))


def _split(values: Tensor) -> tuple[Tensor, Tensor | None]:
    """Colours (1 or 3, H, W) and alpha (1, H, W), if there is one."""
    count = values.shape[0]
    return (values[:-1], values[-1:]) if count in (2, 4) else (values, None)


def _not_finite(samples: NDArray) -> str:
    bad = ~np.isfinite(samples)
    found = "NaN" if np.isnan(samples).any() else "infinity"
    return f"{found} ({int(bad.sum()):,} of {samples.size:,})"
