"""Networks that read latents: all of them work at the grid of the latents, (B, c, *grid) to
(B, C * 2^(ndim * levels), *grid) wavelet coefficients.

`ConvNetwork` is local: what it says of a position depends on the positions within `halo` alone, so
that a picture can be decoded tile by tile to the same result. `PaperNetwork2d` is the decoder of
the KL autoencoders of latent diffusion with one resolution; its attention and group norms see the
whole picture.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from attar.errors import require
from attar.methods.walloc.config import WaveletCodecConfig

_GROUPS = 32
_EPS = 1e-6
_DILATIONS = (1, 3, 9)


def network(config: WaveletCodecConfig) -> nn.Module | None:
    """The network of a decoder; None where there is only the linear one.

    Raises:
        ConfigError: a width that the network cannot have.
    """
    inputs, outputs, width = config.latent_channels, config.coefficients, config.decoder_width
    if config.decoder == "linear":
        return None
    if config.decoder == "conv":
        sizes = {"width": width, "blocks": config.decoder_blocks, "ndim": config.ndim}
        return ConvNetwork(inputs, outputs, **sizes, quiet=config.linear_skip)
    if config.ndim == 2:
        return PaperNetwork2d(inputs, outputs, width=width, quiet=config.linear_skip)
    return PaperNetwork1d(inputs, outputs, width=width, quiet=config.linear_skip)


class ConvNetwork(nn.Module):
    """Residual blocks of two convolutions over 3 positions an axis, without attention or norms
    over positions.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        width: channels inside.
        blocks: residual blocks.
        ndim: axes of the grid.
        quiet: the last layer starts at zero, so that the network adds nothing before training.
    """

    def __init__(
        self, inputs: int, outputs: int, *, width: int, blocks: int, ndim: int, quiet: bool
    ) -> None:
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv1d
        self.first = conv(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(LocalBlock(width, ndim=ndim) for _ in range(blocks))
        self.last = conv(width, outputs, 3, padding=1)
        self.halo = 2 + 2 * blocks
        if quiet:
            _silence(self.last)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, inputs, *grid) to (B, outputs, *grid)."""
        hidden = self.first(latents)
        for block in self.blocks:
            hidden = block(hidden)
        return self.last(F.silu(hidden))


def _silence(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class LocalBlock(nn.Module):
    """x + conv(silu(conv(silu(norm(x))))), the norm over the channels of a position."""

    def __init__(self, width: int, *, ndim: int) -> None:
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv1d
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, width, *grid) to the same."""
        normed = self.norm(hidden.movedim(1, -1)).movedim(-1, 1)
        return hidden + self.second(F.silu(self.first(F.silu(normed))))


class GroupBlock(nn.Module):
    """The paper's residual block: twice group norm, SiLU, convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(_GROUPS, width, eps=_EPS) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        inner = self.conv1(F.silu(self.norm1(hidden)))
        return hidden + self.conv2(F.silu(self.norm2(inner)))


class Attention(nn.Module):
    """Attention of one head over all positions, with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, width, eps=_EPS)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        flat = self.norm(hidden).flatten(2).transpose(1, 2)[:, None]  # (B, 1, positions, width)
        mixed = F.scaled_dot_product_attention(self.query(flat), self.key(flat), self.value(flat))
        return hidden + self.out(mixed)[:, 0].transpose(1, 2).view_as(hidden)


class PaperNetwork2d(nn.Module):
    """The paper's decoder of pictures: 57,132,480 parameters at width 768 and c = 48.

    Args: as `ConvNetwork`.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, quiet: bool) -> None:
        super().__init__()
        fine = width % _GROUPS == 0 and width > _GROUPS  # a single value has no norm
        require(fine, "decoder_width", width, f"a multiple of {_GROUPS}, from {2 * _GROUPS} on")
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.middle = nn.Sequential(GroupBlock(width), Attention(width), GroupBlock(width))
        self.blocks = nn.Sequential(*(GroupBlock(width) for _ in range(3)))
        self.norm = nn.GroupNorm(_GROUPS, width, eps=_EPS)
        self.last = nn.Conv2d(width, outputs, 3, padding=1)
        if quiet:
            _silence(self.last)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h, w)."""
        hidden = self.blocks(self.middle(self.first(latents)))
        return self.last(F.silu(self.norm(hidden)))


class Snake(nn.Module):
    """x + sin^2(e^alpha x) / (e^beta + 1e-9), alpha and beta of each channel, 0 at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width, 1))
        self.beta = nn.Parameter(torch.zeros(width, 1))

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, width, n) to the same."""
        wave = torch.sin(self.alpha.exp() * hidden)
        return hidden + wave**2 / (self.beta.exp() + 1e-9)


class SnakeUnit(nn.Module):
    """x + conv1(snake(conv7(snake(x)))), the wide convolution dilated."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        wide = nn.Conv1d(width, width, 7, dilation=dilation, padding=3 * dilation)
        self.layers = nn.Sequential(
            Snake(width), weight_norm(wide), Snake(width), weight_norm(nn.Conv1d(width, width, 1))
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, width, n) to the same."""
        return hidden + self.layers(hidden)


class PaperNetwork1d(nn.Module):
    """The paper's decoder of sound, after the Descript audio codec, at one resolution.

    Deviation: the paper's transposed convolutions over 2 positions shorten the sequence, which
    shifts latents against time; here the input is padded by one position in front, so that they
    keep the length.

    Args: as `ConvNetwork`; the width is rounded down to a multiple of the inputs.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, quiet: bool) -> None:
        super().__init__()
        wide = inputs * max(1, width // inputs)
        layers: list[nn.Module] = [weight_norm(nn.Conv1d(inputs, wide, 7, padding=3))]
        for before, after in ((wide, wide), (wide, inputs)):
            layers += [Snake(before), nn.ConstantPad1d((1, 0), 0.0)]
            layers += [weight_norm(nn.ConvTranspose1d(before, after, 2, padding=1), dim=0)]
            layers += [SnakeUnit(after, dilation) for dilation in _DILATIONS]
        self.body = nn.Sequential(*layers, Snake(inputs))
        last = nn.Conv1d(inputs, outputs, 7, padding=3, bias=False)
        self.last = weight_norm(last)
        if quiet:
            magnitude: Any = self.last.parametrizations
            nn.init.zeros_(magnitude.weight.original0)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, inputs, n) to (B, outputs, n)."""
        return self.last(self.body(latents))
