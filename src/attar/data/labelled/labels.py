"""Labels: telling the task by them, reading, numbering and forgetting them."""

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from attar.data.files import reason
from attar.data.labelled.columns import NUMBER, Rows
from attar.data.labelled.task import UNLABELLED, TaskKind
from attar.data.text import SPLITS
from attar.errors import ConfigError, DataError, require

logger = logging.getLogger(__name__)


def infer(texts: Sequence[Any], labels: Sequence[Any], *, origin: str) -> TaskKind:
    """The kind of task that these labels are of.

    Args:
        texts: texts or words, one a label.
        labels: as the source has them, None where unknown.
        origin: the source as errors call it.

    Raises:
        DataError: there are no labels.
    """
    known = [(text, label) for text, label in zip(texts, labels, strict=True) if label is not None]
    example = next((label for _, label in known if label != []), None)
    if example is None:
        raise _unlabelled(origin)
    if isinstance(example, dict) or (isinstance(example, list) and isinstance(example[0], dict)):
        return "question_answering"
    if isinstance(example, list) and isinstance(example[0], bool | float):
        return "multi_label"
    if isinstance(example, list):
        words = (len(t.split() if isinstance(t, str) else t) for t, _ in known)
        each = all(n == len(label) for n, (_, label) in zip(words, known, strict=True))
        return "token_classification" if each else "multi_label"
    numbers = [label for _, label in known if isinstance(label, float)]
    # pandas writes whole numbers as 1.0 where some are missing, and only there
    whole = len(known) < len(labels) and all(number.is_integer() for number in numbers)
    return "regression" if numbers and not whole else "single_label"


def lacks_labels(labels: Iterable[Any]) -> bool:
    """Whether all labels, as the source has them, say that there is none."""
    return all(label is None or label in (-1, UNLABELLED, [UNLABELLED]) for label in labels)


def names_in(tables: Mapping[str, Dataset], column: str | None) -> tuple[str, ...] | None:
    """The names of labels in the order of their numbers, if a column of the source has them."""
    holder = next((table for table in tables.values() if column in table.column_names), None)
    feature = None if holder is None or column is None else holder.features[column]
    feature = getattr(feature, "feature", feature)  # of a list
    return tuple(feature.names) if isinstance(feature, ClassLabel) else None


def read_labels(
    splits: Mapping[str, Rows],
    kind: TaskKind,
    *,
    order: Sequence[str] | None,
    column: str,
    origin: str,
    skip_empty: bool = False,
    unlabelled: bool = False,
) -> None:
    """Check the rows, and bring their labels in place to names, numbers or answers, None where
    there is none; of token classification also the texts to words.

    Args:
        splits: the rows of each split.
        kind: the kind of task.
        order: names of the labels that are numbers, as of `names_in`.
        column: the labels' column as errors call it.
        origin: the source as errors call it.
        skip_empty: leave out rows without text.
        unlabelled: train need not have a label.

    Raises:
        DataError: a text is missing, a label is none of this task, or train has no label at all.
    """
    width = _multi_hot(splits) if kind == "multi_label" and order is None else None
    for name, rows in splits.items():
        if kind == "token_classification":
            rows["text"] = [t.split() if isinstance(t, str) else t for t in rows["text"]]
        empty = _check_texts(rows, kind, f"the {name} split of {origin}", skip_empty=skip_empty)
        labels = rows["label"]
        if kind == "regression" and name != "train" and {*labels} == {-1.0}:
            labels = [None] * len(labels)  # the test set of STS-B
        if kind == "single_label" and order is None and -1 in labels:
            if any(label not in (-1, UNLABELLED, None) for label in labels):
                raise DataError(
                    f"expected names or numbers from 0 as the labels in column {column!r}, found "
                    f"-1 among others in the {name} split of {origin}; leave the cells of unknown "
                    "labels empty, or give the class another name"
                )
            labels = [None] * len(labels)  # the test sets of GLUE
        for i, label in enumerate(labels):
            try:
                labels[i] = _label(label, kind, order, width=width)
                _check_label(labels[i], {key: rows[key][i] for key in rows})
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                raise DataError(
                    f"expected the labels of {kind.replace('_', ' ')} in column {column!r}, "
                    f"found {str(label)[:100]!r} in row {i + 1} of the {name} split of {origin} "
                    f"({reason(error)}); correct the row, or name another task or label_column"
                ) from error
        rows["label"] = labels
        for key, values in rows.items():
            rows[key] = [value for i, value in enumerate(values) if i not in empty]
    if not unlabelled and all(label is None for label in splits["train"]["label"]):
        raise _unlabelled(origin)


