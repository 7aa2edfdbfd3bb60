"""Searches on a real PostgreSQL server, as workers on several machines share it."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import postgres
import processes
from attar.search.evolve import Evolution, EvolutionConfig, evolve
from attar.search.individuals import Genes
from attar.search.trials import PlannedTrial, Queue, counted
from breeding import Knapsack, history

SMALL = EvolutionConfig(population=12, parents=4, mutations=5, crossovers=5, iterations=4)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if why := postgres.missing():
        pytest.skip(why)
    with postgres.server() as url:
        yield url


def pack(folder: Path, url: str | None, sack: Knapsack | None = None) -> Evolution:
    return evolve((sack or Knapsack()).problem, SMALL, folder=folder, storage=url)


def work(
    folder: Path, url: str, log: Path, meet: Callable[[], object], dies: int | None = None
) -> None:
    """Search as a worker, who waits for what comes before the first score and logs all scores; one
    may be killed while it scores."""
    scored = 0

    def before(genes: Genes) -> None:
        nonlocal scored
        if not scored:
            meet()
        if scored == dies:
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
        processes.start(work, folder, server, log, both_have_one.wait)
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
    dying = processes.start(work, folder, server, logs[0], both_have_one.wait, 2)
    other = processes.start(work, folder, server, logs[1], both_have_one.wait)
    for one in (dying, other):
        one.join()
    assert (dying.exitcode, other.exitcode) == (-signal.SIGKILL, 0)
    alone = pack(tmp_path / "alone", None)
    assert len(scored(logs[0])) == 2
    assert sorted(scored(logs[0]) + scored(logs[1])) == sorted(one.genes for one in alone.history)
    assert history(folder) == history(tmp_path / "alone")


def test_what_two_machines_list_at_once_is_run_once(tmp_path: Path, server: str) -> None:
    plan = [PlannedTrial(json.dumps([n]), {}, "listed") for n in range(20)]
    meet = processes.context().Barrier(2, timeout=240)
    folders = [tmp_path / machine / "listed" for machine in ("one", "two")]
    both = [processes.start(list_late, folder, server, plan, meet.wait) for folder in folders]
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    with Queue.open(folders[0], server, settings={}, plan=[]) as queue:
        trials = queue.study.get_trials(deepcopy=False)
        assert len(trials) > len(counted(trials)) == 20  # some were listed twice
        ran = [
            queue.study.tell(trial, 0.0).user_attrs["payload"] for trial in iter(queue.take, None)
        ]
        assert sorted(ran) == sorted(one.payload for one in plan)
        assert queue.ended().keys() == set(ran)


def list_late(folder: Path, url: str, plan: list[PlannedTrial], meet: Callable[[], object]) -> None:
    """List a plan at the same time as another."""
    queue = Queue.open(folder, url, settings={}, plan=[])
    meet()
    queue.add(plan)
