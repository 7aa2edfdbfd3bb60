"""Baselines of picture codecs: real bytes, pictures that were decoded, and counts of numbers."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

from attar.errors import ConfigError, DataError
from attar.evaluation import image_formats
from attar.evaluation.fidelity import psnr
from attar.evaluation.image_formats import (
    FORMATS,
    as_tensor,
    available_formats,
    colour_shrink,
    image_file,
    missing_formats,
    shrink,
)

NAMES = sorted(FORMATS)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth, with colours that change more slowly than the brightness, and some noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    light = 128 + 70 * np.sin(rows / 0.9 + columns / 5)
    hue = 30 * np.sin(columns / 40)
    pixels = np.stack([light + hue, light, light - hue], axis=2) + rng.normal(
        0, 3, (height, width, 1)
    )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert(mode)


def quality_of(original: Image.Image, coded: Any) -> float:
    return psnr(as_tensor(original), as_tensor(coded.decoded))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    if not features.check(FORMATS[request.param].feature):
        pytest.skip(f"this build of Pillow writes no {request.param}")
    return request.param


def test_tensors_are_the_pixels_from_minus_half_to_half() -> None:
    pixels = np.array([[[0, 51, 255], [255, 102, 0]]], dtype=np.uint8)
    values = as_tensor(Image.fromarray(pixels))
    assert values.dtype == torch.float32
    expected = torch.tensor([[[-0.5, 0.5]], [[-0.3, -0.1]], [[0.5, -0.5]]])
    assert torch.allclose(values, expected)
    assert as_tensor(Image.new("L", (5, 3), 255)).shape == (1, 3, 5)


def test_more_quality_takes_more_bytes_and_is_nearer(name: str) -> None:
    original = picture(64, 48)
    low, high = (image_file(original, format=name, quality=q) for q in FORMATS[name].curve[1::3])
    assert low.bytes < high.bytes
    assert quality_of(original, low) < quality_of(original, high)
    assert low.decoded.mode == "RGB"
    assert low.decoded.size == (64, 48)
    assert low.kept == low.total == 64 * 48 * 3
    assert min(low.encode_seconds, low.decode_seconds) > 0


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 9)])
def test_small_and_grey_pictures_come_back_alike(name: str, size: tuple[int, int]) -> None:
    for mode in ("L", "RGB"):
        coded = image_file(picture(*size, mode), format=name, quality=FORMATS[name].curve[-1])
        assert (coded.decoded.size, coded.decoded.mode) == (size, mode)
        assert coded.total == math.prod(size) * len(mode)


def test_what_comes_back_is_what_the_bytes_decode_to() -> None:
    original = picture(40, 24)
    coded = image_file(original, format="jpeg", quality=30)
    file = io.BytesIO()
    original.save(file, "JPEG", quality=30)
    assert coded.bytes == len(file.getvalue())
    with Image.open(file) as other:
        assert np.array_equal(np.asarray(coded.decoded), np.asarray(other))


def test_decoding_is_timed_to_the_last_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """To open a file reads its header only (trap of the published speed table)."""
    loaded: list[str] = []
    watch = image_formats.stopwatch

    def watched(call: Any, *, repeats: int = 1) -> Any:
        loaded.clear()
        result = watch(call, repeats=repeats)
        if isinstance(result[0], Image.Image):
            assert loaded
        return result

    plugin = type(Image.open(io.BytesIO(_png())))
    load = plugin.load
    monkeypatch.setattr(plugin, "load", lambda file: (loaded.append("load"), load(file))[1])
    monkeypatch.setattr(image_formats, "stopwatch", watched)
    monkeypatch.setattr(image_formats.features, "check", lambda feature: feature != "webp")
    shrink(picture(8, 8), ratio=4)
    assert loaded


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG")
    return file.getvalue()


def test_jpeg2000_transforms_colours_and_meets_its_bits() -> None:
    """Without the transform a colour picture costs what three grey ones do."""
    original = picture(128, 96)
    coded = image_file(original, format="jpeg2000", quality=1.0)
    assert 8 * coded.bytes / (128 * 96) == pytest.approx(1.0, abs=0.2)
    grey = image_file(original.convert("L"), format="jpeg2000", quality=1.0)
    assert 8 * grey.bytes / (128 * 96) == pytest.approx(1.0, abs=0.2)
    apart = io.BytesIO()
    options: dict[str, Any] = FORMATS["jpeg2000"].options(1.0, 3) | {"mct": 0}
    original.save(apart, "JPEG2000", **options)
    with Image.open(apart) as other:
        assert quality_of(original, coded) > psnr(as_tensor(original), as_tensor(other)) + 1


def test_shrink_counts_what_is_left() -> None:
    original = picture(64, 48)
    coded = shrink(original, ratio=4)
    assert (coded.ratio, coded.kept) == (4, 32 * 24 * 3)
    small = original.resize((32, 24), Image.Resampling.LANCZOS)
    again = small.resize((64, 48), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(coded.decoded), np.asarray(again))
    assert 0 < coded.bytes < coded.kept + 200
    assert shrink(original, ratio=16).ratio == 16
    assert shrink(picture(30, 20, "L"), ratio=4).kept == 15 * 10
    assert np.array_equal(np.asarray(shrink(original, ratio=1).decoded), np.asarray(original))
    assert shrink(picture(1, 7), ratio=64).kept == 3


def test_colour_shrink_keeps_more_brightness() -> None:
    original = picture(64, 48)
    four = colour_shrink(original, luma=6 / 8, chroma=2 / 8)
    assert four.kept == 48 * 36 + 2 * 16 * 12
    assert four.ratio == pytest.approx(4.36, abs=0.01)
    assert colour_shrink(original, luma=3 / 8, chroma=1 / 8).ratio == pytest.approx(17.45, abs=0.01)
    assert quality_of(original, four) > quality_of(original, shrink(original, ratio=4)) + 3
    assert four.decoded.mode == "RGB"
    whole = colour_shrink(original, luma=1, chroma=1)
    assert quality_of(original, whole) > 50  # only rounded to whole levels of Y, Cb and Cr
    lanczos, planes = Image.Resampling.LANCZOS, []
    rgb = np.asarray(original, np.float64)
    y = rgb @ [0.299, 0.587, 0.114]
    blue, red = (rgb[..., 2] - y) / 1.772 + 128, (rgb[..., 0] - y) / 1.402 + 128
    for plane, size in ((y, (48, 36)), (blue, (16, 12)), (red, (16, 12))):
        small = Image.fromarray(plane.astype(np.float32)).resize(size, lanczos)
        stored = Image.fromarray(np.asarray(small).round().clip(0, 255).astype(np.float32))
        planes.append(np.asarray(stored.resize((64, 48), lanczos), np.float64))
    r, b = (planes[0] + scale * (planes[k] - 128) for k, scale in ((2, 1.402), (1, 1.772)))
    g = (planes[0] - 0.299 * r - 0.114 * b) / 0.587
    expected = np.stack([r, g, b], axis=2).clip(0, 255)
    assert np.abs(np.asarray(four.decoded) - expected).max() < 0.51  # nothing else is rounded
    grey = picture(64, 48, "L")
    plain = shrink(grey, ratio=4)
    again = colour_shrink(grey, luma=0.5, chroma=0.1)
    assert np.array_equal(np.asarray(again.decoded), np.asarray(plain.decoded))


def test_reduced_pictures_are_png_where_webp_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Image.new("L", (16384, 1))
    assert shrink(wide, ratio=1).decoded.size == (16384, 1)
    original = picture(32, 32)
    as_webp = shrink(original, ratio=4)
    monkeypatch.setattr(image_formats.features, "check", lambda feature: feature != "webp")
    as_png = shrink(original, ratio=4)
    assert np.array_equal(np.asarray(as_png.decoded), np.asarray(as_webp.decoded))
    assert as_png.bytes != as_webp.bytes


def test_missing_formats_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_formats.features, "check", lambda feature: feature == "jpg")
    assert available_formats() == ["jpeg"]
    assert sorted(missing_formats()) == ["avif", "jpeg2000", "webp"]
    assert "built without avif; install its wheel" in missing_formats()["avif"]
    with pytest.raises(ConfigError, match="avif is left out: Pillow"):
        image_file(picture(8, 8), format="avif", quality=50)


def test_bad_input_is_refused_in_a_sentence() -> None:
    fine = picture(8, 8)
    with pytest.raises(
        ConfigError, match="one of jpeg, webp, avif, jpeg2000; found 'jpg'; did you"
    ):
        image_file(fine, format="jpg", quality=50)
    for name, quality in (("jpeg", 0), ("jpeg", 96), ("webp", -1), ("avif", 101), ("jpeg2000", 0)):
        with pytest.raises(ConfigError, match=f"quality must be from .* for {name}"):
            image_file(fine, format=name, quality=quality)
    for mode in ("RGBA", "P", "I;16", "1", "CMYK"):
        other = Image.new(mode, (8, 8))
        for call in (
            lambda p: image_file(p, format="jpeg", quality=50),
            lambda p: shrink(p, ratio=4),
            lambda p: colour_shrink(p, luma=1, chroma=1),
            as_tensor,
        ):
            with pytest.raises(DataError, match=f"mode L or RGB; found {mode}; convert"):
                call(other)
    with pytest.raises(ConfigError, match="ratio must be 1 or more"):
        shrink(fine, ratio=0.5)
    for shares in ({"luma": 0, "chroma": 1}, {"luma": 1, "chroma": 1.5}):
        with pytest.raises(ConfigError, match="must be above 0 and at most 1"):
            colour_shrink(fine, **shares)
    with pytest.raises(DataError, match="16384 x 1 as webp"):
        image_file(Image.new("L", (16384, 1)), format="webp", quality=50)
