"""Pictures, through Pillow: to signals and back."""

import io
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from attar.data.files import reason
from attar.data.media.signals import Signal, picture, restore
from attar.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".jp2", ".tif", ".tiff", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".qoi"),
)
"""Names of pictures that are read."""

_ALL = ("1", "L", "LA", "RGB", "RGBA", "I;16")

WRITERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    ".png": ({"format": "PNG"}, _ALL),
    ".tif": ({"format": "TIFF"}, _ALL),
    ".tiff": ({"format": "TIFF"}, _ALL),
    ".webp": ({"format": "WEBP", "lossless": True, "exact": True}, _ALL[:-1]),
    ".jpg": ({"format": "JPEG", "quality": 95, "subsampling": 0}, ("1", "L", "RGB")),
    ".jpeg": ({"format": "JPEG", "quality": 95, "subsampling": 0}, ("1", "L", "RGB")),
}
"""How Pillow writes pictures, and the modes that such a file holds; all but JPEG keep every pixel.
WebP has no grey, and brings it back as RGB."""

# No others: Pillow gives EPS to another program.
_FORMATS = (*("PNG", "JPEG", "WEBP", "AVIF", "JPEG2000", "TIFF", "BMP", "GIF", "PPM", "QOI"),)
_ORIENTATION = 0x0112
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def read_picture(file: BinaryIO, *, name: str) -> Signal:
    """The picture in a file, upright.

    Raises:
        DataError: it cannot be read, or is none that `from_pil` takes.
        MissingExtraError: Pillow is not installed.
    """
    pillow: Any = _pillow("PIL.Image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        try:
            image: Image = pillow.open(file, formats=_FORMATS)
            deep = _is_deep(image)  # loading forgets it
            image.load()
        except (pillow.DecompressionBombWarning, pillow.DecompressionBombError):
            limit = pillow.MAX_IMAGE_PIXELS // 10**6
            raise DataError(
                f"expected a picture of at most {limit} megapixels, found a larger one in {name}; "
                "cut it up, or raise PIL.Image.MAX_IMAGE_PIXELS if it can be trusted"
            ) from None
        except pillow.UnidentifiedImageError:
            raise DataError(
                f"expected a picture, found {name}, which Pillow cannot read as one; give a file "
                f"such as {', '.join(SUFFIXES[:6])}"
            ) from None
        except Exception as error:
            raise DataError(
                f"cannot read the picture {name}: {reason(error)}; take another copy of the file, "
                "or leave it out"
            ) from error
    if deep and image.mode in _MODES.values() and image.mode != "L":
        raise DataError(
            f"expected 8 bits for each channel of colour in {name}, found 16, of which Pillow "
            "gives 8; give it as a NumPy array (H, W, C) of uint16"
        )
    return from_pil(image, name=name)


def from_pil(image: "Image", *, name: str = "the picture") -> Signal:
    """A picture of Pillow's, turned as its EXIF data says.

    Palettes, CMYK, YCbCr and HSV become RGB; 16 bits of grey stay. An alpha channel that is opaque
    everywhere is dropped, any other is the last channel.

    Args:
        image: of one frame.
        name: for errors.

    Returns:
        Values (C, H, W) with C = 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha); the
        form says which mode it had.

    Raises:
        DataError: it is empty, broken, has several frames, or numbers without a known range.
    """
    _refuse_frames(image, name)
    if 0 in image.size:
        raise DataError(f"expected a picture in {name}, found one without pixels; leave it out")
    try:
        image.load()
        upright = _upright(image)
        mode, clear = upright.mode, upright.has_transparency_data
        grey = mode in ("1", "L", "LA", "La")
        target = ("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")
        numbers = None if mode[0] in "IF" else np.asarray(upright.convert(target))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"cannot read {name}, a picture of mode {image.mode}: {reason(error)}; take another "
            "copy, or leave it out"
        ) from error
    if numbers is None:
        numbers = _deep_grey(upright, clear=clear, name=name)
    numbers = numbers.reshape(*numbers.shape[:2], -1).transpose(2, 0, 1)
    return picture(torch.from_numpy(np.array(numbers, order="C")), mode=mode, name=name)


