"""The tasks, each as inputs of equal size: latents, and the signal made smaller."""

import colorsys
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import numpy as np
import torch
from latent_tasks import (
    WORDS,
    Pictures,
    Scale,
    as_tensor,
    crops,
    fitted,
    folded,
    lanczos,
    latents,
    photographs,
    resampled,
    with_digits,
    with_words,
)
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from attar.data.media import open_splits

SEEDS = 3
PHOTOGRAPHS, HUES = 40, 6
LENGTH = 8192  # samples of a spoken digit: 1.02 seconds
#: levels that are tried for sound, the shortest clips that this project knows
SOUND_LEVELS = (4, 5, 6)
_FIT = 3000  # rows of train that a codec is fitted to, at most
_TAKES = range(5, 10)  # of the spoken digits of train: those to choose by

Labels = Tensor
Split = tuple[Tensor, Labels]


@dataclass(frozen=True)
class Source:
    """Where photographs and spoken digits come from, and how many crops there are.

    Attributes:
        data: a folder with `images/photos` and `audio/spoken-digits.tar`.
        quick: fewer and smaller crops, and fewer trainings.
    """

    data: Path
    quick: bool

    @property
    def side(self) -> int:
        return 32 if self.quick else 48

    @property
    def counts(self) -> dict[str, int]:
        """Crops in each split."""
        return {"train": 2000, "test": 500} if self.quick else {"train": 6000, "test": 1500}

    @property
    def photographs(self) -> str | Path:
        folder = self.data / "images" / "photos"
        return folder if folder.is_dir() else "demo"

    @property
    def spoken(self) -> Path | None:
        file = self.data / "audio" / "spoken-digits.tar"
        return file if file.is_file() else None


# -------------------------------------------------------------------------------------- pictures


@cache
def pictures(task: str, source: Source) -> tuple[dict[str, tuple[Pictures, Labels]], int]:
    """Square crops with their classes by split, and how many classes there are."""
    found, photos = {}, photographs(source.photographs)
    if task == "photograph":  # the left of each to train, the right to test
        count = PHOTOGRAPHS if source.photographs != "demo" else 2
        whole = photos["train"][:count]
        cut = [one.shape[1] * 6 // 10 for one in whole]
        photos["train"] = [one[:, :at] for one, at in zip(whole, cut, strict=True)]
        photos["test"] = [one[:, at:] for one, at in zip(whole, cut, strict=True)]
    for seed, (split, count) in enumerate(source.counts.items()):
        grounds, which = crops(photos[split], count=count, side=source.side, seed=seed)
        if task == "digits":
            which = with_digits(grounds, split=split, seed=seed)
        elif task == "words":
            which = with_words(grounds, seed=seed)
        elif task == "hue":
            which = np.array([_hue(one) for one in grounds])
        found[split] = grounds, torch.from_numpy(which.astype(np.int64))
    classes = {"digits": 10, "words": len(WORDS), "hue": HUES}
    return found, classes.get(task, len(photos["train"]))


def _hue(crop: Pictures) -> int:
    """In which sixth of the colour circle the mean colour lies, the first one around red."""
    hue, _, _ = colorsys.rgb_to_hsv(*(crop.mean((0, 1)) / 255))
    return int(hue * HUES + 0.5) % HUES


def picture_inputs(task: str, kind: str, source: Source) -> dict[str, Split]:
    """A task's pictures as a kind of input, such as `16x latents`, by split."""
    found, _ = pictures(task, source)
    name, _, shape = kind.partition(" ")
    reduction, levels = {"16x": 16, "4x": 4}[name], 3 if "J=3" in shape or "whole" in shape else 2
    side = round(source.side / reduction**0.5)
    codec = None
    if "latents" in shape:
        codec = fitted(as_tensor(found["train"][0][:_FIT]), levels=levels, reduction=reduction)
    inputs = {}
    for split, (crop, labels) in found.items():
        if codec is not None:
            values = latents(codec, as_tensor(crop))
            if "whole" in shape:
                parts = [codec.reconstruct(part).clamp(-0.5, 0.5) for part in values.split(256)]
                values = torch.cat(parts)
        else:
            small = lanczos(crop, side=side)
            values = as_tensor(lanczos(small, side=source.side) if "whole" in shape else small)
            if reduction == 4 and shape == "smaller":
                values = pixel_unshuffle(values, 2)  # the grid of the latents, hence their cost
        inputs[split] = values, labels
    return scaled(inputs)


def scaled(inputs: dict[str, Split]) -> dict[str, Split]:
    """Centred by channel and scaled by one number, both those of train."""
    scale = Scale.of(inputs["train"][0])
    return {split: (scale(values), labels) for split, (values, labels) in inputs.items()}


# ------------------------------------------------------------------------------------------ sound


@cache
def spoken(source: Source) -> dict[str, Split]:
    """Spoken digits (N, 1, LENGTH), zeros behind where they end; `validation` is part of train."""
    found: dict[str, list[tuple[Tensor, int]]] = {"train": [], "validation": [], "test": []}
    for split, rows in open_splits(source.spoken or "").items():
        for row, name in enumerate(rows.names):
            digit, _, take = Path(name).stem.split("_")
            clip = rows[row].values[:, :LENGTH]
            clip = torch.nn.functional.pad(clip, (0, LENGTH - clip.shape[1]))
            chosen = "validation" if split == "train" and int(take) in _TAKES else split
            found[chosen].append((clip, int(digit)))
    return {
        split: (torch.stack([clip for clip, _ in rows]), torch.tensor([n for _, n in rows]))
        for split, rows in found.items()
    }


def sound_inputs(kind: str, source: Source, *, levels: int, choose: bool) -> dict[str, Split]:
    """Spoken digits as `kind` has them, on a grid of LENGTH / 2^levels; to `choose` levels by, test
    is what validation is otherwise."""
    splits = spoken(source)
    train, test = splits["train"], splits["validation" if choose else "test"]
    if not choose:
        both = zip(train, splits["validation"], strict=True)
        values, labels = (torch.cat(pair) for pair in both)
        train = values, labels
    reduction, channels = int(kind.split("x")[0]), 2**levels // int(kind.split("x")[0])
    codec = fitted(train[0], levels=levels, reduction=reduction) if "latents" in kind else None
    inputs = {}
    for split, (clips, labels) in {"train": train, "test": test}.items():
        if codec is not None:
            values = latents(codec, clips)
        else:
            values = folded(resampled(clips, length=LENGTH // reduction), channels=channels)
        inputs[split] = values, labels
    return scaled(inputs)


# ------------------------------------------------------------------------------------------ cells

DETAIL, COARSE = ("digits", "words", "spoken"), ("photograph", "hue")
PAIRS = ("16x smaller", "16x latents", "4x smaller", "4x latents")
#: of small digits alone: another grid, more cost for the smaller picture, and full size
MORE = ("16x latents J=3", "4x latents J=3", "4x smaller 24x24")
WHOLE = ("16x whole smaller", "16x whole latents")


def cells(source: Source) -> Iterator[tuple[str, str, int]]:
    """Task, kind and seed of every training, the trainings at full size, one seed, last."""
    tasks = ("digits", "spoken", "hue") if source.quick else (*DETAIL, *COARSE)
    tasks = [task for task in tasks if task != "spoken" or source.spoken]
    for seed in range(1 if source.quick else SEEDS):
        for task in tasks:
            for kind in PAIRS:
                yield task, kind, seed
        for kind in () if source.quick else MORE:
            yield "digits", kind, seed
    for kind in () if source.quick else WHOLE:
        yield "digits", kind, 0
