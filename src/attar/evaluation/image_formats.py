"""What a learned picture codec is measured against: the formats that Pillow writes, and smaller
pictures.

Every baseline takes a Pillow image of mode L or RGB and returns it `Coded`: real bytes, and a
picture that was decoded from them. A file in a format gives a model nothing less to read, so that
all its numbers count as kept; a smaller picture does.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from attar.errors import ConfigError, DataError, did_you_mean, require
from attar.evaluation.rates import Coded, stopwatch

Picture = Image.Image
CodedPicture = Coded[Image.Image]

_LANCZOS = Image.Resampling.LANCZOS
_WEBP_SIDE = 16383
#: R, G and B to Y, Cb and Cr with all 256 levels in use (JFIF), and back
_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
_RGB = np.linalg.inv(_YCBCR)
_OFFSET = np.array([0, 128, 128], np.float32)


class Format(NamedTuple):
    """A picture format: what Pillow calls it, and how it is told the quality of so many bands.

    Quality lies from `low` to `high` and is what `unit` says; `curve` has settings that make one.
    """

    pillow: str
    feature: str
    options: Callable[[float, int], dict[str, Any]]
    low: float
    high: float
    unit: str
    curve: tuple[float, ...]


def _quality(value: float, bands: int) -> dict[str, Any]:
    return {"quality": round(value)}


def _one_thread(value: float, bands: int) -> dict[str, Any]:
    return {"quality": round(value), "max_threads": 1}


def _bits(value: float, bands: int) -> dict[str, Any]:
    options = {"irreversible": True, "quality_mode": "rates", "quality_layers": [8 * bands / value]}
    # without the transform to luma and chroma, which Pillow leaves out, it loses some 4 dB
    return options if bands == 1 else options | {"mct": 1}


_SCALE = "on the encoder's scale"
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "jpeg": Format("JPEG", "jpg", _quality, 1, 95, _SCALE, (10, 30, 60, 80, 90, 95)),
        "webp": Format("WEBP", "webp", _quality, 0, 100, _SCALE, (5, 20, 50, 80, 90, 97)),
        "avif": Format("AVIF", "avif", _one_thread, 0, 100, _SCALE, (10, 30, 50, 70, 85, 95)),
        "jpeg2000": Format(
            "JPEG2000",
            "jpg_2000",
            _bits,
            0.01,
            24,
            "in bits per pixel",
            (0.15, 0.3, 0.6, 1.2, 2.4, 4),
        ),
    }
)
"""Picture formats by name; what differs from Pillow's own settings is said at `image_file`."""


def available_formats() -> list[str]:
    """The names of the formats that this build of Pillow can write."""
    return [name for name, form in FORMATS.items() if features.check(form.feature)]


def missing_formats() -> dict[str, str]:
    """A sentence for each format that it cannot write."""
    return {
        name: f"{name} is left out: Pillow {Image.__version__} was built without {form.feature}; "
        "install its wheel from PyPI"
        for name, form in FORMATS.items()
        if not features.check(form.feature)
    }


def as_tensor(picture: Picture) -> Tensor:
    """A picture as `(C, H, W)` float32 from -0.5 to 0.5."""
    pixels = np.asarray(_checked(picture), dtype=np.float32)
    rows = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1))
    return rows.permute(2, 0, 1) / 255 - 0.5


def image_file(picture: Picture, *, format: str, quality: float, repeats: int = 1) -> CodedPicture:
    """A picture as a file in a format, and read back whole.

    Pillow's settings are kept but for the quality: JPEG and AVIF with halved colour, WebP at effort
    4, AVIF at speed 6 with one thread (its decoder takes what threads there are), JPEG 2000 with
    the 9/7 wavelet and the transform of colours. WebP and AVIF store a grey picture as a colour
    one.

    Args:
        picture: mode L or RGB.
        format: a key of `FORMATS`.
        quality: better when larger: on the encoder's own scale, of JPEG 2000 the bits per pixel.
        repeats: how often both ways are timed.

    Raises:
        ConfigError: the format is unknown or not in this build of Pillow, or has no such quality.
        DataError: the picture has another mode, or a size that the format cannot hold.
    """
    form, picture = _format(format), _checked(picture)
    require(
        form.low <= quality <= form.high,
        "quality",
        quality,
        f"from {form.low:g} to {form.high:g} {form.unit} for {format}",
    )
    options = form.options(quality, len(picture.getbands()))

    def encode() -> bytes:
        file = io.BytesIO()
        picture.save(file, form.pillow, **options)
        return file.getvalue()

    try:
        data, encode_seconds = stopwatch(encode, repeats=repeats)
        decoded, decode_seconds = stopwatch(lambda: _read(data, mode=picture.mode), repeats=repeats)
    except (ValueError, OSError) as error:
        raise DataError(
            f"Pillow cannot keep a picture of {picture.width} x {picture.height} as {format} "
            f"({error}); crop it, or leave this format out"
        ) from error
    return Coded(
        bytes=len(data),
        decoded=decoded,
        total=_numbers(picture),
        kept=_numbers(picture),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )


