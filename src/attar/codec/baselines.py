"""What a codec is compared with, item by item: smaller signals, and known formats at several
settings."""

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from attar.codec.measuring import ItemScores, average, fidelity, rated
from attar.codec.tables import Measured
from attar.data.media import MediaRows, Signal, to_pil, to_samples
from attar.data.media.signals import own_channels
from attar.evaluation import audio_formats, image_formats
from attar.evaluation.rates import Coded

Setting = tuple[str, Callable[[Signal], ItemScores]]
"""The name of a baseline with its setting, and what it makes of an item."""

#: colours of a colour-aware shrink, rows and columns of them, over those of the brightness
_COLOURS = 1 / 3
IMAGE = ("lanczos", "colour", *image_formats.FORMATS)
AUDIO = ("resample", *audio_formats.FORMATS)


def names(*, sound: bool) -> tuple[str, ...]:
    """All baselines of pictures or of sound."""
    return AUDIO if sound else IMAGE


def takes(signal: Signal) -> bool:
    """Whether there are baselines of such a signal: of arrays none, nor of sound with more channels
    than known formats hold."""
    kind = signal.form.kind
    return kind == "image" or (kind == "audio" and signal.channels <= audio_formats.MOST_CHANNELS)


def settings(name: str, *, sound: bool, ratio: float, repeats: int = 1) -> Iterator[Setting]:
    """The settings at which a baseline is measured; none where this machine cannot write it.

    Args:
        name: one of `names`.
        sound: which of the two kinds.
        ratio: by how much a smaller signal has fewer numbers; below 1 it is as large as the
            original, and sound has at most 64 times fewer.
        repeats: how often both ways are timed.
    """
    ratio = min(max(ratio, 1.0), audio_formats.LARGEST_RATIO if sound else math.inf)
    if name == "lanczos":
        yield name, _picture(lambda p: image_formats.shrink(p, ratio=ratio, repeats=repeats))
    elif name == "colour":
        # (luma^2 + 2 chroma^2) / 3 = 1 / ratio
        luma = math.sqrt(3 / (ratio * (1 + 2 * _COLOURS**2)))
        chroma = luma * _COLOURS
        if luma > 1:  # the brightness whole, and more of the colours
            luma, chroma = 1.0, math.sqrt((3 / ratio - 1) / 2)
        shares = {"luma": luma, "chroma": chroma}
        yield name, _picture(lambda p: image_formats.colour_shrink(p, **shares, repeats=repeats))
    elif name == "resample":
        call = audio_formats.resample
        yield name, _recording(lambda s, r: call(s, rate=r, ratio=ratio, repeats=repeats))
    elif sound and name in audio_formats.available_formats():
        for quality in audio_formats.FORMATS[name].curve or (0.5,):
            yield (
                _labelled(name, quality, lossless=name == "flac"),
                _recording(
                    lambda s, r, q=quality: audio_formats.audio_file(
                        s, rate=r, format=name, quality=q, repeats=repeats
                    )
                ),
            )
    elif not sound and name in image_formats.available_formats():
        for quality in image_formats.FORMATS[name].curve:
            yield (
                _labelled(name, quality),
                _picture(
                    lambda p, q=quality: image_formats.image_file(
                        p, format=name, quality=q, repeats=repeats
                    )
                ),
            )


def _labelled(name: str, quality: float, *, lossless: bool = False) -> str:
    return name if lossless else f"{name} {quality:g}"


def _picture(call: Callable[[Any], Coded[Any]]) -> Callable[[Signal], ItemScores]:
    def scored(signal: Signal) -> ItemScores:
        picture = to_pil(signal)
        if picture.mode == "I;16":  # which Pillow would cut off at 255
            picture = Image.fromarray(np.round(np.asarray(picture) / 257).astype(np.uint8))
        coded = call(picture if picture.mode == "L" else picture.convert("RGB"))
        original = image_formats.as_tensor(picture.convert(coded.decoded.mode))
        return _scored(coded, original, image_formats.as_tensor(coded.decoded))

    return scored


def _recording(call: Callable[[Any, int], Coded[Any]]) -> Callable[[Signal], ItemScores]:
    def scored(signal: Signal) -> ItemScores:
        samples = to_samples(signal)
        if samples.dtype != np.int16:
            samples = (signal.values.T * 2).numpy()
        coded = call(samples, signal.form.rate or 1)
        original = audio_formats.as_signal(samples)
        decoded = audio_formats.as_signal(coded.decoded)
        loudest = float(original.abs().max()) or 1.0
        scale = 0.5 / loudest  # as a codec sees it, so that PSNR means the same
        return _scored(coded, original * scale, (decoded * scale).clamp(-0.5, 0.5))

    return scored


def _scored(coded: Coded[Any], original: Tensor, decoded: Tensor) -> ItemScores:
    return ItemScores(
        bits=8 * coded.bytes,
        rated=rated(original),
        ratio=coded.ratio,
        scores=fidelity(original, decoded),
        encode_seconds=coded.encode_seconds,
        decode_seconds=coded.decode_seconds,
    )


def smaller_signals(rows: MediaRows, *, ratio: float) -> list[Measured]:
    """What pictures or sound of so many times fewer numbers keep; empty where a row has no
    baselines."""
    signals = list(rows)
    if not all(map(takes, signals)):
        return []
    sound = signals[0].form.kind == "audio"
    return [
        average([scored(signal) for signal in signals], name=label)
        for name in (("resample",) if sound else ("lanczos", "colour"))
        for label, scored in settings(name, sound=sound, ratio=ratio)
    ]


def transparent(signal: Signal) -> bool:
    """Whether a picture has an alpha, which baselines are not given."""
    return signal.form.kind == "image" and own_channels(signal).channels in (2, 4)


def missing(*, sound: bool) -> Mapping[str, str]:
    """A sentence for each format that this machine cannot write."""
    found = audio_formats.missing_formats() if sound else image_formats.missing_formats()
    return MappingProxyType(found)
