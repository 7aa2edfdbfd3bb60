"""Small pictures and sounds as folders, and codecs fitted to them."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from attar.data.media.audio import from_samples
from attar.data.media.images import from_pil
from attar.data.media.reading import write_signal
from attar.data.media.signals import Signal
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig, fit


def picture(number: int, size: tuple[int, int] = (20, 28)) -> Image.Image:
    """A smooth picture with a little noise, (H, W) in pixels."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[: size[0], : size[1]] / 9
    planes = [np.sin(rows * a + b) + np.cos(columns * c) for a, b, c in rng.uniform(0.3, 2, (3, 3))]
    values = np.stack(planes, -1) * 50 + 128 + rng.normal(0, 3, (*size, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def sound(number: int, samples: int = 300) -> Signal:
    """A tone, in two channels."""
    time = np.arange(samples)[:, None] / 20
    values = np.sin(time * np.array([1.0, 1.1]) + number) * 9000
    return from_samples(values.astype(np.int16), rate=8000)


@cache
def codec(step: float = 0.05, **options: Any) -> WaveletCodec:
    """A codec of pictures in closed form; do not change it."""
    torch.manual_seed(0)
    options = {"levels": 2, "latent_channels": 6, **options}
    made = WaveletCodec(WaveletCodecConfig(**options))
    with torch.no_grad():
        fit(made, [from_pil(picture(number)) for number in range(100, 104)], step=step)
    return made.eval()


@cache
def sound_codec() -> WaveletCodec:
    """A codec of stereo sound in closed form; do not change it."""
    made = WaveletCodec(WaveletCodecConfig(ndim=1, channels=2, levels=2, latent_channels=4))
    fit(made, [sound(7)], step=0.05)
    return made.eval()


def folder_of_pictures(folder: Path, *, count: int = 6, odd: bool = False) -> Path:
    """Two splits of two classes each; `odd`: not all of one size."""
    for split, each in (("train", count), ("test", 2)):
        for number in range(each):
            name = folder / split / ("cat" if number % 2 else "dog") / f"{number}.png"
            name.parent.mkdir(parents=True, exist_ok=True)
            size = (21, 27) if odd and number % 3 == 0 else (20, 28)
            picture(number + (0 if split == "train" else 50), size).save(name)
    return folder


def folder_of_sounds(folder: Path, *, count: int = 3) -> Path:
    """Recordings of several lengths."""
    folder.mkdir(parents=True)
    for number in range(count):
        write_signal(sound(number, 300 + 10 * number), folder / f"{number}.wav")
    return folder
