"""`annotate init --demo`, with less text and fewer rounds than it has."""

from pathlib import Path

import pytest

from attar.annotate import demo, overview
from attar.annotate.opening import open_project
from attar.cli.app import run


def test_simulated_people_read_the_guideline_and_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pythainlp")
    for name, value in {"_SENTENCES": 120, "_RESERVED": 12, "_ROUNDS": 1, "_BUDGET": 200}.items():
        monkeypatch.setattr(demo, name, value)
    assert run(["annotate", "init", str(tmp_path / "demo"), "--demo"]) == 0
    assert "password" in capsys.readouterr().out
    with open_project(tmp_path / "demo") as project:
        people = overview.overview(project).people
    assert [person.answers > 0 for person in people] == [True] * 3


def test_a_demo_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pythainlp")
    monkeypatch.setattr(demo, "_SENTENCES", 30)
    monkeypatch.setattr(demo.corpus, "add", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.make_demo(tmp_path / "demo")
    assert not list(tmp_path.iterdir())
