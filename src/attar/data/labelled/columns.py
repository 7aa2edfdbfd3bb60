"""Columns of a source: reading local files, finding those that matter, and picking them out."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset, concatenate_datasets
from datasets.table import InMemoryTable

from attar.data.files import LOADERS, group_by_split, kind, load_table, read_cells
from attar.data.labelled.published import CODESPLIT, read_codesplit, read_published
from attar.data.labelled.task import TaskKind
from attar.data.text import SPLITS
from attar.errors import DataError, did_you_mean

PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("func1", "func2"),
)
TEXTS = ("text", "sentence", "sentence1", "question", "content", "review", "document", "func")
WORDS = ("words", "tokens")
LABELS = (
    *("label", "labels", "answer", "score", "rating", "stars", "class", "category", "target"),
    "sentiment",
)
TAGS = ("ner_tags", "tags", "pos_tags", "chunk_tags", "labels", "label")
ANSWERS = ("question", "context", "answers")
"""Usual names of columns, the first that is there wins; case does not matter."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan", re.ASCII | re.IGNORECASE)
"""Text that is a number; Python would also read 1_0 and digits of other scripts."""
_WHOLE = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)

Rows = dict[str, list[Any]]
"""Columns by their name here; labels still as names, numbers or answers, None where unknown."""


@dataclass(frozen=True)
class Roles:
    """Which columns of the source are the text, its partner and the label (None: it has none)."""

    text: str
    pair: str | None
    label: str | None


def read_files(path: Path, named: Sequence[str]) -> tuple[dict[str, Dataset], bool]:
    """The table of each split in a file or folder, and whether any cells were read as strings.

    Args:
        path: a file, or a folder with a file or more for each split.
        named: columns that the user named, which tell a line of names from a row.

    Raises:
        DataError: a file cannot be read, has no columns, or has others than those next to it.
    """
    if published := read_published(path):
        return published, False
    groups = {name: files for name, files in group_by_split(path).items() if name in SPLITS}
    every = [file for files in groups.values() for file in files]
    loaders = {file: LOADERS[kind(file) or ""] for file in every}
    lines = {file: read_codesplit(file) for file, loader in loaders.items() if loader is None}
    if plain := [file for file, table in lines.items() if table is None]:
        raise DataError(
            f"expected labelled rows, found {plain[0]}, which has no columns; give .jsonl, "
            f".parquet, .csv or .tsv (each also with .gz), or .txt lines of 'text {CODESPLIT} "
            "label'"
        )
    flat = {file: read_cells(file) for file, loader in loaders.items() if loader == "csv"}
    last = Counter(cell for table in flat.values() for cell in table.column(-1).to_pylist())
    tables: dict[str, Dataset] = {}
    for split, files in groups.items():
        parts = [
            _with_header(flat[f], last, named=named, file=f)
            if f in flat
            else lines.get(f) or load_table(f, loaders[f] or "")
            for f in files
        ]
        if any(part.column_names != parts[0].column_names for part in parts):
            raise DataError(
                f"expected the same columns in all {split} files of {path}, found "
                f"{' and '.join(sorted({', '.join(part.column_names) for part in parts}))}; "
                "give files of one layout"
            )
        tables[split] = concatenate_datasets(parts)
    return tables, bool(flat)


def _with_header(
    table: pyarrow.Table, last: Mapping[str, int], *, named: Sequence[str], file: Path
) -> Dataset:
    """Name the columns by the first line, unless it is a row like the others."""
    cells = [column[0].as_py().strip() for column in table.columns]
    usual = {*named, *TEXTS, *WORDS, *LABELS, *TAGS, *(name for pair in PAIRS for name in pair)}
    known = sum(cell in named or cell.lower() in usual for cell in cells)
    header = known >= min(2, len(cells))
    if not header:  # a label comes again in its column, the name of that column does not
        header = last[table.column(-1)[0].as_py()] < 2 and not NUMBER.fullmatch(cells[-1])
    names = {2: ["text", "label"], 3: ["text", "text_pair", "label"]}.get(len(cells))
    if header and len(set(cells)) == len(cells):
        return Dataset(InMemoryTable(table.slice(1).rename_columns(cells)))
    if header or names is None:
        raise DataError(
            f"expected distinct names of columns in the first line of {file}, or lines of two or "
            f"three cells without them, found {', '.join(cells)[:200]}; add a line of names"
        )
    return Dataset(InMemoryTable(table.rename_columns(names)))


