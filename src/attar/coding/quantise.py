"""From real latents to integers and back: companding, uniform steps, rounding, and the noise that
stands for rounding in training.

Source: Jacobellis and Yadwadkar, Learned Compression for Compressed Learning, 2024,
arXiv 2412.09405. Values are computed and given in float32, or float64 where the latents are.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attar.errors import expect, require

#: the tails of the distribution that `expand` clips: the inverse is infinite at their ends
_TAIL = 1e-4
#: standard deviations of a latent at the last level
_SPREAD = 1.85
#: the curve ends so much before the rounding to the next level
_MARGIN = 0.001


def largest(bits: int) -> int:
    """The last level of integers of so many bits: they are symmetric, -largest .. largest.

    Raises:
        ConfigError: not 2 to 16 bits.
    """
    require(2 <= bits <= 16, "bits", bits, "2 to 16")
    return 2 ** (bits - 1) - 1


@dataclass(frozen=True)
class Compander:
    """The curve that makes a normal latent of standard deviation `scale` uniform over the levels.

    Attributes:
        bits: of an integer latent, 2 to 16.

    Raises:
        ConfigError: other bits.
    """

    bits: int

    def __post_init__(self) -> None:
        largest(self.bits)

    @property
    def scale(self) -> float:
        """The standard deviation s of the latents that the curve is made for."""
        return largest(self.bits) / _SPREAD

    @property
    def limit(self) -> float:
        """The end L of the curve, just below half a level above the last."""
        return largest(self.bits) + 0.5 - _MARGIN

    def compand(self, latents: Tensor) -> Tensor:
        """`2 L (Phi(z / s) - 0.5)`, between -L and L; any shape."""
        # Phi(x) - 0.5 = erf(x / sqrt 2) / 2: odd to the last bit, and precise near 0
        return self.limit * torch.erf(_computable(latents) / (self.scale * math.sqrt(2)))

    def expand(self, values: Tensor) -> Tensor:
        """`s Phi^-1(clip(y / 2L + 0.5, 1e-4, 1 - 1e-4))`: the inverse up to the clipped tails,
        where the gradient is 0; any shape and dtype, integers too.
        """
        share = _computable(values) / self.limit
        end = 1 - 2 * _TAIL
        return self.scale * math.sqrt(2) * torch.erfinv(share.clamp(-end, end))


def in_steps(latents: Tensor, steps: Tensor) -> Tensor:
    """Latents in units of their channel's step.

    Args:
        latents: (B, c, *grid).
        steps: (c,), above 0.

    Raises:
        DataError: another number of steps.
    """
    return _computable(latents) / _per_channel(steps, latents)


def from_steps(values: Tensor, steps: Tensor) -> Tensor:
    """The inverse of `in_steps`, of integers too."""
    return _computable(values) * _per_channel(steps, values)


def add_noise(values: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Values plus uniform noise between -0.5 and 0.5, which stands for rounding in training.

    Args:
        values: any shape.
        generator: draws the noise, on its own device; None: PyTorch's own, which a training seeds.
    """
    computable = _computable(values)
    noise = torch.rand(
        values.shape,
        generator=generator,
        device=computable.device if generator is None else generator.device,
        dtype=computable.dtype,
    )
    return computable + noise.to(computable.device) - 0.5


def to_integers(values: Tensor, bits: int) -> Tensor:
    """Values rounded to the nearest level, halves to the even one, and kept in range.

    Args:
        values: any shape.
        bits: of an integer, 2 to 16.

    Returns:
        int16, in -(2^(bits-1) - 1) .. 2^(bits-1) - 1.

    Raises:
        ConfigError: other bits.
        DataError: a value is NaN.
    """
    last = largest(bits)
    expect(not bool(values.isnan().any()), "latents", "NaN", "numbers")
    return _computable(values).round().clamp(-last, last).to(torch.int16)


def _computable(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _per_channel(steps: Tensor, latents: Tensor) -> Tensor:
    channels = latents.shape[1]
    expect(steps.shape == (channels,), "steps", tuple(steps.shape), f"one per channel: {channels}")
    shaped = steps.to(latents.device).view(-1, *[1] * (latents.dim() - 2))
    return shaped.to(torch.promote_types(steps.dtype, torch.float32))
