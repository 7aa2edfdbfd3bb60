"""One way in and one way out, for arrays too."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from attar.data.media import from_pil, read_signal, suffixes_of, to_array, to_pil, write_signal
from attar.errors import ConfigError, DataError

SHAPES = st.one_of(
    st.tuples(st.integers(1, 9)),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9)),
)


@given(
    array=st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))
)
def test_an_array_comes_back_from_its_file(array: np.ndarray, tmp_path_factory: Any) -> None:
    signal = read_signal(array)
    assert signal.values.shape == (
        (1, *array.shape) if array.ndim == 1 else (signal.channels, *array.shape[:2])
    )
    assert (to_array(signal) == array).all()
    assert to_array(signal).shape == array.shape
    file = tmp_path_factory.mktemp("array") / "a.npy"
    write_signal(signal, file)
    assert np.load(file).dtype == array.dtype
    assert (to_array(read_signal(file)) == array).all()


@given(
    array=arrays.arrays(
        np.float32, SHAPES, elements=st.floats(-3, 5, width=32, allow_subnormal=False)
    )
)
def test_floats_come_back_within_their_range(array: np.ndarray) -> None:
    signal = read_signal(array, value_range=(-3, 5))
    assert (signal.form.kind, signal.form.dtype) == ("array", "float32")
    assert (signal.gain, signal.mean) == (4, 1)
    assert signal.values.abs().max() <= 0.5
    assert np.abs(to_array(signal) - array).max() <= 1e-6


def test_arrays_have_channels_last_and_tensors_first() -> None:
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for signal in (read_signal(array), read_signal(tensor), read_signal(Image.fromarray(array))):
        assert torch.allclose(signal.values, tensor / 255 - 0.5, atol=1e-6)
        assert (signal.form.kind, signal.form.mode) == ("image", "RGB")
        assert np.asarray(to_pil(signal)).tolist() == array.tolist()
    floats = read_signal(tensor / 255, value_range=(0, 1))
    assert torch.allclose(floats.values, tensor / 255 - 0.5, atol=1e-6)
    assert read_signal(torch.zeros(5, 9, dtype=torch.uint8)).values.shape == (5, 9)
    assert read_signal(array[..., 0]).form.mode == "L"
    assert read_signal(array[..., 0].astype(np.uint16)).form.mode == "I;16"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_every_width_become_float32(dtype: torch.dtype) -> None:
    values = torch.tensor([[0.0, 0.25, 1.0]], dtype=dtype)
    assert read_signal(values, value_range=(0, 1)).values.tolist() == [[-0.5, -0.25, 0.5]]


def test_the_order_of_bytes_does_not_matter() -> None:
    array = np.arange(12, dtype=">u2").reshape(3, 4)
    assert (to_array(read_signal(array))[..., 0] == array).all()
    assert (to_array(read_signal(array[::-1, ::-1]))[..., 0] == array[::-1, ::-1]).all()


def test_reading_changes_nothing_that_was_given() -> None:
    array = np.zeros((3, 3, 3), np.uint8)
    read_signal(array).values.add_(1)
    tensor = torch.zeros(1, 4)
    read_signal(tensor, value_range=(0, 1)).values.add_(1)
    assert not array.any()
    assert not tensor.any()


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (torch.zeros(3, 4, 4), {}, "range of the floats in the tensor, .*value_range, such as"),
        (np.zeros((4, 4)), {}, "range of the floats in the array"),
        (np.full((4, 4), 1.5), {"value_range": (0, 1)}, "values from 0 to 1 .*, found 1.5 to 1.5"),
        (np.full((4, 4), np.nan), {"value_range": (0, 1)}, "found nan to nan"),
        (np.zeros((4, 4)), {"value_range": (1, 1)}, r"lowest and the highest .*, found \(1, 1\)"),
        (np.zeros((4, 4)), {"value_range": (0, np.inf)}, "lowest and the highest"),
        (np.zeros((4, 4), np.int64), {}, "uint8, uint16 or a float type in the array, found int64"),
        (torch.zeros(1, 4, dtype=torch.int8), {}, "in the tensor, found int8"),
        (np.zeros((4, 4), np.complex64), {}, "found complex64"),
        (np.array(["a"]), {}, "found <U1"),
        (np.zeros((2, 2, 2, 2), np.uint8), {}, r"found the shape \(2, 2, 2, 2\)"),
        (np.zeros((0, 4), np.uint8), {}, r"found the shape \(1, 0, 4\)"),
        (torch.zeros(4), {}, r"found the shape \(4,\); give one item at a time"),
        (3, {}, "expected a path, bytes, a picture .*, found int; convert it"),
        (None, {"name": "row 3"}, "for row 3, found NoneType"),
        ({"bytes": None, "path": None}, {}, "found neither bytes nor a path"),
        (b"", {}, "picture or sound in the given bytes, found an empty file"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(source: Any, options: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_signal(source, **options)


def test_paths_bytes_and_cells_are_one(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(75, dtype=np.uint8).reshape(5, 5, 3))
    file = tmp_path / "a picture.JPG"  # the name does not matter
    image.save(file, format="PNG")
    raw = file.read_bytes()
    cell = {"bytes": raw, "path": "b.png"}
    expected = from_pil(image).values
    for source in (file, str(file), raw, bytearray(raw), cell, {"bytes": None, "path": str(file)}):
        assert torch.equal(read_signal(source).values, expected)
    assert read_signal(file).name == str(file)
    assert read_signal(cell).name == "b.png"
    assert read_signal(cell, name="row 3").name == "row 3"


def test_paths_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png, found no such file; correct the path"):
        read_signal(tmp_path / "none.png")
    with pytest.raises(DataError, match="found a folder"):
        read_signal(tmp_path)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(DataError, match=r"empty\.wav, found an empty file"):
        read_signal(tmp_path / "empty.wav")
    with pytest.raises(DataError, match="File name too long; correct the path"):
        read_signal("a" * 5000)


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_broken_arrays_are_refused() -> None:
    raw = npy(np.zeros((9, 9), np.uint8))
    for broken in (raw[:-1], raw[:20], raw[:9] + b"\xff" * 99):
        with pytest.raises(DataError, match=r"cannot read the array a\.npy: .*; save it again"):
            read_signal(broken, name="a.npy")
    with pytest.raises(DataError, match="cannot read the array"):  # would run code
        read_signal(npy(np.array([object()])))


def test_an_array_is_written_as_one(tmp_path: Path) -> None:
    signal = read_signal(np.zeros((2, 2, 5), np.uint8))
    assert suffixes_of(signal.form) == (".npy",)
    with pytest.raises(ConfigError, match=r"a file for an array \(\.npy\), found '.*a\.png'"):
        write_signal(signal, tmp_path / "a.png")
    write_signal(read_signal(np.zeros((2, 2, 3), np.uint8)), tmp_path / "picture.npy")
    assert np.load(tmp_path / "picture.npy").shape == (2, 2, 3)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataError, match="No space left on device; nothing was left behind"):
        write_signal(read_signal(np.zeros((2, 2), np.uint8)), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
