"""Whether a small model answers as the large one does, and holds on to its answers.

Accuracy alone hides both: a student may be right as often as its teacher on other rows, and change
its mind when a variable gets another name (MetaCompress, 2025, arXiv 2511.05476, finds both of
compressed models of code).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.identifiers import CodeLanguage, rename_identifiers
from attar.data.labelled.task import UNLABELLED, Task
from attar.errors import ConfigError, DataError
from attar.evaluation.labelled import predict_rows

Predictions = Tensor | Sequence[int] | Sequence[Tensor]
"""Logits `(N, C)`, of one tensor or a row each, or classes `(N,)`."""


def agreement(student_predictions: Predictions, teacher_predictions: Predictions) -> float:
    """Share of the rows for which both predict one class, 0 to 1; which is right does not matter.

    Raises:
        DataError: there are no rows, or not as many of both.
    """
    student, teacher = _classes(student_predictions), _classes(teacher_predictions)
    if len(student) != len(teacher) or not len(student):
        raise DataError(
            f"expected predictions of two models for the same rows, found {len(student)} and "
            f"{len(teacher)}; give both for all rows, in one order"
        )
    return float((student == teacher).double().mean())


def chance_level(labels: Sequence[int]) -> float:
    """Accuracy of always naming the most frequent class: its share among the labelled rows.

    Raises:
        DataError: no row has a label.
    """
    counts = Counter(int(label) for label in labels if label != UNLABELLED)
    if not counts:
        raise DataError("expected labels to find the most frequent of, found none; give some")
    return max(counts.values()) / counts.total()


def kept(student: float, teacher: float) -> float:
    """The student's score as a share of the teacher's; NaN where the teacher has 0."""
    return student / teacher if teacher else float("nan")


def kept_above_chance(student: float, teacher: float, *, chance: float) -> float:
    """The same of what both have above the `chance_level`, as near to chance even a model that
    learnt nothing keeps most of the score. Below 0 for a student that is worse than chance; NaN
    where the teacher is no better than it."""
    return kept(student - chance, teacher - chance) if teacher > chance else float("nan")


@dataclass(frozen=True)
class Flips:
    """What new names of identifiers change in the predictions of a model."""

    rows: int
    renamed: int
    """Rows in whose texts there was a name to change."""
    flipped: int
    """Rows whose predicted class is another one under the new names."""
    accuracy: float | None
    """On the labelled rows as they are; None where there are none."""
    accuracy_renamed: float | None
    """And under the new names."""

    @property
    def share(self) -> float:
        """Of all rows, those that flipped: 0 to 1."""
        return self.flipped / self.rows

    @property
    def share_of_renamed(self) -> float:
        """Of the rows with new names, those that flipped; 0 where there are none."""
        return self.flipped / max(1, self.renamed)


def check_flips(task: Task, language: CodeLanguage) -> None:
    """Refuse, before a model is trained, what `identifier_flips` cannot count.

    Raises:
        ConfigError: a task of another kind than single labels.
        MissingExtraError: tree-sitter or a grammar of it is not installed.
    """
    if task.kind != "single_label":
        raise ConfigError(
            f"expected a task of single labels to count flips of, found {task.kind}; leave the "
            "flips out"
        )
    rename_identifiers("", language)


def identifier_flips(
    model: PreTrainedModel,
    documents: Dataset,
    *,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    language: CodeLanguage,
    context: int = 128,
    seed: int = 0,
) -> Flips:
    """How often a classifier changes its mind when the identifiers of the code get other names,
    which leaves what the code does as it was; the model's mode is restored.

    Args:
        model: a classifier.
        documents: rows of `load_labelled`.
        tokenizer: the model's.
        task: one of single labels.
        language: what the texts are written in.
        context: tokens of a row.
        seed: draws the names; the same for two models makes them comparable.

    Raises:
        ConfigError: another kind of task.
        DataError: there are no rows.
        MissingExtraError: tree-sitter or a grammar of it is not installed.
    """
    check_flips(task, language)
    columns = ["text", "text_pair"] if task.pair else ["text"]
    texts: dict[str, list[str]] = {name: documents[name][:] for name in columns}
    new = {
        name: [rename_identifiers(text, language, seed=seed) for text in column]
        for name, column in texts.items()
    }
    changed = [
        any(new[name][i] != texts[name][i] for name in columns) for i in range(len(documents))
    ]
    other = documents.select([i for i, is_new in enumerate(changed) if is_new])
    for name in columns:
        column: Any = [text for text, is_new in zip(new[name], changed, strict=True) if is_new]
        other = other.remove_columns(name).add_column(name, column)
    options: dict[str, Any] = {"tokenizer": tokenizer, "task": task, "context": context}
    before = _classes(predict_rows(model, documents, **options)[0])
    after = before.clone()
    if len(other):
        after[torch.tensor(changed)] = _classes(predict_rows(model, other, **options)[0])
    labels = torch.tensor(documents["label"][:])
    known = labels != UNLABELLED
    scores = [
        float((classes == labels)[known].double().mean()) if known.any() else None
        for classes in (before, after)
    ]
    return Flips(len(documents), sum(changed), int((before != after).sum()), *scores)


def _classes(predictions: Predictions) -> Tensor:
    """`(N,)` of logits or of classes."""
    if not isinstance(predictions, Tensor):
        rows = list(predictions)
        stacked = rows and isinstance(rows[0], Tensor)
        predictions = torch.stack(rows) if stacked else torch.tensor(rows)  # pyright: ignore
    return predictions.argmax(-1) if predictions.dim() > 1 else predictions.long()
