"""What a report says of a student and its teacher, for every kind of task and of labels."""

import math
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel

import encoders
from attar.data.labelled.task import Task, TaskKind
from attar.distillation.report import compared, flipped, timed
from attar.distillation.tables import report_lines
from attar.evaluation.correlations import rank_correlation
from attar.report.record import Run
from attar.train.labelled_task import LabelledTask

TEXTS = encoders.documents(8)["test"]["text"][:24]
TASKS: dict[TaskKind, Task] = {
    "single_label": Task("single_label", ("a", "b", "c")),
    "multi_label": Task("multi_label", ("a", "b", "c")),
    "regression": Task("regression"),
}
LABELS: dict[TaskKind, list[Any]] = {
    "single_label": [0, 1, 2, -100, 0, 0] * 4,
    "multi_label": [[0], [0, 2], [], [-100], [1], [0, 1]] * 4,
    "regression": [0.5, -1.0, 2.0, math.nan, 0.1, 0.7] * 4,
}
UNKNOWN: dict[TaskKind, Any] = {
    "single_label": -100,
    "multi_label": [-100],
    "regression": math.nan,
}


def job(kind: TaskKind, labels: list[Any]) -> tuple[LabelledTask, Dataset]:
    """Two models that disagree on some rows, and the rows."""
    task = TASKS[kind]
    rows = Dataset.from_dict({"text": TEXTS, "label": labels, "source": [*range(24)]})
    student, teacher = (encoders.encoder(task=task, seed=seed) for seed in (1, 2))
    for model in (student, teacher):  # of random weights all rows would be of one class
        with torch.no_grad():
            said = logits(model)
            bias: Any = model.get_submodule("classifier").bias
            bias -= said.mean(0)
    return (
        LabelledTask(
            student=student,
            tokenizer=encoders.tokenizer(),
            documents=encoders.documents(8),
            task=task,
            teacher=teacher,
        ),
        rows,
    )


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    given: Any = encoders.tokenizer()(TEXTS, padding=True, return_tensors="pt")
    return model(**given).logits


@pytest.mark.parametrize("kind", TASKS)
def test_agreement_is_of_all_rows_and_scores_of_those_with_labels(kind: TaskKind) -> None:
    made, rows = job(kind, LABELS[kind])
    assert made.teacher is not None
    ours, theirs = logits(made.student), logits(made.teacher)
    found = compared(made, rows, context=32)
    if kind == "single_label":
        expected = (ours.argmax(-1) == theirs.argmax(-1)).float().mean().item()
        known = [i for i, label in enumerate(LABELS[kind]) if label != -100]
        labels = torch.tensor([LABELS[kind][i] for i in known])
        right = [(x[known].argmax(-1) == labels).float().mean().item() for x in (ours, theirs)]
        assert found["student"]["accuracy"] == pytest.approx(right[0])
        assert found["teacher"]["accuracy"] == pytest.approx(right[1])
        assert found["kept"] == pytest.approx(right[0] / right[1])
        assert found["chance"] == pytest.approx(12 / 20)  # of the rows with labels
    elif kind == "multi_label":
        expected = ((ours > 0) == (theirs > 0)).all(-1).float().mean().item()
    else:
        expected = rank_correlation(ours[:, 0].numpy(), theirs[:, 0].numpy())
    if kind != "single_label":
        assert not {"chance", "kept_above_chance"} & found.keys()
    assert 0 < abs(found["agreement"]) < 1
    assert found["agreement"] == pytest.approx(expected, abs=1e-6)
    assert found["rows"] == 24
    alone = compared(made, job(kind, [UNKNOWN[kind]] * 24)[1], context=32)
    assert alone == {"rows": 24, "agreement": found["agreement"]}


def test_a_teacher_at_chance_has_nothing_that_is_kept_above_it() -> None:
    made, rows = job("single_label", [0] * 12 + [1] * 12)
    assert made.teacher is not None
    with torch.no_grad():
        bias: Any = made.teacher.get_submodule("classifier").bias
        bias[0] += 1000
    found = compared(made, rows, context=32)
    assert (found["teacher"]["accuracy"], found["chance"]) == (0.5, 0.5)
    assert found["kept_above_chance"] is None
    record = Run(command="distill")
    report = found | {"bytes": {"weights": 1000, "tokenizer": 0, "config": 24}}
    record.details = {"report": report, "primary": "accuracy"}
    lines = dict(report_lines(record))
    assert "; none of what is above chance, 50.0%" in lines["kept"]
    assert lines["on disk"].startswith("1.02 kB")
    assert "tokenizer" not in lines["on disk"]


def test_texts_that_are_timed_are_spread_over_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = job("single_label", LABELS["single_label"])
    seen: list[Any] = []

    def spy(answers: Any, texts: Any, *, threads: int, seconds: float) -> dict[str, Any]:
        seen.append((texts, threads))
        return {}

    monkeypatch.setattr("attar.distillation.report.text_latency", spy)
    monkeypatch.setattr("attar.distillation.report.TIMED", 3)
    assert timed(made, rows, context=32) == [{"threads": 1}, {"threads": 2}]
    some = [(TEXTS[i],) for i in (0, 12, 23)]
    assert seen == [(some, 1), (some, 2)]


def test_flips_are_of_the_first_rows_of_either_model(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tree_sitter_python")
    made, rows = job("single_label", LABELS["single_label"])
    monkeypatch.setattr("attar.distillation.report.RENAMED", 5)
    found = flipped(made, rows, language="python", context=32)
    assert found.keys() == {"language", "rows", "student", "teacher", "renamed"}
    assert found["rows"] == 5
