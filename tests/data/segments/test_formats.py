"""Every format gives back what it was given."""

import gzip
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset, load_from_disk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.data.segments.made_up import AWKWARD, LINE_ENDS, PLAIN, known, lists

from attar.data.segments import (
    FORMATS,
    Report,
    Segmented,
    convert,
    read_segments,
    write_segments,
)
from attar.errors import ConfigError, DataError

#: formats of any text, line ends included
ANY = ("jsonl", "bio", "label-studio", "doccano", "prodigy", "datasets", "bies", "conll2003")
#: those of them with room for offsets that nobody decided on
PARTIAL = ("jsonl", "bio", "label-studio", "doccano", "prodigy", "datasets")
#: formats that keep some characters for themselves
NARROW = tuple(sorted({*FORMATS} - {*ANY, "lines"}))

law = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def path_for(folder: Path, name: str, *, packed: bool = False) -> Path:
    """A new file in a folder, called as its format wants."""
    number = len(list(folder.iterdir()))
    return folder / f"rows{number}{FORMATS[name].suffixes[0]}{'.gz' if packed else ''}"


def there_and_back(rows: list[Segmented], name: str, folder: Path) -> list[Segmented]:
    path = path_for(folder, name)
    write_segments(rows, path, format=name)
    return list(read_segments(path, format=name))


AT_THE_EDGES = [
    Segmented("\ufeffก\ufeff", (1, 2)),
    Segmented("  ก  ข  ", (1, 2, 3, 4, 5, 6, 7)),
    Segmented(" ก\u2423\\ ", (2,)),
    Segmented("#\u00a0\u3000😰", (1, 2)),
]


@pytest.mark.parametrize("name", ANY)
@law
@given(rows=lists(AWKWARD + LINE_ENDS))
@example(rows=AT_THE_EDGES)
def test_a_format_holds_any_text(name: str, rows: list[Segmented], tmp_path: Path) -> None:
    back = there_and_back(rows, name, tmp_path)
    assert [(row.text, row.cuts) for row in back] == [(row.text, row.cuts) for row in rows]
    assert all(row.decided is None for row in back)
    assert all("".join(row.tokens) == row.text for row in back)


@pytest.mark.parametrize("name", PARTIAL)
@law
@given(rows=lists(AWKWARD + LINE_ENDS, partial=True))
def test_what_is_undecided_stays_undecided(
    name: str, rows: list[Segmented], tmp_path: Path
) -> None:
    back = there_and_back(rows, name, tmp_path)
    assert [known(row) for row in back] == [known(row) for row in rows]


@pytest.mark.parametrize("name", sorted({*FORMATS} - {*PARTIAL, "lines"}))
def test_a_format_without_room_refuses_what_is_undecided(name: str, tmp_path: Path) -> None:
    path = path_for(tmp_path, name)
    with pytest.raises(DataError, match=r"found 1 of 2 offsets decided in sentence 2"):
        write_segments([Segmented("กข", (1,)), Segmented("กขค", (1,), (1,))], path, format=name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NARROW)
