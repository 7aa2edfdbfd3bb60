"""The verbs that compress files: what comes back, and what the records say."""

from pathlib import Path

import pytest

from attar.errors import ConfigError, DataError
from attar.methods.equal_info import compress, decompress
from windows import made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_a_compressed_file_comes_back_and_the_records_say_how_large_it_is(
    folder: Path, tmp_path: Path
) -> None:
    text = b"a text of which all comes back, byte for byte. " * 50
    (tmp_path / "a.txt").write_bytes(text)
    there = compress(folder, tmp_path / "a.txt")
    packed = tmp_path / "a.txt.eqiw"
    assert there.command == "tokenizer compress"
    assert there.details == {"bytes_before": len(text), "bytes_after": packed.stat().st_size}
    with pytest.raises(ConfigError, match="already exists"):
        decompress(folder, packed)
    (tmp_path / "a.txt").unlink()
    back = decompress(folder, packed)
    assert (tmp_path / "a.txt").read_bytes() == text
    assert back.details["damage"] == []
    assert back.details["bytes_after"] == len(text)
    raw = bytearray(packed.read_bytes())
    raw[len(raw) // 2] ^= 4
    packed.write_bytes(raw)
    with pytest.raises(DataError, match="is damaged"):
        decompress(folder, packed, output_file=tmp_path / "b")
    assert decompress(folder, packed, output_file=tmp_path / "b", recover=True).details["damage"]


def test_a_file_of_another_name_needs_a_place(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say where the result goes"):
        decompress(folder, tmp_path / "file")
