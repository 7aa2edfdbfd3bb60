"""Rate, distortion and numbers kept: a codec fitted to photographs, tested on Kodak pictures.

Figure: dB of the closed form at 4x over the colour-aware shrink of as many numbers. In the same run
the plain shrink, principal components of 8x8 blocks (no wavelet), JPEG, WebP, AVIF and JPEG 2000,
the containers, and at 16x a decoder that is trained on top of the closed form. The training is
kept, and a second call goes on.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from common import finish, parse
from PIL import Image
from torch import Tensor

from attar import artefacts
from attar.codec.baselines import settings
from attar.codec.config import CodecConfig
from attar.codec.measuring import ItemScores, average, fidelity, measure
from attar.codec.opening import load_codec
from attar.codec.tables import Measured
from attar.codec.training import train
from attar.coding.containers import CONTAINERS
from attar.data.media import Signal, open_media, to_pil
from attar.evaluation import image_formats
from attar.evaluation.fidelity import psnr
from attar.evaluation.rates import RatePoint, bd_rate
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig, fit
from attar.methods.walloc.closed_form import Moments

STEP = 0.06
#: at which the latents take fewer bits than a shrink of as many numbers, stored without loss
FINE = 0.02
#: levels and latent channels of RGB, by how many fewer numbers there are
SHAPES = {
    "4x": (3, 48),
    "16x": (3, 12),
    "4x, 2 levels": (2, 12),
    "16x, 2 levels": (2, 3),
    "4x, 4 levels": (4, 192),
    "16x, 4 levels": (4, 48),
}
FORMATS = ("jpeg", "webp", "avif", "jpeg2000")
TRAINED = CodecConfig(
    decoder="conv",
    decoder_width=128,
    decoder_blocks=4,
    train_encoder=True,
    max_steps=20_000,
    learning_rate=5e-4,
    warmup_steps=500,
    save_steps=500,
    logging_steps=250,
    crop=128,
)


def closed_form(photos: Sequence[Signal], *, levels: int, latents: int) -> WaveletCodec:
    """The codec that needs no training."""
    codec = WaveletCodec(WaveletCodecConfig(levels=levels, latent_channels=latents))
    fit(codec, photos, step=STEP)
    return codec.eval()


def unrounded(codec: WaveletCodec, pictures: Sequence[Signal]) -> float:
    """PSNR of the projection alone, pictures being whole blocks."""
    with torch.inference_mode():
        return fmean(
            psnr(one.values, codec.reconstruct(codec.features(one.values[None]))[0])
            for one in pictures
        )


def blocks(photos: Sequence[Signal], pictures: Sequence[Signal], *, latents: int) -> float:
    """PSNR of principal components of 8x8 blocks: the same without wavelets."""

    def cut(values: Tensor) -> Tensor:
        height, width = (side // 8 * 8 for side in values.shape[1:])
        return F.pixel_unshuffle(values[:, :height, :width], 8)

    moments = Moments()
    for one in photos:
        moments.add(cut(one.values).flatten(1).T)
    mean, covariance = moments.mean_and_covariance()
    kept = torch.linalg.eigh(covariance).eigenvectors[:, -latents:].float()
    scores = []
    for one in pictures:
        parts = cut(one.values)
        rest = parts.flatten(1) - mean.float()[:, None]
        back = (kept @ (kept.T @ rest) + mean.float()[:, None]).view_as(parts)
        scores.append(psnr(one.values, F.pixel_shuffle(back, 8)))
    return fmean(scores)


def measured(codec: WaveletCodec, pictures: Sequence[Signal], *, name: str) -> Measured:
    """The codec with JPEG-LS."""
    items = [measure(codec, one, container="jpegls")[0] for one in pictures]
    return average(items, name=name, role="result")


def by_container(codec: WaveletCodec, pictures: Sequence[Signal]) -> dict[str, float]:
    """Bits per pixel of each container."""
    return {
        name: sum(8 * len(codec.compress(one, container=name)) for one in pictures)
        / sum(one.values[0].numel() for one in pictures)
        for name in CONTAINERS
    }


def rounded_shrink(signal: Signal, *, luma: float, chroma: float) -> ItemScores:
    """A colour-aware shrink in Pillow's YCbCr, whose planes have 8 bits at every size."""
    picture = to_pil(signal)
    planes = []
    for plane, share in zip(picture.convert("YCbCr").split(), (luma, chroma, chroma), strict=True):
        small = (round(picture.width * share), round(picture.height * share))
        planes.append(plane.resize(small, Image.Resampling.LANCZOS))
    kept = sum(one.width * one.height for one in planes)
    large = [one.resize(picture.size, Image.Resampling.LANCZOS) for one in planes]
    back = image_formats.as_tensor(Image.merge("YCbCr", large).convert("RGB"))
    size = signal.values[0].numel()
    scores = fidelity(signal.values, back)
    return ItemScores(
        bits=8 * kept,
        rated=size,
        ratio=3 * size / kept,
        scores=scores,
        encode_seconds=1,
        decode_seconds=1,
    )


def shrunk(pictures: Sequence[Signal]) -> Iterator[Measured]:
    """Plain and colour-aware shrinks of as many numbers, and the latter as the calibration of the
    codec had it: rounded shares of eighths, and planes of 8 bits."""
    for label, (luma, chroma) in {"4.4x": (6 / 8, 2 / 8), "17.5x": (3 / 8, 1 / 8)}.items():
        items = [rounded_shrink(one, luma=luma, chroma=chroma) for one in pictures]
        yield average(items, name=f"colour {label}, 8 bits")
    for label, ratio in (("4x", 4.0), ("16x", 16.0)):
        for name in ("lanczos", "colour"):
            for _, scored in settings(name, sound=False, ratio=ratio):
                yield average([scored(one) for one in pictures], name=f"{name} {label}")


