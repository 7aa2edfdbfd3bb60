"""Labelled data in, one layout out: nothing lost or leaked, one sentence for what does not fit."""

import ast
import gzip
import json
import logging
import math
import re
import sysconfig
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from hypothesis import given
from hypothesis import strategies as st

from attar.data.data import Data
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task, TaskKind
from attar.data.text import SPLITS, load_text
from attar.errors import ConfigError, DataError

ROWS = [(f'"{word}" it is, {i}', word) for i in range(30) for word in ("good", "bad")]
SQUAD = {
    "question": [f"who is {i}?" for i in range(40)],
    "context": [f"Number {i} is Ann {i}." for i in range(40)],
    "answers": [
        {"text": [f"Ann {i}"], "answer_start": [f"Number {i} is Ann {i}.".index("Ann")]}
        for i in range(40)
    ],
}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def columns(**found: list[Any]) -> Dataset:
    return Dataset.from_dict(found)


def pooled(data: DatasetDict, column: str = "text") -> list[Any]:
    return [value for name in SPLITS for value in data[name][column]]


def named(data: DatasetDict, task: Task) -> list[tuple[str, str]]:
    return [(r["text"], task.labels[r["label"]]) for name in SPLITS for r in data[name]]


def split(train: Dataset, **others: Dataset) -> DatasetDict:
    return DatasetDict({"train": train, "validation": train, "test": train} | others)


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("names", [None, "index sentence label", "no opinion verdict"])
@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.csv", "a.csv.gz"])
def test_the_rows_of_a_table_come_back(tmp_path: Path, name: str, names: str | None) -> None:
    mark, quote = ("\t", "") if ".tsv" in name else (",", '"')
    first = [names.replace(" ", mark)] if names else []
    lines = []
    for i, (text, label) in enumerate(ROWS):
        text = quote + (text.replace('"', '""') if quote else text) + quote
        lines.append(mark.join([*([str(i)] if names else []), text, label]))
    file = write(tmp_path / name, "\n".join([*first, *lines]) + "\n")
    odd = names is not None and "verdict" in names
    options = {"text_column": "opinion", "label_column": "verdict"} if odd else {}
    data, task = load_labelled(Data(file, **options))
    assert task == Task("single_label", ("bad", "good"))
    assert sorted(named(data, task)) == sorted(ROWS)
    assert list(data) == list(SPLITS)
    for rows in data.values():
        assert rows.column_names == ["text", "label", "source"]
        assert rows["source"][:] == list(range(len(rows)))


