"""A file of latents: it comes back to the bit, in stages, and damage never passes unseen."""

import contextlib
import struct
import tracemalloc
import zlib
from dataclasses import asdict, replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding.containers import CONTAINERS
from attar.coding.latent_file import describe, from_bytes, to_bytes
from attar.coding.latents import Dtype, Form, Kind, Latents
from attar.errors import ConfigError, DataError

CODEC = "0123456789abcdef" * 4

forms = st.builds(
    Form,
    kind=st.sampled_from(get_args(Kind)),
    dtype=st.sampled_from(get_args(Dtype)),
    mode=st.sampled_from(["", "L", "RGB", "RGBA", "I;16"]),
    rate=st.none() | st.integers(1, 2**32 - 1),
    channels=st.none() | st.integers(1, 2**16 - 1),
)


@st.composite
def latents(draw: st.DrawFn) -> Latents:
    axes, bits = draw(st.integers(1, 3)), draw(st.integers(1, 16))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    shapes = st.lists(st.integers(1, 12), min_size=axes + 1, max_size=axes + 1)
    stages = [
        random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), draw(shapes), np.int16)
        for _ in range(draw(st.integers(1, 3)))
    ]
    sizes = st.integers(1, 2**40) | st.integers(1, 300)
    return Latents(
        stages=tuple(stages),
        size=tuple(draw(sizes) for _ in range(axes)),
        before=tuple(draw(st.integers(0, 2**16)) for _ in range(axes)),
        form=draw(forms),
        codec=draw(st.text("0123456789abcdef", min_size=32, max_size=64)),
        gain=draw(st.just(1.0) | st.floats(allow_nan=False, allow_infinity=False)),
        mean=draw(st.just(0.0) | st.floats(allow_nan=False, allow_infinity=False)),
    )


def picture(stages: int = 3) -> Latents:
    random = np.random.default_rng(0)
    return Latents(
        stages=tuple(random.integers(-9, 9, (4, 3, 2), np.int16) for _ in range(stages)),
        size=(21, 16),
        before=(1, 0),
        form=Form(kind="image", dtype="uint8", mode="RGB"),
        codec=CODEC,
        gain=0.7,
        mean=1e-3,
    )


def same(a: Latents, b: Latents) -> bool:
    stages = [
        x.shape == y.shape and x.dtype == y.dtype and bool((x == y).all())
        for x, y in zip(a.stages, b.stages, strict=True)
    ]
    fields = [
        {name: value for name, value in vars(one).items() if name != "stages"} for one in (a, b)
    ]
    return all(stages) and fields[0] == fields[1]


def ends(data: bytes) -> list[int]:
    """Where the header ends, and each stage."""
    places = [len(data)]
    for stage in reversed(describe(data, name="it")["stages"]):
        places.insert(0, places[0] - stage["bytes"])
    return places


def with_fields(fields: bytes, payload: bytes = b"") -> bytes:
    """A file whose header has these fields and a checksum that holds."""
    head = struct.pack("<4sBH16s", b"WaLC", 1, 27 + len(fields), b"c" * 16) + fields
    return head + struct.pack("<I", zlib.crc32(head)) + payload


@settings(max_examples=100, deadline=None)
@given(one=latents(), container=st.sampled_from(["auto", *CONTAINERS]))
def test_latents_come_back_to_the_bit(one: Latents, container: str) -> None:
    data = to_bytes(one, container=container)
    assert same(from_bytes(data, name="it"), one)
    for stages in range(1, len(one.stages) + 1):
        coarse = replace(one, stages=one.stages[:stages])
        assert same(from_bytes(data, name="it", stages=stages), coarse)
        assert same(from_bytes(data[: ends(data)[stages]], name="it", stages=stages), coarse)


@settings(max_examples=50, deadline=None)
@given(one=latents(), container=st.sampled_from(CONTAINERS))
def test_the_header_alone_describes_the_file(one: Latents, container: str) -> None:
    data = to_bytes(one, container=container)
    said = describe(data[: ends(data)[0]], name="it")
    assert said["version"] == 1
    assert said["form"] == asdict(one.form)
    for field in ("size", "before", "codec", "gain", "mean"):
        assert said[field] == getattr(one, field)
    for stage, values in zip(said["stages"], one.stages, strict=True):
        assert (stage["container"], stage["shape"]) == (container, values.shape)
        reach = 2 ** (stage["bits"] - 1)
        assert -reach <= values.min() <= values.max() < reach
        assert reach == 1 or not -reach / 2 <= values.min() <= values.max() < reach / 2


@pytest.mark.parametrize("container", CONTAINERS)
def test_any_flipped_byte_is_seen(container: str) -> None:
    data = to_bytes(picture(), container=container)
    for place in range(len(data)):
        for change in (1 << place % 8, 255):
            flipped = bytearray(data)
            flipped[place] ^= change
            with pytest.raises(DataError, match=r"it\.walloc"):
                from_bytes(bytes(flipped), name="it.walloc")


def test_a_file_that_breaks_off_gives_the_stages_that_are_whole() -> None:
    one = picture()
    data = to_bytes(one)
    places = ends(data)
    for cut in range(len(data)):
        with pytest.raises(DataError, match=r"it\.walloc"):
            from_bytes(data[:cut], name="it.walloc")
        whole = sum(place <= cut for place in places) - 1
        for stages in range(1, 4):
            if stages <= whole:
                back = from_bytes(data[:cut], name="it", stages=stages)
                assert same(back, replace(one, stages=one.stages[:stages]))
            else:
                with pytest.raises(DataError):
                    from_bytes(data[:cut], name="it", stages=stages)
    with pytest.raises(DataError, match=r"2 of its 3 stages are whole.*stages=2"):
        from_bytes(data[: places[2] + 1], name="it")


