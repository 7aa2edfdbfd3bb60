"""Files as their authors published them: every row comes back in its split."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task
from attar.data.text import SPLITS
from attar.errors import DataError

FILES = ("train", "valid", "test")
FUNCTIONS = [f"int f{i}(void)\n{{ return {i}; }}" for i in range(24)]
PARTS = (range(0, 24, 2), range(1, 24, 4), range(3, 24, 4))


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(f"{row}\n" for row in rows))


@pytest.fixture
def devign(tmp_path: Path) -> Path:
    rows = [
        {"project": "q", "commit_id": str(i), "target": i // 2 % 2, "func": code}
        for i, code in enumerate(FUNCTIONS)
    ]
    (tmp_path / "function.json").write_text(json.dumps(rows))
    for name, part in zip(FILES, PARTS, strict=True):
        lines(tmp_path / f"{name}.txt", [*part])
    return tmp_path


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    rows = [json.dumps({"func": code, "idx": str(100 + i)}) for i, code in enumerate(FUNCTIONS)]
    lines(tmp_path / "data.jsonl", rows)
    for name, part in zip(FILES, PARTS, strict=True):
        pairs = pairwise(part)
        lines(tmp_path / f"{name}.txt", [f"{100 + a}\t{100 + b}\t{a // 4 % 2}" for a, b in pairs])
    return tmp_path


def test_devign_as_it_was_released(devign: Path) -> None:
    data, task = load_labelled(devign)
    assert task == Task("single_label", ("0", "1"))
    for name, part in zip(SPLITS, PARTS, strict=True):
        assert data[name]["text"][:] == [FUNCTIONS[i] for i in part]
        assert data[name]["label"][:] == [i // 2 % 2 for i in part]


@pytest.mark.parametrize("labels", [(0, 1), (False, True)])
def test_rows_of_code_as_the_hub_has_them(labels: tuple[Any, Any], tmp_path: Path) -> None:
    names = ("false", "true") if labels[1] is True else ("0", "1")
    tables = {}
    for name, part in zip(FILES, PARTS, strict=True):
        target = [labels[i // 2 % 2] for i in part]
        one = Dataset.from_dict(
            {"id": [*part], "func": [FUNCTIONS[i] for i in part], "target": target}
        )
        tables[name] = Dataset.from_dict(
            {"id1": [*part], "func1": one["func"][:], "func2": one["func"][:], "label": target}
        )
        one.to_json(str(tmp_path / f"{name}.jsonl"))
    data, task = load_labelled(tmp_path)
    assert task == Task("single_label", names)
    assert data["test"]["text"][:] == [FUNCTIONS[i] for i in PARTS[2]]
    data, task = load_labelled(DatasetDict(tables))
    assert task == Task("single_label", names, pair=True)
    assert data["test"]["text_pair"][:] == [FUNCTIONS[i] for i in PARTS[2]]


def test_clones_as_they_were_published(clones: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (clones / "test.txt").open("a") as file:
        file.write("100 7 1\n")
    data, task = load_labelled(clones)
    assert task == Task("single_label", ("0", "1"), pair=True)
    for name, part in zip(SPLITS, PARTS, strict=True):
        pairs = [*pairwise(part)]
        found = zip(data[name]["text"], data[name]["text_pair"], strict=True)
        assert [*found] == [(FUNCTIONS[a], FUNCTIONS[b]) for a, b in pairs]
        assert data[name]["label"][:] == [a // 4 % 2 for a, _ in pairs]
    assert "left out 1 pairs" in caplog.text


def test_lines_with_a_label_after_a_mark(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        rows = [f"def {name}{i}():\\n    pass <CODESPLIT> {i % 11}" for i in range(22)]
        lines(tmp_path / f"{name}.txt", rows)
    data, task = load_labelled(tmp_path)
    assert task == Task("single_label", tuple(str(i) for i in range(11)))
    assert data["test"]["text"][:] == [f"def test{i}():\n    pass" for i in range(22)]
    assert data["test"]["label"][:] == [i % 11 for i in range(22)]


def test_the_programs_of_the_shared_data(shared_data: Path) -> None:
    if not (folder := shared_data / "code").is_dir():
        pytest.skip("needs the programs of 66 authors")
    data, task = load_labelled(folder)
    assert sum(map(len, data.values())) == 528 + 132
    assert len(task.labels) == 66
    assert all("\\n" not in text and "\n" in text for text in data["train"]["text"])


def test_what_does_not_fit_is_said(devign: Path, clones: Path) -> None:
    assert devign == clones  # one folder: its function.json is taken first
    for name in ("train", "test", "valid"):
        lines(devign / f"{name}.txt", [1, 24 if name == "valid" else 2])
    with pytest.raises(DataError, match=r"0 to 23, in line 2 of .*valid.txt, found '24'"):
        load_labelled(devign)
    (devign / "function.json").unlink()
    with pytest.raises(DataError, match=r"and 0 or 1 in line 1 of .*train.txt, found '1'"):
        load_labelled(devign)
    lines(devign / "data.jsonl", ['{"func": "f"}'])
    with pytest.raises(DataError, match="expected a column 'idx'"):
        load_labelled(devign)
    lines(devign / "a.txt", ["x <CODESPLIT> 1", "y"])
    with pytest.raises(DataError, match=r"'text <CODESPLIT> label' in every line .* line 2 "):
        load_labelled(devign / "a.txt")
