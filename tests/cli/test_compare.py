"""`attar compare` prints what Python says."""

import json
from pathlib import Path

import pytest

from attar.cli.compare import compare
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
        with pytest.raises(ConfigError, match=r"page\.html' is there already"):
            verb(compare, *places, option, str(page))
    assert page.read_text() == written
    assert verb(compare, places[0] + "/attar.json", places[1], "--json", "-") == 0
    assert json.loads(capsys.readouterr().out) == expected.records
    assert verb(compare, *places, "--markdown") == 0
    assert capsys.readouterr().out == expected.markdown() + "\n"
    with pytest.raises(DataError, match="no run record"):
        verb(compare, str(tmp_path / "three"))


def test_records_compare_like_their_folders(tmp_path: Path) -> None:
    runs = [make("bonsai", 0.5), make("flap", 0.25)]
    runs[1].save(tmp_path / "flap")
    assert compare_runs(runs).table.text() == comparison(runs).text()
    assert compare_runs([runs[0], tmp_path / "flap"]).table.text() == comparison(runs).text()
