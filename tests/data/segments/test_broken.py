"""Broken files: one sentence that names the place, or a counted warning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attar.data.segments import Report, Segmented, read_segments, write_segments
from attar.data.segments.escapes import HEADER
from attar.errors import DataError

Read = Callable[..., tuple[list[Segmented], Report]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes a file and reads it."""

    def of(content: str | bytes, format: str, **options: Any) -> tuple[list[Segmented], Report]:
        path, report = tmp_path / "file.x", Report()
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(read_segments(path, format=format, report=report, **options)), report

    return of


# ------------------------------------------------------------------------------------ BEST, VISTEC


@pytest.mark.parametrize(
    ("line", "tokens", "meta", "noted"),
    [
        ("ก|ข|", ["ก", "ข"], {}, []),
        ("ก|ข", ["ก", "ข"], {}, []),
        ("|ก||ข|", ["ก", "ข"], {}, ["empty words that were dropped"]),
        ("\ufeffก|", ["ก"], {}, ["byte order marks that were dropped"]),
        ("<NE>ก|ข</NE>|ค|", ["ก", "ข", "ค"], {"spans": [[0, 2, "NE"]]}, []),
        ("<NE><AB>ก</AB>|ข</NE>|", ["ก", "ข"], {"spans": [[0, 2, "NE"], [0, 1, "AB"]]}, []),
        ("<NER>ก</NER>|", ["ก"], {"spans": [[0, 1, "NER"]]}, []),
        ("<NE>ก|", ["ก"], {}, ["tags that are never closed"]),
        ("ก</NE>|", ["ก"], {}, ["tags that close nothing"]),
        ("<NE></NE>ก|", ["ก"], {}, ["tags around nothing"]),
        (
            "<NE>ก</NE</NE>|ข|",
            ["ก", "ข"],
            {"spans": [[0, 1, "NE"]]},
            ["tags without >", "tags that close nothing"],
        ),
        (
            "<NE><AB>ก</NE>|ข</NE>|",
            ["ก", "ข"],
            {"spans": [[0, 1, "NE"]]},
            ["tags that close nothing", "tags that are never closed"],
        ),
        ("a<b|</NE|", ["a<b", "</NE"], {}, []),
        ("<ne>ก</ne>|", ["<ne>ก</ne>"], {}, []),
    ],
)
def test_blemishes_of_best(
    line: str, tokens: list[str], meta: dict[str, Any], noted: list[str], read: Read
) -> None:
    rows, report = read(f"จ|\n{line}\n", "best")
    assert rows[1].tokens == tokens
    assert rows[1].meta == meta
    assert [*report.counts] == noted
    assert all(place.startswith("line 2 of") for place in report.places.values())


def test_a_file_in_which_few_lines_lack_the_last_pipe(read: Read) -> None:
    _, report = read("ก|\nข|\nค\n", "best")
    assert report.counts == {"lines without the last |": 1}
    assert "line 3" in report.warnings[0]


@pytest.mark.parametrize(
    ("tag", "correction"),
    [
        ("<msp='ครับ'>", "ครับ"),
        ('<msp="a\'b">', "a'b"),
        ("<msp value='ค|ร'>", "ค|ร"),
        ("<msp value=ครับ>", "ครับ"),
        ("<msp>", None),
    ],
)
def test_corrections_of_vistec(
    tag: str, correction: str | None, read: Read, tmp_path: Path
) -> None:
    rows, report = read(f"<ne>{tag}คับ</msp>|ก</ne>|ข|\n", "vistec")
    corrected = {} if correction is None else {"corrections": [[0, 3, correction]]}
    meta = {"spans": [[0, 4, "ne"], [0, 3, "msp"]]} | corrected
    assert rows == [Segmented("คับกข", (3, 4), meta=meta)]
    assert not report.counts
    write_segments(rows, tmp_path / "again.txt", format="vistec", report=report)
    assert list(read_segments(tmp_path / "again.txt", format="vistec")) == rows
    assert not report.counts


def test_spans_that_a_format_cannot_hold_are_counted(tmp_path: Path) -> None:
    path, report = tmp_path / "a.txt", Report()
    crossed = Segmented("กขค", (1,), meta={"spans": [[0, 2, "NE"], [1, 3, "NE"]]})
    other = Segmented("กขค", (1,), meta={"spans": [[0, 2, "person"], {"start": 0}, 3]})
    write_segments([crossed, other], path, format="best", report=report)
    assert path.read_text(encoding="utf-8") == "ก|ขค|\nก|ขค|\n"
    assert report.counts == {"spans that the format cannot hold": 3}


