"""Folders that appear when they are complete, or not at all."""

import errno
import pathlib
import subprocess
import sys

import pytest

from attar import artefacts
from attar.errors import ConfigError, DataError, ResourceError


def test_who_has_no_home_is_asked_for_a_folder(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ATTAR_HOME", raising=False)
    monkeypatch.setattr(pathlib.Path, "home", nowhere)
    with pytest.raises(ConfigError, match="set ATTAR_HOME to a folder"):
        artefacts.home()


def test_workspace_appears_only_when_complete(tmp_path):
    final = tmp_path / "out"
    with artefacts.workspace(final, settings={"a": 1}) as space:
        (space.path / "model").write_text("x")
        assert not final.exists()
    assert [p.name for p in final.iterdir()] == ["model"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_workspace_leaves_nothing_after_bad_input_and_state_after_a_break(tmp_path):
    final = tmp_path / "out"
    for folder in (final, tmp_path / "deep" / "er" / "out"):
        with pytest.raises(DataError), artefacts.workspace(folder, settings={}):
            raise DataError("bad")
        assert list(tmp_path.iterdir()) == []
    shared = tmp_path / "deep" / "out"
    with pytest.raises(DataError), artefacts.workspace(shared, settings={}):
        (tmp_path / "deep" / "other").mkdir()  # of another run
        raise DataError("bad")
    (tmp_path / "deep" / "other").rmdir()
    (tmp_path / "deep").rmdir()
    with pytest.raises(KeyboardInterrupt), artefacts.workspace(final, settings={"a": 1}) as space:
        (space.state / "step").write_text("7")
        raise KeyboardInterrupt
    with (
        pytest.raises(ConfigError, match="--resume"),
        artefacts.workspace(final, settings={"a": 1}),
    ):
        pass
    with (
        pytest.raises(ConfigError, match="a=1"),
        artefacts.workspace(final, settings={"a": 2}, resume=True),
    ):
        pass
    with artefacts.workspace(final, settings={"a": 1}, resume=True) as space:
        assert space.resuming
        assert (space.state / "step").read_text() == "7"
    assert final.is_dir()


def test_a_run_that_goes_on_is_not_resumed_beside_itself(tmp_path):
    final = tmp_path / "out"
    with artefacts.workspace(final, settings={}) as space:
        (space.state / "step").write_text("7")
        with (
            pytest.raises(ConfigError, match="another process is working on the run in"),
            artefacts.workspace(final, settings={}, resume=True),
        ):
            pass
        assert (space.state / "step").read_text() == "7"
    assert list(final.iterdir()) == []
    partial = tmp_path / "out2.partial"
    partial.mkdir()
    (partial / "left").write_text("by a run that was killed at once")
    with artefacts.workspace(tmp_path / "out2", settings={}, resume=True) as space:
        assert [p.name for p in space.path.iterdir()] == ["state"]


_HOLDER = """
import sys, time
from attar import artefacts
with artefacts.workspace(sys.argv[1], settings={}) as space:
    (space.state / "step").write_text("7")
    print("at work", flush=True)
    time.sleep(600)
"""


def test_a_kill_gives_the_lock_of_a_run_back(tmp_path):
    final = tmp_path / "out"
    command = [sys.executable, "-c", _HOLDER, str(final)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "at work\n"
            with (
                pytest.raises(ConfigError, match="another process is working on the run in"),
                artefacts.workspace(final, settings={}, resume=True),
            ):
                pass
        finally:
            holder.kill()
    with artefacts.workspace(final, settings={}, resume=True) as space:
        assert space.resuming
        assert (space.state / "step").read_text() == "7"
    assert list(final.iterdir()) == []


def test_workspace_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ConfigError, match="empty"), artefacts.workspace(tmp_path, settings={}):
        pass
    assert (tmp_path / "precious").read_text() == "x"
    with (
        pytest.raises(ConfigError, match="cannot make the output folder"),
        artefacts.workspace(tmp_path / "precious" / "out", settings={}),
    ):
        pass


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), artefacts.replacing(tmp_path / "file") as unfinished:
        unfinished.write_text("ne")
        raise KeyboardInterrupt
    assert (tmp_path / "file").read_text() == "old"
    artefacts.write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with artefacts.workspace(tmp_path / "out", settings={}) as space:
        (space.path / "model").write_text("x")
    assert (tmp_path / "out").is_symlink()
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["model"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "out"]


def test_a_mount_point_is_filled(tmp_path, monkeypatch):
    def busy(folder):
        raise OSError(errno.EBUSY, "Device or resource busy")

    (tmp_path / "out").mkdir()
    with artefacts.workspace(tmp_path / "out", settings={}) as space:
        (space.path / "attar.json").write_text("{}")
        (space.path / "data").mkdir()
        (space.path / "data" / "model").write_text("x")
        monkeypatch.setattr(pathlib.Path, "rmdir", busy)
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["attar.json", "data", "model"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_output_folders_that_cannot_be_are_refused_before_the_work(tmp_path):
    (tmp_path / "nothing").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    for name, words in (
        ("nothing", "a link to 'nowhere'"),
        ("round", "a link to 'round'"),
        ("x" * 300, "too long"),
        ("x" * 250, "too long"),  # with .partial behind it
    ):
        with (
            pytest.raises(ConfigError, match=words),
            artefacts.workspace(tmp_path / name, settings={}),
        ):
            raise AssertionError("work began")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nothing", "round"]


def fill(folder):
    with artefacts.new_folder(folder) as unfinished:
        (unfinished / "made.txt").write_text("whole")
        assert not (folder / "made.txt").exists()


def test_a_new_folder_appears_whole_also_behind_a_link_or_where_it_is_mounted(
    tmp_path, monkeypatch
):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    fill(link)
    assert (tmp_path / "real" / "made.txt").read_text() == "whole"
    assert link.is_symlink()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    fill(pathlib.Path())
    assert pathlib.Path("made.txt").exists(), "whoever stands in it still does"
    volume = tmp_path / "volume"
    volume.mkdir()

    def busy(self):
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(pathlib.Path, "rmdir", busy)
    fill(volume)
    assert [entry.name for entry in volume.iterdir()] == ["made.txt"]
    assert not list(tmp_path.glob(".*"))


def test_what_a_kill_left_of_a_new_folder_is_deleted_but_not_what_another_fills(tmp_path):
    with artefacts.new_folder(tmp_path / "new[1]") as unfinished:
        (tmp_path / ".new[1].1.partial").mkdir()
        (tmp_path / ".new[1].1.partial" / "file").touch()
        (tmp_path / ".new[1].1.lock").touch()
        with artefacts.new_folder(tmp_path / "other"):
            assert len(list(tmp_path.glob(".*"))) == 6
        artefacts._sweep(tmp_path / "new[1]")
        assert {file.name for file in tmp_path.glob(".*")} == {
            unfinished.name,
            unfinished.with_suffix(".lock").name,
        }
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new[1]", "other"]


def test_of_two_that_fill_a_folder_at_once_the_second_is_told(tmp_path):
    final = tmp_path / "new"
    with (
        pytest.raises(ConfigError, match="is not empty: choose another"),
        artefacts.new_folder(final) as unfinished,
    ):
        (unfinished / "mine").touch()
        final.mkdir()
        (final / "theirs").touch()
    assert [file.name for file in tmp_path.rglob("*")] == ["new", "theirs"]


def test_a_new_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(DataError), artefacts.new_folder(tmp_path / "new") as unfinished:
        (unfinished / "made.txt").write_text("half")
        raise DataError("broken")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ResourceError, match="disk is full"), artefacts.new_folder(tmp_path / "new"):
        raise OSError(errno.ENOSPC, "no space")
    assert not list(tmp_path.iterdir())


def test_a_new_folder_replaces_nothing(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, message in {"": "not empty", "file": "is a file", "dangling": "a link to"}.items():
        with pytest.raises(ConfigError, match=message), artefacts.new_folder(tmp_path / name):
            pass