def _unlabelled(origin: str) -> DataError:
    return DataError(
        f"expected labels in the train split of {origin}, found none; name the right column with "
        "label_column (--label-column)"
    )


def _check_texts(rows: Rows, kind: TaskKind, where: str, *, skip_empty: bool) -> set[int]:
    """Which rows have no text and are to be left out."""
    without = {
        i: column
        for column in ("text_pair", "text")
        for i, text in enumerate(rows.get(column, ()))
        if text in (None, []) or (isinstance(text, str) and not text.strip())
    }
    if without and not skip_empty:
        first, count = min(without), len(without)
        raise DataError(
            f"expected text in every row of {where}, found none in row {first + 1} "
            f"({without[first]}){f' and {count - 1} others' if count > 1 else ''}; correct them, "
            "or leave such rows out with skip_empty (--skip-empty)"
        )
    if without:
        logger.warning("left out %d rows without text of %s", len(without), where)
    for column in ("text", "text_pair"):
        for i, text in enumerate(rows.get(column, ())):
            if i in without:
                continue
            if isinstance(text, list) and not all(isinstance(word, str) for word in text):
                raise DataError(
                    f"expected text for every word of {where}, found another kind in row {i + 1} "
                    f"({column}): {str(text)[:60]}; correct the row"
                )
            words = kind == "token_classification"
            if not isinstance(text, list if words else str):
                raise DataError(
                    f"expected {'words' if words else 'text'} for {kind} in "
                    f"{where}, found {type(text).__name__} in row {i + 1} ({column}); name another "
                    "task or text_column"
                )
    return {*without}


def _multi_hot(splits: Mapping[str, Rows]) -> int | None:
    """The number of classes, where every label has 0 or 1 (false or true) for each; None: labels
    list classes. Lists of the classes 0 and 1 that were all as long would all be the same."""
    lists = [y for rows in splits.values() for y in rows["label"] if isinstance(y, list) and y]
    lists = [y for y in lists if y != [UNLABELLED]]
    if any(isinstance(value, bool | float) for y in lists for value in y):
        return len(lists[0])
    same = len({len(y) for y in lists}) == 1 and len(lists[0]) > 1
    return len(lists[0]) if same and all(value in (0, 1) for y in lists for value in y) else None


def _label(
    value: Any, kind: TaskKind, order: Sequence[str] | None, *, width: int | None = None
) -> Any:
    """A label as name, number, list of names or answers; None if there is none."""
    if value is None or value == [UNLABELLED] or value == "":
        return None
    if kind == "single_label":
        return _name(value, order)
    if kind == "regression":
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            raise ValueError("not a number")
        if math.isinf(float(value)):
            raise ValueError("not finite")
        return None if math.isnan(float(value)) else float(value)
    if kind == "question_answering":
        if isinstance(value, list):  # one record an answer
            value = {key: [answer[key] for answer in value] for key in ("text", "answer_start")}
        value = {"text": [*value["text"]], "answer_start": [*map(int, value["answer_start"])]}
        return None if UNLABELLED in value["answer_start"] else value
    if kind == "multi_label":
        value = re.split(r"\s*,\s*", value.strip()) if isinstance(value, str) else value
        if width is not None:
            if len(value) != width or any(v not in (0, 1) for v in value):
                raise ValueError(f"each of {width} classes has 0 or 1")
            value = [i for i, v in enumerate(value) if v]
        return list(dict.fromkeys(_name(v, order) for v in value))
    names = [_name(v, order) for v in (value.split() if isinstance(value, str) else value)]
    return names if any(name is not None for name in names) else None


def _name(value: Any, order: Sequence[str] | None) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"{value} is not a class")
        value = int(value)
    if isinstance(value, int):
        if value in (-1, UNLABELLED):
            return None
        return order[value] if order else str(value)
    if not isinstance(value, str):
        raise TypeError("not a name or a whole number")
    return value


def _check_label(label: Any, row: Mapping[str, Any]) -> None:
    """Tags are as many as words, answers stand where they say."""
    if isinstance(label, dict):
        for text, start in zip(label["text"], label["answer_start"], strict=True):
            if start < 0 or row["text_pair"][start : start + len(text)] != text:
                raise ValueError(f"the context has no {text!r} at character {start}")
    elif isinstance(row["text"], list) and label and len(label) != len(row["text"]):
        raise ValueError(f"there are {len(row['text'])} words")


