"""The loss of a codec, and the crops that it is trained on."""

import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from attar.coding.quantise import add_noise
from attar.coding.wavelets import packet_transform
from attar.data.media import Signal
from attar.data.sources import Batch
from attar.errors import DataError
from attar.methods.walloc.codec import WaveletCodec
from attar.methods.walloc.config import WaveletCodecConfig
from attar.methods.walloc.padding import pad, suited

Domain = Literal["signal", "wavelet"]


class Signals(Protocol):
    """Rows of signals, read when they are asked for."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int, /) -> Signal:
        """One of them."""
        ...


def mean_squared_error(
    codec: WaveletCodec, signal: Tensor, *, domain: Domain
) -> tuple[Tensor, Tensor]:
    """Error of a training step, with noise in place of rounding.

    Args:
        codec: in training mode.
        signal: (B, C, *sizes).
        domain: signal, as published; wavelet compares coefficients, which saves the way back
            through the transform. It is nearly orthonormal, so that both are nearly the same.

    Returns:
        (B,) mean squared errors, and the latents in units of the quantiser, (B, c, *grid).
    """
    if domain == "signal":
        out = codec(signal)
        error, levels = out.reconstruction - signal, out.levels
    else:
        shape = {"levels": codec.config.levels, "wavelet": codec.config.wavelet}
        with torch.no_grad():
            goal = packet_transform(signal.float(), **shape)
        levels = codec.to_levels(codec.features_of(goal))
        error = codec.coefficients(codec.from_levels(add_noise(levels)), tile=None) - goal
    return error.float().square().flatten(1).mean(1), levels


def rate_and_distortion(error: Tensor, levels: Tensor, *, rate_weight: float) -> Tensor:
    """log10 MSE + lambda log2 std(y) for each item, (B,): LiVeAction's loss (arXiv 2605.06628).

    The spread of latents stands for their bits. Of each item alone, so that a batch can be split.
    """
    spread = levels.flatten(1).std(1).clamp_min(1e-6)
    return error.clamp_min(1e-12).log10() + rate_weight * spread.log2()


class Crops:
    """Random crops on the grid of the latents, the same for the same seed and row.

    Args:
        signals: whole ones, each read again for each of its crops.
        config: of the codec.
        size: samples along a side, a multiple of 2^levels; smaller signals are padded.
        seed: of the places.
        each: crops of a signal in one pass.
    """

    def __init__(
        self, signals: Signals, *, config: WaveletCodecConfig, size: int, seed: int, each: int = 1
    ) -> None:
        if len(signals) == 0:
            raise DataError("expected signals to train a codec on, found none; give more data")
        self._signals, self._config, self._size = signals, config, size
        self._seed, self._each = seed, each
        self.tokens_per_row = float(size**config.ndim)

    def __len__(self) -> int:
        return len(self._signals) * self._each

    def batch(self, rows: Sequence[int]) -> Batch:
        """`signal` (B, C, *size)."""
        return {"signal": torch.stack([self._crop(row) for row in rows])}

    def counts(self, batch: Batch) -> dict[str, float]:
        """The crops."""
        return {"items": len(batch["signal"])}

    def fingerprint(self) -> str:
        """Of the first samples of some signals, and of how they are cropped."""
        digest = hashlib.sha256(repr((len(self), self._size, self._seed)).encode())
        for row in np.unique(np.linspace(0, len(self._signals) - 1, 32).round().astype(int)):
            values = self._signals[int(row)].values
            digest.update(repr(values.shape).encode() + values.flatten()[:4096].numpy().tobytes())
        return digest.hexdigest()

    def _crop(self, row: int) -> Tensor:
        values = suited(self._signals[row // self._each], config=self._config).values
        short = tuple((0, max(0, self._size - side)) for side in values.shape[1:])
        values = pad(values[None], short)[0]
        rng = np.random.default_rng([self._seed, row])
        for axis, side in enumerate(values.shape[1:], start=1):
            values = values.narrow(axis, int(rng.integers(side - self._size + 1)), self._size)
        return values
