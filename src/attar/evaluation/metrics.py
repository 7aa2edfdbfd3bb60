"""How good predictions are, by the measures that each kind of task is reported in."""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from scipy import stats
from sklearn import metrics as measures
from torch import Tensor

from attar.data.labelled.task import UNLABELLED, Task
from attar.errors import DataError
from attar.evaluation.correlations import rank_correlation

LONGEST_ANSWER = 30  # tokens, as in the usual evaluation of SQuAD

Span = tuple[int, int, str]
"""First word, word after the last, type."""


def primary(task: Task) -> str:
    """The measure of `score_predictions` that a task is judged by; more is better."""
    if task.kind == "token_classification":
        return "entity_f1" if has_entities(task) else "accuracy"
    return {
        "single_label": "accuracy",
        "regression": "spearman",
        "multi_label": "micro_f1",
        "question_answering": "f1",
    }[task.kind]


def has_entities(task: Task) -> bool:
    """Whether the labels are tags B-type, I-type and O."""
    fits = all(re.fullmatch(r"O|[BI]-.+", name) for name in task.labels)
    return fits and any(name.startswith("B-") for name in task.labels)


def score_predictions(
    logits: Any, references: Any, *, task: Task, documents: Dataset | None = None
) -> dict[str, float]:
    """Compare predictions with what is known; rows and words without a label do not count.

    - single label: `accuracy`, `macro_f1` (over the classes that occur or are predicted),
      `matthews`;
    - regression: `pearson` and `spearman` (the rank correlation), both from -1 to 1 and 0 where one
      side is constant; `rmse`, in the unit of the labels;
    - multi-label, a label is predicted where its logit is positive: `micro_f1`, `macro_f1`,
      `mean_average_precision` (over the labels that occur);
    - token classification: `accuracy` of words, and with tags B-type, I-type, O `entity_precision`,
      `entity_recall` and `entity_f1` of whole entities, otherwise
      `macro_f1`; words that `encode` cut off do not count;
    - question answering: `exact_match` and `f1`, both as SQuAD 1.1 and 2.0 define them, from 0 to
      1. An answer is a span of at most 30 tokens; "" is one where some reference has no answer.

    Args:
        logits: `(N, C)`; a sequence of `(T, C)` for words or `(2, T)` for answers, T may differ.
        references: labels as `encode` gives them: `(N,)`, `(N, C)`, a sequence of `(T,)`; for
            question answering `answers`, a sequence of dictionaries with `text`.
        task: their task.
        documents: what `encode` returned, in the same order; for question answering only.

    Raises:
        DataError: lengths differ, nothing is labelled, or `documents` is missing.
    """
    if len(logits) != len(references):
        raise DataError(
            f"expected as many predictions as references, found {len(logits)} and "
            f"{len(references)}; score the rows that were predicted"
        )
    if task.kind == "question_answering":
        return _answers(logits, references, documents)
    if task.kind == "token_classification":
        return _words(logits, references, task)
    scores, known = _array(logits), _array(references)
    if task.kind == "regression":
        keep = ~np.isnan(known)
    else:
        keep = (known if known.ndim == 1 else known[:, 0]) != UNLABELLED
    _require(keep.any())
    compare = {"single_label": _classes, "regression": _numbers, "multi_label": _labels}[task.kind]
    return compare(scores[keep], known[keep])


def _require(labelled: Any) -> None:
    if not labelled:
        raise DataError(
            "expected labels to compare predictions with, found none; give labelled rows"
        )


