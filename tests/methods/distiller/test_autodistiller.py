"""What is learned from studies: known effects are found again, and nothing leaks from the data set
that is held out."""

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar.errors import ConfigError, DataError
from attar.methods.distiller import autodistiller
from attar.methods.distiller.autodistiller import AutoDistiller, known_trials, targets_of
from attar.methods.distiller.pipelines import Pipeline
from attar.methods.distiller.study import STUDY_FILE, Trial, read_study
from attar.search.statistics import robust_z
from studies import PART, quality, scores_of, several, study, trial, write


@pytest.fixture(scope="module")
def rows() -> list[Trial]:
    return several()


@pytest.fixture(scope="module")
def fitted(rows: list[Trial]) -> AutoDistiller:
    return AutoDistiller.fit(rows)


def test_chance_is_not_stretched() -> None:
    close = [0.5, 0.501, 0.5, 0.502, 0.499]
    # A share of 0.5 of 100 right answers has a standard error of 0.05; the teacher scores 0.8.
    rows = [trial(Pipeline(), s, examples=100, teacher_score=0.8) for s in close]
    np.testing.assert_allclose(targets_of(rows, "z"), (np.array(close) - 0.5) / 0.05)
    assert np.isfinite(targets_of([replace(row, score=1.0) for row in rows], "z")).all()


# ------------------------------------------------------------------------------------ recommender


@pytest.mark.parametrize(
    ("model", "target"), [("ridge", "z"), ("ridge", "rank"), ("extra_trees", "z")]
)
def test_the_best_choices_are_found_again(rows: list[Trial], model: Any, target: Any) -> None:
    fitted = AutoDistiller.fit(rows, model=model, target=target)
    found = fitted.recommend(5, init="cut", candidates=PART)
    best = max(map(quality, PART))
    # Trees see the small effects less clearly than a line, for which these data are made.
    sure = 5 if model == "ridge" else 2
    assert [quality(r.pipeline) for r in found[:sure]] == pytest.approx([best] * sure)
    assert [r.predicted for r in found] == sorted((r.predicted for r in found), reverse=True)
    for r in found:
        assert r.interval[0] < r.predicted < r.interval[1]
        assert r.reasons[0][0] == "intermediate=mse"


def test_recommendations_hold_no_repeat_and_nothing_excluded(fitted: AutoDistiller) -> None:
    first = fitted.recommend(3, init="cut", candidates=PART)
    again = fitted.recommend(6, init="cut", candidates=PART)
    assert again[:3] == first
    # Excluded in a form that differs only in what has no effect.
    known = [replace(r.pipeline, alpha=0.123) for r in first]
    assert all(p != r.pipeline for p, r in zip(known, first, strict=True))
    assert fitted.recommend(3, init="cut", exclude=known, candidates=PART) == again[3:]
    assert fitted.recommend(5, init="cut", candidates=known) == first
    assert fitted.recommend(5, init="cut", exclude=known, candidates=known) == []
    with pytest.raises(ConfigError, match="init must be cut"):
        fitted.recommend(init="random")
    for n in (0, 101):
        with pytest.raises(ConfigError, match=f"between 1 and 100; found {n}"):
            fitted.recommend(n, init="cut")


