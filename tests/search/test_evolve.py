"""Evolution within limits: nobody is scored twice, whoever dies, and all workers go one way."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import processes
from attar.errors import AttarError, BudgetError, ConfigError, DataError
from attar.search.evaluations import read_history
from attar.search.evolve import Evolution, EvolutionConfig, evolve, ranked, score_all
from attar.search.individuals import Genes, Problem
from attar.search.statistics import expected_best
from breeding import Knapsack, Towers, history

SMALL = EvolutionConfig(population=8, parents=4, mutations=3, crossovers=3, iterations=4)


def pack(
    folder: Path, config: EvolutionConfig = SMALL, *, sack: Knapsack | None = None
) -> Evolution:
    return evolve((sack or Knapsack()).problem, config, folder=folder)


# ------------------------------------------------------------------------------------- the search


def test_evolution_beats_twice_as_many_draws(tmp_path: Path) -> None:
    """In expectation, which is exact: all that there are can be listed."""
    sack = Knapsack()
    config = EvolutionConfig(population=20, parents=6, mutations=8, crossovers=8, iterations=5)
    found = pack(tmp_path / "study", config, sack=sack)
    drawn = expected_best([*map(sack.value, sack.all_feasible())], 2 * len(found.history))
    assert found.best.score == found.best_scores[-1] == sack.value(found.best.genes)
    assert found.best.score > drawn > found.best_scores[0]
    assert found.best.cost == {"params": sack.weighs(found.best.genes)}


@settings(max_examples=12)  # a journal is written through to the disk
@given(
    limit=st.integers(8, 60),
    at_least=st.integers(0, 40),
    seed=st.integers(0, 999),
    sizes=st.tuples(*[st.integers(1, 6)] * 4),
)
def test_nobody_is_scored_twice_or_beyond_the_limits_and_the_best_never_falls(
    tmp_path_factory: pytest.TempPathFactory,
    limit: int,
    at_least: int,
    seed: int,
    sizes: tuple[int, int, int, int],
) -> None:
    sack = Knapsack(limit=max(limit, at_least + 6), at_least=at_least)
    names = ("population", "parents", "mutations", "crossovers")
    config = EvolutionConfig(**dict(zip(names, sizes, strict=True)), iterations=3, seed=seed)
    found = pack(tmp_path_factory.mktemp("one") / "study", config, sack=sack)
    assert all(map(sack.feasible, sack.scored))
    assert len(sack.scored) == len(set(sack.scored))
    assert sorted(one.genes for one in found.history) == sorted(sack.scored)
    assert all(one.score == sack.value(one.genes) for one in found.history)
    assert list(found.best_scores) == sorted(found.best_scores)
    assert found.best.score == found.best_scores[-1] == max(map(sack.value, sack.scored))
    counts = [sum(one.iteration == i for one in found.history) for i in range(3)]
    assert 1 <= counts[0] <= config.population
    assert max(counts[1:]) <= config.mutations + config.crossovers


def test_the_defaults_are_those_of_hat() -> None:
    expected = {"population": 125, "parents": 25, "mutations": 50, "crossovers": 50}
    expected |= {"mutation_probability": 0.3, "iterations": 30, "seed": 0}
    assert vars(EvolutionConfig()) == expected


def test_a_population_is_parents_their_mutants_and_their_children(tmp_path: Path) -> None:
    sack = Knapsack((4,) * 20, tuple(range(1, 21)), (1,) * 20, limit=30)
    config = EvolutionConfig(population=30, parents=6, mutations=10, crossovers=10, iterations=2)
    found = pack(tmp_path / "study", config, sack=sack)
    first, second = (ranked(o for o in found.history if o.iteration == i) for i in range(2))
    assert (len(first), len(second)) == (30, 20)
    parents = [one.genes for one in first[:6]]

    def apart(genes: Genes) -> list[set[int]]:
        """In which genes it differs from each parent."""
        return [{i for i in range(20) if genes[i] != p[i]} for p in parents]

    def child(genes: Genes) -> bool:
        """Whether two parents explain all genes."""
        return any(not (a & b) for a in apart(genes) for b in apart(genes))

    children = [one for one in second if child(one.genes)]
    mutants = [one for one in second if not child(one.genes)]
    assert len(children) >= 10
    assert len(mutants) >= 5
    # p = 0.3 of 20 genes, of which a quarter stay as they were; of two that were drawn 15 differ
    nearest = [min(map(len, apart(one.genes))) for one in mutants]
    assert 2 < sum(nearest) / len(nearest) < 8


def test_the_history_is_a_line_for_each_evaluation(tmp_path: Path) -> None:
    found = pack(tmp_path / "study", EvolutionConfig(population=3, iterations=1, seed=7))
    rows = [json.loads(line) for line in history(tmp_path / "study").splitlines()]
    assert [set(row) for row in rows] == [{"genes", "score", "cost", "iteration", "seed"}] * 3
    assert {row["seed"] for row in rows} == {7}
    assert tuple(read_history(tmp_path / "study")) == found.history
    with pytest.raises(DataError, match="there is no history"):
        read_history(tmp_path / "other")
    (tmp_path / "history.jsonl").write_text('{"genes": 3}\n')
    with pytest.raises(DataError, match="does not hold evaluations"):
        read_history(tmp_path)
    assert found.best.row() == {**found.best.cost, "score": found.best.score}


def test_other_seeds_take_other_ways(tmp_path: Path) -> None:
    ways = [
        pack(tmp_path / str(seed), EvolutionConfig(population=8, iterations=1, seed=seed))
        for seed in (0, 1)
    ]
    assert {one.genes for one in ways[0].history} != {one.genes for one in ways[1].history}


def test_genes_without_effect_are_scored_once(tmp_path: Path) -> None:
    towers, built = Towers(), list[tuple[int, ...]]()

    def height(tower: tuple[int, ...]) -> float:
        built.append(tower)
        return float(sum(tower))

    problem = Problem.of(towers, score=height, excess=lambda tower: sum(tower) - 6)
    found = evolve(problem, SMALL, folder=tmp_path / "study")
    assert len(built) == len(set(built))
    assert found.best.score == 6


def test_few_individuals_are_all_scored(tmp_path: Path) -> None:
    sack = Knapsack((3, 2, 4), (1, 5, 2), (2, 3, 1), limit=6)
    found = score_all(sack.problem, folder=tmp_path / "study")
    assert [one.genes for one in found.history] == sack.all_feasible() == sack.scored
    assert found.best.score == max(map(sack.value, sack.all_feasible()))
    score_all(sack.problem, folder=tmp_path / "study")
    assert len(sack.scored) == len(sack.all_feasible())
    with pytest.raises(BudgetError, match="nearest"):
        score_all(Knapsack(at_least=500, limit=600).problem, folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


# ------------------------------------------------------------------------------- what goes wrong


def test_who_cannot_be_scored_is_nobodys_parent(tmp_path: Path) -> None:
    def breaks(genes: Genes) -> None:
        if genes[0]:
            raise DataError("burnt")

    found = pack(tmp_path / "study", sack=Knapsack(before=breaks))
    failed = [one for one in found.history if one.genes[0]]
    assert failed
    assert {(one.score, one.error) for one in failed} == {(None, "burnt")}
    assert failed[0].to_dict()["error"] == "burnt"
    assert found.best.genes[0] == 0
    with pytest.raises(AttarError, match=r"none of 8 .* could be scored: .*found nan"):
        evolve(Problem((9, 9), score=lambda g: float("nan")), SMALL, folder=tmp_path / "nan")


def test_a_failure_of_the_machine_ends_the_worker_and_the_same_call_goes_on(
    tmp_path: Path,
) -> None:
    ends: list[BaseException] = [KeyboardInterrupt(), OSError("disk full")]

    def ended(genes: Genes) -> None:
        if ends and sum(genes) > 5:
            raise ends.pop()

    sack = Knapsack(before=ended)
    for end in (OSError, KeyboardInterrupt):
        with pytest.raises(end):
            pack(tmp_path / "study", sack=sack)
    found = pack(tmp_path / "study", sack=sack)
    assert found == pack(tmp_path / "whole")
    assert len(sack.scored) == len(set(sack.scored)) == len(found.history)


def test_a_search_with_other_settings_is_refused(tmp_path: Path) -> None:
    first, space = pack(tmp_path / "study"), {"space": {"hidden_size": [64, 128]}}
    longer = pack(tmp_path / "study", EvolutionConfig(**{**vars(SMALL), "iterations": 7}))
    assert longer.history[: len(first.history)] == first.history  # more iterations are welcome
    assert pack(tmp_path / "study") == first  # and fewer
    assert tuple(read_history(tmp_path / "study")) == longer.history
    for changed, why in (("seed", "seed 0, now 1"), ("parents", "parents 4, now 5")):
        config = EvolutionConfig(**{**vars(SMALL), changed: getattr(SMALL, changed) + 1})
        with pytest.raises(ConfigError, match=rf"other settings \({why}\); give the same"):
            pack(tmp_path / "study", config)
    with pytest.raises(ConfigError, match=r"choices \[4, 4.*\], now \[2, 2\]"):
        pack(tmp_path / "study", sack=Knapsack((2, 2), (1, 1), (1, 1)))
    with pytest.raises(ConfigError, match="space None, now"):
        evolve(Knapsack().problem, SMALL, folder=tmp_path / "study", settings=space)
    with pytest.raises(ConfigError, match="evolution"):
        score_all(Knapsack().problem, folder=tmp_path / "study")
    with pytest.raises(ConfigError, match="mutation_probability must be between 0 and 1"):
        EvolutionConfig(mutation_probability=1.5)


def test_limits_out_of_reach_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="nearest"):
        pack(tmp_path / "study", sack=Knapsack(at_least=500, limit=600))
    assert not (tmp_path / "study").exists()


# ----------------------------------------------------------------------------------- many workers


def work(folder: Path, log: Path, meet: Callable[[], object]) -> None:
    """Search as a worker, who waits for what comes before the first score and logs all scores."""

    def before(genes: Genes) -> None:
        if not log.exists():
            log.touch()
            meet()
        with log.open("a") as file:
            file.write(f"{json.dumps(genes)}\n")

    pack(folder, sack=Knapsack(before=before))


def die(folder: Path, log: Path, after: int) -> None:
    """Search as a worker who is killed while it scores."""
    scored = 0

    def before(genes: Genes) -> None:
        nonlocal scored
        scored += 1
        if scored > after:
            os.kill(os.getpid(), signal.SIGKILL)
        with log.open("a") as file:
            file.write(f"{json.dumps(genes)}\n")

    pack(folder, sack=Knapsack(before=before))


def test_two_workers_go_the_way_of_one(tmp_path: Path) -> None:
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    both_have_one = processes.context().Barrier(2, timeout=240)
    both = [processes.start(work, tmp_path / "study", log, both_have_one.wait) for log in logs]
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    scored = [log.read_text().splitlines() for log in logs]
    alone = pack(tmp_path / "alone")
    assert all(scored)  # both of them worked
    assert len(scored[0] + scored[1]) == len({*scored[0], *scored[1]}) == len(alone.history)
    assert history(tmp_path / "study") == history(tmp_path / "alone")


@pytest.mark.parametrize("after", [3, 10])  # in the first population, and in the second
def test_a_killed_search_goes_on_to_the_same_end(tmp_path: Path, after: int) -> None:
    dying = processes.start(die, tmp_path / "study", tmp_path / "log", after)
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    sack = Knapsack()
    found = pack(tmp_path / "study", sack=sack)
    assert found == pack(tmp_path / "whole")
    assert history(tmp_path / "study") == history(tmp_path / "whole")
    before = [tuple(json.loads(line)) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(before) == after
    assert sorted(before + sack.scored) == sorted(one.genes for one in found.history)