def to_pil(signal: Signal) -> "Image":
    """A picture of Pillow's: of mode 1, L, LA, RGB or RGBA, or I;16 for 16 bits of grey.

    Pictures of two levels, grey, RGB and with alpha come back in the mode that they had; palettes,
    CMYK, YCbCr and HSV as RGB, or RGBA where they had transparent places.

    Raises:
        DataError: the signal is no picture, or has 16 bits in colour.
    """
    form, pillow = signal.form, _pillow("PIL.Image")
    if form.kind != "image":
        raise DataError(
            f"expected a picture, found {signal.name}, which is of kind {form.kind}; write it to a "
            f"{'.wav' if form.kind == 'audio' else '.npy'} file"
        )
    numbers = restore(signal).transpose(1, 2, 0)
    channels = numbers.shape[2]
    if numbers.dtype != np.uint8:
        if numbers.dtype != np.uint16 or channels != 1:
            raise DataError(
                f"expected 8 bits, or grey of 16 bits, in {signal.name}, found {channels} channels "
                f"of {form.dtype}, which Pillow does not have; write it to a .npy file"
            )
        return pillow.fromarray(np.ascontiguousarray(numbers[..., 0]))
    if channels not in _MODES:
        raise DataError(
            f"expected 1 to 4 channels in {signal.name}, found {channels}, which is no picture; "
            "write it to a .npy file"
        )
    pixels = np.ascontiguousarray(numbers[..., 0] if channels == 1 else numbers)
    image: Image = pillow.fromarray(pixels)
    if form.mode == "1" and channels == 1:
        return image.point([255 * (level > 127) for level in range(256)], mode="1")
    return image


def encode_picture(image: "Image", *, suffix: str, name: str) -> bytes:
    """The file of a picture; JPEG, of quality 95, alone loses something.

    Args:
        image: the picture.
        suffix: one of `WRITERS`.
        name: for errors.

    Raises:
        ConfigError: such a file cannot hold it.
    """
    options, modes = WRITERS[suffix]
    out, said = io.BytesIO(), ""
    if image.mode in modes:
        try:
            image.save(out, **options)
            return out.getvalue()
        except (OSError, ValueError) as error:
            said = f" ({reason(error)})"
    raise ConfigError(
        f"a {suffix} file cannot hold {name}, a picture of mode {image.mode} and {image.width} x "
        f"{image.height} pixels{said}; write a .png file"
    )


def _refuse_frames(image: "Image", name: str) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a photograph, with previews behind it
        raise DataError(
            f"expected a single picture in {name}, found {frames} frames; save each as a picture"
        )


def _upright(image: "Image") -> "Image":
    """A picture turned as its EXIF data says, if that can be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            orientation = image.getexif().get(_ORIENTATION)
        except Exception:
            return image
    turn = _TURNS.get(orientation or 0)  # not ImageOps, which stumbles over other broken tags
    return image if turn is None else image.transpose(_pillow("PIL.Image").Transpose[turn])


def _is_deep(image: "Image") -> bool:
    """Whether a file that is not loaded yet has more than 8 bits for a channel."""
    for tile in getattr(image, "tile", ()):
        for argument in tile[3] if isinstance(tile[3], tuple) else (tile[3],):
            if isinstance(argument, str) and ";16" in argument:
                return True
            if tile[0] == "ppm" and isinstance(argument, int) and argument > 255:
                return True
    return False


def _deep_grey(image: "Image", *, clear: bool, name: str) -> np.ndarray:
    """Grey of 16 bits, uint16 (H, W).

    Raises:
        DataError: the numbers are not those of 16 bits.
    """
    numbers = np.asarray(image)
    fine = image.mode[0] == "I" and numbers.min() >= 0 and numbers.max() <= 65535
    if clear or not fine:
        found = "transparent places" if clear else "numbers whose range is not known"
        raise DataError(
            f"expected a picture of 8 or 16 bits in {name}, found mode {image.mode} with {found}; "
            "give it as a NumPy array, of floats with value_range"
        )
    return numbers.astype(np.uint16)


def _pillow(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise MissingExtraError(
            "reading pictures needs the package Pillow; run pip install '.[codec]' in the checkout "
            "of Attar"
        ) from None