def test_what_ran_comes_before_what_only_looks_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choices of the best pipeline that never ran did well, but apart."""
    tried = [
        Pipeline(intermediate="mse"),
        Pipeline(intermediate="mi", mixup=True),
        Pipeline(intermediate="cos"),
    ]
    rows = [
        trial(pipeline, score, dataset=dataset)
        for dataset in "ab"
        for pipeline, score in zip(tried, (0.8, 0.7, 0.5), strict=True)
    ]
    rows += [
        trial(Pipeline(intermediate="pkd"), 0.9, state="pruned"),
        trial(Pipeline(intermediate="ce"), 0.9, init="random"),
        trial(Pipeline(intermediate="none"), 0.6, init="random"),
    ]
    fitted = AutoDistiller.fit(rows)
    both = Pipeline(intermediate="mse", mixup=True).canonical()
    asked = [both, *(row.pipeline for row in rows)]
    found = fitted.recommend(9, init="cut", candidates=asked)
    assert [r.ran_on for r in found] == [2, 2, 2, 0, 0, 0, 0]
    best, first = (next(r for r in found if r.pipeline == p) for p in (both, tried[0].canonical()))
    assert best.predicted > first.predicted
    assert found[0] == first
    # Where nothing asked for ran, and in the whole space, the predictions are all there is.
    assert fitted.recommend(1, init="cut", candidates=[both])[0] == best
    monkeypatch.setattr(autodistiller, "enumerate_all", lambda: PART)
    assert fitted.recommend(4, init="cut")[3].predicted >= best.predicted
    assert fitted.recommend(1, init="random", candidates=asked)[0].ran_on == 1


def test_random_and_cut_students_may_want_different_losses() -> None:
    def other(pipeline: Pipeline) -> float:
        return 2.0 * (pipeline.intermediate == "mi")

    rows = [r for name in "abc" for r in study(name) + study(name, effect=other, init="random")]
    fitted = AutoDistiller.fit(rows)
    for init, wanted in (("cut", "mse"), ("random", "mi")):
        top = fitted.recommend(3, init=init, candidates=PART)
        assert {r.pipeline.intermediate for r in top} == {wanted}


def test_what_the_choices_add_sums_to_the_prediction(fitted: AutoDistiller) -> None:
    z = np.concatenate([robust_z(scores_of(fitted.trials, name)) for name in "abcd"])
    for r in fitted.recommend(3, init="cut", candidates=PART):
        added = fitted.contributions(r.pipeline, init="cut")
        # A ridge with an intercept predicts the mean of its targets on average.
        assert sum(added.values()) == pytest.approx(r.predicted - z.mean())
        assert all(added[name.split("=")[0]] == pytest.approx(by) for name, by in r.reasons)
        assert [by for _, by in r.reasons] == sorted((by for _, by in r.reasons), reverse=True)


def test_the_interval_holds_its_share_of_an_unseen_data_set(fitted: AutoDistiller) -> None:
    fresh = study("fresh", 200)
    z = robust_z(scores_of(fresh, "fresh"))
    inside = []
    for row, value in zip(fresh, z, strict=True):
        (r,) = fitted.recommend(1, init="cut", candidates=[row.pipeline])
        inside.append(r.interval[0] <= value <= r.interval[1])
    assert 0.65 < np.mean(inside) < 0.95


def test_the_interval_is_as_wide_as_the_errors_on_contexts_left_out() -> None:
    rows = [row for name in "abc" for row in study(name, 12, noise=0.5)]
    width = AutoDistiller.fit(rows).recommend(1, init="cut", candidates=PART)[0].interval
    errors = []
    for name in "abc":
        others = AutoDistiller.fit([row for row in rows if row.dataset != name])
        own = [row for row in rows if row.dataset == name]
        for row, z in zip(own, robust_z(scores_of(own, name)), strict=True):
            (r,) = others.recommend(1, init="cut", candidates=[row.pipeline])
            errors.append(abs(z - r.predicted))
    # Nearly: each of these chose its own penalty.
    wanted = np.quantile(errors, 0.8, method="higher")
    assert (width[1] - width[0]) / 2 == pytest.approx(wanted, rel=0.15)


def test_trials_that_failed_or_were_pruned_are_the_worst() -> None:
    base = [trial(Pipeline(mixup=bool(i % 2)), 0.5 + 0.01 * i, seed=i) for i in range(12)]
    cosine = Pipeline(intermediate="cos")
    for state, score in (("failed", None), ("pruned", 9.0)):
        lost = [trial(cosine, score, seed=i, state=state) for i in range(4)]
        for target in ("z", "rank", "raw"):
            fitted = AutoDistiller.fit(base + lost, target=target)
            ranked = fitted.recommend(
                3, init="cut", candidates=[cosine, Pipeline(), Pipeline(mixup=True)]
            )
            assert ranked[-1].pipeline == cosine


def test_the_order_of_trials_and_the_scale_of_a_data_set_do_not_matter(
    rows: list[Trial], fitted: AutoDistiller
) -> None:
    expected = fitted.recommend(3, init="cut", candidates=PART)
    shuffled = random.Random(1).sample(rows, len(rows))
    grown = [
        replace(r, score=7 * r.score) if r.dataset == "b" and r.score is not None else r
        for r in rows
    ]
    for changed in (shuffled, grown):
        found = AutoDistiller.fit(changed).recommend(3, init="cut", candidates=PART)
        assert [r.pipeline for r in found] == [r.pipeline for r in expected]
        assert [r.predicted for r in found] == pytest.approx([r.predicted for r in expected])


# -------------------------------------------------------------------------------------- evaluation


def held_out(table: Any, target: str) -> dict[str, Any]:
    return {row.dataset: row for row in table if row.target == target}


def test_the_data_set_that_is_held_out_is_never_seen(rows: list[Trial]) -> None:
    rows = [row for row in rows if row.dataset in "abc"]
    before = held_out(AutoDistiller.fit(rows).evaluate(), "z")
    # With its scores turned upside down the same prediction ranks it exactly the other way round.
    turned = [
        replace(r, score=2 - r.score) if r.dataset == "c" and r.score is not None else r
        for r in rows
    ]
    after = held_out(AutoDistiller.fit(turned).evaluate(), "z")
    assert before["c"].spearman > 0.5
    assert after["c"].spearman == pytest.approx(-before["c"].spearman)
    assert after["c"].percentile == pytest.approx(1 - before["c"].percentile)
    # and the others do learn from it
    assert after["a"].spearman < before["a"].spearman


def test_the_table_holds_what_brute_force_finds() -> None:
    rows = study("a") + study("b", 8, noise=0.0) + study("b", 8, noise=0.0, setting="1k labels")
    table = held_out(AutoDistiller.fit(rows).evaluate(), "z")
    learned = AutoDistiller.fit([row for row in rows if row.dataset == "a"])
    regrets, chances, counts = [], [], []
    for setting in ("all", "1k labels"):
        scores: dict[Pipeline, list[float]] = {}
        for row in rows:
            if row.dataset == "b" and row.setting == setting and row.score is not None:
                scores.setdefault(row.pipeline, []).append(row.score)
        means = {pipeline: float(np.mean(s)) for pipeline, s in scores.items()}
        picks = [r.pipeline for r in learned.recommend(5, init="cut", candidates=means)]
        best = max(means.values())
        regrets.append(best - max(means[p] for p in picks))
        every = [best - max(five) for five in itertools.combinations(means.values(), 5)]
        chances.append(np.mean(every))
        counts.append(len(means))
    assert table["b"].random_regret == pytest.approx(np.mean(chances))
    assert table["b"].random_regret > 0
    assert table["b"].regret == pytest.approx(np.mean(regrets))
    assert table["b"].candidates == np.mean(counts)
    assert set(table) == {"a", "b", "mean"}
    assert table["mean"].spearman == pytest.approx((table["a"].spearman + table["b"].spearman) / 2)


def test_the_standing_within_a_context_beats_the_raw_ratio_where_scales_differ() -> None:
    # Each data set tries other losses more often, and the easier ones happen to try the poor ones.
    rng = random.Random(3)
    rows = []
    for i, name in enumerate("abcdef"):
        level, scale = 0.3 + 0.12 * i, 0.002 + 0.004 * (i % 3)
        for row in study(name, 60, level=level, scale=scale, noise=0.5):
            if rng.random() < (0.25 if (quality(row.pipeline) > 0) == (i > 2) else 1.0):
                rows.append(row)
    table = AutoDistiller.fit(rows).evaluate()
    z, raw = held_out(table, "z")["mean"], held_out(table, "raw")["mean"]
    assert z.spearman > raw.spearman + 0.2
    assert z.regret < z.random_regret
    assert z.regret < raw.regret
    assert z.random_regret == pytest.approx(raw.random_regret)
    assert z.percentile > 0.7


def test_the_papers_own_target_is_listed_once(rows: list[Trial]) -> None:
    table = AutoDistiller.fit(rows[:80], target="raw").evaluate()
    assert [(row.dataset, row.target) for row in table] == [
        ("a", "raw"),
        ("b", "raw"),
        ("mean", "raw"),
    ]


def test_too_little_to_learn_from_is_refused(rows: list[Trial]) -> None:
    with pytest.raises(DataError, match="two data sets of different texts, found only a"):
        AutoDistiller.fit(rows[:40]).evaluate()
    failed = [trial(Pipeline(mixup=x), None, state="failed") for x in (True, False)]
    for few in ([], rows[:1], failed):
        with pytest.raises(DataError, match="at least two pipelines"):
            AutoDistiller.fit(few)
    with pytest.raises(ConfigError, match="model must be"):
        AutoDistiller.fit(rows, model="lasso")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="target must be"):
        AutoDistiller.fit(rows, target="dpr")  # pyright: ignore[reportArgumentType]


# ----------------------------------------------------------------------------------------- studies


def test_what_is_known_is_the_shipped_studies_and_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = [write(tmp_path / f"{name}.jsonl", study(name, 4)) for name in "ab"]
    own = write(tmp_path / "search" / STUDY_FILE, study("c", 3))
    monkeypatch.setattr(autodistiller, "shipped", lambda: shipped)
    assert known_trials() == study("a", 4) + study("b", 4)
    for place in (own, own.parent):
        assert known_trials([place, own]) == study("a", 4) + study("b", 4) + study("c", 3)
    with pytest.raises(DataError, match="has no trials"):
        known_trials([write(tmp_path / "empty.jsonl", [])])
    monkeypatch.setattr(autodistiller, "shipped", list)
    assert known_trials([own]) == study("c", 3)
    with pytest.raises(ConfigError, match="give one with studies"):
        known_trials()


def test_the_shipped_studies_are_what_the_project_says() -> None:
    trials: dict[str, int] = {}
    for file in autodistiller.shipped():
        learned = AutoDistiller.fit(read_study(file))
        for row in learned.trials:
            trials[row.dataset] = trials.get(row.dataset, 0) + 1
    assert len(trials) >= 7
    assert sum(name.startswith("python-stdlib") for name in trials) == 2
    assert min(trials.values()) >= 40