# -------------------------------------------------------------------------------------- JSON lines


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"text": "กข", "cuts": [1]', "line 2 of .* cannot be read as JSON"),
        ("[1]", r"line 2 of .* must be a JSON object; found \[1\]"),
        ('{"txt": "กข"}', "expected a column text, or tokens, in line 2 .*; it has txt: rename"),
        ('{"text": null}', "text of line 2 .* must be a string; found None"),
        ('{"text": "กข", "cuts": [2]}', "cuts that rise within 1 and 1 in line 2 .*found 2"),
        ('{"text": "กขค", "cuts": [2, 1]}', "found 1 after 2"),
        ('{"text": "กข", "cuts": [true]}', r"cuts of line 2 .* list of whole numbers"),
        ('{"text": "กข", "cuts": "1"}', "list of whole numbers"),
        ('{"text": "กข", "cuts": [1], "decided": [0]}', "decided offsets that rise"),
        ('{"text": "กข", "cuts": [1], "tokens": ["กข"]}', "tokens that joined are the text"),
        ('{"text": "กข", "tokens": ["ก", "ค"]}', "tokens that joined are the text"),
        ('{"tokens": ["ก", ""]}', "tokens of line 2 .* must be a list of words"),
        ('{"tokens": "กข"}', "tokens of line 2 .* must be a list of words"),
        ('{"text": "ก\\ud83d"}', "whole characters in line 2 .* at offset 1"),
        ('{"text": "ก", "meta": 3}', "meta of line 2 .* must be an object"),
        ('{"text": "ก", "text": "ข"}', "the key 'text' comes twice"),
    ],
)
def test_broken_rows_of_jsonl(row: str, said: str, read: Read) -> None:
    with pytest.raises(DataError, match=said):
        read(f'{{"text": "ก"}}\n{row}\n', "jsonl")


def test_rows_that_others_write(read: Read) -> None:
    content = '\ufeff{"tokens": ["ก", "ข"], "source": "x"}\r\n\r\n{"text": "กข"}'
    rows, report = read(content, "jsonl")
    assert rows == [Segmented("กข", (1,), meta={"source": "x"}), Segmented.raw("กข")]
    assert [*report.counts] == [
        "byte order marks that were dropped",
        "lines that end in CR LF",
        "blank lines",
    ]


def test_a_meta_that_is_no_json_is_refused(tmp_path: Path) -> None:
    for value in (object(), float("nan")):
        with pytest.raises(DataError, match=r"meta of JSON values in sentence 1"):
            row = Segmented("ก", (), meta={"x": value})
            write_segments([row], tmp_path / "a.jsonl", format="jsonl")
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("content", "format", "said"),
    [
        ("กข\tB\n", "bio", "one character, a tab and its tag in line 1"),
        ("ก B\n", "bio", "one character, a tab and its tag in line 1"),
        ("\tB\n", "bio", "one character, a tab and its tag in line 1"),
        ("ก\tI\n", "bio", "a first tag to fit in line 1 .* found 'I'"),
        ("ก\tB\n\nข\tI\n", "bio", "a first tag to fit in line 3"),
        ("ก\tO\nข\tI\n", "bio", "the tag after 'O' to fit in line 2"),
        ("ก\tX\n", "bio", "found 'X'"),
        ("ก\tB\nข\tB\n", "bies", "the tag after 'B' to fit in line 2"),
        ("ก\tS\nข\tE\n", "bies", "the tag after 'S' to fit in line 2"),
        ("ก\tS\nข\tB\n", "bies", "the end of a sentence to fit in line 2"),
        ("ก\n", "conll2003", "a word, -X-, _ and a tag in line 1"),
        ("ก -X- _ X\n", "conll2003", "a tag B-W, I-W or O in line 1"),
        ("1\tก\n", "conllu", "eight more columns between tabs in line 1"),
        ("x\tก" + "\t_" * 8 + "\n", "conllu", "a number, a word and eight more columns"),
        ("1\t" + "\t_" * 8 + "\n", "conllu", "a number, a word and eight more columns"),
        ("# text = กค\n1\tก" + "\t_" * 8 + "\n", "conllu", "begins in line 1 .*found their end"),
        ("# text = ค\n1\tก" + "\t_" * 8 + "\n", "conllu", "found 'ก' where the text has 'ค'"),
        (
            "1\tก" + "\t_" * 7 + "\tSpacesAfter=\\s|SpaceCuts=4\n",
            "conllu",
            "SpaceCuts to be rising",
        ),
        (
            "1\tก" + "\t_" * 7 + "\tSpacesAfter=\\s|SpaceCuts=x\n",
            "conllu",
            "SpaceCuts to be rising",
        ),
        ("7\nก\n", "talpco", "expected <EOS> after the sentence that begins in line 1"),
        ("7\nก\n\n<EOS>\n", "talpco", "a word or <EOS> in line 3"),
    ],
)
def test_broken_columns(content: str, format: str, said: str, read: Read) -> None:
    with pytest.raises(DataError, match=said):
        read(content, format)


