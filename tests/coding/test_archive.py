"""Files as windows: any file comes back, and damage is told."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding.archive import compress_file, decompress_file
from attar.errors import ConfigError, DataError
from scene import sources
from windows import made


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=3000))
def test_any_file_comes_back(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("file")
    (place / "a").write_bytes(data)
    before, after = compress_file(place / "a", tokenizer=made(), output_file=place / "a.eqiw")
    assert (before, after) == (len(data), (place / "a.eqiw").stat().st_size)
    found = decompress_file(place / "a.eqiw", tokenizer=made(), output_file=place / "b")
    assert (place / "b").read_bytes() == data
    assert (found.bytes, found.damage) == (len(data), ())


@pytest.fixture
def squeezed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, bytes]:
    from attar.coding import archive as files

    monkeypatch.setattr(files, "CHUNK", 1000)
    data = "".join(sources(150_000))[:4500].encode()
    (tmp_path / "a").write_bytes(data)
    compress_file(tmp_path / "a", tokenizer=made(), output_file=tmp_path / "a.eqiw")
    return tmp_path / "a.eqiw", data


def test_a_flipped_bit_changes_one_window_and_is_told(squeezed: tuple[Path, bytes]) -> None:
    file, data = squeezed
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 4
    file.write_bytes(raw)
    out = file.with_name("b")
    with pytest.raises(DataError, match=r"is damaged: chunk 2, .*--recover"):
        decompress_file(file, tokenizer=made(), output_file=out)
    assert not out.exists()
    found = decompress_file(file, tokenizer=made(), output_file=out, recover=True)
    assert len(found.damage) == 1
    back = out.read_bytes()
    same = next(i for i, (a, b) in enumerate(zip(data, back, strict=False)) if a != b)
    tail = next(i for i, (a, b) in enumerate(zip(data[::-1], back[::-1], strict=False)) if a != b)
    longest = int(made().dictionary.lengths.max())
    assert 2000 <= same < 3000
    assert len(data) - tail - same <= longest


def test_a_file_that_was_cut_off_gives_what_is_there(squeezed: tuple[Path, bytes]) -> None:
    file, data = squeezed
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) * 3 // 5])
    with pytest.raises(DataError, match="is damaged"):
        decompress_file(file, tokenizer=made(), output_file=file.with_name("b"))
    found = decompress_file(file, tokenizer=made(), output_file=file.with_name("b"), recover=True)
    assert file.with_name("b").read_bytes()[:2000] == data[:2000]
    assert any("cut off" in one for one in found.damage)
    assert data.startswith(file.with_name("b").read_bytes())  # nothing is made up


def test_what_comes_after_the_end_is_told(squeezed: tuple[Path, bytes]) -> None:
    file, data = squeezed
    file.write_bytes(file.read_bytes() * 2)
    found = decompress_file(file, tokenizer=made(), output_file=file.with_name("b"), recover=True)
    assert file.with_name("b").read_bytes() == data
    assert "come after its end" in found.damage[0]


def test_another_tokenizer_and_other_files_are_refused(
    squeezed: tuple[Path, bytes], tmp_path: Path
) -> None:
    file, _ = squeezed
    other = made("12 in window")
    with pytest.raises(DataError, match=r"the tokenizer that .* was written with"):
        decompress_file(file, tokenizer=other, output_file=tmp_path / "b")
    with pytest.raises(DataError, match="attar tokenizer compress wrote"):
        decompress_file(tmp_path / "a", tokenizer=made(), output_file=tmp_path / "b")
    with pytest.raises(DataError, match="found none at"):
        compress_file(tmp_path / "absent", tokenizer=made(), output_file=tmp_path / "b")
    with pytest.raises(ConfigError, match="already exists"):
        compress_file(tmp_path / "a", tokenizer=made(), output_file=file)
    with pytest.raises(DataError, match="cannot write"):
        compress_file(tmp_path / "a", tokenizer=made(), output_file=tmp_path / "a" / "x")
    assert not (tmp_path / "b").exists()


def test_a_full_disk_leaves_nothing_behind(
    squeezed: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attar.coding import archive as files

    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Chunk, "to_bytes", full)
    with pytest.raises(DataError, match=r"No space left on device.* make room"):
        compress_file(tmp_path / "a", tokenizer=made(), output_file=tmp_path / "c.eqiw")
    assert not list(tmp_path.glob("c.*"))
