"""Searches on a real PostgreSQL server, as workers on several machines share it."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest

import postgres
import processes
from attar.search import trials as mechanism
from attar.search.evolve import Evolution, EvolutionConfig, evolve
from attar.search.individuals import Genes
from attar.search.trials import PlannedTrial, Queue, counted
from breeding import Knapsack, history

SMALL = EvolutionConfig(population=6, parents=3, mutations=2, crossovers=2, iterations=3)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if why := postgres.missing():
        pytest.skip(why)
    with postgres.server() as url:
        yield url


def pack(folder: Path, url: str | None, sack: Knapsack | None = None) -> Evolution:
    return evolve((sack or Knapsack()).problem, SMALL, folder=folder, storage=url)


def work(
    folder: Path,
    url: str,
    log: Path,
    waits: list[Callable[[], object]],
    last_act: Callable[[], object] | None = None,
) -> None:
    """Search as a worker, who waits for the others before the first score and logs all scores; one
    with a last act is killed while it scores its third."""
    scored = 0

    def before(genes: Genes) -> None:
        nonlocal scored
        if not scored:
            for wait in waits:
                wait()
        if scored == 2 and last_act:
            last_act()
            os.kill(os.getpid(), signal.SIGKILL)
        scored += 1
        with log.open("a") as file:
            file.write(f"{json.dumps(genes)}\n")

    pack(folder, url, Knapsack(before=before))


def scored(log: Path) -> list[Genes]:
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()]


def test_two_machines_share_a_search(tmp_path: Path, server: str) -> None:
    """They have a database in common and no folder."""
    folders = [tmp_path / machine / "shared" for machine in ("one", "two")]
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    both_have_one = processes.context().Barrier(2, timeout=240)
    both = [
        processes.start(work, folder, server, log, [both_have_one.wait])
        for folder, log in zip(folders, logs, strict=True)
    ]
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    by_worker = [scored(log) for log in logs]
    alone = pack(tmp_path / "alone", None)
    assert all(by_worker)  # both of them worked
    assert sorted(by_worker[0] + by_worker[1]) == sorted(one.genes for one in alone.history)
    assert [history(folder) for folder in folders] == [history(tmp_path / "alone")] * 2
    assert pack(folders[0], server, Knapsack(before=_nobody)) == alone


def _nobody(genes: Genes) -> None:
    raise AssertionError(f"{genes} was scored again")


def test_what_a_killed_worker_left_is_scored_by_the_other(tmp_path: Path, server: str) -> None:
    folder, logs = tmp_path / "killed", [tmp_path / "one.log", tmp_path / "two.log"]
    both_have_one = processes.context().Barrier(2, timeout=240)
    dies = processes.context().Event()  # without it, the other might leave nothing to die over
    dying = processes.start(work, folder, server, logs[0], [both_have_one.wait], dies.set)
    other = processes.start(
        work, folder, server, logs[1], [both_have_one.wait, partial(dies.wait, 240)]
    )
    for one in (dying, other):
        one.join()
    assert (dying.exitcode, other.exitcode) == (-signal.SIGKILL, 0)
    alone = pack(tmp_path / "alone", None)
    assert len(scored(logs[0])) == 2
    assert sorted(scored(logs[0]) + scored(logs[1])) == sorted(one.genes for one in alone.history)
    assert history(folder) == history(tmp_path / "alone")


def test_what_two_machines_list_at_once_is_run_once(tmp_path: Path, server: str) -> None:
    plan = [PlannedTrial(json.dumps([n]), {}, "listed") for n in range(6)]
    settings: dict[str, Any] = {"settings": {}, "plan": []}
    folders = [tmp_path / machine / "listed" for machine in ("one", "two")]
    one, other = (Queue.open(folder, server, **settings) for folder in folders)
    meet = threading.Barrier(2)

    def enqueue(study: optuna.Study, planned: list[PlannedTrial]) -> None:
        meet.wait()  # both have seen that nothing is there
        for trial in planned:
            study.enqueue_trial({}, user_attrs=trial.attributes())

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as machines:
        patch.setattr(mechanism, "_enqueue", enqueue)
        list(machines.map(lambda queue: queue.add(plan), (one, other)))
    with one, other:
        assert (one.count(), len(counted(one.study.get_trials()))) == (12, 6)
        ran = list[str]()
        while trials := [trial for queue in (one, other) if (trial := queue.take())]:
            for trial in trials:
                ran.append(trial.user_attrs["payload"])
                one.study.tell(trial.number, 0.5)
        assert sorted(ran) == sorted(planned.payload for planned in plan)
        assert one.ended().keys() == set(ran)