@pytest.mark.parametrize(
    ("content", "format", "tokens"),
    [
        ("# about\n#\tB\nก\tI\n \tB-W\n\n\nข\tB", "bio", [["#ก", " "], ["ข"]]),
        ("ก\tO\nข\tO\nค\tB\nง\tO\n", "bio", [["กข", "ค", "ง"]]),
        (f"{HEADER}\n␣\tB\n\\u0009\tI\n\\\\\tB\n", "bio", [[" \t", "\\"]]),
        ("␣\tB\n\\\tB\n", "bio", [["␣", "\\"]]),
        ("ก\tB\nข\tM\nค\tE\nง\tS\n", "bies", [["กขค", "ง"]]),
        ("-DOCSTART- -X- O O\n\nก -X- _ B-W\n  -X- _ B-W\nข -X- _ I-W\n", "conll2003",
         [["ก", " ข"]]),
        ("# -X- _ B-W\nก -X- _ O\nข -X- _ I-W\n", "conll2003", [["#", "ก", "ข"]]),
        (f"{HEADER}\nก␣\\u2423\tB-W\n", "conll2003", [["ก ␣"]]),
        ("7\nก\nข\n<EOS>\n\n8\n<EOS>\n9\nค\n<EOS>\n", "talpco", [["ก", "ข"], ["ค"]]),
    ],
)  # fmt: skip
def test_columns_that_others_write(
    content: str, format: str, tokens: list[list[str]], read: Read
) -> None:
    rows, _ = read(content.replace("\n", "\r\n"), format)
    assert [row.tokens for row in rows] == tokens


def test_columns_of_universal_dependencies(read: Read) -> None:
    def word(number: str, form: str, misc: str = "_") -> str:
        return f"{number}\t{form}" + "\t_" * 7 + f"\t{misc}\n"

    blocks = [
        "# newdoc id = d1\n# sent_id = 1\n# text =  ab  c\n"
        + word("1-2", "ab", "SpacesBefore=\\s|SpacesAfter=\\s\\s|SpaceCuts=1")
        + word("1", "a")
        + word("2", "b")
        + word("2.1", "x")
        + word("3", "c")
        + word("3.1", "y"),
        word("1", "ก ข", "Gloss=a|SpaceAfter=No") + word("2", "ค"),
        "# text = กข ค\n" + word("1", "ก") + word("2", "ข", "SpaceAfter=No") + word("3", "ค"),
        "# only a comment\n",
        word("1", "ก", "SpacesAfter=\\p\\\\\\t\\u00a0"),
    ]
    rows, report = read("\n".join(blocks), "conllu")
    assert [row.tokens for row in rows] == [
        [" ", "ab", " ", " ", "c"],
        ["ก ข", "ค"],
        ["ก", "ข", " ", "ค"],
        ["ก", "|\\\t\xa0"],
    ]
    assert [row.meta for row in rows] == [{"id": "1", "document": "d1"}, *[{"document": "d1"}] * 3]
    assert report.counts == {"sentences whose spaces are told otherwise than by # text": 1}


def test_texts_of_talpco_beside_the_words(tmp_path: Path) -> None:
    words, texts = tmp_path / "a-token.txt", tmp_path / "a.txt"
    words.write_text("1\nก\nข\n<EOS>\n2\nค\n<EOS>\n", encoding="utf-8")
    texts.write_text("1\tก  ข \n2\tง\n", encoding="utf-8")
    report = Report()
    rows = list(read_segments(words, report=report))
    assert [(row.tokens, row.meta) for row in rows] == [
        (["ก", "  ", "ข", " "], {"id": "1"}),
        (["ค"], {"id": "2"}),
    ]
    assert report.counts == {"sentences whose text has other words": 1}
    for content, said in {
        "1\tกข\n3\tค\n": r"of sentence '2', which begins in line 5 .* found '3'",
        "1\tกข\n": r"found 'nothing'",
        "1\tกข\n2\tค\n3\tง\n": r"expected the words of line 3 of .*a.txt",
    }.items():
        texts.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            list(read_segments(words))