def test_what_follows_a_file_is_refused() -> None:
    data = to_bytes(picture())
    with pytest.raises(DataError, match="to end after"):
        from_bytes(data + b"\0", name="it")


def test_stages_that_were_not_made_are_refused() -> None:
    data = to_bytes(picture(stages=2))
    for stages in (0, -1, 3):
        with pytest.raises(ConfigError, match="stages must be 1 to 2"):
            from_bytes(data, name="it", stages=stages)


@pytest.mark.parametrize("data", [b"", b"WaL", b"\x89PNG\r\n\x1a\n" + b"\0" * 99, b"EqIW" * 20])
def test_a_foreign_file_is_told(data: bytes) -> None:
    for read in (from_bytes, describe):
        with pytest.raises(DataError, match=r"expected a file that attar .* found it\.walloc"):
            read(data, name="it.walloc")


def test_another_version_is_told() -> None:
    data = bytearray(to_bytes(picture()))
    data[4] = 2
    with pytest.raises(DataError, match="expected version 1 of the format, found 2 in it"):
        from_bytes(bytes(data), name="it")


def test_latents_of_another_codec_are_refused() -> None:
    one = from_bytes(to_bytes(picture()), name="it")
    one.require_codec(CODEC)
    one.require_codec(CODEC[:32])
    for other in ("f" * 64, CODEC[1:] + "0", CODEC[:31], ""):
        with pytest.raises(DataError, match=r"of the codec 0123456789ab\.\.\. in it\.walloc"):
            one.require_codec(other, name="it.walloc")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_forged_header_is_read_or_refused(data: st.DataObject) -> None:
    whole = to_bytes(picture(stages=1), container="zstd")
    (start, end) = ends(whole)
    fields = bytearray(whole[23 : start - 4])
    for _ in range(data.draw(st.integers(1, 3))):
        fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(st.integers(0, 255))
    forged = with_fields(bytes(fields), whole[start:end])
    for read in (from_bytes, describe):
        with contextlib.suppress(DataError):
            read(forged, name="it")


#: kind, dtype, axes, stages, mode, rate, channels, scale?, size, before, then a stage
PLAIN = bytes([0, 0, 1, 1, 1, 76, 0, 0, 0, 9, 0])


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        PLAIN,  # the stage is missing
        bytes([3]) + PLAIN[1:] + bytes([3, 8, 1, 1, 0]),  # there is no such kind
        PLAIN + bytes([4, 8, 1, 1, 0]),  # nor container
        PLAIN + bytes([3, 8, 1, 1, 0, 0]),  # a byte too many
        PLAIN + bytes([3, 8, 1, 1, *[255] * 9, 1]),  # more than 63 bits
        bytes([0, 0, 1, 1, 1, 76, 0, 0, 1, 9, 0]),  # the gain is missing
        PLAIN[:9] + bytes([0, 0, 3, 8, 1, 1, 0]),  # a size of 0
        bytes([0, 0, 1, 0, *PLAIN[4:]]),  # no stages
        bytes([0, 0, 0, 1, 1, 76, 0, 0, 0, 3, 8, 1, 0]),  # no axes
        bytes([0, 0, 1, 1, 1, 76, 0, 0, 1, *struct.pack("<dd", np.nan, 0), 9, 0, 3, 8, 1, 1, 0]),
    ],
)
def test_a_header_that_says_what_cannot_be_is_refused(fields: bytes) -> None:
    assert describe(with_fields(PLAIN + bytes([3, 8, 1, 1, 0])), name="it")["size"] == (9,)
    for read in (from_bytes, describe):
        with pytest.raises(DataError, match="the header of it says what cannot be"):
            read(with_fields(fields), name="it")


@pytest.mark.parametrize("size", [0, 3, 4, 10, 23, 26])
def test_a_header_shorter_than_any_is_damaged(size: int) -> None:
    head = struct.pack("<4sBH16s", b"WaLC", 1, size, b"c" * 16)[: max(size - 4, 0)]
    data = head + struct.pack("<I", zlib.crc32(head)) + b"\0" * 30
    with pytest.raises(DataError):
        from_bytes(data, name="it")


def test_bits_that_the_latents_do_not_have_are_refused() -> None:
    data = to_bytes(picture(stages=1), container="zstd")
    start = ends(data)[0]
    at = start - 4 - 6  # before the CRC: container, bits, 3 of the shape, size
    assert data[at : at + 5] == bytes([3, 5, 4, 3, 2])
    forged = bytearray(data[23 : start - 4])
    forged[at + 1 - 23] = 6
    with pytest.raises(DataError, match="expected latents of 6 bits in it"):
        from_bytes(with_fields(bytes(forged), data[start:]), name="it")


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_small_file_cannot_claim_giant_latents(container: str) -> None:
    number = CONTAINERS.index(container)
    giant = bytes([number, 8, 1, *[255] * 5, 1, 9])  # 1 channel, 2^42 samples, 9 bytes
    data = with_fields(PLAIN + giant, b"\0" * 9)
    assert describe(data, name="it")["stages"][0]["shape"][1] > 2**35
    tracemalloc.start()
    with pytest.raises(DataError):
        from_bytes(data, name="it")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