def curves(pictures: Sequence[Signal], names: Sequence[str]) -> dict[str, list[Measured]]:
    """Each format at several settings."""
    return {
        name: [
            average([scored(one) for one in pictures], name=label)
            for label, scored in settings(name, sound=False, ratio=1.0)
        ]
        for name in names
    }


def trained(photos: Path, *, config: CodecConfig, home: Path) -> tuple[WaveletCodec, WaveletCodec]:
    """The closed form at 16x, and the same with a decoder, of the same data; kept."""
    base, grown = home / "closed-form", home / f"trained-{config.decoder_width}-{config.max_steps}"
    if not (base / "attar.json").is_file():
        shape = CodecConfig(reduction=16, levels=3, step=STEP, max_items=400)
        train(data=photos, config=shape, output_dir=base, resume=True)
    if not (grown / "attar.json").is_file():
        train(base, data=photos, config=config, output_dir=grown, resume=True)
    return load_codec(base), load_codec(grown)


def show(row: Measured) -> None:
    """One line of the table."""
    quality = f"{row.scores['psnr']:6.2f} dB  {row.scores['ms_ssim']:.4f}"
    print(f"{row.name:24} {row.rate:6.3f} bpp  {row.ratio:5.1f}x  {quality}", flush=True)


def main() -> None:
    """Print all rows, and the claim."""
    args: argparse.Namespace = parse(__doc__ or "").parse_args()
    quick, images = args.quick, args.data / "images"
    photos = list(open_media(images / "photos" / "train", max_items=40 if quick else None))
    pictures = list(open_media(images / "kodak", max_items=2 if quick else None))
    rows: list[Measured] = []
    found: dict[str, Any] = {}
    for label, (levels, latents) in SHAPES.items():
        codec = closed_form(photos, levels=levels, latents=latents)
        rows.append(measured(codec, pictures, name=f"closed form {label}"))
        show(rows[-1])
        codec.steps.fill_(FINE)
        rows.append(measured(codec, pictures, name=f"{label}, step {FINE:g}"))
        show(rows[-1])
        codec.steps.fill_(STEP)
        found[f"unrounded {label}"] = unrounded(codec, pictures)
        if levels == 3:
            found[f"blocks {label}"] = blocks(photos, pictures, latents=latents)
            found[f"containers {label}"] = by_container(codec, pictures)
    for row in shrunk(pictures):
        rows.append(row)
        show(row)
    names = [name for name in FORMATS if name in image_formats.available_formats()]
    formats = curves(pictures, names[:1] if quick else names)
    for row in (one for several in formats.values() for one in several):
        rows.append(row)
        show(row)
    finer = [closed_form(photos, levels=3, latents=192)]
    own = []
    for step in (0.03, 0.06, 0.12, 0.24):
        finer[0].steps.fill_(step)
        own.append(measured(finer[0], pictures, name=f"all channels, step {step:g}"))
        rows.append(own[-1])
        show(own[-1])
    found["bd_rate"] = {
        name: bd_rate(_points(own), anchor=_points(several)) for name, several in formats.items()
    }
    config = TRAINED
    if quick:
        config = replace(TRAINED, decoder_width=32, decoder_blocks=1, max_steps=20, warmup_steps=5)
    home = artefacts.home() / "benchmarks" / f"walloc-rd-{'quick' if quick else 'full'}"
    home.mkdir(parents=True, exist_ok=True)
    base, grown = trained(images / "photos" / "train", config=config, home=home)
    before = measured(base, pictures, name="16x, as it was fitted")
    after = measured(grown, pictures, name="16x, trained")
    rows += [before, after]
    show(before)
    show(after)
    best = {row.name: row.scores["psnr"] for row in rows}
    own_4x = best[f"4x, step {FINE:g}"]
    over_colour, over_plain = own_4x - best["colour 4x"], own_4x - best["lanczos 4x"]
    over_rounded = own_4x - best["colour 4.4x, 8 bits"]
    gain = after.scores["psnr"] - before.scores["psnr"]
    for name, value in found.items():
        print(f"{name}: {value}")
    line = {
        "claim": "walloc-rd",
        "figure": round(over_colour, 3),
        "unit": "dB of the closed form at 4x over a colour-aware shrink of as many numbers",
        "baseline": f"colour-aware shrink {best['colour 4x']:.2f} dB",
        "ratio": None,
        "target": 4.0,
        "ok": over_colour >= 4 and over_plain >= 8 and gain >= 0.5,
        "note": f"Over one of 4.4x with planes of 8 bits, which the target was set with: "
        f"{over_rounded:.2f} dB. Over the plain shrink: {over_plain:.2f} dB (target 8). Trained at "
        f"16x over the closed form: {gain:+.2f} dB (target 0.5). Rounding is included.",
    }
    details = {"rows": [asdict(row) for row in rows], **found, "trained": asdict(config)}
    finish(__file__, line, details, args)


def _points(rows: Sequence[Measured]) -> list[RatePoint]:
    return [RatePoint(row.rate or math.nan, row.scores["psnr"]) for row in rows]


if __name__ == "__main__":
    main()