@pytest.mark.parametrize(
    ("format", "text", "said"),
    [
        ("best", "ก\nข", r"one line for the format best, found '\\n' at offset 1 of sentence 1"),
        ("lines", "ก\nข", r"one line for the format lines"),
        ("lines", "\ufeffก", r"begins with a byte order mark"),
        ("conllu", "ก\rข", r"one line for the format conllu, found '\\r'"),
        ("conllu", "ก\tข", r"found '\\t' at offset 1 of sentence 1"),
        ("conllu", " \t ", r"a word in sentence 1, found white space alone"),
        ("talpco", "<EOS>", r"words other than <EOS> and an id"),
    ],
)
def test_what_a_format_cannot_hold(format: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        write_segments([Segmented(text, ())], tmp_path / "a", format=format)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- annotation tools

TEXT = "ก😰ขค"


def label_studio(*spans: tuple[Any, Any, str | None], **fields: Any) -> str:
    """A list of one task, whose words are start, end and the text that they cover."""
    result = [
        {"type": "labels", "value": {"start": s, "end": e, "labels": ["W"]} | _covering(text)}
        for s, e, text in spans
    ]
    task = {"id": 5, "data": {"text": TEXT}, "annotations": [{"result": result} | fields]}
    return json.dumps([task])


def _covering(text: str | None) -> dict[str, str]:
    return {} if text is None else {"text": text}


def test_offsets_of_label_studio_are_told_by_the_covered_text(read: Read) -> None:
    points = label_studio((0, 1, "ก"), (1, 3, "😰ข"), (3, 4, "ค"))
    units = label_studio((0, 1, "ก"), (1, 4, "😰ข"), (4, 5, "ค"))
    for content, noted in ((points, 0), (units, 1)):
        (row,), report = read(content, "label-studio")
        assert row == Segmented(TEXT, (1, 3), meta={"id": 5})
        assert len(report.counts) == noted
    (row,), _ = read(units, "label-studio", offsets="utf16")
    assert row.cuts == (1, 3)
    with pytest.raises(
        DataError, match=r"count code points .* task 1 of .* \(id 5\), found 1 to 4"
    ):
        read(units, "label-studio", offsets="codepoint")
    with pytest.raises(DataError, match=r"code points or UTF-16 units .*found 1 to 2 for 'ข'"):
        read(label_studio((0, 1, "ก"), (1, 2, "ข")), "label-studio")


def test_gaps_become_words_and_overlaps_are_errors(read: Read) -> None:
    (row,), report = read(label_studio((3, 4, "ค"), (1, 2, "😰")), "label-studio")
    assert row.tokens == ["ก", "😰", "ข", "ค"]
    assert report.counts == {"gaps that became words": 2}
    with pytest.raises(DataError, match=r"do not overlap in task 1 of .* \(id 5\)"):
        read(label_studio((0, 3, "ก😰ข"), (2, 4, "ขค")), "label-studio")
    with pytest.raises(DataError, match=r"found 2 to 9"):
        read(label_studio((2, 9, None)), "label-studio")


def test_the_fields_of_label_studio(read: Read) -> None:
    content = label_studio((0, 4, TEXT), completed_by={"email": "a@b"}, lead_time=2.5)
    (row,), _ = read(content, "label-studio")
    assert row.meta == {"id": 5, "annotator": "a@b", "seconds": 2.5}
    (row,), _ = read(label_studio((0, 4, TEXT), was_cancelled=True), "label-studio")
    assert row == Segmented.raw(TEXT, meta={"id": 5, "status": "skipped"})
    (row,), report = read(label_studio(), "label-studio")
    assert (row.decided, [*report.counts]) == ((), ["annotations without any word"])


def test_predictions_are_never_labels(read: Read, tmp_path: Path) -> None:
    predicted = json.loads(label_studio((0, 1, "ก"), model_version="m", score=0.5))
    predicted[0]["predictions"] = predicted[0].pop("annotations")
    rows, _ = read(json.dumps(predicted), "label-studio")
    meta = {"id": 5, "predictions": [{"cuts": [1], "model": "m", "score": 0.5}]}
    assert rows == [Segmented.raw(TEXT, meta=meta)]
    write_segments(rows, tmp_path / "a.json", format="label-studio")
    assert list(read_segments(tmp_path / "a.json")) == rows


def test_an_export_for_label_studio_is_one_that_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    meta = {"annotator": 3, "seconds": 1.5, "arms": ["random"]}
    rows = [
        Segmented(TEXT, (1,), meta=meta),
        Segmented(TEXT, (1,), (1, 2), {"annotator": "x"}),
        Segmented.raw(TEXT, meta={"status": "skipped"}),
        Segmented("กข", (1,), meta={"spans": [[0, 2, "person"]]}),
    ]
    write_segments(rows, path, format="label-studio")
    first = json.loads(path.read_text(encoding="utf-8"))[0]
    value = first["annotations"][0]["result"][1]["value"]
    assert value == {"start": 1, "end": 4, "text": "😰ขค", "labels": ["W"]}
    assert (first["annotations"][0]["completed_by"], first["data"]["text"]) == (3, TEXT)
    assert list(read_segments(path)) == rows
    assert '<Label value="W"/>' in (tmp_path / "a.label-config.xml").read_text(encoding="utf-8")
    write_segments(rows, tmp_path / "b.json", format="label-studio", offsets="utf16")
    assert list(read_segments(tmp_path / "b.json")) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"data": {"text": "ก"}}, {"data"', "task 2 of .* cannot be read as JSON"),
        ('[{"data": {"text": "ก"}} {"data": {}}]', "goes on wrongly after task 1"),
        ('[{"data": {"text": "ก"}},', "breaks off or goes on wrongly after task 1"),
        ('[{"data": {"text": "ก"}},]', "task 2 of .* cannot be read as JSON"),
        ('[{"data": {"text": "ก"}}] x', "goes on wrongly after task 1"),
        ("[3]", "task 1 of .* must be a JSON object"),
        ("nothing", "task 1 of .* cannot be read as JSON"),
        ('[{"data": {}}]', "data.text of task 1 of .* must be a string"),
        ('[{"text": "ก"}]', "data.text of task 1"),
        ('[{"data": {"text": "ก"}, "annotations": 3}]', "annotations of task 1"),
        (label_studio(("0", 1, None)), r"start in task 1 .*\(id 5\) must be a whole number"),
        ("[" * 100_000, "nested too deeply"),
        ("", "found none"),
        ("[]", "found none"),
    ],
)
def test_broken_tasks(content: str, said: str, read: Read) -> None:
    with pytest.raises(DataError, match=said):
        read(content, "label-studio")