def test_a_header_of_unknown_names_is_no_row(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", "opinion\tverdict\n" + "x y\t1\nz\t0\n" * 9)
    with pytest.raises(DataError, match=r"found the columns opinion, verdict; name it with"):
        load_labelled(file)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_files_of_splits_are_those_splits(tmp_path: Path, kind: str) -> None:
    for name, start in (("train", 0), ("dev", 20), ("test", 40)):
        part = columns(
            premise=[text for text, _ in ROWS[start : start + 20]],
            hypothesis=["so it is"] * 20,
            label=[int(label == "good") for _, label in ROWS[start : start + 20]],
        )
        path = str(tmp_path / f"{name}.{kind}")
        part.to_json(path) if kind == "jsonl" else part.to_parquet(path)
    data, task = load_labelled(tmp_path)
    assert task == Task("single_label", ("0", "1"), pair=True)
    assert pooled(data) == [text for text, _ in ROWS]
    assert {*pooled(data, "text_pair")} == {"so it is"}


def test_splits_of_glue_without_labels_are_cut_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = "index\tsentence1\tsentence2\tlabel\n"
    train = "".join(f"{i}\tone {i}\ttwo\t{'yn'[i % 2]}\n" for i in range(200))
    write(tmp_path / "train.tsv", head + train)
    write(tmp_path / "dev.tsv.gz", head + "0\ta\tb\ty\n1\tc\td\tn\n")
    write(tmp_path / "test.tsv", "index\tsentence1\tsentence2\n0\te\tf\n")
    with caplog.at_level(logging.WARNING):
        data, task = load_labelled(tmp_path)
    assert task == Task("single_label", ("n", "y"), pair=True)
    assert {name: len(data[name]) for name in SPLITS} == {
        "train": 190,
        "validation": 2,
        "test": 10,
    }
    assert "left out 1 rows of test" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_dates_are_names(tmp_path: Path, kind: str) -> None:
    days = [f"202{i % 2}-01-01" for i in range(40)]
    values = [date.fromisoformat(day) for day in days] if kind == "parquet" else days
    table = columns(text=[f"text {i}" for i in range(40)], label=values)
    getattr(table, {"jsonl": "to_json"}.get(kind, f"to_{kind}"))(str(tmp_path / f"a.{kind}"))
    task = load_labelled(tmp_path)[1]
    assert task == Task("single_label", ("2020-01-01", "2021-01-01"))


def test_load_text_reads_tsv(tmp_path: Path) -> None:
    text = '"quoted" and, well\tx\nNA\ty\n' + "".join(f"line {i}\tz\n" for i in range(40))
    data = load_text(write(tmp_path / "a.tsv.gz", "text\tother\n" + text))
    assert sorted(pooled(data)) == sorted(line.split("\t")[0] for line in text.splitlines())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_lines_may_end_in_any_way(tmp_path: Path, end: str, kind: str) -> None:
    cell = "," if kind == "csv" else "\t"
    lines = [f"text{cell}label", *(f"line {i}{cell}{'yn'[i % 2]}" for i in range(40))]
    file = tmp_path / f"a.{kind}"
    file.write_bytes((end.join(lines) + end).encode())
    data, task = load_labelled(file)
    assert task.labels == ("n", "y")
    assert sorted(pooled(data)) == sorted(f"line {i}" for i in range(40))


def test_a_word_that_is_no_text_is_refused() -> None:
    rows = columns(words=[["a", "b"], ["c", None]] * 20, tags=[[0, 1], [1, 0]] * 20)
    with pytest.raises(DataError, match="expected text for every word of the train split"):
        load_labelled(Data(rows, text_column="words", label_column="tags"))


@pytest.mark.parametrize("text", [0, 1.5, b"a", date(2020, 1, 1)])
def test_what_is_no_text_is_refused(text: Any) -> None:
    rows = columns(text=[text] * 40, label=["y", "n"] * 20)
    with pytest.raises(DataError, match=f"expected text .* found {type(text).__name__}"):
        load_labelled(rows)


@pytest.mark.parametrize("seed", [-1, "x", None])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    rows = columns(text=[f"line {i}" for i in range(40)], label=["y", "n"] * 20)
    with pytest.raises(ConfigError, match="seed must be a whole number"):
        load_labelled(rows, limit_labels=9, seed=seed)


@pytest.mark.parametrize("limit", [2.5, "3"])
def test_a_limit_of_labels_is_a_whole_number(limit: Any) -> None:
    rows = columns(text=[f"line {i}" for i in range(40)], label=["y", "n"] * 20)
    with pytest.raises(ConfigError, match="limit_labels must be a whole number"):
        load_labelled(rows, limit_labels=limit)


def test_the_shared_data_loads(shared_data: Path) -> None:
    counts = {"sst2": 2, "agnews/dev.tsv.gz": 4, "rte": 2, "polarity": 2, "subjectivity": 2}
    for name, classes in counts.items():
        data, task = load_labelled(shared_data / name)
        assert (task.kind, len(task.labels)) == ("single_label", classes)
        assert task.pair is (name == "rte")
        assert sum(map(len, data.values())) > 2500


# ----------------------------------------------------------------------------------- kinds of task

TEXTS = [f"some words {i}" for i in range(40)]
KINDS: list[tuple[TaskKind, dict[str, list[Any]], tuple[str, ...]]] = [
    ("single_label", {"label": ["a", "b"] * 20}, ("a", "b")),
    ("single_label", {"labels": [10, 9] * 20}, ("9", "10")),
    ("single_label", {"answer": [True, False] * 20}, ("false", "true")),
    ("regression", {"score": [i / 8 for i in range(40)]}, ()),
    ("token_classification", {"tags": [["O", "B-x", "I-x"]] * 40}, ("B-x", "I-x", "O")),
    ("token_classification", {"labels": [[2, 0, 1]] * 40}, ("0", "1", "2")),
    ("multi_label", {"labels": [["red"], ["red", "blue"], [], ["blue"]] * 10}, ("blue", "red")),
    ("multi_label", {"labels": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]] * 10}, ("0", "1")),
]


