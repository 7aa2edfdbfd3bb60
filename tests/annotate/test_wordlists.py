"""A segmenter's own words belong to the project: it trains wherever its folder is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from annotating import QUICK, annotate, filled
from attar.annotate import backups, event, jobs
from attar.annotate.backups import back_up, restore
from attar.annotate.checks import Finding, examine, problems
from attar.annotate.drawing import model_paths, refill
from attar.annotate.events import change_settings, events_of
from attar.annotate.exporting import export_project, read_export
from attar.annotate.opening import create_project, open_project
from attar.annotate.refusals import Busy
from attar.annotate.store import Project, state_of
from attar.annotate.tables import ProjectRow
from attar.errors import DataError
from attar.methods.active_segmentation.dictionary import load_dictionary
from attar.methods.active_segmentation.measuring import history
from attar.methods.active_segmentation.segmenter import Segmenter
from attar.methods.active_segmentation.study import test_set as labelled_reserve

pytest.importorskip("ahocorasick")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labelled and trained project, whose word list is gone from where it came from."""
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("กามา\n โตปู\nกามา\n", encoding="utf-8-sig")
    given = replace(QUICK, segmenter={**QUICK.segmenter, "dictionary": "words.txt"})
    with create_project("one", settings=given) as project:
        Path("words.txt").unlink()
        filled(project, 40)
        refill(project)
        annotate(project, "ann", 12)
        assert train(project) == ("กามา", "โตปู")
    return tmp_path / "one"


def train(project: Project) -> tuple[str, ...]:
    """Trains, and gives the words that the model knows."""
    jobs.ask_for(project)
    jobs.work(project, once=True)
    job = jobs.jobs(project)[0]
    assert (job.state, job.error) == ("done", "")
    with project.read() as session:
        path = model_paths(session)["random"][1]
    model = Segmenter.from_pretrained(project.models / path)
    assert model.dictionary
    return model.dictionary.words


def found(project: Project) -> list[Finding]:
    return list(problems(examine(project)))


def test_a_project_that_moved_trains(folder: Path) -> None:
    with open_project(folder) as project:
        file = back_up(project, output=folder.with_name("copy.zip"))
    folder.rename(folder.with_name("two"))
    for place in (folder.with_name("two"), restore(file, folder.with_name("three"))):
        with open_project(place) as project:
            assert train(project) == ("กามา", "โตปู")
            assert not found(project)
            with project.read() as session:  # neither the move nor the training changed anything
                assert not [e for e in events_of(session) if e.kind == "features.change"]


def test_an_export_trains_from_its_files_alone(folder: Path) -> None:
    with open_project(folder) as project:
        export_project(project, output=folder.with_name("out"))
    folder.rename(folder.with_name("gone"))
    study, points = read_export(folder.with_name("out"))
    words = load_dictionary(study.config.segmenter.dictionary)
    assert words
    assert words.words == ("กามา", "โตปู")
    again = history(study, test=labelled_reserve(study))
    last = {point.arm: point.scores for point in points}
    assert {point.arm: point.scores for point in again if point.arm != "union"} == {
        arm: scores for arm, scores in last.items() if arm != "union"
    }


def test_other_words_take_their_place(folder: Path) -> None:
    Path("more.txt").write_text("นีโต\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot read the dictionary 'typo\.txt'"):
        event.add(folder, kind="hyper.change", change={"dictionary": "typo.txt"})
    logged = event.add(folder, kind="hyper.change", change={"dictionary": "more.txt"})
    event.add(folder, kind="hyper.change", change={"iterations": 3})
    with open_project(folder) as project:
        assert train(project) == ("นีโต",)
        with project.read() as session:
            segmenter = state_of(session).settings.segmenter
    assert segmenter["iterations"] == 3
    log = event.list(folder).details["events"]
    assert not [one for one in log if one["detected"]]  # it was said why
    assert logged.details["event"]["after"] == f"dictionary={segmenter['dictionary']}"
    assert len(list((folder / "dictionaries").iterdir())) == 2


