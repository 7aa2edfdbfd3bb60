"""Trials that workers share: each runs once, whoever dies, and a study goes on where it was."""

import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import bakery
import processes
from attar.errors import ConfigError, DataError
from attar.search import trials as mechanism
from attar.search.storage import STUDY_FILE, check_folder, open_storage, settings_of
from attar.search.trials import MAX_RETRIES, Outcome, Queue, RunningTrial, counted, looks
from bakery import Cake, bake, plan, search, taste

ONE: dict[str, Any] = {"settings": {"a": 1}, "plan": plan(1)}


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def same(left: list[Cake], right: list[Cake]) -> bool:
    """But for the time that they took."""
    return [(c.chosen, c.score, c.state) for c in left] == [
        (c.chosen, c.score, c.state) for c in right
    ]


# --------------------------------------------------------------------------------------- the queue


def test_a_living_worker_keeps_its_trial(tmp_path: Path) -> None:
    """Until it is gone, whatever its process or machine is called."""
    given: dict[str, Any] = {"settings": {"a": 1}, "plan": plan(2)}
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
    enqueue, listed, ran = optuna.Study.enqueue_trial, [], []
    one_at_a_time = threading.Lock()

    def slowly(*args: Any, **options: Any) -> None:
        time.sleep(0.1)
        listed.append(threading.current_thread())
        enqueue(*args, **options)

    def machine(folder: Path) -> None:
        with Queue.open(folder, url, settings={"a": 1}, plan=plan(8)) as queue:
            while True:
                with one_at_a_time:  # as the rows of a database server are locked; SQLite's are not
                    trial = queue.take()
                if trial is None:
                    return
                ran.append(trial.user_attrs["payload"])
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
    failed = Queue.open(tmp_path / "study", url, **ONE)
    with pytest.raises(OSError, match="disk full"), failed:
        failed.take()
        raise OSError("disk full")
    with Queue.open(tmp_path / "study", url, **ONE) as other:
        again = other.take()
        assert again is not None
        assert again.user_attrs["instead_of"] == 0
        assert other.take() is None
    assert list((tmp_path / "study" / "workers").iterdir()) == []


def test_trials_can_be_added_and_each_is_run_once(tmp_path: Path) -> None:
    """Whoever has listed it, and whatever was run again."""
    url = f"sqlite:///{tmp_path}/trials.db"
    with Queue.open(tmp_path / "study", url, settings={"a": 1}, plan=[]) as queue:
        assert queue.study.user_attrs["listed"] == 0  # nobody waits for a list
        assert queue.take() is None
        queue.add(plan(2))
        queue.add(plan(3))
        for planned in plan(3):  # so does another machine, which has not seen that they are there
            queue.study.enqueue_trial({}, user_attrs=planned.attributes())
        first = queue.take()
        assert first is not None
        queue.put_back(first.number)
        while (trial := queue.take()) is not None:
            queue.study.tell(trial, 0.5)
        assert queue.count(optuna.trial.TrialState.COMPLETE) == 3
        assert queue.ended().keys() == {planned.payload for planned in plan(3)}
        assert {trial.value for trial in queue.ended().values()} == {0.5}
    assert len(counted(queue.study.get_trials())) == 3 < queue.count() == 7


def test_a_death_while_a_trial_is_put_back_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Queue.open(tmp_path / "study", None, **ONE) as first:
        taken = first.take()
        assert taken is not None
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(optuna.Study, "tell", _dies)
            first.put_back(taken.number)
        assert not first.done_here()
    with Queue.open(tmp_path / "study", None, **ONE) as second:
        again = second.take()
        assert again is not None
        assert again.user_attrs["instead_of"] == taken.number
        assert second.take() is None  # nor is it there twice


def test_a_trial_that_another_machine_never_named_is_taken_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/trials.db"
    Queue.open(tmp_path / "one" / "study", url, **ONE).study.ask()  # and dies
    with Queue.open(tmp_path / "two" / "study", url, **ONE) as other:
        assert other.take() is None
        assert other.done_here()
        monkeypatch.setattr(mechanism, "LISTING_TIMEOUT", 0.0)
        again = other.take()
        assert again is not None
        assert again.user_attrs["instead_of"] == 0


# ------------------------------------------------------------------------------ whole searches


