"""What people give by mistake, refused at once and in a sentence."""

from pathlib import Path

import pytest

from attar.annotate.projects import import_, init, status
from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.config import SegmenterConfig


def test_a_dictionary_that_cannot_be_read_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"cannot read the dictionary 'typo\.txt'"):
        init("thai", segmenter=SegmenterConfig(dictionary="typo.txt"))
    assert not Path("thai").exists()


def test_a_table_is_not_read_as_lines_unless_asked(tmp_path: Path) -> None:
    table = tmp_path / "pool.csv"
    table.write_text("id,text\n1,abc\n", encoding="utf-8")
    init(tmp_path / "thai")
    with pytest.raises(DataError, match=r"found a table; save its column of text as \.jsonl"):
        import_(tmp_path / "thai", data=table)
    assert import_(tmp_path / "thai", data=table, format="lines").details["new"] == 2


def test_lines_of_spaces_are_nobodys_task(tmp_path: Path) -> None:
    (tmp_path / "pool.txt").write_text("abc\n   \n", encoding="utf-8")
    init(tmp_path / "thai")
    details = import_(tmp_path / "thai", data=tmp_path / "pool.txt").details
    assert (details["new"], details["refused"]) == (1, 1)


def test_a_damaged_database_is_to_be_restored(tmp_path: Path) -> None:
    init(tmp_path / "thai")
    (tmp_path / "thai" / "attar.db").write_text("hello", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot be opened .*; restore it from a backup"):
        status(tmp_path / "thai")