def number_labels(
    splits: Mapping[str, Rows], kind: TaskKind, *, order: tuple[str, ...] | None, origin: str
) -> tuple[str, ...]:
    """Turn names into numbers in place; the names in the order of their numbers.

    Args:
        splits: the rows of each split, after `read_labels`.
        kind: the kind of task.
        order: the names if the source has them; None: sorted.
        origin: the source as errors call it.

    Raises:
        DataError: train has a single label, nearly as many as rows, or not all that are named or
            that the other splits have.
    """
    if kind == "question_answering":
        return ()
    used = {name: Counter(_flat(rows["label"])) for name, rows in splits.items()}
    classes = used["train"]
    if len(classes) < 2:
        raise DataError(
            f"expected at least two different labels in the train split of {origin}, found "
            f"{', '.join(map(str, classes))}{_elsewhere(used)}; give examples of others, or name "
            "the right column with label_column (--label-column)"
        )
    if kind == "regression":
        return ()
    if kind == "single_label" and classes.total() >= 20 and 2 * len(classes) > classes.total():
        raise DataError(
            f"expected classes with several examples in {origin}, found {len(classes)} different "
            f"labels in {classes.total()} rows; name the right column with label_column, or "
            "regression as the task"
        )
    numeric = all(re.fullmatch(r"-?\d+", name) for name in classes)
    names = order or tuple(sorted(classes, key=int if numeric else str))
    if unseen := [name for name in names if name not in classes]:
        raise DataError(
            f"expected examples of every class in the train split of {origin}, found none of "
            f"{', '.join(unseen[:10])}; add some, or remove the class from the list of names"
        )
    for name in SPLITS[1:]:
        if unknown := sorted(used[name].keys() - classes.keys()):
            raise DataError(
                f"expected only labels of the train split in the {name} split of {origin}, found "
                f"also {', '.join(unknown[:10])}; add examples to train, or leave out those rows"
            )
    _number(splits, names)
    return names


def number_as(splits: Mapping[str, Rows], names: Sequence[str], *, origin: str) -> None:
    """Turn names into the numbers of a teacher's, in place; where it has none, nothing changes.

    Raises:
        DataError: a label that is none of its.
    """
    for split, rows in splits.items():
        used = {label for label in _flat(rows["label"]) if isinstance(label, str)}
        if unknown := sorted(used - {*names}):
            raise DataError(
                f"expected only labels of the teacher ({', '.join(names[:10])}) in the {split} "
                f"split of {origin}, found also {', '.join(unknown[:10])}; rename them, or leave "
                "out those rows"
            )
    if names:
        _number(splits, names)


def _number(splits: Mapping[str, Rows], names: Sequence[str]) -> None:
    number = {name: i for i, name in enumerate(names)}
    for rows in splits.values():
        for i, label in enumerate(rows["label"]):
            if isinstance(label, list):
                rows["label"][i] = [number.get(tag, UNLABELLED) for tag in label]
            elif label is not None:
                rows["label"][i] = number[label]


def _elsewhere(used: Mapping[str, Counter]) -> str:
    """Labels that only splits other than train have, as too few rows were left for it."""
    others = {str(label) for name in used for label in used[name]} - set(map(str, used["train"]))
    rows = sum(one.total() for one in used.values())
    return f" (its other splits have {', '.join(sorted(others))}; of {rows} rows)" if others else ""


def _flat(labels: Iterable[Any]) -> Iterable[Any]:
    for label in labels:
        yield from (n for n in (label if isinstance(label, list) else [label]) if n is not None)


def limited(labels: list[Any], kind: TaskKind, *, limit: int, seed: int) -> list[Any]:
    """Forget all but `limit` labels; those that stay are spread like all.

    Raises:
        ConfigError: `limit` is below the number of classes.
    """
    known = [i for i, label in enumerate(labels) if label is not None]
    classes = Counter(labels[i] for i in known) if kind == "single_label" else Counter()
    require(isinstance(limit, int), "limit_labels", limit, "a whole number")
    if limit < max(1, len(classes)):
        raise ConfigError(
            f"expected limit_labels of at least {max(1, len(classes))}, one a class, found "
            f"{limit}; raise it"
        )
    if limit >= len(known):
        return labels
    # Rows of a class are spread evenly over [0, 1), the first of each class at 0, so that a small
    # choice is part of a larger one.
    seen: Counter[Any] = Counter()
    place: dict[int, float] = {}
    for i in np.random.default_rng(seed).permutation(known).tolist():
        group = labels[i] if classes else None
        size = classes[group] if classes else len(known)
        place[i] = (seen[group] + 0.5) / size if seen[group] else 0.0
        seen[group] += 1
    kept = set(sorted(place, key=place.__getitem__)[:limit])
    return [label if i in kept else None for i, label in enumerate(labels)]
