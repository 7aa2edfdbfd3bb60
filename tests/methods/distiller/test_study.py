"""Studies: read as they were written, and known effects are found again in them."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attar.errors import CompatibilityError, DataError
from attar.methods.distiller.importance import evaluate_studies, importance, importance_lines
from attar.methods.distiller.pipelines import SPACE, Pipeline, space_id
from attar.methods.distiller.study import conclusion, gap_closed, read_study, teacher_ratio
from attar.report.record import Run
from attar.search.summary import summarise
from studies import several, study, trial

# ------------------------------------------------------------------------------------------ files


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        trial(Pipeline(), 0.5, test_score=0.4, hard_score=0.1, seconds=3.5),
        trial(Pipeline(intermediate="mi"), math.nan, state="failed", setting="1k labels"),
    ]
    one = write(tmp_path / "1.jsonl", [row.to_dict() for row in rows])
    two = write(tmp_path / "2.jsonl", [trial(Pipeline(), 0.5, dataset="b").to_dict()])
    assert read_study([one, two, one]) == [*rows, trial(Pipeline(), 0.5, dataset="b")]
    assert json.loads(one.read_text().splitlines()[1])["score"] is None
    assert json.loads(two.read_text())["space"] == space_id()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"space": "0" * 12}, CompatibilityError, "search space"),
        ({"schema": 2}, CompatibilityError, "schema 1, found 2"),
        ({"pipeline": {"alpha": 2}}, DataError, "alpha"),
        ({"pipeline": {"intermediate": "mi", "alpha": 0.3}}, CompatibilityError, "of the space"),
        ({"pipeline": []}, DataError, "pipeline"),
        ({"score": None}, DataError, "score"),
        ({"score": math.nan}, DataError, "score"),
        ({"score": True}, DataError, "score"),
        ({"teacher_score": 0.0}, DataError, "teacher_score"),
        ({"dataset": 1}, DataError, "dataset"),
        ({"state": "running"}, DataError, "state"),
        ({"extra": 1}, DataError, "extra"),
    ],
)
def test_a_foreign_or_damaged_line_is_named(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = trial(Pipeline(), 0.5).to_dict()
    path = write(tmp_path / "study.jsonl", [good, {**good, **change}])
    with pytest.raises(error, match=rf"study\.jsonl, line 2: .*{message}"):
        read_study(path)


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    good = trial(Pipeline(), 0.5).to_dict()
    lacking = {key: value for key, value in good.items() if key != "seed"}
    for line, message in ((lacking, "line 1: .*seed"), ([], "line 1: .*a JSON object")):
        with pytest.raises(DataError, match=message):
            read_study(write(tmp_path / "s.jsonl", [line]))
    (tmp_path / "s.jsonl").write_text(json.dumps(good) + "\n\n" + json.dumps(good)[:40])
    with pytest.raises(DataError, match="line 3: expected a JSON object"):
        read_study(tmp_path / "s.jsonl")
    with pytest.raises(DataError, match="cannot read the study"):
        read_study(tmp_path / "none.jsonl")


# ---------------------------------------------------------------------------------------- figures


def test_a_conclusion_says_whether_the_best_is_above_the_noise() -> None:
    def said(score: float, hard: float | None, examples: int) -> str:
        one = replace(trial(Pipeline(), score, hard_score=hard), examples=examples)
        return conclusion(summarise([(one, "random")]))

    assert said(0.75, 0.7, 50) == (
        "No pipeline beat plain fine-tuning by more than the noise: 0.7500 against 0.7000, a "
        "difference of +0.0500 +- 0.1748 (95%) on 50 validation examples."
    )
    assert said(0.75, 0.7, 5000).startswith("The best pipeline beat plain fine-tuning by more")
    assert said(0.75, None, 50).startswith("Plain fine-tuning was not measured")


def test_ratios_to_the_teacher() -> None:
    assert teacher_ratio(0.6, 0.8) == pytest.approx(0.75)
    assert gap_closed(0.7, 0.8, hard=0.6) == pytest.approx(0.5)
    assert gap_closed(0.6, 0.8, hard=0.6) == 0
    assert gap_closed(0.8, 0.8, hard=0.6) == 1
    assert math.isnan(gap_closed(0.7, 0.6, hard=0.6))
    assert math.isnan(teacher_ratio(0.5, 0.0))


def test_importance_orders_known_effects_and_sums_to_one() -> None:
    wide = study("a", 80, noise=0.05)
    shares = importance(wide)
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == set(SPACE)
    assert list(shares)[:3] == ["intermediate", "mixup", "pred_loss"]
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert shares["intermediate"] > 0.5
    # What was never varied explains nothing.
    assert shares["hard_weight"] == shares["copies"] == 0
    assert importance(wide) == shares


def test_a_choice_does_not_take_credit_for_the_one_it_depends_on() -> None:
    rows = study("a", 80, noise=0.1, effect=lambda p: 2.0 * (p.intermediate == "mi"))
    shares = importance(rows)
    assert shares["intermediate"] > 0.8
    assert shares["alpha"] < 0.05


def test_importance_is_the_mean_over_contexts_that_say_something() -> None:
    rows = several()
    a, b = ([row for row in rows if row.dataset == name] for name in "ab")
    one, other = importance(a), importance(b)
    both = importance(a + b)
    for name in SPACE:
        assert both[name] == pytest.approx((one[name] + other[name]) / 2)
    silent = [trial(Pipeline(mixup=bool(i % 2)), 0.5, dataset="x", seed=i) for i in range(9)]
    repeats = [trial(Pipeline(), 0.1 * i, dataset="y", seed=i) for i in range(9)]
    pruned = [replace(row, dataset="a", seed=99, state="pruned") for row in b]
    assert importance(a + silent + repeats + rows[-3:] + pruned) == one
    for few in (silent, repeats, a[:7], []):
        with pytest.raises(DataError, match="at least 8 finished trials"):
            importance(few)


def test_studies_are_evaluated_with_a_record(tmp_path: Path) -> None:
    few = study("few", 3)
    path = write(tmp_path / "s.jsonl", [row.to_dict() for row in [*study("a"), *few]])
    run = evaluate_studies([path], output_dir=tmp_path / "out")
    assert run.details["shares"] == importance(study("a"))
    assert Run.load(tmp_path / "out").details == run.details
    assert evaluate_studies(path).details == run.details
    first, *_, one, other = importance_lines(run)
    assert first.splitlines()[2].split()[0] == next(iter(run.details["shares"]))
    assert one.startswith("a: s (cut) of t, all; used, 40 finished trials")
    assert other.endswith("left out: 3 finished trials, fewer than 8")
