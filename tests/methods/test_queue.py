"""The queue of a search: every trial runs once, whoever dies."""

import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from attar.methods.distiller.pipelines import Pipeline
from attar.search import trials as queue
from attar.search.trials import Queue, open_storage


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_living_worker_keeps_its_trial(tmp_path: Path) -> None:
    """Until it is gone, whatever its process or machine is called."""
    plan = [(Pipeline(), "random"), (Pipeline(intermediate="none"), "random")]
    given: dict[str, Any] = {"settings": {"a": 1}, "plan": plan}
    first, second = (Queue.open(tmp_path / "study", None, **given) for _ in range(2))
    with second:
        with first:
            taken, other = first.take(), second.take()
            assert taken is not None
            assert other is not None
            assert {taken.number, other.number} == {0, 1}
            assert second.take() is None
        again = second.take()
        assert again is not None
        assert again.user_attrs["instead_of"] == taken.number
    assert list((tmp_path / "study" / "workers").iterdir()) == []


def test_machines_that_share_a_database_list_the_trials_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/trials.db"
    open_storage(tmp_path, url)  # its tables are there
    plan = [(Pipeline(alpha=i / 8, intermediate="mi"), "random") for i in range(8)]
    enqueue, listed, ran = optuna.Study.enqueue_trial, [], []
    one_at_a_time = threading.Lock()

    def slowly(*args: Any, **options: Any) -> None:
        time.sleep(0.1)
        listed.append(threading.current_thread())
        enqueue(*args, **options)

    def machine(folder: Path) -> None:
        with Queue.open(folder, url, settings={"a": 1}, plan=plan) as queue:  # pyright: ignore[reportArgumentType]
            while True:
                with one_at_a_time:  # as the rows of a database server are locked; SQLite's are not
                    trial = queue.take()
                if trial is None:
                    return
                ran.append(trial.user_attrs["pipeline"])
                queue.study.tell(trial, 0.5)

    monkeypatch.setattr(optuna.Study, "enqueue_trial", slowly)
    folders = [tmp_path / name / "study" for name in ("one", "two", "three")]
    machines = [threading.Thread(target=machine, args=(folder,)) for folder in folders]
    for one in machines:
        one.start()
    for one in machines:
        one.join()
    assert len(listed) == 8
    assert len(set(listed)) == 1
    assert len(ran) == len(set(ran)) == 8


def test_on_a_database_a_failed_worker_leaves_its_trial(tmp_path: Path) -> None:
    """There a trial without a file is another machine's, which is left alone."""
    url = f"sqlite:///{tmp_path}/trials.db"
    given: dict[str, Any] = {"settings": {"a": 1}, "plan": [(Pipeline(), "random")]}
    failed = Queue.open(tmp_path / "study", url, **given)
    with pytest.raises(OSError, match="disk full"), failed:
        failed.take()
        raise OSError("disk full")
    with Queue.open(tmp_path / "study", url, **given) as other:
        again = other.take()
        assert again is not None
        assert again.user_attrs["instead_of"] == 0
        assert other.take() is None
    assert list((tmp_path / "study" / "workers").iterdir()) == []


def test_a_death_while_a_trial_is_put_back_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"settings": {"a": 1}, "plan": [(Pipeline(), "random")]}
    with Queue.open(tmp_path / "study", None, **given) as first:
        taken = first.take()
        assert taken is not None
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(optuna.Study, "tell", _dies)
            first.put_back(taken)
        assert not first.done_here()
    with Queue.open(tmp_path / "study", None, **given) as second:
        again = second.take()
        assert again is not None
        assert again.user_attrs["instead_of"] == taken.number
        assert second.take() is None  # nor is it there twice


def test_a_trial_that_another_machine_never_named_is_taken_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/trials.db"
    given: dict[str, Any] = {"settings": {"a": 1}, "plan": [(Pipeline(), "random")]}
    Queue.open(tmp_path / "one" / "study", url, **given).study.ask()  # and dies
    with Queue.open(tmp_path / "two" / "study", url, **given) as other:
        assert other.take() is None
        assert other.done_here()
        monkeypatch.setattr(queue, "_PATIENCE", 0.0)
        again = other.take()
        assert again is not None
        assert again.user_attrs["instead_of"] == 0