def test_every_trial_is_run_once_and_a_study_goes_on(tmp_path: Path) -> None:
    ran: list[dict[str, Any]] = []

    def counted(values: dict[str, Any], trial: RunningTrial) -> Outcome:
        ran.append(values)
        return bake(values, trial)

    first = search(tmp_path / "study", 4, bake=counted)
    assert [cake.score for cake in first] == [taste(values) for values in ran]
    assert [cake.chosen for cake in first] == [json.loads(json.dumps(values)) for values in ran]
    lines = (tmp_path / "study" / STUDY_FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [cake.to_dict() for cake in first]
    assert search(tmp_path / "study", 4, bake=counted) == first  # nothing is left to do
    more = search(tmp_path / "study", 9, bake=counted)
    assert more[:4] == first
    assert len(ran) == len(more) == 9
    assert search(tmp_path / "study", 4, bake=counted) == more
    assert same(search(tmp_path / "whole", 9), more)
    assert settings_of(tmp_path / "study") == {"oven": "hot"}
    assert settings_of(tmp_path / "none") is None


def work(out: Path, log: Path, meet: Callable[[], object]) -> None:
    """Search as a worker; once it has a trial, it waits for what comes."""
    logging.basicConfig(filename=log, level=logging.INFO, format="%(message)s")
    met: list[object] = []

    def bake_when_met(values: dict[str, Any], trial: RunningTrial) -> Outcome:
        met[:] = met or [meet()]
        return bake(values, trial)

    search(out, 12, bake=bake_when_met)


def test_two_workers_run_every_trial_once(tmp_path: Path) -> None:
    out, logs = tmp_path / "study", [tmp_path / "one.log", tmp_path / "two.log"]
    both_have_a_trial = processes.context().Barrier(2, timeout=240)
    both = [processes.start(work, out, log, both_have_a_trial.wait) for log in logs]
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    cakes = search(out, 12)
    assert same(cakes, search(tmp_path / "alone", 12))
    ran = [re.findall(r"^trial (\d+):", log.read_text(), re.MULTILINE) for log in logs]
    assert sorted(int(number) for numbers in ran for number in numbers) == list(range(12))
    assert all(ran)  # both of them worked


def die_in_the_third(out: Path) -> None:
    baked = 0

    def dies(values: dict[str, Any], trial: RunningTrial) -> Outcome:
        nonlocal baked
        baked += 1
        if baked == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return bake(values, trial)

    search(out, 12, bake=dies)


def test_the_trial_of_a_killed_worker_is_run_again(tmp_path: Path) -> None:
    out = tmp_path / "study"
    dying = processes.start(die_in_the_third, out)
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    assert len((out / STUDY_FILE).read_text().splitlines()) == 2
    cakes = search(out, 12)
    whole = search(tmp_path / "whole", 12)
    assert all(cake.state == "complete" for cake in cakes)
    assert sorted(map(str, (c.chosen for c in cakes))) == sorted(
        map(str, (c.chosen for c in whole))
    )


def test_a_worker_may_die_while_it_takes_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("optuna.Trial.set_user_attr", dies)
        with pytest.raises(ZeroDivisionError):
            search(tmp_path / "study")
    cakes = search(tmp_path / "study")
    assert len({str(cake.chosen) for cake in cakes}) == len(cakes) == 6


def test_a_worker_may_die_while_it_lists_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue, left = optuna.Study.enqueue_trial, [2]

    def dies(*args: Any, **options: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise ZeroDivisionError
        enqueue(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", dies)
        with pytest.raises(ZeroDivisionError):
            search(tmp_path / "study")
    assert same(search(tmp_path / "study"), search(tmp_path / "whole"))


def test_a_trial_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    """The others go on: three workers die of it, and a fourth has nothing left but the rest."""
    poison: list[dict[str, Any]] = []

    def dies(values: dict[str, Any], trial: RunningTrial) -> Outcome:
        poison[:] = poison or [values]
        if values == poison[0]:
            raise SystemExit  # as if the system had killed it
        return bake(values, trial)

    deaths, cakes = 0, list[Cake]()
    for _ in range(9):
        try:
            cakes = search(tmp_path / "study", bake=dies)
            break
        except SystemExit:
            deaths += 1
    assert deaths == MAX_RETRIES
    assert [cake.state for cake in cakes].count("failed") == 1
    assert len({str(cake.chosen) for cake in cakes}) == len(cakes) == 6


@pytest.mark.parametrize("end", [OSError("disk full"), KeyboardInterrupt()])
def test_what_breaks_fails_alone_but_a_failure_of_the_machine_ends_the_worker(
    tmp_path: Path, end: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [RuntimeError("burnt"), DataError("no eggs"), end]

    def breaks(values: dict[str, Any], trial: RunningTrial) -> Outcome:
        if errors:
            raise errors.pop(0)
        return bake(values, trial)

    with pytest.raises(type(end)):
        search(tmp_path / "study", bake=breaks)
    cakes = search(tmp_path / "study", bake=breaks)
    assert [cake.state for cake in cakes].count("failed") == 2
    assert len({str(cake.chosen) for cake in cakes}) == len(cakes) == 6
    traced = {record.getMessage(): record.exc_info for record in caplog.records}
    assert traced["trial 0 failed: burnt"]
    assert not traced["trial 1 failed: no eggs"]  # said on purpose: no traceback


def test_a_trial_below_the_median_of_five_is_ended_early(tmp_path: Path) -> None:
    scores = iter([0.5, 0.1, 0.9, 0.3, 0.7, 0.49, 0.5, 0.51])
    ended_early: list[bool] = []

    def half(values: dict[str, Any], trial: RunningTrial) -> Outcome:
        pruned = trial.below_median(4, next(scores))
        ended_early.append(pruned)
        return Outcome(0.0 if pruned else taste(values), pruned=pruned)

    cakes = search(tmp_path / "study", 8, bake=half)
    # the sixth: of five others the median is 0.5; the seventh: of six it is 0.495
    assert ended_early == [False] * 5 + [True, False, False]
    assert [cake.state == "pruned" for cake in cakes] == ended_early
    assert looks(8) == [2, 4]
    assert looks(1) == []


def test_a_study_of_other_settings_is_refused(tmp_path: Path) -> None:
    settings = {"oven": "hot", "flour": {"grams": 300, "kind": "rye"}, "mill": "here"}
    first = search(tmp_path / "study", settings=settings)
    changed = settings | {"flour": {"grams": 400, "kind": "rye"}}
    with pytest.raises(ConfigError, match=r"\(grams 300, now 400\)"):
        search(tmp_path / "study", settings=changed)
    # what others tell by its content may be called differently
    assert (
        search(tmp_path / "study", settings=settings | {"mill": "there"}, names=("mill",)) == first
    )
    renamed = {"oven": "hot", "flour": {"weight": 300, "kind": "rye"}, "mill": "here"}
    with pytest.raises(ConfigError, match="now 300"):
        search(tmp_path / "study", settings=renamed)
    assert search(tmp_path / "study", settings=renamed, renamed={"grams": "weight"}) == first


def test_a_study_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """There the payload was called `pipeline`, and the parameters were Optuna's alone."""
    queue = Queue.open(tmp_path / "study", None, settings={"oven": "hot"}, plan=[])
    for one in plan(6):
        attrs = {"pipeline": one.payload, "origin": one.origin}
        queue.study.enqueue_trial(dict(one.parameters), user_attrs=attrs)
    queue.study.set_user_attr("listed", 6)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "study", bake=_dies)  # pyright: ignore[reportArgumentType]
    cakes = search(tmp_path / "study")
    whole = search(tmp_path / "whole")
    assert same(cakes, [*whole[1:], whole[0]])  # the interrupted one was put behind the others


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    search(tmp_path / "study", 1)
    check_folder(tmp_path / "study")
    (tmp_path / "recipes.txt").write_text("pancakes")
    for place in (tmp_path, tmp_path / "recipes.txt"):
        with pytest.raises(ConfigError, match=r"something other than a study|is a file"):
            check_folder(place)


def test_a_storage_that_cannot_be_opened_tells_no_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"foo://x:\*\*\*@y"):
        search(tmp_path / "study", url="foo://x:secret@y")
    assert not (tmp_path / "study").exists()


def test_a_study_in_a_database_goes_on_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/trials.db"
    cakes = search(tmp_path / "study", 3, url=url)
    assert search(tmp_path / "study", 3, url=url) == cakes
    assert same(search(tmp_path / "study", 5, url=url), search(tmp_path / "file", 5))
    assert [origin for _, origin in bakery.ended(tmp_path / "file")] == ["random"] * 5