def shrink(picture: Picture, *, ratio: float, repeats: int = 1) -> CodedPicture:
    """The baseline of every codec with fewer dimensions: a smaller picture, enlarged again, both by
    Lanczos.

    Its bytes are those of the small picture as lossless WebP, or as PNG where WebP is
    missing or its 16,383 pixels a side are too few.

    Args:
        picture: mode L or RGB.
        ratio: by how much there are fewer pixels; each side shrinks by its square root, rounded to
            whole pixels, so that `Coded.ratio` is near it.
        repeats: how often both ways are timed.

    Raises:
        ConfigError: the ratio is below 1.
        DataError: the picture has another mode.
    """
    require(ratio >= 1, "ratio", ratio, "1 or more")
    side = 1 / math.sqrt(ratio)
    return _reduced(_checked(picture), shares=[side], repeats=repeats)


def colour_shrink(
    picture: Picture, *, luma: float, chroma: float, repeats: int = 1
) -> CodedPicture:
    """A smaller picture that keeps more of the brightness than of the colours, as the eye does.

    The fairer baseline: most of what a codec gains over `shrink` on colour pictures is that their
    channels are alike. Luma 6/8 and chroma 2/8 leave 4.4 times fewer numbers, 3/8 and 1/8 leave
    17.5 times fewer. Each plane is shrunk, enlarged and stored as in `shrink`. Only the small
    planes and the last picture are rounded to 8 bits: rounded at full size too, as in Pillow's mode
    YCbCr, they would cost half a dB at 34 dB.

    Args:
        picture: mode L or RGB; of L there is but the luma.
        luma: rows and columns of Y that are kept, as a share.
        chroma: likewise of Cb and Cr (as in JPEG).
        repeats: how often both ways are timed.

    Raises:
        ConfigError: a share is not in (0, 1].
        DataError: the picture has another mode.
    """
    for name, share in (("luma", luma), ("chroma", chroma)):
        require(0 < share <= 1, name, share, "above 0 and at most 1")
    shares = [luma] if _checked(picture).mode == "L" else [luma, chroma, chroma]
    return _reduced(picture, shares=shares, repeats=repeats)


def _reduced(picture: Picture, *, shares: Sequence[float], repeats: int) -> CodedPicture:
    """Coded as Y, Cb and Cr, or as one picture where there is but one share, with these shares of
    the rows and columns.
    """
    sizes = [
        (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
        for share in shares
    ]
    fits = features.check("webp") and max(map(max, sizes)) <= _WEBP_SIDE
    form, options = ("WEBP", {"lossless": True}) if fits else ("PNG", {})
    alone = len(shares) == 1

    def encode() -> list[bytes]:
        files = []
        for plane, size in zip([picture] if alone else _planes(picture), sizes, strict=True):
            file = io.BytesIO()
            _rounded(plane.resize(size, _LANCZOS)).save(file, form, **options)
            files.append(file.getvalue())
        return files

    def decode() -> Picture:
        if alone:
            return _read(data[0], mode=picture.mode).resize(picture.size, _LANCZOS)
        return _joined(
            [_read(one, mode="L").convert("F").resize(picture.size, _LANCZOS) for one in data]
        )

    data, encode_seconds = stopwatch(encode, repeats=repeats)
    decoded, decode_seconds = stopwatch(decode, repeats=repeats)
    return Coded(
        bytes=sum(map(len, data)),
        decoded=decoded,
        total=_numbers(picture),
        kept=(len(picture.getbands()) if alone else 1) * sum(map(math.prod, sizes)),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )


def _planes(picture: Picture) -> list[Picture]:
    """Y, Cb and Cr of a colour picture, from 0 to 255, in floats."""
    planes = np.asarray(picture, dtype=np.float32) @ _YCBCR.T + _OFFSET
    return [Image.fromarray(np.ascontiguousarray(planes[..., band])) for band in range(3)]


def _joined(planes: Sequence[Picture]) -> Picture:
    values = np.stack([np.asarray(plane) for plane in planes], axis=2)
    return Image.fromarray(_bytes((values - _OFFSET) @ _RGB.T))


def _rounded(picture: Picture) -> Picture:
    return Image.fromarray(_bytes(np.asarray(picture))) if picture.mode == "F" else picture


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _read(data: bytes, *, mode: str) -> Picture:
    """The whole picture of a file: opening alone reads only its header."""
    with Image.open(io.BytesIO(data)) as file:
        file.load()
        return file.convert(mode)


def _numbers(picture: Picture) -> int:
    return picture.width * picture.height * len(picture.getbands())


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(
            f"format must be one of {', '.join(FORMATS)}; found {name!r}"
            + did_you_mean(name, FORMATS)
        )
    if not features.check(FORMATS[name].feature):
        raise ConfigError(missing_formats()[name])
    return FORMATS[name]


def _checked(picture: Picture) -> Picture:
    if picture.mode not in ("L", "RGB"):
        raise DataError(
            f"baselines take pictures of mode L or RGB; found {picture.mode}; convert it first"
        )
    return picture