@pytest.mark.parametrize(("kind", "labels", "names"), KINDS)
def test_the_task_is_read_off_the_labels(
    kind: TaskKind, labels: dict[str, list[Any]], names: tuple[str, ...]
) -> None:
    data, task = load_labelled(columns(text=TEXTS, **labels))
    assert task == Task(kind, names)
    texts = pooled(data, "words" if kind == "token_classification" else "text")
    back = {" ".join(t) if isinstance(t, list) else t: y for t, y in
            zip(texts, pooled(data, "label"), strict=True)}  # fmt: skip
    for text, given_label in zip(TEXTS, next(iter(labels.values())), strict=True):
        found = back[text]
        if kind == "regression":
            assert found == given_label
        elif isinstance(given_label, list) and given_label and isinstance(given_label[0], float):
            assert sorted(found) == [i for i, v in enumerate(given_label) if v]
        elif isinstance(given_label, list):
            assert [names[i] for i in found] == [str(v) for v in given_label]
        else:
            assert names[found] == str(given_label).lower()


def test_words_and_class_names_of_the_hub_are_kept() -> None:
    tags = ClassLabel(names=["O", "B-PER"])
    features = Features({"tokens": List(Value("string")), "ner_tags": List(tags)})
    rows = {"tokens": [[f"Ann{i}", "ran"] for i in range(40)], "ner_tags": [[1, 0]] * 40}
    data, task = load_labelled(Dataset.from_dict(rows, features=features))
    assert task == Task("token_classification", ("O", "B-PER"))
    assert data["train"][0]["label"] == [1, 0]
    assert data["train"].column_names == ["words", "label", "source"]


def test_questions_answers_and_records_of_answers_are_one() -> None:
    records = [
        [{"text": a["text"][0], "answer_start": a["answer_start"][0]}] for a in SQUAD["answers"]
    ]
    data, task = load_labelled(columns(**SQUAD))
    other, _ = load_labelled(columns(**SQUAD | {"answers": records}))
    assert task == Task("question_answering", pair=True)
    assert data["train"].column_names == ["question", "context", "answers", "source"]
    assert sorted(pooled(data, "question")) == sorted(SQUAD["question"])
    for name in SPLITS:
        assert data[name]["answers"][:] == other[name]["answers"][:]


@pytest.mark.parametrize(("kind", "labels", "names"), KINDS)
def test_what_was_loaded_loads_again(
    kind: TaskKind, labels: dict[str, list[Any]], names: tuple[str, ...]
) -> None:
    data, task = load_labelled(columns(text=TEXTS, **labels), limit_labels=10)
    again, _ = load_labelled(data, task=task.kind)
    if kind == "regression":
        data, again = ([str(v) for v in pooled(d, "label")] for d in (data, again))
        assert data == again
    else:
        assert {k: v[:] for k, v in data.items()} == {k: v[:] for k, v in again.items()}


@pytest.mark.parametrize(("kind", "labels", "names"), KINDS)
def test_a_task_survives_storage(kind: TaskKind, labels: Any, names: tuple[str, ...]) -> None:
    task = Task(kind, names, pair=True)
    stored = json.loads(json.dumps(task.to_dict()))
    assert Task(**stored | {"labels": tuple(stored["labels"])}) == task


# -------------------------------------------------------------------------------- cuts and labels


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xy")), min_size=30))
def test_equal_texts_stay_together_and_nothing_is_lost(rows: list[tuple[str, str]]) -> None:
    rows = [*rows, *((f"own {label} {i}", label) for i in range(9) for label in "xy")]
    data, task = load_labelled(columns(text=[t for t, _ in rows], label=[y for _, y in rows]))
    assert sorted(named(data, task)) == sorted(rows)
    texts = [set(data[name]["text"]) for name in SPLITS]
    assert sum(map(len, texts)) == len(set().union(*texts))


