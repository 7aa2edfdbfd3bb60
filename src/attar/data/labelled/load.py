"""The way from a source to three splits of labelled examples."""

from pathlib import Path
from typing import get_args

from datasets import DatasetDict

from attar.data.data import STDLIB, Data, DataLike
from attar.data.labelled.columns import find_roles, pick_columns, read_files
from attar.data.labelled.labels import (
    infer,
    lacks_labels,
    limited,
    names_in,
    number_as,
    number_labels,
    read_labels,
)
from attar.data.labelled.splits import complete, to_dataset, warn_of_leaks
from attar.data.labelled.stdlib_tasks import STDLIB_TASKS, stdlib_tables
from attar.data.labelled.task import Task, TaskKind
from attar.data.text import from_hub, name_splits, progress_only_on_terminals
from attar.errors import require

_ACCEPTED = (
    "give a Hub name, a file or folder of .jsonl, .parquet, .csv or .tsv (each also with .gz), "
    f"{STDLIB_TASKS}"
)


def load_labelled(
    data: DataLike,
    *,
    task: TaskKind | None = None,
    known: Task | None = None,
    limit_labels: int | None = None,
    seed: int = 0,
) -> tuple[DatasetDict, Task]:
    """Load labelled examples as the splits train, validation and test, and what their task is.

    Columns by kind of task: `text`, `text_pair` if there are pairs, and `label` (int; float for
    regression; a list of ints for multi-label); `words` and `label`, a list of ints, for token
    classification; `question`, `context` and `answers` (`text`, `answer_start`) for question
    answering. Always `source`, the row's number in its split.

    Rows without a label (null, empty, -100, or -1 in a column of named classes or all over a split,
    as in the test sets of GLUE) stay in train as -100, in regression as NaN, and are left out of
    the other splits. A split that the
    source lacks, or that has no label at all, is cut from the labelled rows of train, 5% of the
    distinct texts each, by a hash of the text: equal texts stay together. Where texts of validation
    and test are in train too, a warning says how many.

    Args:
        data: a data set on the Hub, a data set object, a file or folder as for `load_text` but
            without .txt, one of "python-stdlib:package", "python-stdlib:docstring",
            "python-stdlib:clone" and "python-stdlib:defect", a folder of Devign or BigCloneBench as
            published, or .txt lines of `text <CODESPLIT> label`; or `Data` with one of these and
            the columns of text (words, question), second text (context) and label (tags, answers),
            where they have no usual name. A text column without a pair column means that there is
            no pair. Lines of .csv and .tsv without a header are text and label, or text, second
            text and label.
        task: None: by the labels. Strings, truth values and whole numbers are classes, as are
            1.0 and 0.0 where labels are missing, since pandas writes whole numbers so; other
            numbers are regression. Lists are token classification, if they have one label a word,
            or else multi-label: of classes, or 0 and 1 (false and true) for each class.
        known: what a teacher predicts. Where train has no label, its rows are then of this task
            and stay without one, as do other splits that have none and those that are cut from
            train; labels of the other splits are numbered as the teacher's are. None, or where
            train has labels: the labels tell the task.
        limit_labels: keep the labels of this many rows of train, spread over the classes as all
            labels are but at least one a class, and forget the others; None: keep all.
        seed: draws the labels that are kept. Splits that are cut do not depend on it, so that a
            student is never scored on texts that its teacher learnt.

    Raises:
        DataError: the source cannot be read; columns or task cannot be told; a text is empty; there
            is one class only, a class without a row in train, or a label that train (without labels
            in it, `known`) does not know.
        ConfigError: `task` is not that of `known`, a configuration of a source that is not on the
            Hub, or `limit_labels` below the number of classes.
    """
    kinds = get_args(TaskKind)
    require(task is None or task in kinds, "task", task, f"one of {', '.join(kinds)}")
    if known is not None and task is not None:
        require(task == known.kind, "task", task, f"{known.kind}, as the teacher's is")
    require(isinstance(seed, int) and seed >= 0, "seed", seed, "a whole number from 0")
    data = Data.of(data)
    source, config, origin = data.source, data.config, data.origin
    path, text = data.path, isinstance(source, str | Path)
    own = text and origin.partition(":")[0] == STDLIB
    on_hub = data.is_on_hub(own=own)
    named = (data.text_column, data.pair_column, data.label_column)
    cells = False
    with progress_only_on_terminals():
        if own:
            tables = stdlib_tables(origin)
        elif path is not None:
            tables, cells = read_files(path, [name for name in named if name])
        else:
            if on_hub:
                source = from_hub(origin, config, accepted=_ACCEPTED)
            tables = name_splits(source, origin)
        tables = {name: table.with_format(None) for name, table in tables.items()}
    roles = find_roles(
        tables, task, named=named, origin=origin, unlabelled=known.kind if known else None
    )
    splits = pick_columns(tables, roles, cells=cells, origin=origin)
    blank = known is not None and lacks_labels(splits["train"]["label"])
    if known is not None and blank:
        kind = known.kind
    else:
        kind = task or infer(splits["train"]["text"], splits["train"]["label"], origin=origin)
    order = names_in(tables, roles.label)
    if known is not None and blank and kind == "single_label":
        order = order or known.labels  # numbers are the teacher's
    read_labels(
        splits,
        kind,
        order=order,
        column=roles.label or "label",
        origin=origin,
        skip_empty=data.skip_empty,
        unlabelled=blank,
    )
    splits = complete(splits, origin=origin, unlabelled=blank)
    warn_of_leaks(splits, origin=origin)
    if known is not None and blank:
        names = known.labels
        number_as(splits, names, origin=origin)
    else:
        names = number_labels(splits, kind, order=order, origin=origin)
    described = Task(kind, names, roles.pair is not None)
    if limit_labels is not None:
        train = splits["train"]
        train["label"] = limited(train["label"], kind, limit=limit_labels, seed=seed)
    return DatasetDict(
        {name: to_dataset(rows, described) for name, rows in splits.items()}
    ), described