@law
@given(rows=lists(AWKWARD + LINE_ENDS))
@example(rows=[Segmented("<NE>ก", ())])
@example(rows=[Segmented("ก</NE", (), meta={"spans": [[0, 1, "NE"]]})])
@example(rows=[Segmented("ก|ข", (1, 2))])
@example(rows=[Segmented("ก\r", ())])
@example(rows=[Segmented("<EOS>", ())])
def test_a_format_holds_a_text_exactly_or_refuses_it(
    name: str, rows: list[Segmented], tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    try:
        back = there_and_back(rows, name, tmp_path)
    except DataError:
        assert set(tmp_path.iterdir()) == before
        return
    assert [(row.text, row.cuts) for row in back] == [(row.text, row.cuts) for row in rows]


@pytest.mark.parametrize("name", NARROW)
@law
@given(rows=lists(PLAIN))
@example(rows=AT_THE_EDGES)
def test_a_format_refuses_no_more_than_it_must(
    name: str, rows: list[Segmented], tmp_path: Path
) -> None:
    rows = [row for row in rows if not row.text.isspace()] or [Segmented("ก ข", (1, 2))]
    back = there_and_back(rows, name, tmp_path)
    assert [(row.text, row.cuts) for row in back] == [(row.text, row.cuts) for row in rows]


META = st.dictionaries(
    st.sampled_from(["id", "arms", "batch", "guideline", "annotator", "model", "history", "x"]),
    st.none() | st.integers() | st.text(st.sampled_from("aก😰")) | st.lists(st.integers()),
    max_size=4,
)


@pytest.mark.parametrize("name", ["jsonl", "datasets"])
@law
@given(rows=lists(AWKWARD + LINE_ENDS, partial=True), meta=META)
def test_the_lossless_formats_lose_nothing(
    name: str, rows: list[Segmented], meta: dict[str, object], tmp_path: Path
) -> None:
    rows = [Segmented(row.text, row.cuts, row.decided, meta) for row in rows]
    assert there_and_back(rows, name, tmp_path) == rows


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"lines", "datasets"}))
def test_a_packed_file_is_the_same(name: str, tmp_path: Path) -> None:
    rows = [Segmented("ก 😰ข", (1, 2, 3)), Segmented("คง", ())]
    (tmp_path / "packed").mkdir()
    plain, packed = path_for(tmp_path, name), path_for(tmp_path / "packed", name, packed=True)
    write_segments(rows, plain, format=name)
    write_segments(rows, packed, format=name)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert packed.read_bytes()[4:8] == bytes(4)  # no time, so that it is the same tomorrow
    back = list(read_segments(packed, format=name))
    assert [(row.text, row.cuts) for row in back] == [(row.text, row.cuts) for row in rows]


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"lines"}))
def test_the_format_is_told_by_the_file(name: str, tmp_path: Path) -> None:
    rows = [Segmented("กข คง😰", (2, 3), meta={"spans": [[0, 2, "ne"]]})] * 3
    path = path_for(tmp_path, name)
    write_segments(rows, path, format=name)
    back = list(read_segments(path))
    assert [(row.text, row.cuts) for row in back] == [(row.text, row.cuts) for row in rows]


@pytest.mark.parametrize("name", FORMATS)
def test_raw_lines_read_as_undecided(name: str, tmp_path: Path) -> None:
    source = tmp_path / "raw.txt"
    source.write_text("กขคง\n\nงจฉ \n", encoding="utf-8")
    report = Report()
    rows = list(read_segments(source, report=report))
    assert [(row.text, row.decided) for row in rows] == [("กขคง", ()), ("งจฉ ", ())]
    assert report.warnings == [f"lines without text: 1 (first in line 2 of {source})"]
    if name in (*PARTIAL, "lines"):
        assert [known(row) for row in there_and_back(rows, name, tmp_path)] == list(
            map(known, rows)
        )