def _array(values: Any) -> np.ndarray[Any, Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def _classes(scores: Any, known: Any) -> dict[str, float]:
    predicted = scores.argmax(-1)
    return {
        "accuracy": float((predicted == known).mean()),
        "macro_f1": _f1(known, predicted, "macro"),
        "matthews": _matthews(known, predicted),
    }


def _matthews(known: Any, predicted: Any) -> float:
    if len(np.union1d(known, predicted)) == 1:  # all alike: nothing to correlate
        return 0.0
    return float(measures.matthews_corrcoef(known, predicted))


def _f1(known: Any, predicted: Any, average: str) -> float:
    return float(measures.f1_score(known, predicted, average=average, zero_division=0))  # pyright: ignore[reportArgumentType]


def _numbers(scores: Any, known: Any) -> dict[str, float]:
    predicted, known = scores.reshape(len(known)).astype(float), known.astype(float)
    constant = np.ptp(predicted) == 0 or np.ptp(known) == 0
    return {
        "pearson": 0.0 if constant else float(np.asarray(stats.pearsonr(predicted, known))[0]),
        "spearman": rank_correlation(predicted, known),
        "rmse": float(np.sqrt(np.square(predicted - known).mean())),
    }


def _labels(scores: Any, known: Any) -> dict[str, float]:
    known, predicted = known.astype(int), (scores > 0).astype(int)
    occur = known.any(0)
    precision = [
        measures.average_precision_score(known[:, i], scores[:, i]) for i in np.flatnonzero(occur)
    ]
    return {
        "micro_f1": _f1(known, predicted, "micro"),
        "macro_f1": _f1(known, predicted, "macro"),
        "mean_average_precision": float(np.mean(precision)) if precision else 0.0,
    }


# ------------------------------------------------------------------------------------------ words


def _words(logits: Any, references: Any, task: Task) -> dict[str, float]:
    pairs = [(_array(z).argmax(-1), _array(y)) for z, y in zip(logits, references, strict=True)]
    sentences = [(z[: len(y)][y != UNLABELLED], y[y != UNLABELLED]) for z, y in pairs]
    tags, known = (np.concatenate(side) for side in zip(*sentences, strict=True))
    _require(len(known))
    scores = {"accuracy": float((tags == known).mean())}
    if not has_entities(task):
        return scores | {"macro_f1": _f1(known, tags, "macro")}
    hits = predicted = real = 0
    for sentence in sentences:
        ours, theirs = (entities([task.labels[i] for i in tags]) for tags in sentence)
        hits, predicted, real = hits + len(ours & theirs), predicted + len(ours), real + len(theirs)
    return scores | {
        "entity_precision": hits / max(1, predicted),
        "entity_recall": hits / max(1, real),
        "entity_f1": 2 * hits / max(1, predicted + real),
    }


def entities(tags: Sequence[str]) -> set[Span]:
    """The entities of one sentence of tags B-type, I-type, O.

    As CoNLL-2000 counts them: I-type opens an entity too where none of its type is open.
    """
    spans: set[Span] = set()
    start, open_type = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        head, _, name = tag.partition("-")
        if open_type and (head != "I" or name != open_type):
            spans.add((start, i, open_type))
            open_type = ""
        if head != "O" and not open_type:
            start, open_type = i, name
    return spans


# ---------------------------------------------------------------------------------------- answers


def _answers(logits: Any, references: Any, documents: Dataset | None) -> dict[str, float]:
    if documents is None or not {"context", "offsets"} <= {*documents.column_names}:
        raise DataError(
            "expected documents with context and offsets to read answers from, found "
            f"{'none' if documents is None else ', '.join(documents.column_names)}; give what "
            "encode returned"
        )
    if len(documents) != len(references):
        raise DataError(
            f"expected as many documents as references, found {len(documents)} and "
            f"{len(references)}; give what encode returned, in the same order"
        )
    texts = [list(answers["text"]) for answers in references]
    _require(texts)
    may_lack = any(not text for text in texts)
    exact, f1 = [], []
    columns = documents.with_format(None)
    for i, (z, text) in enumerate(zip(logits, texts, strict=True)):
        predicted = answer(_array(z), columns[i], may_lack=may_lack)
        accepted = text or [""]
        exact.append(max(normalise(predicted) == normalise(one) for one in accepted))
        f1.append(max(overlap(predicted, one) for one in accepted))
    return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(f1))}


def answer(logits: Any, row: Mapping[str, Any], *, may_lack: bool = False) -> str:
    """The likeliest span of the context.

    Args:
        logits: (2, T) of start and end, T may count padding.
        row: `context` and `offsets`, see `attar.data.labelled.encode.encode`.
        may_lack: "" if both ends on the first token are likelier than any span.
    """
    place = np.asarray([i for i, (start, _) in enumerate(row["offsets"]) if start >= 0], dtype=int)
    if not len(place):
        return ""
    starts, ends = np.asarray(logits, dtype=float)[:, place]
    sums = starts[:, None] + ends[None]
    gap = np.arange(len(place))[None] - np.arange(len(place))[:, None]
    sums[(gap < 0) | (gap >= LONGEST_ANSWER)] = -np.inf
    i, j = np.unravel_index(sums.argmax(), sums.shape)
    if may_lack and logits[0, 0] + logits[1, 0] > sums[i, j]:
        return ""
    first, last = row["offsets"][place[i]][0], row["offsets"][place[j]][1]
    return row["context"][first:last].strip()


def normalise(text: str) -> str:
    """Lower case without punctuation, articles and extra spaces, as SQuAD compares answers."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def overlap(given: str, reference: str) -> float:
    """F1 of the words of two answers, as SQuAD defines it; two empty ones agree."""
    ours, theirs = normalise(given).split(), normalise(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = _common(ours, theirs)
    return 2 * common / (len(ours) + len(theirs))


def _common(a: Iterable[str], b: Iterable[str]) -> int:
    return (Counter(a) & Counter(b)).total()
