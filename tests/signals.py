"""Small pictures and recordings for tests of codecs, and codecs that are fitted to them."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from attar.data.media import Signal, read_signal
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig, fit


def pixels(height: int, width: int, *, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, C), smooth with some noise."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 4, 4, generator=random)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[0]
    noisy = smooth + 0.1 * torch.rand(channels, height, width, generator=random) - 0.05
    return (noisy.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def picture(height: int, width: int, *, channels: int = 3, seed: int = 0) -> Signal:
    """`pixels` as a codec sees them."""
    array = pixels(height, width, channels=channels, seed=seed)
    return read_signal(array[..., 0] if channels == 1 else array)


def samples(length: int, *, channels: int = 2, seed: int = 0) -> NDArray[np.int16]:
    """(L, C), some tones with noise and a mean."""
    random = np.random.default_rng(seed)
    time = np.arange(length)[:, None] * random.uniform(0.01, 0.3, (1, channels))
    loud = 6000 * np.sin(time) + 3000 * np.sin(2.7 * time) + random.normal(0, 200, time.shape)
    return (loud + 500).astype(np.int16)


def sound(length: int, *, channels: int = 2, seed: int = 0) -> Signal:
    """`samples` as a codec sees them."""
    return read_signal((samples(length, channels=channels, seed=seed), 8000))


def codec(*, step: float = 0.02, seed: int = 0, **options: Any) -> WaveletCodec:
    """One that is fitted to a few pictures or recordings; `options` as the configuration's."""
    torch.manual_seed(seed)
    config = WaveletCodecConfig(**{"levels": 2, "latent_channels": 12, **options})
    made = WaveletCodec(config).eval()
    if config.ndim == 2:
        data = [picture(48, 40, channels=config.channels, seed=n) for n in range(4)]
    else:
        data = [sound(3000, channels=config.channels, seed=n) for n in range(4)]
    fit(made, data, step=step)
    return made


def values(made: WaveletCodec, *, batch: int = 2, positions: int = 6, seed: int = 0) -> Tensor:
    """A batch (B, C, *sizes) of whole blocks."""
    side = positions * made.config.block
    one = picture if made.config.ndim == 2 else sound
    sizes = (side, side) if made.config.ndim == 2 else (side,)
    count = made.config.channels
    rows = [one(*sizes, channels=count, seed=seed + n).values for n in range(batch)]
    return torch.stack(rows)