def test_a_folder_is_read_as_documents(tmp_path: Path) -> None:
    (tmp_path / "news").mkdir()
    (tmp_path / "news" / "b.txt").write_text("ก|ข|\n", encoding="utf-8")
    (tmp_path / "news" / "c.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("ค|ง|\n".encode()))
    (tmp_path / ".hidden.txt").write_text("จ|\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    report = Report()
    rows = list(read_segments(tmp_path, format="best", report=report))
    found = [(row.text, row.meta["document"]) for row in rows]
    assert found == [("คง", "a.txt.gz"), ("กข", "news/b.txt")]
    assert "files without sentences" in report.counts
    assert next(read_segments(f"{tmp_path}/n*/*.txt")).meta["document"] == "b.txt"


def test_nothing_beside_a_data_set_is_left_out_in_silence(tmp_path: Path) -> None:
    write_segments([Segmented.of(["ก", "ข"])], tmp_path / "a", format="datasets")
    for name in ("LICENSE.txt", "dataset_infos.json", ".hidden.txt"):
        (tmp_path / "a" / name).write_text("about", encoding="utf-8")
    assert [row.text for row in read_segments(tmp_path / "a")] == ["กข"]
    (tmp_path / "a" / "MORE.TXT").write_text("คง\n", encoding="utf-8")
    (tmp_path / "a" / "more.conllu").write_text("จฉ\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"found \.parquet beside \.conllu, \.txt"):
        read_segments(tmp_path / "a")
    assert [row.text for row in read_segments(tmp_path / "a", format="datasets")] == ["กข"]


def test_one_function_converts(tmp_path: Path) -> None:
    source, output = tmp_path / "a.txt", tmp_path / "b.conllu"
    source.write_bytes("\ufeffก||ข|\r\n |ค|\r\n".encode())
    report = convert(source, output, to_format="conllu")
    assert report.rows == 2
    assert [what.partition(":")[0] for what in report.warnings] == [
        "byte order marks that were dropped",
        "lines that end in CR LF",
        "empty words that were dropped",
    ]
    assert [row.tokens for row in read_segments(output)] == [["ก", "ข"], [" ", "ค"]]


def test_a_pipe_in_the_text_is_refused_or_written_in_full_width(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    write_segments([Segmented("ก|<NE>ข", (1,))], source, format="jsonl")
    with pytest.raises(DataError, match=r"without \| and tags .* sentence 1, .*--on-pipe escape"):
        convert(source, tmp_path / "b.txt", to_format="best")
    assert not (tmp_path / "b.txt").exists()
    report = convert(source, tmp_path / "b.txt", to_format="best", on_pipe="escape")
    assert report.warnings == ["characters written in full width: 2 (first in sentence 1)"]
    (row,) = read_segments(tmp_path / "b.txt")
    assert (row.text, row.cuts) == ("ก\uff5c\uff1cNE>ข", (1,))


def test_empty_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    path, report = tmp_path / "a.jsonl", Report()
    write_segments([Segmented("", ()), Segmented("ก", ())], path, format="jsonl", report=report)
    assert (report.rows, report.counts) == (1, {"empty texts that were left out": 1})
    path.write_text('{"text": ""}\n{"text": "กข"}\n', encoding="utf-8")
    report = Report()
    assert [row.text for row in read_segments(path, report=report)] == ["กข"]
    assert report.counts == {"empty texts that were left out": 1}


def test_mistakes_are_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    with pytest.raises(DataError, match=r"expected sentences in .*empty.txt, found none"):
        list(read_segments(empty))
    with pytest.raises(DataError, match=r"found nothing at 'absent.txt'"):
        read_segments("absent.txt")
    with pytest.raises(DataError, match="expected files named"):
        read_segments(tmp_path, format="conllu")
    with pytest.raises(ConfigError, match="did you mean 'conllu'"):
        read_segments(empty, format="conlu")
    with pytest.raises(ConfigError, match="already exists"):
        write_segments([Segmented("ก", ())], empty, format="best")


def test_other_encodings_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("ก|ข|\n".encode() + "ก|ข|\n".encode("cp874"))
    with pytest.raises(DataError, match=r"UTF-8 text in line 2 of .*a.txt, found byte 0xa1"):
        list(read_segments(path, format="best"))
    path.write_bytes("ก|ข|\n".encode("utf-16"))
    for name in ("best", "lines", "jsonl", "conllu", "label-studio", "bio", "talpco"):
        with pytest.raises(DataError, match=r"UTF-8 text in .*found byte 0xff"):
            list(read_segments(path, format=name))


def test_a_split_for_each_arm(tmp_path: Path) -> None:
    rows = [
        Segmented("กข", (1,), meta={"arms": ["random"]}),
        Segmented("คง", (), meta={"arms": ["random", "active-1"]}),
        Segmented("จฉ", (), meta={}),
    ]
    folder = tmp_path / "data"
    write_segments(rows, folder, format="datasets")
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: split["text"][:] for name, split in loaded.items()} == {
        "random": ["กข", "คง"],
        "active_1": ["คง"],
        "train": ["จฉ"],
    }
    assert loaded["random"]["tokens"][0] == ["ก", "ข"]
    by_text = {row.text: row for row in rows}
    for source in (folder, loaded, loaded["random"]):
        back = list(read_segments(source))
        assert [by_text[row.text] for row in back] == back
        assert len(back) == (2 if isinstance(source, Dataset) else 3)
    loaded.save_to_disk(tmp_path / "saved")
    assert len(list(read_segments(tmp_path / "saved"))) == 3
    assert load_from_disk(tmp_path / "saved")
    (folder / "random.parquet").unlink()
    assert [row.text for row in read_segments(folder)] == ["คง", "จฉ"]
    (folder / "train.parquet").write_text("none")
    with pytest.raises(DataError, match=r"cannot read .*train.parquet as Parquet"):
        list(read_segments(folder))
