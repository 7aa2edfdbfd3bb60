"""Every verb that needs a project, on PostgreSQL: other tests of the command line use SQLite."""

import io
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import annotating
from attar.annotate.opening import open_project
from attar.cli.app import run
from attar.data.segments.formats import write_segments

SMALL = (
    "--dictionary none --iterations 8 --hash-bits 12 --reserve-minimum 12 --seed-sentences 8 "
    "--budget 120 --overlap-share 0.5 --low-water 0 --retrain-after 0"
)


def test_every_verb_on_postgresql(
    new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_segments(annotating.sentences(60), tmp_path / "gold.txt", format="best")
    (tmp_path / "g2.md").write_text("Join them.\n", encoding="utf-8")

    def typed(line: str, *, code: int = 0) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("long enough\n"))
        assert run(["annotate", *shlex.split(line)]) == code, line

    typed(f"init thai {SMALL} --database '{new_database()}'")
    typed("import thai --data gold.txt")
    for name in ("ann", "bob"):
        typed(f"user add thai {name}")
    typed("user role thai bob --role reviewer")
    typed("user list thai")
    typed("draw thai")
    with open_project("thai") as project:
        for name in ("ann", "bob"):
            annotating.annotate(project, name)
    typed("worker thai --once")
    typed("train thai")
    typed("status thai")
    typed("curve thai -o curve.csv")
    typed("agree thai")
    typed("transfer thai --kind pointwise")
    typed("event add thai --kind strategy.change --change strategy=margin --change budget=90")
    typed("event add thai --kind guideline.change --after g2 --guideline g2.md --policy keep")
    typed("event list thai")
    typed("train thai --history")
    typed("export thai -o labels.jsonl")
    typed("export thai -o all")
    typed("doctor thai")
    typed("upgrade thai")
    typed("backup thai", code=2)  # that is for pg_dump
