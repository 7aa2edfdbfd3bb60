"""Integer latents in lossless containers: the same integers come back, or an error says why not."""

import io
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile, WebPImagePlugin

from attar.coding import containers
from attar.coding.containers import CONTAINERS, Container, choose, pack, unpack
from attar.errors import ConfigError, DataError, MissingExtraError

Ints = NDArray[np.int16]

each_container = pytest.mark.parametrize("container", CONTAINERS)


def same(values: Ints, container: Container) -> bool:
    back = unpack(pack(values, container=container), container=container, shape=values.shape)
    return back.dtype == np.int16 and back.shape == values.shape and bool((back == values).all())


def drawn(shape: tuple[int, ...], low: int, high: int, *, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(np.int16)


def sealed(body: bytes, container: Container, shape: tuple[int, ...]) -> bytes:
    kind = f"{container} {'x'.join(map(str, shape))}".encode()
    return struct.pack("<I", zlib.crc32(body, zlib.crc32(kind))) + body


@settings(max_examples=60, deadline=None)
@given(
    container=st.sampled_from(CONTAINERS),
    shape=st.tuples(st.integers(1, 14)).flatmap(
        lambda c: st.lists(st.integers(1, 40), min_size=1, max_size=3).map(lambda g: (*c, *g))
    ),
    ends=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=2, max_size=2).map(sorted),
    few=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=2, max_size=2).map(sorted),
    seed=st.integers(0, 99),
)
def test_what_was_packed_comes_back(
    container: Container, shape: tuple[int, ...], ends: list[int], few: list[int], seed: int
) -> None:
    values = drawn(shape, *ends, seed=seed)
    values[: shape[0] // 3] = drawn((shape[0] // 3, *shape[1:]), *few, seed=seed)
    assert same(values, container)
    assert same((values % 200 - 77).astype(np.int16), container)
    assert same(values.swapaxes(0, 1), container)


@each_container
@pytest.mark.parametrize("ends", [(-128, 127), (0, 255), (-129, 126), (32512, 32767), (-1, -1)])
def test_what_lies_within_256_is_stored_as_bytes(
    container: Container, ends: tuple[int, int]
) -> None:
    values = drawn((3, 8, 8), *ends)
    values[0, 0, :2] = ends
    assert same(values, container)
    assert not pack(values, container=container)[4]  # none is wide


@each_container
@pytest.mark.parametrize(
    "shape",
    [
        (3, 70_001),  # longer than the sides of any of them
        (2, 70_001, 1),
        (2, 1, 16_384),
        (4, 2, 16_385),
        (17_000, 3, 2),  # higher than WebP's, in threes
        (70_000, 1, 3),
        (1, 1),
        (1, 1, 1, 1),
        (2, 1025),  # folded, with samples to fill up
        (108, 1024),
    ],
)
@pytest.mark.parametrize("ends", [(700, 900), (-300, 300)])
def test_any_shape_comes_back(
    container: Container, shape: tuple[int, ...], ends: tuple[int, int]
) -> None:
    assert same(drawn(shape, *ends), container)


@each_container
def test_axes_of_one_sample_cost_nothing(container: Container) -> None:
    values = drawn((5, 1, 70), -300, 300)
    bodies = {
        pack(values.reshape(5, *g), container=container)[4:] for g in [(70,), (70, 1), (1, 70)]
    }
    assert len(bodies) == 1


def test_a_long_axis_is_folded_in_webp_without_becoming_wide() -> None:
    values = drawn((3, 1280), 700, 900)
    whole, short = pack(values, container="webp"), pack(values[:, :-1], container="webp")
    assert whole[4:] == pack(values.reshape(3, 5, 256), container="webp")[4:]
    assert not short[4]


@each_container
def test_tiles_are_bounded_in_pixels_too(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (Image.MAX_IMAGE_PIXELS or 0) > containers._TILE * 20
    monkeypatch.setattr(containers, "_TILE", 100)
    values = drawn((5, 31, 17), -300, 300)
    assert same(values, container)
    sizes = list[int]()
    encode = containers._encode

    def noted(image: NDArray[np.uint8], container: Container) -> bytes:
        sizes.append(image.shape[0] * image.shape[1])
        return encode(image, container)

    monkeypatch.setattr(containers, "_encode", noted)
    pack(values, container=container)
    assert max(sizes) <= 100


@each_container
def test_a_wide_channel_leaves_the_others_their_bytes(container: Container) -> None:
    narrow, wide = drawn((11, 32, 32), -9, 9), drawn((1, 32, 32), -900, 900)
    sizes = [
        len(pack(values, container=container))
        for values in (np.concatenate([narrow, wide]), narrow, wide)
    ]
    assert sizes[0] < sizes[1] + 1.05 * sizes[2]


@each_container
def test_any_flipped_or_missing_byte_is_seen(container: Container) -> None:
    shape = (4, 5, 3)
    values = drawn(shape, -5, 5)
    values[1] *= 99
    payload = pack(values, container=container)
    broken = [payload[:cut] for cut in range(len(payload))] + [payload + b"\0"]
    for place in range(len(payload)):
        flipped = bytearray(payload)
        flipped[place] ^= 1 << place % 8
        broken.append(bytes(flipped))
    for one in broken:
        with pytest.raises(DataError, match=r"latents in it\.walloc are damaged"):
            unpack(one, container=container, shape=shape, name="it.walloc")


@each_container
def test_a_payload_of_another_shape_or_container_is_refused(container: Container) -> None:
    payload = pack(drawn((4, 6, 6), -5, 5), container=container)
    for shape in [(4, 36), (6, 4, 6), (2, 6, 6), (4, 6, 6, 1)]:
        with pytest.raises(DataError):
            unpack(payload, container=container, shape=shape)
    for other in set(CONTAINERS) - {container}:
        with pytest.raises(DataError):
            unpack(payload, container=other, shape=(4, 6, 6))


@each_container
def test_an_image_of_another_size_is_refused_though_its_checksum_holds(
    container: Container,
) -> None:
    shapes = [(4, 6, 6), (4, 6, 7), (7, 6, 6), (1, 6, 6), (4, 600, 600), (12, 6, 12)]
    for values in (drawn(shapes[0], -5, 5), drawn(shapes[0], -500, 500)):
        body = pack(values, container=container)[4:]
        for shape in shapes[1:]:
            with pytest.raises(DataError, match="cannot be read as"):
                unpack(sealed(body, container, shape), container=container, shape=shape)
        longer = sealed(body + b"\1", container, shapes[0])
        with pytest.raises(DataError, match="more bytes than"):
            unpack(longer, container=container, shape=shapes[0])


@settings(max_examples=200, deadline=None)
@given(container=st.sampled_from(CONTAINERS), data=st.data())
def test_a_forged_payload_gives_latents_of_the_shape_or_an_error(
    container: Container, data: st.DataObject
) -> None:
    shape = (4, 6, 6)
    body = bytearray(pack(drawn(shape, -200, 200), container=container)[4:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = unpack(sealed(bytes(body), container, shape), container=container, shape=shape)
    except DataError:
        return
    assert back.shape == shape
    assert back.dtype == np.int16


@each_container
@pytest.mark.parametrize("shape", [(2**20, 2**20), (1, 2**62), (3, 2**40, 1), (1, 2**24, 3)])
def test_a_small_payload_cannot_claim_a_giant_shape(
    container: Container, shape: tuple[int, ...]
) -> None:
    body = pack(np.zeros((1, 4, 4), np.int16), container=container)[4:]
    payload = sealed(body, container, shape)
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot have the shape"):
        unpack(payload, container=container, shape=shape)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0, 4), (4, -1), (4,), ()])
def test_a_shape_without_latents_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="cannot have the shape"):
        unpack(sealed(b"\0" * 40, "zstd", shape), container="zstd", shape=shape)


