"""Data sets of code in the files that their authors published.

- Devign, as released and in CodeXGLUE: `function.json`, a list of rows with `func` and `target`,
  beside train.txt, valid.txt and test.txt, which list the numbers of the rows of each split.
- BigCloneBench, as in CodeXGLUE: `data.jsonl`, functions with `func` and `idx`, beside the same
  three files, here of lines `idx1 idx2 label`, parted by tabs or spaces.
- Lines of `text <CODESPLIT> label` in a .txt file, newlines of the text written as `\\n`. One that
  the code itself has, in a string, cannot be told from those and becomes a newline too.

Rows of either that are in .jsonl or .parquet files, one for each split, are tables like others.

The graph of the flow of data that GraphCodeBERT reads beside the text is left out. It takes a
parser for each language, tokens that stand for variables, positions of its own and a mask that says
which of them see each other; no class of transformers takes these, and nothing that is saved here
could be used without them. Its checkpoints read the text alone, as RoBERTa does.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from datasets import Dataset

from attar.data.files import ALIASES, load_table, read_text
from attar.errors import DataError

logger = logging.getLogger(__name__)

CODESPLIT = "<CODESPLIT>"
_DEVIGN = "function.json"
_CLONES = "data.jsonl"


def read_published(path: Path) -> dict[str, Dataset] | None:
    """The table of each split of a folder of Devign or BigCloneBench; None where it is neither.

    Raises:
        DataError: a line names no row, or is not as long as those lines are.
    """
    lists = {ALIASES.get(f.stem, f.stem): f for f in sorted(path.glob("*.txt"))}
    lists = {name: lists[name] for name in ("train", "validation", "test") if name in lists}
    if "train" in lists and (path / _DEVIGN).is_file():
        table = load_table(path / _DEVIGN, "json")
        _require(table, ("func", "target"), path / _DEVIGN)
        return {name: _numbered(table, file) for name, file in lists.items()}
    if "train" in lists and (path / _CLONES).is_file():
        table = load_table(path / _CLONES, "json")
        _require(table, ("func", "idx"), path / _CLONES)
        functions = dict(zip(map(str, table["idx"]), table["func"], strict=True))
        return {name: _paired(functions, file) for name, file in lists.items()}
    return None


def read_codesplit(file: Path) -> Dataset | None:
    """The columns text and label of lines that `<CODESPLIT>` cuts in two; None of other text.

    Raises:
        DataError: some lines have no label.
    """
    lines = [line for line in read_text(file).split("\n") if line.strip()]
    cut = [line.rpartition(CODESPLIT) for line in lines]
    if not lines or not cut[0][1]:
        return None
    for number, (_, mark, label) in enumerate(cut, 1):
        if not mark or not label.strip():
            raise DataError(
                f"expected 'text {CODESPLIT} label' in every line of {file}, found line {number} "
                f"without a label; correct the file"
            )
    return Dataset.from_dict(
        {
            "text": [text.removesuffix(" ").replace("\\n", "\n") for text, _, _ in cut],
            "label": [label.strip() for _, _, label in cut],
        }
    )


def _require(table: Dataset, columns: Iterable[str], file: Path) -> None:
    if missing := [name for name in columns if name not in table.column_names]:
        raise DataError(
            f"expected a column {missing[0]!r} in {file}, found the columns "
            f"{', '.join(table.column_names)}; name the columns as its authors do"
        )


def _numbered(table: Dataset, file: Path) -> Dataset:
    rows: list[int] = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        found = line.strip()
        if not found:
            continue
        if not (found.isascii() and found.isdigit() and int(found) < len(table)):
            raise DataError(
                f"expected the number of a row of {_DEVIGN}, 0 to {len(table) - 1}, in line "
                f"{number} of {file}, found {found[:60]!r}; correct the file"
            )
        rows.append(int(found))
    return table.select(rows)


def _paired(functions: dict[str, str], file: Path) -> Dataset:
    """Pairs with the text of both; those of a function that is not there are left out, as the
    published code does."""
    pairs: dict[str, list[str | int]] = {"func1": [], "func2": [], "label": []}
    lost = 0
    for number, line in enumerate(read_text(file).split("\n"), 1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 3 or cells[2] not in ("0", "1"):
            raise DataError(
                f"expected two numbers of functions and 0 or 1 in line {number} of {file}, found "
                f"{line[:60]!r}; correct the file"
            )
        one, two, label = cells
        if one in functions and two in functions:
            pairs["func1"].append(functions[one])
            pairs["func2"].append(functions[two])
            pairs["label"].append(int(label))
        else:
            lost += 1
    if lost:
        logger.warning("left out %d pairs of %s whose functions are not in %s", lost, file, _CLONES)
    return Dataset.from_dict(pairs)