def test_neither_order_nor_seed_moves_a_text_to_another_split() -> None:
    """A student with another seed is not scored on texts that its teacher learnt."""
    rows = columns(text=[f"t {i}" for i in range(100)], label=["a", "b"] * 50)
    backwards = rows.select(range(99, -1, -1))
    first, backward, reseeded = (
        set(load_labelled(r, seed=s)[0]["test"]["text"])
        for r, s in ((rows, 1), (backwards, 1), (rows, 2))
    )
    assert first == backward == reseeded


def test_unlabelled_rows_stay_in_train_alone() -> None:
    for labels, blank in (
        ([0, 1, None, -100] * 10, -100),
        (["p", "q", None, ""] * 10, -100),
        ([0.5, 1.5, None, math.nan] * 10, math.nan),
        ([["a"], ["b"], None, ["a"]] * 10, [-100]),
    ):
        rows = columns(text=TEXTS, label=labels)
        data, _ = load_labelled(split(rows))
        known = sum(str(v) not in ("None", "-100", "", "nan") for v in labels)
        assert {name: len(data[name]) for name in SPLITS} == {
            "train": 40,
            "validation": known,
            "test": known,
        }
        assert data["train"]["source"][:] == list(range(40))
        assert str(data["train"][2]["label"]) == str(blank)
        assert str(blank) not in map(str, data["test"]["label"])
        cut, _ = load_labelled(rows)
        assert str(blank) not in map(str, cut["test"]["label"])
        assert sum(str(v) == str(blank) for v in cut["train"]["label"]) == 40 - known


def test_an_unlabelled_double_leaves_train_with_its_text() -> None:
    data, _ = load_labelled(columns(text=TEXTS * 2, label=["a", "b"] * 20 + [None] * 40))
    assert len(data["test"]) == len(data["validation"]) == 2
    assert len(data["train"]) == 72
    assert -100 not in data["test"]["label"][:]


def test_a_split_of_minus_ones_has_no_labels() -> None:
    train, test = columns(**GOOD), columns(text=["x", "y"], label=[-1, -1])
    numbers = train.remove_columns("label").add_column("label", [0, 1] * 20)  # pyright: ignore
    data, _ = load_labelled(split(numbers, test=test))
    assert "x" not in data["test"]["text"]
    train = columns(text=TEXTS, label=[i / 4 - 1 for i in range(40)])
    test = columns(text=["x", "y"], label=[-1.0, -1.0])
    data, _ = load_labelled(split(train, test=test))
    assert "x" not in data["test"]["text"]
    assert data["validation"]["label"][0] == -1.0


def test_few_labels_are_spread_and_grow() -> None:
    labels = ["a"] * 200 + ["b"] * 100 + ["c"] * 3
    rows = columns(text=[f"t {i}" for i in range(303)], label=labels)
    kept: list[set[int]] = []
    for limit in (3, 30, 90, 303, 999):
        data, task = load_labelled(split(rows), limit_labels=limit)
        found = data["train"]["label"][:]
        known = {i for i, label in enumerate(found) if label != -100}
        assert all(task.labels[found[i]] == labels[i] for i in known)
        assert len(known) == min(limit, 303)
        counts = Counter(labels[i] for i in known)
        assert counts["c"] >= 1
        assert abs(counts["b"] - max(1, limit / 3)) <= 2 or limit > 303
        assert not kept or kept[-1] <= known
        kept.append(known)
        assert -100 not in data["test"]["label"][:]
    again, _ = load_labelled(split(rows), limit_labels=30, seed=1)
    assert {i for i, y in enumerate(again["train"]["label"]) if y != -100} != kept[1]
    with pytest.raises(ConfigError, match="at least 3, one a class, found 2"):
        load_labelled(split(rows), limit_labels=2)


def test_few_labels_of_every_kind() -> None:
    for _, labels, _ in KINDS[3:7]:
        data, _ = load_labelled(split(columns(text=TEXTS, **labels)), limit_labels=7)
        known = [
            y for y in data["train"]["label"]
            if not (set(y) <= {-100} and y if isinstance(y, list) else math.isnan(y))
        ]  # fmt: skip
        assert len(known) == 7
    data, _ = load_labelled(split(columns(**SQUAD)), limit_labels=7)
    assert sum(a["answer_start"] != [-100] for a in data["train"]["answers"]) == 7


