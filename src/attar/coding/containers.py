"""Integer latents as lossless images, or as bytes, and back to the same integers.

    payload = CRC-32, wide?, offset, [offset of the wide, mask], image, ..., image, zeros
    image   = its size in bytes, then JPEG-LS, lossless WebP, PNG or a frame of Zstandard

The CRC-32 is of the container's name, the shape and all that follows it. Channels whose values lie
within 256 of each other are bytes: value - offset. Those that are wider are stored apart, the mask
says which (a bit each, the highest first): as samples of 16 bits in JPEG-LS, else as an image of
their low bytes and one of their high bytes. Axes of length 1 aside, the last axis is the width of
an image, and channels stand one below the other; in WebP three that follow each other are red,
green and blue, and a single long axis is folded to a width of 256. What is larger than the
container allows is cut into tiles, row by row. Offsets are int16, `wide?` is a byte, the CRC-32 and
sizes are uint32; the lowest byte comes first.

A payload stands for no more than 2^24 values and 1024 for each of its bytes: `pack` adds zeros
where it would, and `unpack` refuses to allocate more.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError, MissingExtraError, require

Container = Literal["jpegls", "webp", "png", "zstd"]

#: in the order of their numbers in a file of latents
CONTAINERS: tuple[Container, ...] = get_args(Container)

#: pixels of a tile: a twentieth of those with which Pillow takes a picture for an attack
_TILE = 2**22
#: values that a payload may stand for, and how many more for each byte
_FREE, _PER_BYTE = 2**24, 1024

_CRC, _HEAD, _ABOVE, _SIZE = (struct.Struct(f"<{kind}") for kind in ("I", "?h", "h", "I"))

_Shape = tuple[int, int, int]


@dataclass(frozen=True)
class _Layout:
    """What a container can hold, and which way of holding latents makes it smallest.

    `format` is Pillow's name of it, `side` the most pixels of a side; `deep`: samples of 16 bits;
    `colour`: three channels share a pixel; `fold`: the width of a single axis, 0: as it is.
    """

    package: str
    format: str
    side: int = 65_535
    deep: bool = False
    colour: bool = False
    fold: int = 0


_LAYOUTS: dict[Container, _Layout] = {
    "jpegls": _Layout("pillow_jpls", "JPEG-LS", deep=True),
    "webp": _Layout("PIL", "WEBP", side=16_383, colour=True, fold=256),
    "png": _Layout("PIL", "PNG"),
    "zstd": _Layout("zstandard", "", side=_TILE),
}


def choose(container: str = "auto") -> Container:
    """The container of this name; "auto": JPEG-LS where pillow-jpls is installed, else WebP.

    Raises:
        ConfigError: there is none of this name.
        MissingExtraError: its package is not installed.
    """
    names = ("auto", *CONTAINERS)
    require(container in names, "container", container, f"one of {', '.join(names)}")
    if container == "auto":
        container = "jpegls" if find_spec("pillow_jpls") else "webp"
    chosen = CONTAINERS[CONTAINERS.index(container)]  # pyright: ignore[reportArgumentType]
    _package(chosen)
    return chosen


def pack(values: NDArray[np.int16], *, container: Container) -> bytes:
    """Integer latents as bytes.

    Args:
        values: (c, *grid).
        container: how they are stored.

    Raises:
        ConfigError: they are not int16, have no grid or are empty.
        MissingExtraError: the package of the container is not installed.
    """
    require(values.dtype == np.int16, "the type of latents", str(values.dtype), "int16")
    fine = values.ndim > 1 and values.size > 0
    require(fine, "the shape of latents", values.shape, "channels and a grid, none of them empty")
    _package(container)
    layout = _LAYOUTS[container]
    planes = _folded(values, layout)
    low, high = planes.min(axis=(1, 2)).astype(int), planes.max(axis=(1, 2)).astype(int)
    offset = int(low.min()) if high.max() - low.min() < 256 else -128
    wide = (low < offset) | (high > offset + 255)
    parts = [_HEAD.pack(bool(wide.any()), offset)]
    # differences and sums of int16 go round, as does what is made of them here
    stacks = [(planes[~wide] - np.int16(offset)).astype(np.uint8)]
    if wide.any():
        above = int(low[wide].min()) if layout.deep else -128
        parts += [_ABOVE.pack(above), np.packbits(wide).tobytes()]
        deep = (planes[wide] - np.int16(above)).view(np.uint16)
        stacks += [deep] if layout.deep else [deep.astype(np.uint8), (deep >> 8).astype(np.uint8)]
    for stack in stacks:
        image = _image(stack, layout)
        for tile in _tiles(image.shape, layout):
            data = _encode(np.ascontiguousarray(image[tile]), container)
            parts += [_SIZE.pack(len(data)), data]
    body = b"".join(parts)
    body = body.ljust(-(-(values.size - _FREE) // _PER_BYTE), b"\0")
    return _CRC.pack(_crc(body, container, values.shape)) + body


def unpack(
    payload: bytes, *, container: Container, shape: Sequence[int], name: str = "the payload"
) -> NDArray[np.int16]:
    """The latents (c, *grid) that `pack` was given.

    Args:
        payload: of `pack`.
        container: as it was packed.
        shape: of the latents.
        name: of what the payload is from, for messages.

    Raises:
        DataError: the payload is damaged, or of other latents.
        MissingExtraError: the package of the container is not installed.
    """
    shape, body = tuple(shape), payload[_CRC.size :]
    _package(container)
    if len(payload) < _CRC.size or _CRC.unpack_from(payload)[0] != _crc(body, container, shape):
        raise DataError(
            f"the latents in {name} are damaged, or are not {container} of the shape {shape}; "
            "take another copy of it"
        )
    most = _FREE + _PER_BYTE * len(body)
    if len(shape) < 2 or min(shape) < 1 or math.prod(shape) > most:
        raise DataError(
            f"the latents in {name} cannot have the shape {shape}: its {len(body):,} bytes stand "
            f"for {most:,} values at most, and for one at least; make it again"
        )
    try:
        return _unpacked(body, container, shape)
    except MemoryError:
        raise
    except Exception as error:  # of whatever kind a decoder of images raises
        raise DataError(
            f"the latents in {name} cannot be read as {container} ({error}); make it again"
        ) from error


def _unpacked(body: bytes, container: Container, shape: tuple[int, ...]) -> NDArray[np.int16]:
    layout = _LAYOUTS[container]
    folded = _folded_shape(shape, layout)
    any_wide, offset = _HEAD.unpack_from(body)
    at, above, wide = _HEAD.size, 0, np.zeros(folded[0], np.bool_)
    if any_wide:
        (above,) = _ABOVE.unpack_from(body, at)
        at += _ABOVE.size
        mask = np.frombuffer(body, np.uint8, count=-(-len(wide) // 8), offset=at)
        at += len(mask)
        wide = np.unpackbits(mask, count=len(wide)).astype(np.bool_)
    stacks = list[NDArray[Any]]()
    kinds = [(~wide, np.uint8)]
    if any_wide:
        kinds += [(wide, np.uint16)] if layout.deep else [(wide, np.uint8)] * 2
    for channels, dtype in kinds:
        planes = (int(channels.sum()), *folded[1:])
        image = np.empty(_image_shape(planes, layout), dtype)
        for tile in _tiles(image.shape, layout):
            (size,) = _SIZE.unpack_from(body, at)
            at += _SIZE.size
            image[tile] = _decode(body[at : at + size], container, like=image[tile])
            at += size
        stacks.append(_planes(image, planes, layout))
    if body[at:].strip(b"\0"):
        raise ValueError("there are more bytes than it has use for")
    narrow = stacks[0].astype(np.int16)
    narrow += np.int16(offset)
    if not any_wide:  # which is most of the time
        return _unfolded(narrow, shape)
    values = np.empty(folded, np.int16)
    values[~wide] = narrow
    deep = stacks[1].astype(np.uint16)
    if not layout.deep:
        deep |= stacks[2].astype(np.uint16) << 8
    values[wide] = deep.view(np.int16) + np.int16(above)
    return _unfolded(values, shape)


# Latents (c, *grid) -> planes (c, rows, width) -> an image, and back


def _folded_shape(shape: tuple[int, ...], layout: _Layout) -> _Shape:
    channels, *grid = shape
    grid = [1, *(n for n in grid if n > 1)]
    if len(grid) == 2 and layout.fold and grid[-1] > 4 * layout.fold:
        return channels, -(-grid[-1] // layout.fold), layout.fold
    return channels, math.prod(grid[:-1]), grid[-1]


def _folded(values: NDArray[np.int16], layout: _Layout) -> NDArray[np.int16]:
    shape = _folded_shape(values.shape, layout)
    lines = values.reshape(shape[0], -1)
    lines = np.pad(lines, ((0, 0), (0, math.prod(shape[1:]) - lines.shape[1])), mode="edge")
    return lines.reshape(shape)


def _unfolded(planes: NDArray[np.int16], shape: tuple[int, ...]) -> NDArray[np.int16]:
    lines = planes.reshape(len(planes), -1)[:, : math.prod(shape[1:])]
    return np.ascontiguousarray(lines).reshape(shape)


def _image_shape(planes: _Shape, layout: _Layout) -> tuple[int, ...]:
    channels, rows, width = planes
    return (-(-channels // 3) * rows, width, 3) if layout.colour else (channels * rows, width)


def _image(planes: NDArray[Any], layout: _Layout) -> NDArray[Any]:
    channels, rows, width = planes.shape
    if not layout.colour:
        return planes.reshape(-1, width)
    planes = np.pad(planes, ((0, -channels % 3), (0, 0), (0, 0)))
    return planes.reshape(-1, 3, rows, width).transpose(0, 2, 3, 1).reshape(-1, width, 3)


def _planes(image: NDArray[Any], planes: _Shape, layout: _Layout) -> NDArray[Any]:
    channels, rows, width = planes
    if not layout.colour:
        return image.reshape(planes)
    split = image.reshape(-1, rows, width, 3).transpose(0, 3, 1, 2)
    return split.reshape(-1, rows, width)[:channels]


def _tiles(shape: tuple[int, ...], layout: _Layout) -> Iterator[tuple[slice, slice]]:
    """The parts of an image that are stored one by one."""
    height, width = shape[:2]
    across = min(width, layout.side)
    down = min(height, layout.side, max(1, _TILE // across))
    for top in range(0, height, down or 1):
        for left in range(0, width, across):
            yield slice(top, top + down), slice(left, left + across)


# One image <-> its bytes


def _encode(image: NDArray[Any], container: Container) -> bytes:
    if container == "zstd":
        # level 1: smaller than 3 on latents, in which there is little to find twice, and faster
        return import_module("zstandard").ZstdCompressor(level=1).compress(image.tobytes())
    options = dict[str, Any]()
    if container == "webp":
        # a quarter of the search finds as much as the whole, and is several times as fast
        options = {"lossless": True, "quality": 25}
    elif container == "jpegls":
        bits = max(9, int(image.max()).bit_length()) if image.dtype == np.uint16 else 8
        options = {"bits_per_sample": bits, "spiff": None}
    out = io.BytesIO()
    picture = import_module("PIL.Image").fromarray(image)
    picture.save(out, format=_LAYOUTS[container].format, **options)
    return out.getvalue()


def _decode(data: bytes, container: Container, *, like: NDArray[Any]) -> NDArray[Any]:
    """The image, whose size is looked at before there is memory for it."""
    if container == "zstd":
        zstandard = import_module("zstandard")
        if zstandard.frame_content_size(data) != like.nbytes:
            raise ValueError("it is of another size")
        raw = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        return np.frombuffer(raw, like.dtype).reshape(like.shape)
    layout, size = _LAYOUTS[container], like.shape[1::-1]
    if container == "webp":  # of which Pillow's reader allocates as soon as it opens
        sides = int.from_bytes(data[21:25], "little")
        stated = (sides & 16_383) + 1, (sides >> 14 & 16_383) + 1
        fine = data[8:16] == b"WEBPVP8L" and stated == size
    else:  # a SPIFF header in JPEG-LS may state a size of its own
        fine = container != "jpegls" or data[2:4] == b"\xff\xf7"
    if not fine:
        raise ValueError("it is of another size or kind")
    image = import_module("PIL.Image").open(io.BytesIO(data), formats=[layout.format])
    mode = "RGB" if layout.colour else "L" if like.dtype == np.uint8 else "I;16"
    if image.size != size or image.mode != mode:
        raise ValueError("it is of another size or kind")
    return np.asarray(image)


def _crc(body: bytes, container: Container, shape: Sequence[int]) -> int:
    kind = f"{container} {'x'.join(map(str, shape))}".encode()
    return zlib.crc32(body, zlib.crc32(kind))


def _package(container: Container) -> None:
    """Load what a container needs: pillow_jpls makes itself known to Pillow."""
    package = _LAYOUTS[container].package
    try:
        import_module(package)
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"latents in the container {container} need the package {package}, which is not "
            "installed; run pip install '.[codec]' in the checkout of Attar"
        ) from None
