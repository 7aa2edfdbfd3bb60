"""The context that every verb runs in: what it records, and what it leaves behind."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from attar.errors import ConfigError, TrainingDivergedError
from attar.report.artefact import artefact
from attar.report.record import Paper, Run, recorded_data

PAPER = Paper(title="A Paper", authors=("A. Author",), year=2024)
SETTINGS = {"model": "parent", "data": "python-stdlib", "steps": 3}


def test_it_records_what_it_was_given_and_what_the_verb_found(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with artefact(
        out,
        command="prune",
        method="bonsai",
        paper=PAPER,
        settings=SETTINGS,
        recipe="bonsai/paper",
        seed=7,
    ) as work:
        work.card = {"pipeline_tag": "text-generation"}
        (work.folder / "weights").write_text("w")
        work.run.quality = {"after": {"accuracy": 0.5}}
        assert not out.exists()
    run = Run.load(out)
    assert run.to_dict() == work.run.to_dict()
    assert (run.command, run.method, run.paper, run.seed) == ("prune", "bonsai", PAPER, 7)
    assert (run.model, run.data) == ("parent", "python-stdlib")
    assert run.settings == SETTINGS | {"processes": 1, "recipe": "bonsai/paper"}
    assert run.quality == {"after": {"accuracy": 0.5}}
    assert run.seconds is not None
    assert run.seconds >= 0
    assert {file.name for file in out.iterdir()} == {"weights", "attar.json", "README.md"}
    assert "A Paper" in (out / "README.md").read_text(encoding="utf-8")


def test_a_record_names_files_as_seen_from_its_folder(tmp_path: Path) -> None:
    far, near = tmp_path / "disk" / "books.txt", tmp_path / "runs" / "parent"
    for path in (near, far.parent):
        path.mkdir(parents=True)
    far.write_text("text")
    with artefact(near / "own", command="pretrain", settings={"data": str(far)}):
        pass
    settings = {"model": str(near), "teacher": near, "data": str(far), "steps": 3, "note": "/none"}
    out = tmp_path / "runs" / "out"
    with artefact(out, command="prune", settings=settings) as work:
        work.card = {"pipeline_tag": "text-generation"}
        work.run.details = {"target": {"name": str(near)}}
    run = Run.load(out)
    assert run.to_dict() == work.run.to_dict()
    assert (run.model, run.data) == ("../parent", "books.txt")
    assert (
        run.settings.items() >= {"model": "../parent", "teacher": "../parent", "steps": 3}.items()
    )
    assert run.details["target"]["name"] == "../parent"
    for file in out.iterdir():
        assert str(tmp_path) not in file.read_text(encoding="utf-8")
    (near / "own").rename(near / "was")
    Run("prune", model="was", settings={}).save(near)  # made from a model that names its data
    assert recorded_data(near) == {"data": "books.txt"}
    Run("prune", data="../disk", settings={"data": "../disk"}).save(tmp_path / "runs")
    assert recorded_data(tmp_path / "runs") == {"data": str(tmp_path / "disk")}


def test_a_verb_that_writes_no_model_has_no_card(tmp_path: Path) -> None:
    with artefact(tmp_path / "out", command="cost", settings={}):
        pass
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["attar.json"]


def test_a_crash_before_there_is_anything_to_resume_from_leaves_nothing(tmp_path: Path) -> None:
    opened = artefact(tmp_path / "out", command="heal", settings=SETTINGS)
    with pytest.raises(RuntimeError, match="a crash"), opened:
        raise RuntimeError("a crash")
    assert list(tmp_path.iterdir()) == []


def test_a_shared_folder_is_filled_by_several_runs(tmp_path: Path) -> None:
    """None is refused for what others have written, and each writes the record when it says so."""
    for number in (1, 2):
        with artefact(tmp_path, command="draft search", settings={}, shared=True) as work:
            assert (work.folder, work.state) == (tmp_path, None)
            (tmp_path / f"trial-{number}").write_text("done")
            work.run.details = {"trials": number}
            work.save()
    assert Run.load(tmp_path).details == {"trials": 2}
    interrupted = artefact(tmp_path, command="draft search", settings={}, shared=True)
    with pytest.raises(KeyboardInterrupt), interrupted:
        raise KeyboardInterrupt
    assert {file.name for file in tmp_path.iterdir()} == {"trial-1", "trial-2", "attar.json"}


def test_runs_that_share_a_folder_are_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = SimpleNamespace(num_processes=2)
    monkeypatch.setattr("attar.report.artefact.processes", lambda: launch)
    opened = artefact(tmp_path, command="draft search", settings={}, shared=True)
    with pytest.raises(ConfigError, match="a search runs in one process, found 2"), opened:
        pass


def test_without_a_folder_everything_stays_in_memory(tmp_path: Path) -> None:
    with artefact(None, command="cost", settings=SETTINGS) as work:
        assert (work.path, work.state, work.sub_state("x")) == (None, None, None)
        work.run.cost = {"after": {"params": 3}}
    assert work.run.cost == {"after": {"params": 3}}
    assert work.run.seconds is not None
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_goes_on_with_the_same_settings_whatever_the_recipe(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), artefact(out, command="heal", settings=SETTINGS) as work:
        assert not work.resuming
        assert work.state is not None
        (work.state / "half").write_text("done")
        work.began -= 100
        raise KeyboardInterrupt
    other = artefact(out, command="heal", settings=SETTINGS | {"steps": 4}, resume=True)
    with pytest.raises(ConfigError, match="steps=3, not 4"), other:
        pass
    with artefact(out, command="heal", settings=SETTINGS, recipe="mine", resume=True) as work:
        assert work.resuming
        assert work.state is not None
        assert (work.state / "half").read_text() == "done"
    assert Run.load(out).settings["recipe"] == "mine"
    assert 100 <= (Run.load(out).seconds or 0) < 200  # with what came before
    assert not (out / "seconds").exists()


def test_a_training_that_diverged_leaves_nothing_to_resume(tmp_path: Path) -> None:
    entered = artefact(tmp_path / "out", command="heal", settings=SETTINGS)
    with pytest.raises(TrainingDivergedError), entered as work:
        assert work.state is not None
        (work.state / "teacher").mkdir()
        (work.state / "teacher" / "shard").write_text("x")
        raise TrainingDivergedError("the loss became nan")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5])
def test_a_seed_that_no_generator_takes_is_refused_before_the_work(
    tmp_path: Path, seed: int
) -> None:
    refused = pytest.raises(ConfigError, match="seed must be a whole number from 0 to 4294967295")
    with refused, artefact(tmp_path / "out", command="cost", settings=SETTINGS, seed=seed):
        pytest.fail("the work has begun")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_may_lie_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with artefact("~/out", command="cost", settings={}):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