# ----------------------------------------------------------------------------------------- errors

GOOD = {"text": TEXTS, "label": ["a", "b"] * 20}
CLASSES = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b", "c"])})
BAD: list[tuple[Any, dict[str, Any], str]] = [
    (columns(body=TEXTS, label=["a"] * 40), {}, "text column .* found the columns body, label"),
    (columns(text=TEXTS, y=["a", "b"] * 20), {}, "expected a label column .* columns text, y"),
    (Data(columns(**GOOD), label_column="y"), {},
     r"column 'y' .*columns text, label.*--label-column"),
    (columns(**GOOD), {"task": "question_answering"}, "expected a pair column"),
    (columns(**GOOD), {"task": "regression"}, "labels of regression .* found 'a' in row 1"),
    (columns(text=TEXTS, label=["a"] * 40), {}, "at least two different labels"),
    (columns(text=["x", "y", "z"], label=["a", "a", "b"]), {}, "two different labels.*of 3 rows"),
    (columns(text=TEXTS, label=[0.5] * 40), {}, "at least two different labels"),
    (columns(text=TEXTS, label=[None, ""] * 20), {}, "labels in the train split .* found none"),
    (columns(text=TEXTS, label=[-1, 1] * 20), {}, "found -1 among others .* another name"),
    (columns(text=TEXTS, label=TEXTS), {}, "40 different labels|3\\d different labels"),
    (columns(text=[*TEXTS[:39], " "], label=["a", "b"] * 20), {},
     r"found none in row 40 \(text\); correct .*--skip-empty"),
    (columns(text=[*TEXTS[:37], " ", None, ""], label=["a", "b"] * 20), {}, r"38 .* and 2 others"),
    (Data(columns(content=TEXTS, label=["a", "b"] * 20), text_column="contents"), {},
     "did you mean 'content'"),
    (columns(text=TEXTS, text_pair=[*TEXTS[:39], None], label=["a", "b"] * 20), {}, "text_pair"),
    (Dataset.from_dict({"text": TEXTS, "label": [0, 1] * 20}, features=CLASSES), {}, "none of c;"),
    (columns(text=TEXTS, tags=[["O"] * 3] * 39 + [["B-x"] * 2]),
     {"task": "token_classification"}, r"row 40 .*there are 3 words"),
    (columns(**SQUAD | {"answers": [{"text": ["no"], "answer_start": [0]}] * 40}), {},
     "the context has no 'no' at character 0"),
    (columns(text=TEXTS[:2], label=["a", "b"]), {}, "found 2 different ones; give more rows"),
    (split(columns(**GOOD), test=columns(text=["x"], label=["new"])), {}, "found also new;"),
    (split(columns(**GOOD), test=columns(body=["x"], label=["a"])), {}, "'text' in the test"),
    ("python-stdlib", {}, "python-stdlib:package or python-stdlib:docstring"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "options", "message"), BAD, ids=range(len(BAD)))
