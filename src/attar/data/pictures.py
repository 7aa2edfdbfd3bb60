"""Pictures that every machine has, for trying a codec without a download: the source `demo`.

They are made where they are asked for, the same ones on every call:

- crops of the two photographs that come with scikit-learn, `china.jpg` and `flower.jpg`, of
  640 x 427 pixels, some mirrored: test has the left 256 columns of the first and the right 256 of
  the second, train the other 384;
- lines of text in the DejaVu fonts that come with matplotlib, on coloured grounds: train and test
  have no word in common;
- coloured shapes on grounds that change from one colour to another.

All are RGB, 256 x 256. Another release of Pillow may draw text a little differently.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.random import Generator

from attar.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

DEMO = "demo"
"""The name of this source."""

SIZE = 256
"""Height and width."""

COUNTS = {
    "train": {"photograph": 32, "text": 16, "shapes": 16},
    "test": {"photograph": 8, "text": 4, "shapes": 4},
}
"""How many pictures of each subject the splits have."""

Split = Literal["train", "test"]

_PHOTOGRAPHS = ("china.jpg", "flower.jpg")
_FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Bold", "DejaVuSerif-Italic")
_WORDS = {
    "train": (
        "amber basket candle dinner engine forest garden harbour island jacket kettle lantern "
        "market needle orange pencil quarry ribbon saddle timber umbrella valley window yellow "
        "14 27 386 1905 90% 3.75 Monday No. A-12 (left) £40"
    ),
    "test": (
        "anchor bridge copper desert evening feather gravel hammer indigo jungle kitchen ladder "
        "mirror noodle oyster pepper quiver rocket silver tunnel velvet wagon zebra "
        "15 68 742 2016 55% 8.20 Friday Fig. B-07 [right] €95"
    ),
}


def demo_pictures(split: Split) -> list[tuple[str, "Image"]]:
    """The pictures of a split, each with its subject: photograph, text or shapes.

    Raises:
        MissingExtraError: Pillow, scikit-learn or matplotlib is not installed.
    """
    draw: dict[str, Callable[[Split, int], Image]] = {
        "photograph": _photograph,
        "text": _text,
        "shapes": _shapes,
    }
    return [
        (subject, draw[subject](split, number))
        for subject, count in COUNTS[split].items()
        for number in range(count)
    ]


def _random(split: Split, number: int) -> Generator:
    return np.random.default_rng([split == "test", number])


def _photograph(split: Split, number: int) -> "Image":
    """A crop that lies in the split's columns."""
    place, which = _random(split, number), number % 2
    file = _files("sklearn") / "datasets" / "images" / _PHOTOGRAPHS[which]
    image: Image = _pillow("Image").open(file)
    right, below = image.width - SIZE, image.height - SIZE
    if split == "test":  # one below the other
        left, top = which * right, number // 2 * below // (COUNTS["test"]["photograph"] // 2 - 1)
    else:
        left = int(place.integers(right - SIZE + 1)) + (SIZE if which == 0 else 0)
        top = int(place.integers(below + 1))
    crop = image.convert("RGB").crop((left, top, left + SIZE, top + SIZE))
    mirrored = split == "train" and place.random() < 0.5
    return _pillow("ImageOps").mirror(crop) if mirrored else crop


def _text(split: Split, number: int) -> "Image":
    """Lines of words, from small to large."""
    place = _random(split, number)
    words = _WORDS[split].split()
    ground = place.integers(0, 256, 3)
    ink = np.where(ground.mean() > 127, place.integers(0, 60, 3), place.integers(196, 256, 3))
    image: Image = _pillow("Image").new("RGB", (SIZE, SIZE), tuple(map(int, ground)))
    pen = _pillow("ImageDraw").Draw(image)
    fonts = _pillow("ImageFont")
    file = _files("matplotlib") / "mpl-data" / "fonts" / "ttf" / f"{_FONTS[number % 5]}.ttf"
    top = 6
    while top < SIZE:
        size = int(place.integers(9, 30))
        font = fonts.truetype(str(file), size, layout_engine=fonts.Layout.BASIC)
        line = " ".join(place.choice(words, size=12))
        pen.text((int(place.integers(2, 12)), top), line, fill=tuple(map(int, ink)), font=font)
        top += int(1.35 * size)
    return image


def _shapes(split: Split, number: int) -> "Image":
    """Ellipses, rectangles, triangles and lines, drawn at twice the size and made smaller."""
    place = np.random.default_rng([2 + (split == "test"), number])
    library = _pillow("Image")
    corners = place.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    side = (2 * SIZE, 2 * SIZE)
    image: Image = library.fromarray(corners).resize(side, library.Resampling.BILINEAR)
    pen = _pillow("ImageDraw").Draw(image)
    for _ in range(int(place.integers(6, 14))):
        colour = tuple(map(int, place.integers(0, 256, 3)))
        points = [tuple(map(float, point)) for point in place.uniform(-60, 2 * SIZE + 60, (3, 2))]
        (x0, y0), (x1, y1) = points[:2]
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        kind = int(place.integers(4))
        if kind == 0:
            pen.ellipse(box, fill=colour)
        elif kind == 1:
            pen.rectangle(box, fill=colour)
        elif kind == 2:
            pen.polygon(points, fill=colour)
        else:
            pen.line(points, fill=colour, width=int(place.integers(2, 14)))
    return image.resize((SIZE, SIZE), library.Resampling.BOX)


def _files(package: str) -> Path:
    """The folder of a package, without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"the demo pictures need the package {package}; run pip install '.[codec]' in the "
            "checkout of Attar"
        )
    return Path(spec.origin).parent


def _pillow(module: str) -> Any:
    try:
        return import_module(f"PIL.{module}")
    except ModuleNotFoundError:
        raise MissingExtraError(
            "the demo pictures need the package Pillow; run pip install '.[codec]' in the checkout "
            "of Attar"
        ) from None