def test_a_list_from_elsewhere_stays_until_another_is_given(folder: Path) -> None:
    """As a project has it that was made before word lists were kept."""
    Path("old.txt").write_text("ไป\n", encoding="utf-8")
    old = str(Path("old.txt").resolve())
    with open_project(folder) as project:
        with project.write() as session:
            state = state_of(session)
            segmenter = {**state.settings.segmenter, "dictionary": old}
            settings = replace(state.settings, segmenter=segmenter)
            session.execute(update(ProjectRow).values(settings=settings.to_json()))
        assert train(project) == ("ไป",)
        (one,) = found(project)
        assert (one.check, "outside the project" in one.text) == ("words", True)
        Path("old.txt").unlink()
        before = len(event.list(folder).details["events"])
        with project.read() as session:
            revision = state_of(session).revision
        change_settings(project, expected=revision, settings=replace(settings, low_water=3))
        assert len(event.list(folder).details["events"]) == before  # nothing of it is logged


def test_a_name_that_only_looks_kept_is_a_file_like_any_other(folder: Path) -> None:
    Path("dictionaries").mkdir()
    Path("dictionaries/mine.txt").write_text("ไป\n", encoding="utf-8")
    event.add(folder, kind="hyper.change", change={"dictionary": "dictionaries/mine.txt"})
    with open_project(folder) as project:
        assert train(project) == ("ไป",)
        assert not found(project)


def test_a_backup_has_what_its_database_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = backups._copy_database

    def meanwhile(database: Path, copy: Path) -> None:
        Path("more.txt").write_text("นีโต\n", encoding="utf-8")
        event.add(folder, kind="hyper.change", change={"dictionary": "more.txt"})
        copied(database, copy)

    monkeypatch.setattr(backups, "_copy_database", meanwhile)
    with open_project(folder) as project:
        file = back_up(project)
    with open_project(restore(file, "restored")) as project:
        assert train(project) == ("นีโต",)


def test_a_backup_begins_again_when_a_training_ends_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = backups._files
    tries = 0

    def meanwhile(project: Project) -> list[Path]:
        nonlocal tries
        tries += 1  # twice for each attempt, for its size and for what it holds
        gone = folder / "models" / "9" / "config.json"  # it was there when they were listed
        return [*listed(project), *([gone] if tries == 2 else [])]

    monkeypatch.setattr(backups, "_files", meanwhile)
    with open_project(folder) as project:
        file = back_up(project)
    assert tries == 4
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    with open_project(restore(file, "restored")) as project:
        assert not found(project)


def test_a_backup_does_not_need_the_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The annotations are worth saving, and models can be trained again."""
    shutil.rmtree(folder / "models")
    (folder / "models").mkdir()
    copied, times = backups._copy_database, 0

    def counted(database: Path, copy: Path) -> None:
        nonlocal times
        times += 1
        copied(database, copy)

    monkeypatch.setattr(backups, "_copy_database", counted)
    with open_project(folder) as project:
        file = back_up(project)
    assert times == 2  # others may have taken their place meanwhile
    with open_project(restore(file, "restored")) as project:
        (one,) = found(project)
        assert "missing folder" in one.text
        assert train(project) == ("กามา", "โตปู")
        assert not found(project)


def test_a_file_that_keeps_going_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = backups._files
    monkeypatch.setattr(backups, "_files", lambda project: [*listed(project), folder / "gone"])
    with open_project(folder) as project, pytest.raises(Busy, match="try again"):
        back_up(project)
    assert not list((folder / "backups").iterdir())


@pytest.mark.parametrize("damage", ["words", "no words", "weights", "no model"])
def test_the_doctor_reads_words_and_models(folder: Path, damage: str) -> None:
    with open_project(folder) as project:
        assert not found(project)
        (words,) = (folder / "dictionaries").iterdir()
        with project.read() as session:
            model = project.models / model_paths(session)["active"][1]
        if damage == "words":
            words.write_text("ไป\n", encoding="utf-8")
        elif damage == "no words":
            words.unlink()
        elif damage == "weights":
            file = model / "model.safetensors"
            file.write_bytes(file.read_bytes()[:-9])
        else:
            model.rename(folder / "elsewhere")
        (one,) = found(project)
    assert one.check == ("words" if "words" in damage else "models")
    expected = {
        "words": "is not what it was; restore it from a backup, or give the words again",
        "no words": "is missing; restore it from a backup, or give the words again",
        "weights": "cannot be used, so train again",
        "no model": "missing folder",
    }
    assert expected[damage] in one.text
    if damage == "words":  # the same words again mend it
        Path("again.txt").write_text("โตปู\nกามา", encoding="utf-8")
        event.add(folder, kind="hyper.change", change={"dictionary": "again.txt"})
        with open_project(folder) as project:
            assert not found(project)
