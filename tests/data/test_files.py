"""Large text files are read a piece at a time, to the same rows."""

import gzip
from pathlib import Path

import pytest

from attar.data.text import SPLITS, load_text
from attar.errors import DataError


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every .txt file is read a piece at a time, in small pieces."""
    monkeypatch.setattr("attar.data.text.LARGE", 10)
    monkeypatch.setattr("attar.data.files.PIECE", 7)
    monkeypatch.setattr("attar.data.text.ROW_CHARACTERS", 40)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_large_text_is_the_same_in_pieces(name: str, tmp_path: Path, all_large: None) -> None:
    text = "".join(f"line {i} ☕ naïve\r\n" + "x" * (i % 90) for i in range(80))
    raw = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    splits = load_text(tmp_path / name)
    rows = [row for split in SPLITS for row in splits[split]["text"]]
    assert "".join(rows) == text
    assert max(map(len, rows)) <= 40
    assert [len(splits[s]) for s in SPLITS[1:]] == [round(0.05 * len(rows))] * 2


def test_rows_do_not_hang_on_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join("word " * (i % 13) + "\n" * (i % 3) for i in range(300))
    (tmp_path / "train.txt").write_text(text)
    for split in ("valid", "test"):
        (tmp_path / f"{split}.txt").write_text("held out\n" * 9)
    monkeypatch.setattr("attar.data.text.ROW_CHARACTERS", 50)
    whole = load_text(tmp_path)
    monkeypatch.setattr("attar.data.text.LARGE", 10)
    for piece in (1, 16, 1000):
        monkeypatch.setattr("attar.data.files.PIECE", piece)
        assert load_text(tmp_path)["train"]["text"][:] == whole["train"]["text"][:]
        assert load_text(tmp_path)["test"]["text"][:] == whole["test"]["text"][:]


def test_a_large_file_that_is_not_text_is_refused(tmp_path: Path, all_large: None) -> None:
    (tmp_path / "a.txt").write_bytes(b"text " * 50 + b"\xff\xfe" + b"more" * 9)
    with pytest.raises(DataError, match=r"expected UTF-8 text in .*, found byte 0xff"):
        load_text(tmp_path / "a.txt")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"text " * 5000)[:60])
    with pytest.raises(DataError, match=r"cannot read .*b.txt.gz"):
        load_text(tmp_path / "b.txt.gz")


def test_a_large_file_that_changed_is_read_anew(tmp_path: Path, all_large: None) -> None:
    (tmp_path / "a.txt").write_text("one line\n" * 60)
    load_text(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("two line\n" * 61)
    assert load_text(tmp_path / "a.txt")["train"]["text"][0].startswith("two")