def doccano(*spans: Any, text: str = TEXT) -> str:
    return json.dumps({"text": text, "label": spans}) + "\n"


def test_offsets_of_doccano_are_told_by_what_makes_sense(read: Read) -> None:
    points, units = [[0, 1, "W"], [1, 4, "W"]], [[0, 1, "W"], [1, 5, "W"]]
    for spans in (points, units):
        (row,), _ = read(doccano(*spans), "doccano")
        assert row.cuts == (1,)
    unsure = doccano([2, 3, "W"])  # in UTF-16, half of the emoji
    assert read(unsure, "doccano")[0][0].tokens == ["ก😰", "ข", "ค"]
    unsure = doccano([3, 4, "W"])
    with pytest.raises(DataError, match=r"cannot tell whether .* line 1 .*--offsets"):
        read(unsure, "doccano")
    assert read(unsure, "doccano", offsets="codepoint")[0][0].cuts == (3,)
    assert read(unsure, "doccano", offsets="utf16")[0][0].cuts == (2, 3)
    with pytest.raises(DataError, match=r"in line 2 .* UTF-16 units, but those in line 1 .* code"):
        read(doccano(*points) + doccano(*units), "doccano")
    assert read(doccano([0, 1, "W"]), "doccano")[0][0].cuts == (1,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            doccano([0, 9, "W"], text="กข"),
            "code points .* of 2 characters in line 1 .*found 0 to 9",
        ),
        (doccano([0, 2, "W"], [1, 2, "W"], text="กข"), "do not overlap in line 1"),
        (doccano([0, 1]), r"a label of line 1 .* must be \[start, end, name\]"),
        (doccano([0, True, "W"]), "an end in line 1 .* must be a whole number"),
        ('{"label": []}', "text of line 1"),
        ('{"text": "ก", "label": "W"}', "label of line 1 .* must be a list of spans"),
        (doccano([0, 9, "W"]), "code points or UTF-16 units"),
    ],
)
def test_broken_rows_of_doccano(content: str, said: str, read: Read) -> None:
    with pytest.raises(DataError, match=said):
        read(content, "doccano")


