"""`attar compare` prints what Python says."""

import json
from pathlib import Path

import pytest

from attar.cli.compare import compare
from attar.cli.generate import _LINE
from attar.cli.output import require_target
from attar.errors import ConfigError, DataError
from attar.report.compare import compare as compare_runs
from attar.report.tables import comparison
from records import make
from scene import verb


def test_compare_prints_what_python_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make("bonsai", 0.5), make("flap", 0.25)]
    places = [str(tmp_path / name / "out") for name in ("one", "two")]
    for run, place in zip(runs, places, strict=True):
        run.save(place)
    expected = comparison(runs, names=["one/out", "two/out"])
    page = tmp_path / "page.html"
    assert verb(compare, *places, "--html", str(page)) == 0
    assert capsys.readouterr().out == expected.text() + "\n"
    written = page.read_text()
    for option in ("--html", "--json"):
        with pytest.raises(ConfigError, match=r"page\.html' already exists"):
            verb(compare, *places, option, str(page))
    assert page.read_text() == written
    assert verb(compare, places[0] + "/attar.json", places[1], "--json", "-") == 0
    assert json.loads(capsys.readouterr().out) == expected.records
    assert verb(compare, *places, "--markdown") == 0
    assert capsys.readouterr().out == expected.markdown() + "\n"
    with pytest.raises(DataError, match="no run record"):
        verb(compare, str(tmp_path / "three"))


def test_a_file_is_replaced_only_where_asked_and_of_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("bonsai").save(tmp_path / "one")
    record, html, figures = tmp_path / "r.json", tmp_path / "r.html", tmp_path / "f.json"
    record.write_text((tmp_path / "one" / "attar.json").read_text())
    kinds = {"--html": html, "--json": figures}
    (tmp_path / "notes.txt").write_text("mine")
    for option, file in kinds.items():
        assert verb(compare, str(tmp_path / "one"), option, str(file)) == 0
    for option, file in kinds.items():
        written = file.read_text()
        with pytest.raises(ConfigError, match="replace it with overwrite"):
            verb(compare, str(tmp_path / "one"), option, str(file))
        again = (str(tmp_path / "one"), option, str(file), "--overwrite")
        assert verb(compare, *again) == 0
        assert file.read_text() == written
        others = {*kinds.values(), record, tmp_path / "notes.txt", tmp_path / "one"} - {file}
        for other in others:
            before = other.is_file() and other.read_text()
            with pytest.raises(ConfigError, match="already exists and is not a"):
                verb(compare, str(tmp_path / "one"), option, str(other), "--overwrite")
            assert (other.is_file() and other.read_text()) == before
    require_target(str(record), overwrite=True)
    with pytest.raises(ConfigError, match="is not a file that --json"):  # it belongs to a model
        require_target(str(tmp_path / "one" / "attar.json"), overwrite=True)
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"prompt": "a", "text": "b"}\n')
    require_target(str(lines), overwrite=True, begins=_LINE)
    lines.write_text('{"prompt": "a"}\n')  # what was to be continued
    with pytest.raises(ConfigError, match="already exists"):
        require_target(str(lines), overwrite=True, begins=_LINE)


def test_records_compare_like_their_folders(tmp_path: Path) -> None:
    runs = [make("bonsai", 0.5), make("flap", 0.25)]
    runs[1].save(tmp_path / "flap")
    assert compare_runs(runs).table.text() == comparison(runs).text()
    assert compare_runs([runs[0], tmp_path / "flap"]).table.text() == comparison(runs).text()
