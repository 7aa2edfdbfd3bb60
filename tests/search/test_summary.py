"""What came of a search: by hand, and as text."""

from pathlib import Path
from typing import Any

import pytest

from attar.errors import AttarError, ConfigError
from attar.search.summary import (
    Best,
    read_summary,
    summarise,
    summary_lines,
    trials_table,
    verdict,
)
from attar.search.trials import Origin, Queue
from bakery import CAKES, Cake, cake, plan, planned, search, taste


def of(score: float | None, state: Any = "complete", **other: Any) -> Cake:
    return Cake({}, score, state=state, **other)


def test_a_summary_by_hand() -> None:
    drawn: list[tuple[Cake, Origin]] = [
        (one, "random") for one in (of(0.4), of(0.6), of(0.9, "pruned"), of(None, "failed"))
    ]
    first: list[tuple[Cake, Origin]] = [(of(0.7), "recommended"), (of(0.5), "recommended")]
    summary = summarise([*first, *drawn])
    assert [cake.score for cake, _ in summary.ranked] == [0.7, 0.6, 0.5, 0.4]
    assert summary.best.score == 0.7
    assert (summary.pruned, summary.failed, summary.missing, summary.ended) == (1, 1, 0, 6)
    # A pruned trial counts as it was, a failed one as the worst.
    assert summary.random == Best(4, pytest.approx(0.9))
    assert summary.same_budget == Best(2, pytest.approx((3 * 0.9 + 2 * 0.6 + 0.4) / 6))
    assert summary.recommended == Best(2, 0.7)
    few = summarise([(of(0.7), "recommended"), (of(0.6), "recommended"), (of(0.5), "random")])
    assert (few.random, few.same_budget) == (Best(1, 0.5), None)
    alone = summarise([(of(0.5), "recommended")])
    assert (alone.random, alone.same_budget) == (None, None)
    listed = summarise([(of(0.5), "listed"), (of(0.6), "listed")], missing=3)
    assert (listed.random, listed.recommended, listed.missing) == (None, None, 3)
    assert listed.to_dict()["recommended"] is None
    assert summary.to_dict()["recommended"] == {"trials": 2, "score": 0.7}
    with pytest.raises(AttarError, match="none of the 1 trials"):
        summarise([(of(None, "failed"), "random")])


def test_what_a_search_found_is_read_from_its_folder(tmp_path: Path) -> None:
    cakes = search(tmp_path / "study", 7)
    summary = read_summary(tmp_path / "study", cake, storage=None)
    assert [one for one, _ in summary.ranked] == sorted(cakes, key=lambda c: -(c.score or 0))
    assert summary.best.score == max(taste(values) for values in map(_chosen, cakes))
    queue = Queue.open(tmp_path / "study", None, settings={"oven": "hot"}, plan=plan(9))
    with queue:
        assert queue.take() is not None
        assert read_summary(tmp_path / "study", cake, storage=None).missing == 2
    with pytest.raises(ConfigError, match="no study in"):
        read_summary(tmp_path / "other", cake, storage=None)
    url = f"sqlite:///{tmp_path}/trials.db"
    with pytest.raises(ConfigError, match="no study 'attar-other'"):
        read_summary(tmp_path / "other", cake, storage=url)


def _chosen(one: Cake) -> dict[str, Any]:
    return {name: tuple(v) if name == "fruit" else v for name, v in one.chosen.items()}


def test_a_trial_that_is_run_again_keeps_its_origin(tmp_path: Path) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    mixed = [planned(v, o) for v, o in zip(CAKES.enumerate_all(), _ORIGINS, strict=False)]
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "study", bake=interrupted, plan=mixed)
    search(tmp_path / "study", plan=mixed)
    summary = read_summary(tmp_path / "study", cake, storage=None)
    assert sorted(origin for _, origin in summary.ranked) == sorted(_ORIGINS)
    assert summary.ended == len(_ORIGINS)  # the interrupted one is not listed twice


_ORIGINS: list[Origin] = ["recommended", "random", "recommended", "random"]


def test_a_summary_as_text() -> None:
    trials: list[tuple[Cake, Origin]] = [
        (of(0.71234, test_score=0.6, seconds=12.0), "recommended"),
        (of(0.5), "random"),
        (of(None, "failed"), "random"),
    ]
    summary = summarise(trials, missing=2)
    table = trials_table(summary, lambda one: f"cake of {one.score}", heading="cake")
    assert table.columns == ["cake", "validation score", "test score", "seconds", "chosen"]
    assert table.rows[0] == ["cake of 0.71234", "0.7123", "0.6000", "12", "recommended"]
    assert table.rows[1][1:3] == ["0.5000", "-"]
    many = summarise([(of(0.1 * i), "random") for i in range(9)])
    assert len(trials_table(many, str, heading="cake").rows) == 5
    lines = summary_lines(summary, references={"grandmother": 0.9, "shop": None})
    assert [name for name, _ in lines] == [
        "trials",
        "still running",
        "grandmother",
        "shop",
        "best",
        "best of 2 random",
        "best of 1 recommended",
    ]
    text = dict(lines)
    assert text["trials"] == "3, of which 0 pruned and 1 failed"
    assert (text["grandmother"], text["shop"]) == ("0.9000", "-")
    assert text["best"].startswith("0.7123 ")
    assert text["best of 1 recommended"].startswith("0.7123, 0.2123 above the best of 1 random")
    whole = summarise(trials[:2])
    assert [name for name, _ in summary_lines(whole, references={})][:2] == ["trials", "best"]
    assert verdict(Best(2, 0.4), Best(2, 0.5)).startswith("0.1000 BELOW the best of 2 random")
    assert verdict(Best(2, 0.5), Best(2, 0.50001)).startswith("as good as the best of 2")
    assert "too few random ones" in verdict(Best(2, 0.5), None)
