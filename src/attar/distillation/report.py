"""What of the teacher the student kept, and what it costs beside it."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from attar.data.identifiers import CodeLanguage
from attar.data.labelled.task import UNLABELLED, Task
from attar.evaluation.correlations import rank_correlation
from attar.evaluation.flips import (
    agreement,
    chance_level,
    identifier_flips,
    kept,
    kept_above_chance,
)
from attar.evaluation.labelled import predict_rows
from attar.evaluation.metrics import primary, score_predictions
from attar.measure.text_latency import model_answer, text_latency
from attar.train.labelled_task import LabelledTask

#: texts of the test split that are timed, and those whose identifiers are renamed
TIMED, RENAMED = 50, 1000
#: seconds of the timings with one number of threads
_SECONDS = 20.0
_THREADS = (1, 2)


def compared(job: LabelledTask, rows: Dataset, *, context: int) -> dict[str, Any]:
    """How student and teacher do on the same rows.

    Returns:
        `rows` and `agreement`, the share of rows with the same prediction, or of a regression the
        rank correlation of the two; where rows have labels, `student` and `teacher`, their scores,
        and `kept`, the student's as a share of the teacher's; of classes also `chance`, the
        accuracy of the most frequent one, and `kept_above_chance`. None: the teacher scores no more
        than nothing, or than chance.
    """
    task = job.task
    said, encoded = [], rows
    for model, tokenizer in zip((job.student, job.teacher), job.tokenizers, strict=True):
        assert model is not None
        logits, encoded = predict_rows(model, rows, tokenizer=tokenizer, task=task, context=context)
        said.append(torch.stack(logits))
    told: dict[str, Any] = {"rows": len(rows), "agreement": _agreement(*said, task=task)}
    labels = [label for label in rows["label"] if _is_known(label)]
    if not labels:
        return told
    scores = [score_predictions(logits, encoded["labels"], task=task) for logits in said]
    values = [score[primary(task)] for score in scores]
    told |= {"student": scores[0], "teacher": scores[1], "kept": _number(kept(*values))}
    if task.kind == "single_label":
        chance = chance_level(labels)
        told["chance"] = chance
        told["kept_above_chance"] = _number(kept_above_chance(*values, chance=chance))
    return told


def _agreement(ours: Tensor, theirs: Tensor, *, task: Task) -> float:
    if task.kind == "regression":
        return rank_correlation(ours[:, 0].numpy(), theirs[:, 0].numpy())
    if task.kind == "multi_label":
        return float(((ours > 0) == (theirs > 0)).all(-1).double().mean())
    return agreement(ours, theirs)


def _is_known(label: Any) -> bool:
    if isinstance(label, list):
        return UNLABELLED not in label
    return label not in (None, UNLABELLED) and label == label  # NaN is not itself


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def timed(job: LabelledTask, rows: Dataset, *, context: int) -> list[dict[str, Any]]:
    """Milliseconds of single texts, `p50` and `p95` of student and teacher, with one thread and
    with two."""
    columns = ["text", "text_pair"] if job.task.pair else ["text"]
    some = rows.select(np.unique(np.linspace(0, len(rows) - 1, TIMED).round()).astype(int))
    texts = list(zip(*(some[name][:] for name in columns), strict=True))
    assert job.teacher is not None
    answers = {
        side: model_answer(model, tokenizer, context=context)
        for side, model, tokenizer in zip(
            ("student", "teacher"), (job.student, job.teacher), job.tokenizers, strict=True
        )
    }
    found = []
    for threads in _THREADS:
        times = text_latency(answers, texts, threads=threads, seconds=_SECONDS)
        found.append({"threads": threads, **{side: t.to_dict() for side, t in times.items()}})
    return found


def flipped(
    job: LabelledTask, rows: Dataset, *, language: CodeLanguage, context: int
) -> dict[str, Any]:
    """On how many rows student and teacher change their predictions where identifiers of the code
    have other names; of the first thousand rows."""
    rows = rows.select(range(min(RENAMED, len(rows))))
    told: dict[str, Any] = {"language": language, "rows": len(rows)}
    for side, model, tokenizer in zip(
        ("student", "teacher"), (job.student, job.teacher), job.tokenizers, strict=True
    ):
        assert model is not None
        flips = identifier_flips(
            model, rows, tokenizer=tokenizer, task=job.task, language=language, context=context
        )
        told[side] = flips.share
        told["renamed"] = flips.renamed
    return told