def test_what_does_not_fit_is_said(source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_labelled(source, **options)


def test_rows_without_text_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = ["a", "b"] * 20
    written = [text if i % 4 else ("", "  ")[i % 8 == 0] for i, text in enumerate(TEXTS)]
    lines = (f"{text},{label}" for text, label in zip(written, labels, strict=True))
    file = write(tmp_path / "a.csv", "\n".join(["text,label", *lines]))
    with pytest.raises(DataError, match=r"found none in row 1 \(text\) and 9 others"):
        load_labelled(file)
    data, task = load_labelled(Data(file, skip_empty=True))
    assert "left out 10 rows without text of the train split" in caplog.text
    expected = [(t, label) for t, label in zip(written, labels, strict=True) if t.strip()]
    assert sorted(named(data, task)) == sorted(expected)


def test_numbers_are_not_the_text(tmp_path: Path) -> None:
    rows = "\n".join(f"{i}.5,{'ab'[i % 2]}" for i in range(40))
    with pytest.raises(DataError, match=r"column 'text' .* found numbers alone; .*--text-column"):
        load_labelled(write(tmp_path / "a.csv", f"text,label\n{rows}"))


def test_bad_files_are_said(tmp_path: Path) -> None:
    ragged = write(tmp_path / "a.tsv", "text\tlabel\nx\ty\nx\ty\tz\n")
    with pytest.raises(DataError, match=r"2 cells in every line of .*a.tsv.*Row #.* got 3"):
        load_labelled(ragged)
    with pytest.raises(DataError, match="which has no columns"):
        load_labelled(write(tmp_path / "b.txt", "text\n"))
    with pytest.raises(DataError, match="there is no file or folder"):
        load_labelled(tmp_path / "c.tsv")
    with pytest.raises(ConfigError, match="has no configurations"):
        load_labelled(Data(ragged, config="x"))
    with pytest.raises(ConfigError, match="expected a task of"):
        Task("sorting")


# -------------------------------------------------------------------------------- python-stdlib


def test_the_standard_library_is_a_task_without_leaks() -> None:
    data, task = load_labelled("python-stdlib:package")
    assert len(task.labels) == 10
    assert {"asyncio", "email"} <= {*task.labels}
    assert len(set(pooled(data))) == len(pooled(data)) > 4000
    classes = range(len(task.labels))
    shares = {n: np.bincount(data[n]["label"], minlength=10) / len(data[n]) for n in SPLITS}
    for name in ("validation", "test"):
        assert 0.08 < len(data[name]) / len(pooled(data)) < 0.13
        assert {*data[name]["label"]} == {*classes}
        np.testing.assert_allclose(shares[name], shares["train"], atol=0.15)


def test_neither_docstring_nor_code_alone_tells_the_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(sysconfig.get_paths()["stdlib"])
    for name in ("asyncio", "email", "http", "json", "logging", "multiprocessing", "unittest"):
        for file in (root / name).glob("*.py"):
            write(tmp_path / name / file.name, file.read_text())
    everything = "\n".join(file.read_text() for file in tmp_path.rglob("*.py"))
    everything = re.sub(r"\n\s*#.*", "", everything)
    openings = re.sub(r"\n\s*r?[\"']+\s*", '\n"""', everything)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    data, task = load_labelled("python-stdlib:docstring")
    assert task == Task("single_label", ("false", "true"), pair=True)
    codes = [set(data[name]["text_pair"]) for name in SPLITS]
    assert sum(map(len, codes)) == len(set().union(*codes)) > 300
    for rows in data.values():
        by_code: dict[str, list[tuple[int, str]]] = {}
        for text, code, label in zip(rows["text"], rows["text_pair"], rows["label"], strict=True):
            by_code.setdefault(code, []).append((label, text))
        for code, pair in by_code.items():
            (no, other), (yes, own) = sorted(pair)
            assert (no, yes) == (0, 1)
            assert other != own
            assert len(code) == 4000 or ast.get_docstring(ast.parse(code).body[0]) is None
            head = code.split("\n", 1)[0]
            assert f'{head}\n"""{own[:9]}' in openings or not head.endswith(":")


# ---------------------------------------------------------------------------- a teacher's task

VERDICT = Task("single_label", ("good", "bad"))  # not in the order of the alphabet


def test_rows_without_labels_are_of_the_teachers_task(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}) for text, _ in ROWS]
    file = write(tmp_path / "a.jsonl", "\n".join(lines))
    data, task = load_labelled(file, known=VERDICT)
    assert task == VERDICT
    assert sorted(pooled(data)) == sorted(text for text, _ in ROWS)
    assert {*pooled(data, "label")} == {-100}
    labelled, _ = load_labelled(columns(text=[t for t, _ in ROWS], label=[y for _, y in ROWS]))
    for name in SPLITS:  # cut as they are where there are labels
        assert data[name]["text"][:] == labelled[name]["text"][:]
        assert data[name].column_names == labelled[name].column_names
    with pytest.raises(DataError, match=r"expected a label column in .*found the columns text"):
        load_labelled(file)