def test_rows_of_doccano(read: Read, tmp_path: Path) -> None:
    entity = {"id": 1, "label": "W", "start_offset": 0, "end_offset": 1}
    content = json.dumps({"id": 3, "text": "กข", "entities": [entity], "relations": []})
    rows, _ = read(f"{content}\n{doccano([0, 1, 'person'], text='กข')}", "doccano")
    assert rows == [
        Segmented("กข", (1,), meta={"id": 3}),
        Segmented.raw("กข", meta={"spans": [[0, 1, "person"]]}),
    ]
    row = Segmented(TEXT, (1, 3), (1, 3), {"id": 3, "arms": ["a"], "spans": [[0, 2, "person"]]})
    for number, offsets in enumerate(("codepoint", "utf16")):
        path = tmp_path / f"{number}.jsonl"
        write_segments([row], path, format="doccano", offsets=offsets)
        assert list(read_segments(path, offsets=offsets)) == [row]


def prodigy(*tokens: tuple[str, int, int, bool], **fields: Any) -> str:
    rows = [{"text": t, "start": s, "end": e, "id": n, "ws": w} for n, (t, s, e, w) in
            enumerate(tokens)]  # fmt: skip
    return json.dumps({"text": "ก ข😰", "tokens": rows} | fields)


def test_rows_of_prodigy(read: Read, tmp_path: Path) -> None:
    tokens = (("ก", 0, 1, True), ("ข", 2, 3, False), ("😰", 3, 4, False))
    content = "\n".join(
        [
            prodigy(*tokens, answer="accept", _session_id="db-ann", meta={"x": 1}),
            prodigy(*tokens, answer="reject"),
            prodigy(answer="ignore"),
            '{"text": "กข"}',
        ]
    )
    rows, report = read(content, "prodigy")
    assert rows == [
        Segmented("ก ข😰", (1, 2, 3), meta={"x": 1, "annotator": "db-ann"}),
        Segmented.raw("ก ข😰", meta={"answer": "reject", "status": "skipped"}),
        Segmented.raw("ก ข😰", meta={"answer": "ignore", "status": "skipped"}),
        Segmented.raw("กข"),
    ]
    assert not report.counts
    write_segments(rows, tmp_path / "a.jsonl", format="prodigy")
    assert list(read_segments(tmp_path / "a.jsonl")) == rows
    written = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert written["tokens"][0] == {"text": "ก", "start": 0, "end": 1, "id": 0, "ws": True}
    assert (written["answer"], written["_session_id"]) == ("accept", "db-ann")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (prodigy(("ข", 0, 1, False)), "found 0 to 1 for 'ข'"),
        (prodigy(("ก", 0, 1, False), ("ก ", 0, 2, False)), "do not overlap in line 1"),
        ('{"text": "ก", "tokens": [3]}', "tokens of line 1 .* must be a list of objects"),
        ('{"text": "ก", "tokens": [{"start": 0}]}', "an end in line 1"),
        ("{}", "text of line 1"),
    ],
)
def test_broken_rows_of_prodigy(content: str, said: str, read: Read) -> None:
    with pytest.raises(DataError, match=said):
        read(content, "prodigy")


# ---------------------------------------------------------------------------------- one at a time


@pytest.mark.parametrize(
    ("format", "row"),
    [
        ("best", "ก|\n"),
        ("lines", "ก\n"),
        ("bio", "ก\tB\n\n"),
        ("conllu", "1\tก" + "\t_" * 8 + "\n\n"),
        ("conll2003", "ก\tB-W\n\n"),
        ("jsonl", '{"text": "ก"}\n'),
        ("doccano", '{"text": "ก"}\n'),
        ("prodigy", '{"text": "ก"}\n'),
        ("talpco", "1\nก\n<EOS>\n"),
        ("label-studio", '{"data": {"text": "' + "ก" * 500 + '"}}\n'),
    ],
)
def test_the_end_of_a_file_is_read_at_the_end(format: str, row: str, tmp_path: Path) -> None:
    path = tmp_path / "a.x"
    path.write_bytes(row.encode() * 2000 + b"\xff\n")
    rows = read_segments(path, format=format)
    assert next(rows).text.strip("ก") == ""
    with pytest.raises(DataError, match=r"UTF-8 text in .*found byte 0xff"):
        list(rows)
