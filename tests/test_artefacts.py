"""Folders that appear when they are complete, or not at all."""

import pytest

from attar import artefacts
from attar.errors import ConfigError, DataError


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
