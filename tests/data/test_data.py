"""What may stand for data."""

import os
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from attar.data.data import Data
from attar.data.encoded import is_encoded
from attar.data.labelled.load import load_labelled
from attar.data.text import load_text
from attar.errors import ConfigError, DataError


def test_a_plain_source_stands_for_its_data() -> None:
    rows = Dataset.from_dict({"text": ["one"]})
    assert Data.of("folder") == Data("folder")
    assert Data.of(rows).source is rows
    assert Data.of(Data("folder", text_column="body")).text_column == "body"


@pytest.mark.parametrize("source", ["", None, 3, ["a text"]])
def test_what_is_no_data_is_refused(source: Any) -> None:
    with pytest.raises(ConfigError, match="data must be a file, a folder"):
        Data.of(source)


def test_a_path_may_begin_at_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("train-00000-of-00001.parquet", "tokenizer_config.json"):
        (tmp_path / name).touch()
    assert Data("~").path == tmp_path
    assert is_encoded("~")
    assert Data("~/none").path is None


@pytest.mark.parametrize("load", [load_text, load_labelled])
def test_what_names_no_file_gets_one_sentence(tmp_path: Path, load: Any) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name, said in (
        ("-", "no file or folder '-'"),
        ("~nobody-of-this-name/a.csv", "no file or folder"),
        ("a" * 5000 + ".csv", "no file or folder"),
        ("/dev/null", "found /dev/null, which can be read only once"),
        (str(tmp_path / "pipe.csv"), "pipe.csv, which can be read only once"),
        (str(tmp_path), "no file of a known kind|can be read only once"),
    ):
        with pytest.raises(DataError, match=said):
            load(name)


@pytest.mark.parametrize("load", [load_text, load_labelled])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_file_that_is_not_utf_8_is_to_be_converted(tmp_path: Path, load: Any, name: str) -> None:
    (tmp_path / name).write_text('{"text": "a", "label": "b"}\n' * 9, encoding="utf-16")
    with pytest.raises(DataError, match=r"; convert the file to UTF-8$"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_table_of_blank_lines_has_no_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n \n")
    with pytest.raises(DataError, match=r"expected rows in .*found only blank lines"):
        load_labelled(tmp_path / name)