def png_header(side: int) -> bytes:
    fields = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return fields + struct.pack(">I", zlib.crc32(b"IHDR" + fields))


@pytest.mark.parametrize(
    ("container", "mark", "skip", "claimed"),
    [
        ("jpegls", b"\xff\xf7\x00\x0b\x08", 0, struct.pack(">HH", 9_000, 9_000)),
        ("png", b"\0\0\0\rIHDR", 0, png_header(9_000)),
        ("webp", b"VP8L", 5, struct.pack("<I", 16_382 | 16_382 << 14)),
    ],
)
def test_the_size_of_an_image_is_looked_at_before_there_is_memory_for_it(
    container: Container, mark: bytes, skip: int, claimed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (1, 6, 5)
    body = pack(drawn(shape, -5, 5), container=container)[4:]
    at = body.index(mark) + len(mark) + skip
    body = body[:at] + claimed + body[at + len(claimed) :]

    def allocates(*_: object) -> None:
        raise AssertionError("there is memory for it")

    monkeypatch.setattr(ImageFile.ImageFile, "load", allocates)
    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "_open", allocates)
    with pytest.raises(DataError, match="of another size"):
        unpack(sealed(body, container, shape), container=container, shape=shape)


def test_a_header_of_jpeg_ls_that_states_a_size_of_its_own_is_refused() -> None:
    shape, out = (1, 6, 5), io.BytesIO()
    payload = pack(drawn(shape, -5, 5), container="jpegls")
    Image.new("L", (5, 6)).save(out, "JPEG-LS")
    body = payload[4:7] + struct.pack("<I", len(out.getvalue())) + out.getvalue()
    with pytest.raises(DataError, match="of another size or kind"):
        unpack(sealed(body, "jpegls", shape), container="jpegls", shape=shape)


