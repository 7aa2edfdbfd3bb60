"""Recordings that are too long to be read at once: WAV files, in chunks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.coding.latents import Form
from attar.data.media.audio import breaks_off, damaged, open_sound, types_of, unreadable
from attar.data.media.signals import BLOCK, Scale

_HEADS = (b"RIFF", b"RF64")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A WAV file, whose samples are as `attar.data.media.read_signal` would scale them.

    Attributes:
        path: of the file.
        name: what errors call it.
        form: what it is.
        samples: of each channel.
        gain: what samples are divided by, twice, after `mean` is subtracted.
        mean: see gain.
    """

    path: Path
    name: str
    form: Form
    samples: int
    gain: float
    mean: float

    def chunks(self) -> Iterator[Tensor]:
        """All samples, (C, n) at a time, not scaled yet.

        Raises:
            DataError: the file cannot be read, or breaks off.
        """
        with _opened(self.path, self.name) as source:
            yield from _chunks(source, self.name)


def open_recording(path: Path, *, name: str | None = None) -> Recording | None:
    """A WAV file, which is read once for its gain and mean; None where it is no such file.

    Args:
        path: of the file.
        name: for errors. None: the path.

    Raises:
        DataError: it cannot be read, breaks off, is empty, or has infinite samples.
        MissingExtraError: soundfile is not installed.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return None  # whoever reads it says what is wrong
    if head[:4] not in _HEADS or head[8:] != b"WAVE":
        return None
    scale, count = Scale(), 0
    with _opened(path, name) as source:
        if types_of(source.subtype)[2] != 1:
            return None  # a lossy format
        channels, rate, dtype = source.channels, source.samplerate, types_of(source.subtype)[1]
        for chunk in _chunks(source, name):
            scale.add(chunk.numpy())
            count += chunk.shape[1]
    gain, mean = scale.gain_and_mean(name=name)
    form = Form(kind="audio", dtype=dtype, rate=rate, channels=channels)
    return Recording(path=path, name=name, form=form, samples=count, gain=gain, mean=mean)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    with unreadable(name), open_sound(path) as source:
        yield source


def _chunks(source: Any, name: str) -> Iterator[Tensor]:
    read, done = types_of(source.subtype)[0], 0
    while done < source.frames:
        part = source.read(BLOCK, dtype=read, always_2d=True)
        done += len(part)
        if not len(part):
            break
        yield torch.from_numpy(part.T)
    if done < source.frames or breaks_off(source.extra_info):
        raise damaged(name, done)
