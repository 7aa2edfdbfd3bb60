"""Labels are what their writer meant, whichever format they come in."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from attar.data.data import Data
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task, TaskKind
from attar.errors import DataError

NAN = float("nan")
READ: list[tuple[str, list[Any], TaskKind, tuple[str, ...]]] = [
    ("csv parquet jsonl", [1.0, None, 0.0], "single_label", ("0", "1")),
    ("csv parquet jsonl", [1.0, 2.0, 1.0], "regression", ()),  # nothing missing: meant as floats
    ("csv parquet jsonl", [1.0, 2.5, None], "regression", ()),
    ("csv parquet jsonl", ["01", "1", "10"], "single_label", ("01", "1", "10")),
    ("csv parquet jsonl", ["1_0", "10", "10"], "single_label", ("10", "1_0")),
    ("csv parquet jsonl", ["+1", "-1", "-1"], "single_label", ("+1", "-1")),
    ("csv parquet jsonl", ["๑", "๒", "๑"], "single_label", ("๑", "๒")),
    ("csv parquet jsonl", ["1.1", "1.10", "1.1"], "single_label", ("1.1", "1.10")),
    ("csv", ["+1", "-0.5", "01"], "regression", ()),
    ("csv", ["1", "nan", "0"], "single_label", ("0", "1")),
    ("csv parquet jsonl", ["None", "NA", "null"], "single_label", ("NA", "None", "null")),
    ("parquet jsonl", [[0, 1, 1], [1, 0, 0], [0, 0, 0]], "multi_label", ("0", "1", "2")),
    ("parquet jsonl", [[False, True], [True, False], [False, False]], "multi_label", ("0", "1")),
    ("parquet jsonl", [[0, 1], [1], [0]], "multi_label", ("0", "1")),
]


@pytest.mark.parametrize(("formats", "labels", "kind", "names"), READ)
def test_every_format_gives_the_same_task(
    tmp_path: Path, formats: str, labels: list[Any], kind: TaskKind, names: tuple[str, ...]
) -> None:
    texts = [f"row {i} of these" + " and on" * (i % 2) for i in range(60)]
    table = pd.DataFrame({"text": texts, "label": labels * 20})
    write = {
        "csv": lambda file: table.to_csv(file, index=False),
        "parquet": table.to_parquet,
        "jsonl": lambda file: table.to_json(file, orient="records", lines=True),
    }
    for name in formats.split():
        file = tmp_path / f"a.{name}"
        write[name](file)
        data, task = load_labelled(file)
        assert task == Task(kind, names), name
        if kind == "single_label":
            given = dict(zip(texts, table["label"], strict=True))
            assert all(
                row["label"] == -100 or str(task.labels[row["label"]]) == str(given[row["text"]])
                for row in data["test"]
                if not isinstance(given[row["text"]], float)
            )


def test_a_multi_hot_label_is_the_classes_that_it_marks() -> None:
    texts = [f"row {i}" for i in range(40)]
    rows = Dataset.from_dict({"text": texts, "label": [[0, 1, 1], [1, 0, 0]] * 20})
    data, _ = load_labelled(rows)
    for row in data["train"]:
        assert row["label"] == ([0] if int(row["text"].split()[1]) % 2 else [1, 2])
    names = Features(text=Value("string"), label=List(ClassLabel(names=["a", "b"])))
    listed = Dataset.from_dict({"text": texts, "label": [[0, 1], [1, 0]] * 20}, features=names)
    assert sorted(load_labelled(listed)[0]["train"][0]["label"]) == [0, 1]


def test_numbers_that_pandas_left_as_nan_are_no_labels() -> None:
    texts = [f"row {i}" for i in range(60)]
    rows = Dataset.from_dict({"text": texts, "label": [NAN, 1.0, 0.0] * 20})
    data, task = load_labelled(rows)
    assert task == Task("single_label", ("0", "1"))
    assert data["train"]["label"][:].count(-100) == 20


def test_a_folder_may_mix_formats(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": [f"row {i}" for i in range(60)], "label": [0, 1] * 30})
    table.to_csv(tmp_path / "train.csv", index=False)
    table.to_json(tmp_path / "test.jsonl", orient="records", lines=True)
    assert load_labelled(tmp_path)[0]["test"]["label"][:] == [0, 1] * 30


SOFT = [[0.0, 0.3], [1.0, 0.0]] * 20
REFUSED: list[tuple[list[Any], TaskKind | None, str]] = [
    (SOFT, None, "0.3.*each of 2 classes has 0 or 1"),
    ([[1.0, 0.0], [1.0]] * 20, "multi_label", "each of 2 classes has 0 or 1"),
    (["1_0", "2"] * 20, "regression", "1_0.*not a number"),
    ([float("inf"), 2.5] * 20, None, "inf.*not finite"),
    ([float("inf"), 2.0] * 20, "single_label", "inf is not a class"),
]


@pytest.mark.parametrize(("labels", "task", "message"), REFUSED)
def test_labels_that_are_none_of_the_task_are_refused(
    labels: list[Any], task: TaskKind | None, message: str
) -> None:
    rows = Dataset.from_dict({"text": [f"row {i} here" for i in range(40)], "label": labels})
    with pytest.raises(DataError, match=message):
        load_labelled(Data(rows), task=task)


def test_lists_written_as_text_are_refused(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": [f"row {i}" for i in range(40)], "label": [[0, 1], [1, 0]] * 20})
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=r"such as '\[0, 1\]'; save the rows as .jsonl or"):
        load_labelled(tmp_path / "a.csv")