def test_a_frame_of_zstandard_that_holds_more_is_refused_before_there_is_memory_for_it() -> None:
    shape = (1, 6, 5)
    frame = zstandard.ZstdCompressor().compress(bytes(2**24))
    body = pack(drawn(shape, -5, 5), container="zstd")[4:7]
    payload = sealed(body + struct.pack("<I", len(frame)) + frame, "zstd", shape)
    tracemalloc.start()
    with pytest.raises(DataError, match="of another size"):
        unpack(payload, container="zstd", shape=shape)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_silence_of_hours_is_small_and_within_the_bound() -> None:
    values = np.zeros((1, 2**24 + 2**20), np.int16)
    payload = pack(values, container="zstd")
    assert 2**10 <= len(payload) < 2**12
    assert not unpack(payload, container="zstd", shape=values.shape).any()
    short = sealed(payload[4:].rstrip(b"\0"), "zstd", values.shape)
    with pytest.raises(DataError, match="cannot have the shape"):
        unpack(short, container="zstd", shape=values.shape)


def test_only_int16_with_a_grid_is_packed() -> None:
    for values in (np.zeros((2, 3), np.int8), np.zeros((2, 3), np.float32)):
        with pytest.raises(ConfigError, match="type of latents must be int16"):
            pack(values, container="zstd")  # pyright: ignore[reportArgumentType]
    for shape in [(3,), (0, 4), (3, 0), (3, 4, 0)]:
        with pytest.raises(ConfigError, match="shape of latents must be"):
            pack(np.zeros(shape, np.int16), container="zstd")


@pytest.mark.parametrize(
    ("container", "package"),
    [("jpegls", "pillow_jpls"), ("webp", "PIL"), ("png", "PIL"), ("zstd", "zstandard")],
)
def test_a_missing_package_is_named_with_its_extra(
    container: Container, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = pack(drawn((2, 3), -5, 5), container=container)
    monkeypatch.setitem(sys.modules, package, None)
    for use in (
        lambda: pack(drawn((2, 3), -5, 5), container=container),
        lambda: unpack(payload, container=container, shape=(2, 3)),
        lambda: choose(container),
    ):
        with pytest.raises(MissingExtraError, match=rf"{package}.*'\.\[codec\]'"):
            use()


def test_jpeg_ls_is_chosen_where_its_plugin_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose() == choose("auto") == "jpegls"
    assert [choose(name) for name in CONTAINERS] == list(CONTAINERS)
    monkeypatch.setitem(sys.modules, "pillow_jpls", None)
    assert choose() == "webp"
    with pytest.raises(ConfigError, match="container must be one of auto, jpegls"):
        choose("gif")
