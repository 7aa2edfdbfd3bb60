"""What an administrator decides."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

import attar
from attar.annotate import corpus
from attar.annotate.loading import study_config
from attar.annotate.opening import open_project
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import state_of
from attar.annotate.tables import ProjectRow
from attar.data.segments.cuts import Segmented
from attar.errors import ConfigError
from attar.methods.active_segmentation.picks import DrawConfig


def longest_drawn(folder: Path) -> set[int]:
    with open_project(folder) as project, project.read() as session:
        return {arm.longest for arm in study_config(session).arms.values()}


def test_what_may_be_imported_may_be_drawn(tmp_path: Path) -> None:
    config = AnnotateConfig(reserve_fraction=0.0, reserve_minimum=0)
    folder = tmp_path / "p"
    attar.annotate.init(folder, config=config, drawing=DrawConfig(longest=400))
    assert longest_drawn(folder) == {400}
    rows = [Segmented("กา" * 150 + "มา" * at, ()) for at in range(1, 100, 7)]
    with open_project(folder) as project:
        report = corpus.add(project, rows)
    assert (report.new, report.too_long) == (8, 7)
    attar.annotate.event.add(folder, kind="strategy.change", change={"longest": 500})
    assert longest_drawn(folder) == {500}
    with open_project(folder) as project:
        assert corpus.add(project, rows).new == 7
    attar.annotate.init(tmp_path / "q", config=AnnotateConfig(longest=90))
    assert longest_drawn(tmp_path / "q") == {90}


def test_no_limit_of_length_contradicts_another(tmp_path: Path) -> None:
    config = AnnotateConfig(reserve_fraction=0.0, reserve_minimum=0)
    folder = tmp_path / "p"
    attar.annotate.init(folder, config=config, drawing=DrawConfig(shortest=350, longest=400))
    with pytest.raises(ConfigError, match="longest"):
        attar.annotate.event.add(folder, kind="strategy.change", change={"longest": 340})
    changes = {"shortest": 410, "longest": 420}
    attar.annotate.event.add(folder, kind="strategy.change", change=changes)
    assert longest_drawn(folder) == {420}
    with open_project(folder) as project, project.write() as session:
        state = state_of(session)  # as earlier versions stored a limit
        settings = replace(state.settings, draw={**state.settings.draw, "longest": 450})
        session.execute(update(ProjectRow).values(settings=settings.to_json()))
    assert longest_drawn(folder) == {450}
    attar.annotate.event.add(folder, kind="strategy.change", change={"longest": 500})
    assert longest_drawn(folder) == {500}