def find_roles(
    tables: Mapping[str, Dataset],
    task: TaskKind | None,
    *,
    named: tuple[str | None, ...],
    origin: str,
    unlabelled: TaskKind | None = None,
) -> Roles:
    """The columns that were named, and for the others the usual names.

    Args:
        tables: the splits; train decides, but for labels that only the others have.
        task: None: any; the columns decide.
        named: the columns of text, pair and label, None where not named.
        origin: the source as errors call it.
        unlabelled: there need not be labels; without them, the kind of task. None: they must be.

    Raises:
        DataError: a named column is missing, or there is none of the usual names.
    """
    table = tables["train"]
    columns = {name.lower(): name for name in reversed(table.column_names)}
    every = [name for other in tables.values() for name in other.column_names]
    found = f"found the columns {', '.join(table.column_names) or 'none'}"
    for option, name in zip(("text", "pair", "label"), named, strict=True):
        there = every if option == "label" and unlabelled else table.column_names
        if name is not None and name not in there:
            raise DataError(
                f"expected a column {name!r} in {origin}, {found}; name the right one with "
                f"{option}_column (--{option}-column){did_you_mean(name, table.column_names)}"
            )

    def first(names: Iterable[str]) -> str | None:
        return next((columns[n] for n in names if columns.get(n) not in (None, pair)), None)

    text, pair, label = named
    answered = all(name in columns for name in ANSWERS) and not any(named)
    if task == "question_answering" or (task is None and answered):
        question, context, answers = map(columns.get, ANSWERS)
        text, pair, label = text or question, pair or context, label or answers
    else:
        tagged = task == "token_classification"
        usual_labels = (*TAGS, *LABELS) if tagged else (*LABELS, *TAGS)
        label = label or first(usual_labels)
        if label is None and unlabelled:  # perhaps other splits have some
            tagged = unlabelled == "token_classification"
            label = next((n for usual in usual_labels for n in every if n.lower() == usual), None)
        if text is None and pair is None:
            listed = tagged or (
                task is None and label in table.column_names and _is_listed(table[label])
            )
            text = first(WORDS) if listed else None
            both = [p for p in PAIRS if {*p} <= columns.keys() and label != columns[p[1]]]
            if text is None and both:
                text, pair = columns[both[0][0]], columns[both[0][1]]
        text = text or first((*TEXTS, *WORDS))
    lacks = "text" if text is None else "label" if label is None and not unlabelled else None
    lacks = "pair" if pair is None and task == "question_answering" else lacks
    if text is None or lacks is not None:
        usual = {
            "text": (*TEXTS, *WORDS, *("/".join(pair) for pair in PAIRS)),
            "pair": ANSWERS[1:2],
            "label": (*LABELS, *TAGS[:4], ANSWERS[2]),
        }[lacks or "text"]
        raise DataError(
            f"expected a {lacks} column in {origin}, such as {', '.join(usual[:5])}, {found}; name "
            f"it with {lacks}_column (--{lacks}-column)"
        )
    return Roles(text, pair, label)


def _is_listed(values: Iterable[Any]) -> bool:
    return isinstance(next((v for v in values if v is not None), None), list)


def pick_columns(
    tables: Mapping[str, Dataset], roles: Roles, *, cells: bool, origin: str
) -> dict[str, Rows]:
    """The text, its partner and the label of every row, under our names.

    Args:
        tables: the splits of the source.
        roles: which of its columns these are.
        cells: whether labels may be strings that stand for numbers, as in .csv.
        origin: the source as errors call it.

    Raises:
        DataError: a split lacks the text or its partner, or labels are lists written as text.
    """
    splits: dict[str, Rows] = {}
    for name, table in tables.items():
        rows: Rows = {}
        for ours, theirs in (("text", roles.text), ("text_pair", roles.pair)):
            if theirs is not None and theirs not in table.column_names:
                raise DataError(
                    f"expected a column {theirs!r} in the {name} split of {origin}, found the "
                    f"columns {', '.join(table.column_names)}; give all splits one layout"
                )
            if theirs is not None:
                rows[ours] = table[theirs][:]
        known = roles.label in table.column_names  # test sets may come without the column
        rows["label"] = table[str(roles.label)][:] if known else [None] * len(table)
        splits[name] = rows
    if cells:
        texts = splits["train"]["text"]
        if texts and all(isinstance(text, str) and NUMBER.fullmatch(text) for text in texts):
            raise DataError(
                f"expected text in column {roles.text!r} of {origin}, found numbers alone; name "
                "the right one with text_column (--text-column)"
            )
        _read_numbers(splits.values(), column=roles.label or "label", origin=origin)
    for rows in splits.values():  # without a label: empty, or the NaN of pandas
        rows["label"] = [None if x == "" or x != x else _plain(x) for x in rows["label"]]
    return splits


def _plain(label: Any) -> Any:
    """A label of a type that JSON does not have: dates are names, as they are in .csv."""
    if isinstance(label, Decimal):
        return int(label) if label == label.to_integral_value() else float(label)
    return str(label).removesuffix(" 00:00:00") if isinstance(label, date) else label


def _read_numbers(splits: Iterable[Rows], *, column: str, origin: str) -> None:
    """Labels of .csv and .tsv, which are strings, as numbers where all are. Digits that nobody
    writes for a number, 01 or +1, are names, unless other labels have a fraction; so are labels
    that would become one number, such as the versions 1.1 and 1.10."""
    splits = list(splits)
    cells = [cell for rows in splits for cell in rows["label"] if isinstance(cell, str) and cell]
    if cells and all(cell[0] + cell[-1] == "[]" for cell in cells):
        raise DataError(
            f"expected labels in column {column!r} of {origin}, found lists written as text, such "
            f"as {cells[0][:40]!r}; save the rows as .jsonl or .parquet, which keep lists"
        )
    whole = all(_WHOLE.fullmatch(cell) for cell in cells)
    fractions = not all(cell.lstrip("+-").isdigit() for cell in cells)
    points = {cell for cell in cells if "." in cell}
    decimals = fractions and all(NUMBER.fullmatch(cell) for cell in cells)
    if whole or (decimals and len({float(cell) for cell in points}) == len(points)):
        for rows in splits:
            rows["label"] = [_number(label) for label in rows["label"]]


def _number(label: Any) -> Any:
    if not isinstance(label, str) or not label:
        return label
    return int(label) if _WHOLE.fullmatch(label) else float(label)
