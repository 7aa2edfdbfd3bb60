"""What the trainings on latents share: small tasks that every machine has the data for, the same
input as latents and as a smaller signal, and one small network for both.

Everything is centred by channel and scaled by one number, so that channels keep their proportions:
whitening would amplify those of noise.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import matplotlib
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from attar.data.media import from_tensor, open_splits, to_pil
from attar.data.pictures import DEMO
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig, fit

Pictures = NDArray[np.uint8]
Batch = dict[str, Tensor]

SIDE = 48
WORDS = (
    *("barn", "born", "burn", "torn", "turn", "town", "down", "dawn"),
    *("lawn", "lamp", "damp", "dump", "bump", "pump", "pomp", "romp"),
)
_FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Bold", "DejaVuSerif-Italic")
_HELD_OUT = ("test", "validation")


# ---------------------------------------------------------------------------------------- pictures


def photographs(data: str | Path = "demo", *, most: int | None = None) -> dict[str, list[Pictures]]:
    """Photographs (H, W, 3) to train and to test on: `train` and `test` of a folder, or every fifth
    to test; of `demo`, scikit-learn's two, with the places of test apart from those of train.
    """
    splits = open_splits(data)
    found = {}
    for split, rows in splits.items():
        if data == DEMO:
            subjects = rows.table.features["label"].names
            labels = [subjects[label] for label in rows.table["label"]]
            rows = rows.select([row for row, label in enumerate(labels) if label == "photograph"])
        if most is not None and len(rows) > most:
            rows = rows.select(range(most))
        found[split] = [np.asarray(to_pil(signal).convert("RGB")) for signal in rows]
    train = found.get("train") or next(iter(found.values()))
    held_out = next((found[name] for name in _HELD_OUT if name in found), None)
    if held_out is None:
        held_out, train = train[::5], [one for row, one in enumerate(train) if row % 5]
    return {"train": train, "test": held_out}


def crops(
    pictures: Sequence[Pictures], *, count: int, side: int = SIDE, seed: int = 0
) -> tuple[Pictures, NDArray[np.int64]]:
    """Square crops at random places (N, side, side, 3), and from which picture each one is."""
    rng = np.random.default_rng(seed)
    fitting = [row for row, one in enumerate(pictures) if min(one.shape[:2]) >= side]
    which = rng.choice(fitting, size=count)
    found = np.empty((count, side, side, 3), np.uint8)
    for row, number in enumerate(which):
        height, width, _ = pictures[number].shape
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        found[row] = pictures[number][top : top + side, left : left + side]
    return found, which


def with_digits(grounds: Pictures, *, split: str, seed: int = 0) -> NDArray[np.int64]:
    """Put one handwritten digit, 12 pixels high, on each ground, in place; which ones they are.

    The digits are scikit-learn's; those of test are not in train.
    """
    rng = np.random.default_rng(seed)
    scans, labels = map(np.asarray, load_digits(return_X_y=True))
    own = np.arange(len(scans)) % 5 == 0
    which = rng.choice(np.flatnonzero(own if split == "test" else ~own), size=len(grounds))
    for ground, scan in zip(grounds, scans[which], strict=True):
        grey = Image.fromarray((scan.reshape(8, 8) * 255 / 16).astype(np.uint8))
        _blend(ground, np.asarray(grey.resize((12, 12), Image.Resampling.BICUBIC)), rng)
    return labels[which].astype(np.int64)


def with_words(grounds: Pictures, *, seed: int = 0) -> NDArray[np.int64]:
    """Put one of 16 words on each ground, in place, in type of 7 to 9 pixels; which one it is."""
    rng = np.random.default_rng(seed)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [
        ImageFont.truetype(folder / f"{name}.ttf", size, layout_engine=ImageFont.Layout.BASIC)
        for name in _FONTS
        for size in (7, 8, 9)
    ]
    which = rng.integers(len(WORDS), size=len(grounds))
    for ground, number in zip(grounds, which, strict=True):
        font = fonts[rng.integers(len(fonts))]
        left, top, right, bottom = (round(side) for side in font.getbbox(WORDS[number]))
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).text((-left, -top), WORDS[number], fill=255, font=font)
        _blend(ground, np.asarray(mask), rng)
    return which


def _blend(ground: Pictures, mask: Pictures, rng: Generator) -> None:
    """Paint a mask (h, w) at a random place, in a colour that is dark on what is bright."""
    height, width = mask.shape
    top = rng.integers(ground.shape[0] - height + 1)
    left = rng.integers(ground.shape[1] - width + 1)
    place = ground[top : top + height, left : left + width]
    ink = rng.integers(0, 61, 3) if place.mean() > 127 else rng.integers(195, 256, 3)
    share = mask[..., None] / 255
    place[:] = np.rint(place * (1 - share) + ink * share)


# ---------------------------------------------------------------------------------------- inputs


def as_tensor(pictures: Pictures) -> Tensor:
    """Pictures (N, H, W, 3) as float32 (N, 3, H, W) in [-0.5, 0.5]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - 0.5


def lanczos(pictures: Pictures, *, side: int) -> Pictures:
    """Square pictures made smaller or larger."""
    size, method = (side, side), Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(one).resize(size, method)) for one in pictures])