@pytest.mark.parametrize(
    ("known", "column", "blank"),
    [
        (Task("regression"), "text", math.nan),
        (Task("multi_label", ("a", "b")), "text", [-100]),
        (Task("token_classification", ("O", "X")), "words", [-100, -100]),
        (Task("question_answering", pair=True), "question", {"text": [""], "answer_start": [-100]}),
    ],
    ids=lambda value: value.kind if isinstance(value, Task) else None,
)
def test_every_kind_of_task_has_rows_without_labels(known: Task, column: str, blank: Any) -> None:
    rows: dict[str, list[Any]] = {"text": [f"text {i}" for i in range(60)]}
    if known.kind == "token_classification":
        rows = {"tokens": [["word", str(i)] for i in range(60)]}
    if known.kind == "question_answering":
        rows = {name: SQUAD[name] for name in ("question", "context")}
    data, task = load_labelled(columns(**rows), known=known)
    assert task == known
    assert pooled(data, column)
    label = "answers" if known.kind == "question_answering" else "label"
    assert all(value == blank or value != value for value in pooled(data, label))


def test_labels_of_the_other_splits_are_numbered_as_the_teachers() -> None:
    train = columns(text=[f"text {i}" for i in range(40)])
    scored = columns(text=["fine", "poor", "odd"], label=["good", "bad", None])
    data, task = load_labelled(split(train, validation=scored, test=train), known=VERDICT)
    assert task == VERDICT
    assert data["validation"]["label"][:] == [0, 1]
    assert {*data["train"]["label"], *data["test"]["label"]} == {-100}
    assert data["test"]["text"][:] == train["text"][:]
    numbers = columns(text=["fine", "poor"], label=[0, 1])
    data, _ = load_labelled(split(train, validation=numbers, test=numbers), known=VERDICT)
    assert data["test"]["label"][:] == [0, 1]
    odd = columns(text=["fine", "odd"], label=["good", "odd"])
    with pytest.raises(DataError, match=r"of the teacher \(good, bad\) in the test .* also odd;"):
        load_labelled(split(train, validation=scored, test=odd), known=VERDICT)


@pytest.mark.parametrize("none", [None, -1, -100])
def test_a_column_of_labels_that_says_nothing_is_none(none: Any) -> None:
    data, task = load_labelled(
        columns(text=[f"text {i}" for i in range(40)], label=[none] * 40), known=VERDICT
    )
    assert task == VERDICT
    assert {*pooled(data, "label")} == {-100}
    assert len(pooled(data)) == 40


def test_lists_that_say_nothing_are_none() -> None:
    known = Task("multi_label", ("a", "b"))
    rows = columns(text=[f"text {i}" for i in range(40)], label=[[-100]] * 40)
    data, task = load_labelled(rows, known=known)
    assert task == known
    assert all(label == [-100] for label in pooled(data, "label"))


def test_pairs_without_labels_are_pairs(tmp_path: Path) -> None:
    lines = ["premise,hypothesis", *(f"a {i},b {i}" for i in range(40))]
    data, task = load_labelled(write(tmp_path / "a.csv", "\n".join(lines)), known=VERDICT)
    assert task == Task("single_label", VERDICT.labels, pair=True)
    assert data["train"].column_names == ["text", "text_pair", "label", "source"]


def test_labels_that_are_there_tell_the_task_as_ever() -> None:
    rows = columns(text=[t for t, _ in ROWS], label=[y for _, y in ROWS])
    data, task = load_labelled(rows, known=VERDICT)
    plain, same = load_labelled(rows)
    assert task == same == Task("single_label", ("bad", "good"))
    assert {name: data[name][:] for name in SPLITS} == {name: plain[name][:] for name in SPLITS}
    few = columns(text=[t for t, _ in ROWS], label=[*(y for _, y in ROWS[:-9]), *[None] * 9])
    assert load_labelled(few, known=VERDICT)[1] == task


def test_a_task_that_is_not_the_teachers_is_refused() -> None:
    with pytest.raises(ConfigError, match="task must be single_label, as the teacher's is; found"):
        load_labelled(columns(text=["a"]), task="regression", known=VERDICT)
