"""Published files, read and written in every format."""

from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from attar.data.segments import FORMATS, Report, Segmented, read_segments, write_segments

FILES = {
    "wisesight": ("wisesight/wisesight-1000-samples-tokenised.label", 993),
    "pud": ("ud/th_pud-ud-test.conllu.gz", 1000),
    "tud-train": ("ud/th_tud-ud-train.conllu.gz", 2902),
    "tud-dev": ("ud/th_tud-ud-dev.conllu.gz", 362),
    "tud-test": ("ud/th_tud-ud-test.conllu.gz", 363),
    "talpco": ("talpco/data_tha-token.txt", 1372),
    "best": ("best/news.txt.gz", 2000),
}


@cache
def read(path: Path, count: int) -> list[Segmented]:
    """The first sentences of a file, which every format is tried on."""
    return list(islice(read_segments(path), count))


def some_rows(shared_data: Path, name: str, *, limit: int | None = None) -> list[Segmented]:
    file, count = FILES[name]
    path = shared_data / "thai" / file
    if not path.is_file():
        pytest.skip(f"{file} is not in the shared data")
    return read(path, count)[:limit]


def require_same(rows: list[Segmented], name: str, folder: Path) -> None:
    path = folder / f"rows{FORMATS[name].suffixes[0]}"
    report = Report()
    write_segments(rows, path, format=name, report=report)
    back = list(read_segments(path, format=name, report=report))
    assert [(row.text, row.cuts) for row in back] == [(row.text, row.cuts) for row in rows]
    assert not report.warnings


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"lines"}))
def test_some_of_each_corpus_in_every_format(name: str, shared_data: Path, tmp_path: Path) -> None:
    rows = [row for file in FILES for row in some_rows(shared_data, file, limit=30)]
    require_same(rows, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", sorted({*FORMATS} - {"lines"}))
def test_every_corpus_in_every_format(
    name: str, file: str, shared_data: Path, tmp_path: Path
) -> None:
    rows = some_rows(shared_data, file)
    assert len(rows) == FILES[file][1]
    require_same(rows, name, tmp_path)


def test_the_texts_of_wisesight_are_those_of_its_raw_file(shared_data: Path) -> None:
    path, report = shared_data / "thai" / FILES["wisesight"][0], Report()
    rows = list(read_segments(path, report=report))
    raw = path.with_suffix(".txt")
    assert [row.text for row in rows] == raw.read_text(encoding="utf-8").split("\n")[:993]
    assert sum(len(row.tokens) for row in rows) == 22_730
    assert report.counts == {"empty words that were dropped": 4}


def test_the_words_of_universal_dependencies(shared_data: Path) -> None:
    path = shared_data / "thai" / FILES["pud"][0]
    report = Report()
    rows = list(read_segments(path, report=report))
    assert not report.warnings  # no text was told otherwise than by # text
    words = [token for row in rows for token in row.tokens if token != " "]
    assert (len(rows), len(words)) == (1000, 22_330)
    assert rows[0].meta == {"id": "n01001011"}


def test_the_blemishes_of_best_are_counted(shared_data: Path) -> None:
    path = shared_data / "thai" / "best" / "article.txt.gz"
    if not path.is_file():
        pytest.skip("BEST is not in the shared data")
    report = Report()
    rows = list(islice(read_segments(path, report=report), 1600))
    assert report.counts["byte order marks that were dropped"] == 2
    assert report.counts["lines that end in CR LF"] == 1600
    assert not any("<NE>" in row.text or "\ufeff" in row.text for row in rows)
    assert rows[2].meta == {"spans": [[0, 16, "NE"]]}
    assert rows[2].text == "ไพสิฐ พาณิชย์กุล"


def test_spaces_of_talpco_come_from_its_texts(shared_data: Path) -> None:
    path = shared_data / "thai" / FILES["talpco"][0]
    report = Report()
    rows = list(read_segments(path, report=report))
    words = sum(not token.isspace() for row in rows for token in row.tokens)
    assert (len(rows), words) == (1372, 10_966)
    assert report.counts["sentences whose text has other words"] == 4