def resampled(sound: Tensor, *, length: int) -> Tensor:
    """Recordings (..., L) of so many samples, by the ideal low-pass."""
    change = length / sound.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(sound), n=length) * change


def folded(sound: Tensor, *, channels: int) -> Tensor:
    """Samples (N, 1, L) as (N, channels, L / channels), neighbours at one position."""
    return sound.reshape(len(sound), -1, channels).transpose(1, 2)


def unfolded(values: Tensor) -> Tensor:
    """The inverse of `folded`."""
    return values.transpose(1, 2).reshape(len(values), 1, -1)


def fitted(signals: Tensor, *, levels: int, reduction: float, step: float = 0.03) -> WaveletCodec:
    """The closed form for signals (N, C, *sizes) in [-0.5, 0.5]."""
    channels, ndim = signals.shape[1], signals.dim() - 2
    config = WaveletCodecConfig(
        ndim=ndim,
        channels=channels,
        levels=levels,
        latent_channels=round(channels * 2 ** (ndim * levels) / reduction),
    )
    codec = WaveletCodec(config).eval()
    fit(codec, (from_tensor(one, value_range=(-0.5, 0.5)) for one in signals), step=step)
    return codec.requires_grad_(False)


def latents(codec: WaveletCodec, signals: Tensor, *, rows: int = 256) -> Tensor:
    """What a file keeps of signals (N, C, *sizes), rounded: (N, c, *grid)."""
    parts = [codec.dequantise(codec.integers(part)) for part in signals.split(rows)]
    return torch.cat(parts)


@dataclass(frozen=True)
class Scale:
    """Centres by channel and divides by one number; `undo` goes back."""

    middle: Tensor
    size: float

    @classmethod
    def of(cls, values: Tensor) -> "Scale":
        axes = [axis for axis in range(values.dim()) if axis != 1]
        middle = values.mean(axes, keepdim=True)
        return cls(middle, float((values - middle).square().mean().sqrt()))

    def __call__(self, values: Tensor) -> Tensor:
        return (values - self.middle) / self.size

    def undo(self, values: Tensor) -> Tensor:
        return values * self.size + self.middle


@dataclass(frozen=True)
class Tensors:
    """Batches of columns (N, ...) in the manner of `LatentLoader`."""

    columns: Batch
    shuffle: bool = False
    batch_size: int = 32

    def __len__(self) -> int:
        return -(-len(self.columns["label"]) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.columns["label"])
        order = torch.randperm(count) if self.shuffle else torch.arange(count)
        for rows in order.split(self.batch_size):
            yield {name: column[rows] for name, column in self.columns.items()}


# -------------------------------------------------------------------------------------- networks


class Network(nn.Module):
    """Convolutions with batch normalisation, and a linear layer: on the largest value of each
    channel (`classes`), or at every position (`outputs`)."""

    def __init__(
        self,
        inputs: int,
        *,
        dims: int = 2,
        classes: int = 0,
        outputs: int = 0,
        width: int = 32,
        layers: int = 6,
    ) -> None:
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dims == 1 else (nn.Conv2d, nn.BatchNorm2d)
        kernel, parts, channels = (5 if dims == 1 else 3), list[nn.Module](), inputs
        for layer in range(layers):
            # sound has long grids: a class is read from every eighth position
            stride = 2 if dims == 1 and classes and layer % 2 else 1
            parts += [
                conv(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False),
                norm(width),
                nn.ReLU(),
            ]
            channels = width
        self.body = nn.Sequential(*parts)
        self.head = nn.Linear(width, classes) if classes else conv(width, outputs, 1)
        self.classifies = bool(classes)

    def forward(self, values: Tensor) -> Tensor:
        """(N, classes) or (N, outputs, *grid) of (N, inputs, *grid)."""
        found = self.body(values)
        return self.head(found.flatten(2).amax(2) if self.classifies else found)


def cross_entropy(network: nn.Module, batch: Batch) -> Tensor:
    return functional.cross_entropy(network(batch["features"]), batch["label"])


def train(
    network: nn.Module,
    batches: "Tensors | Iterable[Batch]",
    *,
    epochs: int,
    loss: Callable[[nn.Module, Batch], Tensor] = cross_entropy,
    learning_rate: float = 3e-3,
) -> nn.Module:
    """AdamW, one cycle of the learning rate; `batches` have a length, and are read every epoch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01)
    steps = epochs * len(batches)  # pyright: ignore[reportArgumentType]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    network.train()
    for _ in range(epochs):
        for batch in batches:
            optimizer.zero_grad()
            loss(network, batch).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, batches: Iterable[Batch]) -> float:
    """Share of rows whose class is found."""
    hits = [network(batch["features"]).argmax(1) == batch["label"] for batch in batches]
    return float(torch.cat(hits).float().mean())


def show(rows: dict[str, list[float]], *, unit: str, chance: float | None = None) -> None:
    """A table of mean, lowest and highest over the seeds."""
    for name, values in rows.items():
        print(f"{name:44} {mean(values):7.2f} {unit}  ({min(values):.2f} to {max(values):.2f})")
    if chance is not None:
        print(f"{'guessing':44} {chance:7.2f} {unit}")
