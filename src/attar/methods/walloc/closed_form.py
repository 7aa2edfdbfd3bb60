"""The codec that needs no training: principal components of wavelet coefficients.

Not in the paper. The encoder is the projection onto the directions in which the coefficients at a
position vary most, the decoder its transpose, which is the best pair of linear layers for the mean
squared error of the coefficients. One pass over some hundred pictures is enough. It is a codec as
it stands, and where training begins.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from attar.coding.wavelets import packet_transform
from attar.data.media import Signal
from attar.errors import DataError, require
from attar.methods.walloc.codec import WaveletCodec
from attar.methods.walloc.padding import pad, pads_of, suited

#: of what a variance is, over the square of the mean, where there is none
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What a fit saw.

    Attributes:
        items: signals read.
        positions: of their grids.
        kept: share of the variance of the coefficients that the latents keep.
        error: mean squared error of a coefficient that the fit expects without rounding.
    """

    items: int
    positions: int
    kept: float
    error: float


class Moments:
    """Mean (D,) and covariance (D, D) of vectors that come in parts, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | float = 0.0
        self._products: Tensor | float = 0.0

    def add(self, vectors: Tensor) -> None:
        """More of them, (N, D)."""
        self.count += len(vectors)
        self._sum = self._sum + vectors.sum(0, dtype=torch.float64)
        # the products of one picture in its own type: their sum over pictures is what needs width
        self._products = self._products + (vectors.T @ vectors).double()

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Of all that was added.

        Raises:
            DataError: there are no vectors.
        """
        if not isinstance(self._sum, Tensor) or not isinstance(self._products, Tensor):
            raise DataError("expected signals to fit a codec to, found none; give more data")
        mean = self._sum / self.count
        return mean, self._products / self.count - torch.outer(mean, mean)


@torch.inference_mode()
def fit(codec: WaveletCodec, signals: Iterable[Signal], *, step: float) -> FitReport:
    """Set encoder and linear decoder to the principal components of the signals, in place.

    Args:
        codec: a network in it stays as it is.
        signals: such as some hundred pictures.
        step: what latents are rounded to, in units of the signal's range: half of it halves the
            rounding error, for about one bit more for each latent.

    Raises:
        ConfigError: the step is not above zero.
        DataError: there are no signals, or they do not suit the codec.
    """
    require(step > 0, "step", step, "above zero")
    config, device = codec.config, codec.analysis.weight.device
    moments, items = Moments(), 0
    for signal in signals:
        values = suited(signal, config=config).values[None].to(device)
        padded = pad(values, pads_of(tuple(values.shape[2:]), config=config))
        found = packet_transform(padded, levels=config.levels, wavelet=config.wavelet)
        moments.add(found[0].flatten(1).T)
        items += 1
    mean, covariance = moments.mean_and_covariance()
    if not bool(covariance.isfinite().all()):
        raise DataError("expected finite values in the signals, found others; correct them")
    values, vectors = torch.linalg.eigh(covariance)  # the smallest first
    chosen = vectors.flip(1)[:, : config.latent_channels]
    chosen = chosen * torch.where(chosen.sum(0) < 0, -1.0, 1.0)  # one sign on every machine
    _set(codec, chosen, mean, step=step)
    values = values.flip(0).clamp_min(0)
    left = values[config.latent_channels :].sum()
    varies = values.sum() > _ROUNDING * mean.square().sum()
    return FitReport(
        items=items,
        positions=moments.count,
        kept=float(1 - left / values.sum()) if varies else 1.0,
        error=float(left / config.coefficients),
    )


def _set(codec: WaveletCodec, vectors: Tensor, mean: Tensor, *, step: float) -> None:
    """Encoder and decoder of these directions, (D, c); companded latents are in units of `step`."""
    scale = step if codec.compander is not None else 1.0
    codec.analysis.weight.copy_(vectors.T / scale)
    codec.analysis.bias.copy_(-(vectors.T @ mean) / scale)
    codec.steps.fill_(1.0 if codec.compander is not None else step)
    if codec.synthesis is not None:
        codec.synthesis.weight.copy_(vectors * scale)
        codec.synthesis.bias.copy_(mean)
