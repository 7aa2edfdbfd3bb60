"""Rows of the three splits: cutting those that are missing, and tables of a task's columns."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from attar.data.labelled.columns import Rows
from attar.data.labelled.task import UNLABELLED, Task
from attar.data.text import HELD_OUT, SPLITS, hash_of
from attar.errors import DataError

logger = logging.getLogger(__name__)


def complete(
    splits: Mapping[str, Rows], *, origin: str, unlabelled: bool = False
) -> dict[str, Rows]:
    """Leave out what cannot be scored, and cut the missing splits from train.

    Args:
        splits: the rows of each split, None as the label where there is none.
        origin: the source as errors call it.
        unlabelled: nothing is left out of a split that has no label at all, and such rows of train
            are cut like others.

    Raises:
        DataError: train has too few different rows to be cut.
    """
    parts: dict[str, Rows] = {}
    for name, rows in splits.items():
        known = _usable(rows["label"], unlabelled)
        lost = len(rows["label"]) - len(known)
        if name == "train":
            if lost:
                logger.info("%d rows of train in %s have no label", lost, origin)
        elif lost:
            logger.warning("left out %d rows of %s in %s without a label", lost, name, origin)
            rows = _take(rows, known)
        if known or name == "train":
            parts[name] = rows
    if missing := [name for name in SPLITS if name not in parts]:
        train = parts["train"]
        pairs = train.get("text_pair", [""] * len(train["text"]))
        texts = (" ".join(t) if isinstance(t, list) else t for t in train["text"])
        keys = np.asarray(
            [hash_of(f"{a}\0{b}") for a, b in zip(texts, pairs, strict=True)],
            dtype=np.uint64,
        )
        known = np.zeros(len(keys), dtype=bool)
        known[_usable(train["label"], unlabelled)] = True
        distinct = np.unique(keys[known])
        if len(distinct) <= len(missing):
            raise DataError(
                f"expected {'' if unlabelled else 'labelled '}rows for train, "
                f"{' and '.join(missing)} in {origin}, found {len(distinct)} different "
                "ones; give more rows"
            )
        size = max(1, round(HELD_OUT * len(distinct)))
        # The place of a text in the order of the hashes; equal texts leave train together.
        drawn = distinct[: size * len(missing)]
        place = np.searchsorted(drawn, keys)
        away = np.isin(keys, drawn)
        parts["train"] = _take(train, np.flatnonzero(~away))
        for i, name in enumerate(missing):
            parts[name] = _take(train, np.flatnonzero(away & known & (place // size == i)))
    return {name: parts[name] for name in SPLITS}


def _usable(labels: Sequence[Any], unlabelled: bool) -> list[int]:
    """The rows with a label; where there are none and need be none, all."""
    known = [i for i, label in enumerate(labels) if label is not None]
    return [*range(len(labels))] if unlabelled and not known else known


def warn_of_leaks(splits: Mapping[str, Rows], *, origin: str) -> None:
    """Say how many rows of validation and test have a text that is in train too, unlabelled rows of
    it included, and of pairs how many are there as a pair, in this order or the other.

    Args:
        splits: the rows of each split, after `complete`.
        origin: the source as the warning calls it.
    """
    rows = {name: [*zip(*_texts(part), strict=True)] for name, part in splits.items()}
    known = {text for row in rows["train"] for text in row}
    held_out = [row for name in SPLITS[1:] for row in rows[name]]
    leaked = [row for row in held_out if not known.isdisjoint(row)]
    if not leaked:
        return
    said = ""
    if len(leaked[0]) > 1:
        pairs = {row for one in rows["train"] for row in (one, one[::-1])}
        whole = sum(row in pairs for row in leaked)
        said = f", {whole} of them as the same pair, in either order"
    logger.warning(
        "%d of %d rows of validation and test in %s have a text that is also in train%s; scores on "
        "them say little of new texts",
        *(len(leaked), len(held_out), origin, said),
    )


def _texts(rows: Rows) -> list[list[Any]]:
    """The columns of text; lists of words as tuples."""
    columns = [rows[name] for name in ("text", "text_pair") if name in rows]
    return [[tuple(t) if isinstance(t, list) else t for t in column] for column in columns]


def _take(rows: Rows, which: Iterable[int]) -> Rows:
    which = [int(i) for i in which]
    return {name: [column[i] for i in which] for name, column in rows.items()}


def to_dataset(rows: Rows, task: Task) -> Dataset:
    """The rows with the columns and types of this task."""
    string, whole = Value("string"), Value("int64")
    label: Any = {
        "single_label": whole,
        "regression": Value("float64"),
        "question_answering": {"text": List(string), "answer_start": List(whole)},
    }.get(task.kind, List(whole))
    blank: Any = {
        "single_label": UNLABELLED,
        "regression": math.nan,
        "multi_label": [UNLABELLED],
        "question_answering": {"text": [""], "answer_start": [UNLABELLED]},
    }.get(task.kind)
    texts = ["text", "text_pair"] if task.pair else ["text"]
    names = {
        "token_classification": ["words", "label"],
        "question_answering": ["question", "context", "answers"],
    }.get(task.kind, [*texts, "label"])
    columns = {ours: rows[theirs] for ours, theirs in zip(names, [*texts, "label"], strict=True)}
    columns[names[-1]] = [
        ([UNLABELLED] * len(text) if blank is None else blank) if known is None else known
        for text, known in zip(rows["text"], rows["label"], strict=True)
    ]
    listed = task.kind == "token_classification"
    features = dict.fromkeys(names[:-1], List(string) if listed else string)
    features |= {names[-1]: label, "source": whole}
    columns["source"] = list(range(len(rows["text"])))
    return Dataset.from_dict(columns, features=Features(features))
