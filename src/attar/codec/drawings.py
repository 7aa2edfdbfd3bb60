"""What a page about a codec shows: pictures and sounds as data URIs, spectrograms and curves."""

import base64
import io
import math
import re
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from attar.evaluation.rates import RatePoint, front
from attar.report.drawing import BLUE, GREY, INK, ORANGE, as_written, label_of, new_figure, svg_of

_FLOOR = -90.0  # dB below the loudest of the original that a spectrogram shows
_WINDOW = 1024  # samples of a spectrogram's window
_STYLES = ((ORANGE, "s"), ("#3a9d72", "^"), ("#b05fa8", "D"), (GREY, "v"), ("#a68a2c", "P"))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Quality of one codec at several rates.

    Attributes:
        name: of the codec.
        points: bits per pixel or sample, and quality.
        role: `result` of the page, or a `baseline`.
    """

    name: str
    points: Sequence[RatePoint]
    role: Literal["result", "baseline"] = "baseline"


def picture_uri(values: Tensor) -> str:
    """A picture `(C, H, W)` from -0.5 to 0.5 as a lossless data URI: of two channels the first, of
    more than three the first three.
    """
    channels = values[:3] if len(values) >= 3 else values[:1]
    scaled = ((channels.detach().cpu().double() + 0.5) * 255).round().clamp(0, 255)
    pixels: NDArray[np.uint8] = scaled.to(torch.uint8).permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    kind = "webp" if features.check("webp") else "png"
    file = io.BytesIO()
    image.save(file, kind.upper(), **({"lossless": True} if kind == "webp" else {}))
    return _uri(file.getvalue(), f"image/{kind}")


def wav_uri(values: Tensor, *, rate: int) -> str:
    """A recording `(C, T)` from -0.5 to 0.5 as a data URI, 16 bits a sample; of more than two
    channels their mean.
    """
    played = values.detach().cpu().double()
    played = played if len(played) <= 2 else played.mean(0, keepdim=True)
    samples = (played * 2 * 32767).round().clamp(-32768, 32767).T.contiguous().numpy()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(samples.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return _uri(file.getvalue(), "audio/wav")


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@as_written()
def spectrograms(original: Tensor, decoded: Tensor, *, rate: int, label: str) -> str:
    """Spectrograms of a recording `(C, T)`, of what it decodes to and of their difference, means of
    the channels, on one scale. Returns SVG text.
    """
    sounds = {"original": original, "decoded": decoded, "difference": decoded - original}
    powers = {name: _powers(values) for name, values in sounds.items()}
    loudest = max(float(powers["original"].max()), 1e-20)
    figure, _ = new_figure(6.4, 5.6, None, rows=len(powers))
    seconds = original.shape[1] / rate
    for axes, (name, power) in zip(figure.axes, powers.items(), strict=True):
        levels = 10 * torch.log10((power / loudest).clamp_min(10 ** (_FLOOR / 10)))
        axes.imshow(
            levels.numpy(),
            aspect="auto",
            origin="lower",
            extent=(0, seconds, 0, rate / 2000),
            vmin=_FLOOR,
            vmax=0,
            cmap="magma",
        )
        axes.set_title(name, fontsize=9, color=INK, loc="left")
        axes.set_ylabel("kHz")
    figure.axes[-1].set_xlabel("seconds")
    return _described(svg_of(figure), label)


def _powers(values: Tensor) -> Tensor:
    """Energy of each frequency at each time, `(frequencies, times)`."""
    sound = values.detach().cpu().double().mean(0)
    width = min(_WINDOW, len(sound))
    window = torch.hann_window(width, dtype=sound.dtype)
    parts = torch.stft(
        sound,
        width,
        hop_length=max(1, width // 4),
        window=window,
        center=False,
        return_complex=True,
    )
    return parts.abs().square()


@as_written()
def rate_chart(curves: Sequence[Curve], *, x_label: str, y_label: str, label: str) -> str:
    """Quality over rate, the rate in doublings; further up and left is better. Returns SVG text.

    Args:
        curves: points that are not finite or not above 0 bits are left out.
        x_label: what the rate is.
        y_label: what the quality is.
        label: what the chart shows, for who does not see it.
    """
    figure, axes = new_figure(6.4, 4.2, None)
    styles = iter(_STYLES * math.ceil((len(curves) + 1) / len(_STYLES)))
    for curve in curves:
        fine = [p for p in curve.points if math.isfinite(p.quality) and 0 < p.rate < math.inf]
        best = front(fine)
        own = curve.role == "result"
        colour, marker = (BLUE, "o") if own else next(styles)
        axes.plot(
            [point.rate for point in best],
            [point.quality for point in best],
            color=colour,
            marker=marker,
            markersize=6 if own else 5,
            linewidth=2 if own else 1.2,
            label=label_of(curve.name),
            zorder=3 if own else 2,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set(xlabel=label_of(x_label), ylabel=label_of(y_label))
    axes.grid(color=INK, alpha=0.15, linewidth=0.5)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return _described(svg_of(figure), label)


def _described(svg: str, label: str) -> str:
    """An SVG that is read aloud as what it shows, and whose raster images bear no ids, which might
    repeat on the page.
    """
    named = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
    return re.sub(r' id="image[0-9a-f]+"', "", named)
