"""How a signal is made to fit a codec: its channels, and padding, so that its sides are whole
blocks."""

import torch.nn.functional as F
from torch import Tensor

from attar.coding.wavelets import reach
from attar.data.media import Signal, fit_channels
from attar.errors import DataError
from attar.methods.walloc.config import WaveletCodecConfig

Pads = tuple[tuple[int, int], ...]
"""Samples before and behind, for each axis."""


def suited(signal: Signal, *, config: WaveletCodecConfig) -> Signal:
    """The signal with the channels of a codec.

    Raises:
        DataError: it has other axes, or channels that would be lost.
    """
    axes = len(signal.size)
    if axes != config.ndim:
        raise DataError(
            f"expected a signal of {config.ndim} axes besides channels, found {axes} in "
            f"{signal.name}; pictures have 2 and sound has 1: take a codec that was trained on the "
            "same kind"
        )
    return fit_channels(signal, config.channels)


def pads_of(size: tuple[int, ...], *, config: WaveletCodecConfig) -> Pads:
    """Padding of a signal of this size.

    With the boundary circular, a side grows to the next multiple of 2^levels, half before and half
    behind. With open, both ends get as many samples more as a coefficient sees, so that what wraps
    around is padding alone: the latents of a recording do not depend on its other end.
    """
    block = config.block
    margin = 0
    if config.boundary == "open":
        margin = -(-reach(config.levels, config.wavelet) // block) * block
    pads = []
    for length in size:
        extra = -length % block
        before = extra // 2 if margin == 0 else margin
        pads.append((before, 2 * margin + extra - before))
    return tuple(pads)


def grid_of(size: tuple[int, ...], *, config: WaveletCodecConfig) -> tuple[int, ...]:
    """Positions along each axis for a signal of this size."""
    pads = pads_of(size, config=config)
    return tuple((side + sum(pair)) // config.block for side, pair in zip(size, pads, strict=True))


def pad(signal: Tensor, pads: Pads) -> Tensor:
    """(B, C, *sizes) with its padding: zeros for sound, reflections for pictures, whose edge is
    repeated where they are too small for that."""
    flat = [amount for pair in reversed(pads) for amount in pair]
    if not any(flat):
        return signal
    if len(pads) == 1:
        return F.pad(signal, flat)
    fits = all(max(pair) < side for pair, side in zip(pads, signal.shape[2:], strict=True))
    return F.pad(signal, flat, mode="reflect" if fits else "replicate")


def crop(signal: Tensor, *, before: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """What was there before `pad`."""
    for axis, (start, length) in enumerate(zip(before, size, strict=True), start=2):
        signal = signal.narrow(axis, start, length)
    return signal
