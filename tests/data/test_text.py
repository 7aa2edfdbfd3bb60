"""Text in, documents and blocks out: nothing lost, nothing leaked, one sentence for bad input."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import datasets.config
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from attar.data.data import Data
from attar.data.text import ROW_CHARACTERS, SPLITS, load_text
from attar.errors import ConfigError, DataError

LINES = "".join(f"line {i}: the quick brown fox, ü and 字\r\n" for i in range(4000))
CODE = "def f(x):\n    if x > 10:\n        return x * 2\n    return 0\n\n\n" * 30


def frame(texts: list[str]) -> Dataset:
    return Dataset.from_dict({"text": texts})


def write(path: Path, text: str | bytes) -> Path:
    """Write beside `path` as its suffix says: compressed with .gz, as it is otherwise."""
    raw = text if isinstance(text, bytes) else text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def joined(data: DatasetDict) -> str:
    return "".join("".join(data[name]["text"]) for name in SPLITS)


# ------------------------------------------------------------------------------- one text file


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    "text",
    [
        LINES,
        LINES[:900],
        "x" * 50_000,
        "\ufeff" + "\n" * 40_000,
        "a\n" + "b" * 40_000 + "\nc\n" + "d" * 9_000,
    ],
    ids=["lines", "short", "one line", "blank lines", "long line"],
)
def test_rows_of_a_text_file_give_it_back(tmp_path: Path, name: str, text: str) -> None:
    data = load_text(write(tmp_path / name, text))
    assert joined(data) == text
    assert list(data) == list(SPLITS)
    for rows in data.values():
        assert rows.column_names == ["text"]
        assert max(map(len, rows["text"])) <= ROW_CHARACTERS


def test_a_text_file_is_cut_at_line_ends_and_by_position(tmp_path: Path) -> None:
    data = load_text(write(tmp_path / "a.txt", LINES))
    assert all(row.endswith("\r\n") for rows in data.values() for row in rows["text"])
    for name, share in zip(SPLITS, (0.9, 0.05, 0.05), strict=True):
        assert len("".join(data[name]["text"])) / len(LINES) == pytest.approx(share, abs=0.002)


# ------------------------------------------------------------------------------------- folders


def test_files_named_after_splits_are_those_splits(tmp_path: Path) -> None:
    write(tmp_path / "train-1.txt", "two\n")
    write(tmp_path / "train-0.txt.gz", "one\n")
    write(tmp_path / "sub" / "Valid.txt", "three\n")
    write(tmp_path / "test_x.jsonl", '{"text": "four"}\n')
    write(tmp_path / "notes.txt", "left out\n")
    write(tmp_path / ".hidden" / "train.txt", "left out\n")
    data = load_text(str(tmp_path))
    assert {name: data[name]["text"][:] for name in SPLITS} == {
        "train": ["one\n", "two\n"],
        "validation": ["three\n"],
        "test": ["four"],
    }


def test_other_names_are_pooled(tmp_path: Path) -> None:
    texts = {f"{word}{i}.txt": f"{word} {i}\n" for i in range(20) for word in ("value", "testify")}
    for name, text in texts.items():
        write(tmp_path / name, text)
    data = load_text(tmp_path)
    assert sorted(t for rows in data.values() for t in rows["text"]) == sorted(texts.values())
    assert {name: len(data[name]) for name in SPLITS} == {"train": 36, "validation": 2, "test": 2}


def test_long_files_of_a_pool_are_cut_each_by_position(tmp_path: Path) -> None:
    long = {"a.txt": LINES, "b.txt": LINES.upper()}
    for name, text in long.items():
        write(tmp_path / name, text)
    data = load_text(tmp_path)
    for name in SPLITS:
        whole = "".join(data[name]["text"])
        assert whole[: len(whole) // 2].upper() == whole[len(whole) // 2 :]


def test_only_the_missing_split_is_cut(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", LINES)
    write(tmp_path / "dev.txt", "held out\n")
    data = load_text(tmp_path)
    assert data["validation"]["text"][:] == ["held out\n"]
    test = "".join(data["test"]["text"])
    assert "".join(data["train"]["text"]) + test == LINES
    assert len(test) / len(LINES) == pytest.approx(0.05, abs=0.001)


# -------------------------------------------------------------------------------------- tables


def parquet(path: Path, rows: list[dict[str, object]]) -> None:
    Dataset.from_list(rows).to_parquet(path)


def jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    write(path, "".join(json.dumps(row) + "\n" for row in rows))


def csv(path: Path, rows: list[dict[str, object]]) -> None:
    Dataset.from_list(rows).to_csv(path, index=False)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("writer", [parquet, jsonl, csv])
def test_tables_give_their_text(
    tmp_path: Path, writer: Callable[[Path, list[dict[str, object]]], None], zipped: bool
) -> None:
    texts = [*(f'document {i}\nü, "quoted"' for i in range(40)), "NA", "null"]
    # `datasets` cannot unpack a file with brackets in its name, but can read one.
    path = tmp_path / f"odd {'*' if zipped else '[*]'} name.{writer.__name__}"
    writer(path, [{"label": i, "body": text} for i, text in enumerate(texts)])
    if zipped:
        path = write(path.with_name(path.name + ".gz"), path.read_bytes())
    data = load_text(Data(path, text_column="body"))
    assert sorted(t for rows in data.values() for t in rows["text"]) == sorted(texts)
    assert all(rows.column_names == ["text"] for rows in data.values())


def test_rows_without_text_are_left_out() -> None:
    texts = [f"document {i}" for i in range(10)]
    data = load_text(frame([*texts, None]))  # pyright: ignore[reportArgumentType]
    assert sorted(t for rows in data.values() for t in rows["text"]) == texts


# ------------------------------------------------------------------------------- Python objects


@given(
    texts=st.lists(st.text(max_size=3), min_size=1, max_size=60),
    order=st.randoms(use_true_random=False),
)
def test_drawn_splits_hold_each_document_once_and_ignore_the_order(texts, order) -> None:
    if len(set(texts)) < 3:
        with pytest.raises(DataError, match="too few"):
            load_text(frame(texts))
        return
    data = load_text(frame(texts))
    assert sorted(t for rows in data.values() for t in rows["text"]) == sorted(texts)
    distinct = [set(data[name]["text"]) for name in SPLITS]
    assert sum(map(len, distinct)) == len(set(texts))  # doubles share a split
    again = load_text(frame(order.sample(texts, len(texts))))
    assert [set(again[name]["text"]) for name in SPLITS] == distinct


def test_splits_given_under_other_names_stay_as_they_are() -> None:
    given_splits = DatasetDict(
        {"training": frame(["a"]), "dev": frame(["b"]), "test": frame(["c"])}
    )
    data = load_text(given_splits)
    assert [data[name]["text"][:] for name in SPLITS] == [["a"], ["b"], ["c"]]


def test_a_single_split_of_any_name_is_the_pool() -> None:
    texts = [str(i) for i in range(30)]
    alone, pool = load_text(DatasetDict({"test": frame(texts)})), load_text(frame(texts))
    assert {k: v["text"][:] for k, v in alone.items()} == {k: v["text"][:] for k, v in pool.items()}


# -------------------------------------------------------------------------------- python-stdlib


def test_the_standard_library_is_split_by_file() -> None:
    data = load_text("python-stdlib")
    texts = {name: data[name]["text"][:] for name in SPLITS}
    everything = [text for rows in texts.values() for text in rows]
    assert len(everything) == len(set(everything)) > 300
    assert Path(json.__file__).read_text() in everything
    assert not any("site-packages" in row[:200] for row in everything)
    sizes = [len(texts[name]) / len(everything) for name in SPLITS]
    assert sizes == pytest.approx([0.9, 0.05, 0.05], abs=0.03)


def test_a_file_keeps_its_split_when_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(200):
        write(tmp_path / "pkg" / f"m{i}.py", f"x = {i}\n")
    write(tmp_path / "pkg" / "double.py", "x = 1\n")
    write(tmp_path / "pkg" / "latin.py", b"# \xe9\n")
    for left_out in ("test/a.py", "pkg/tests/a.py", "site-packages/a.py", "_sysconfigdata_x.py"):
        write(tmp_path / left_out, f"y = '{left_out}'\n")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})

    def places() -> dict[str, str]:
        data = load_text("python-stdlib")
        return {text: str(name) for name, rows in data.items() for text in rows["text"]}

    before = places()
    assert sorted(before) == sorted(f"x = {i}\n" for i in range(200))
    for i in range(50):
        (tmp_path / "pkg" / f"m{i}.py").unlink()
    (tmp_path / "pkg" / "double.py").unlink()
    after = places()
    assert after.items() <= before.items()
    assert len(after) == 150


# ----------------------------------------------------------------------------------- bad input

BAD_FILES: list[tuple[str, bytes, str]] = [
    ("a.pdf", b"%PDF", "known kind.*a.pdf.*parquet"),
    ("a.txt", b"", "empty file"),
    ("a.txt.gz", b"", "empty file"),
    ("a.jsonl", b"", "empty file"),
    ("a.jsonl", b"\n\n", "only blank lines"),
    ("a.csv", b"", "empty file"),
    ("a.txt", b"ol\xe9\n" * 100, "UTF-8.*a.txt.*0xe9 at offset 2"),
    ("a.txt", b"ab", "too few for validation"),
    ("a.jsonl", b'{"text": "a"}\n{"text": \n{"text": "c"}\n', "cannot read .*a.jsonl"),
    ("a.jsonl", b'{"body": "a", "n": 1}\n' * 30, "'text'.*found the columns body, n;"),
    ("a.jsonl", b'{"text": 1}\n' * 30, "expected text in column 'text'.*found int64"),
    ("a.jsonl", b'{"text": ["a"]}\n' * 30, "expected text in column 'text'.*found List"),
    ("a.jsonl", b'{"text": "a"}\n' * 30, "too few for validation and test .documents: train 30"),
    ("a.parquet", b"PAR1 and no more", "cannot read .*a.parquet"),
    ("a.csv", b"text,b\na,b,c\n" * 30, "more cells than its header"),
    ("a.csv", b"text,b\na,b,\n" * 30, "more cells than its header"),
]


@pytest.mark.parametrize(("name", "raw", "message"), BAD_FILES)
def test_a_bad_file_gets_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, raw: bytes, message: str
) -> None:
    path = write(tmp_path / name, raw)
    for source in (path, tmp_path):
        if name == "a.pdf" and source == tmp_path:
            message = "no file of a known kind; give a Hub name"
        with pytest.raises(DataError, match=message) as caught:
            load_text(source)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
        assert caplog.text == ""


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz", "a.csv.gz"])
def test_a_damaged_gzip_is_named(tmp_path: Path, name: str) -> None:
    rows = [f'{{"text": "{os.urandom(10).hex()}"}}' for _ in range(2_000)]
    whole = gzip.compress("\n".join(rows).encode())
    for raw in (whole[:9_000], b"not gzip at all"):
        path = tmp_path / name
        path.write_bytes(raw)
        with pytest.raises(DataError, match=f"cannot read .*{name}"):
            load_text(path)


def test_one_damaged_file_of_many_is_named(tmp_path: Path) -> None:
    for i in range(3):
        jsonl(tmp_path / f"{i}.jsonl", [{"text": f"{i} {j}"} for j in range(20)])
    write(tmp_path / "1.jsonl", '{"text": "a"\n')
    with pytest.raises(DataError, match=r"cannot read .*1\.jsonl"):
        load_text(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./no/such.txt", "no file or folder './no/such.txt'; give a Hub name"),
        ("nothing.jsonl", "no file or folder 'nothing.jsonl'; give a Hub name"),
        ("a/b/c", "no file or folder 'a/b/c'; give a Hub name"),
        ("no-such-owner/no-such-data", "Hub is not asked, as HF_HUB_OFFLINE is set"),
    ],
)
def test_a_missing_source_says_what_was_tried(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_text(source)


def test_a_folder_or_object_without_train_says_so(tmp_path: Path) -> None:
    write(tmp_path / "valid.txt", LINES)
    write(tmp_path / "test.txt", LINES)
    with pytest.raises(DataError, match="only test and validation files"):
        load_text(tmp_path)
    with pytest.raises(DataError, match="named train in the given data set, found a, b"):
        load_text(DatasetDict({"a": frame(["x"]), "b": frame(["y"])}))
    twice = DatasetDict({"train": frame(["x"]), "dev": frame(["y"]), "valid": frame(["z"])})
    with pytest.raises(DataError, match=r"each split once .* found train, dev, valid"):
        load_text(twice)
    with pytest.raises(ConfigError, match="found 'IterableDataset'"):
        load_text(frame(["x"]).to_iterable_dataset())  # pyright: ignore[reportArgumentType]


def test_a_config_belongs_to_the_hub(tmp_path: Path) -> None:
    for source in (write(tmp_path / "a.txt", LINES), "python-stdlib", frame(["a", "b", "c"])):
        with pytest.raises(ConfigError, match="no configurations"):
            load_text(Data(source, config="en"))


# -------------------------------------------------------------------------------- real corpora


def test_the_shared_books_load_by_their_names(shared_data: Path) -> None:
    data = load_text(shared_data / "books")
    with gzip.open(shared_data / "books" / "test.txt.gz", "rb") as file:
        assert "".join(data["test"]["text"]) == file.read().decode()
    assert len(data["train"]) > 20 * len(data["validation"])


def test_a_cache_that_cannot_be_written_is_named_and_not_the_file(tmp_path, monkeypatch):
    (tmp_path / "text.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "closed").write_text("no folder")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "closed" / "datasets")
    with pytest.raises(ConfigError, match="set HF_HOME"):
        load_text(str(tmp_path / "text.jsonl"))
