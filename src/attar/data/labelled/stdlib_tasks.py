"""Labelled tasks that every user has: made of the sources of the running Python."""

import ast
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from datasets import Dataset

from attar.data.labelled.stdlib_clones import clone_tables
from attar.data.labelled.stdlib_defects import defect_tables
from attar.data.text import SPLITS, STDLIB, stdlib_files
from attar.errors import DataError

STDLIB_TASKS = " or ".join(
    f"{STDLIB}:{name}" for name in ("package", "docstring", "clone", "defect")
)
"""As errors call them."""
PACKAGES = 10
"""Classes of "python-stdlib:package"."""
OF_A_FILE = 100
"""Definitions, at most, so that no file of a package outweighs the others."""
FOLDS = 10
"""Of its files; one is for validation and one for test."""
LONGEST = 4_000
"""Characters of a definition in the tasks of the standard library."""


def stdlib_tables(origin: str) -> dict[str, Dataset]:
    """A task made of the standard library's own definitions; those of a file stay in one split, and
    sources that come more than once are left out, so that nothing leaks.

    Raises:
        DataError: `origin` is none of `STDLIB_TASKS`.
    """
    name = origin.partition(":")[2]
    if ready := {"clone": clone_tables, "defect": defect_tables}.get(name):
        return ready()
    make = {"package": _packages, "docstring": _docstrings}.get(name)
    if make is None:
        raise DataError(
            f"expected {STDLIB_TASKS} as a labelled source, found {origin}; give one of them"
        )
    rows = list(make())
    times = Counter(row["code"] for _, row in rows if row["label"] != "false")
    tables: dict[str, list[dict[str, str]]] = {name: [] for name in SPLITS}
    for split, row in rows:
        if times[row["code"]] == 1:
            code = row.pop("code")
            tables[split].append(
                {"text": row["text"], "text_pair": code, "label": row["label"]}
                if "text" in row
                else {"text": code, "label": row["label"]}
            )
    return {name: Dataset.from_list(rows) for name, rows in tables.items()}


def _packages() -> Iterator[tuple[str, dict[str, str]]]:
    """Definitions of the packages with most files: which is it from?

    The files are dealt so that every split has all packages; by their paths alone it would not.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes over a second to import

    rows: list[tuple[str, str, str]] = []
    for path, _, text in stdlib_files():
        package, _, within = path.partition("/")
        if within:
            definitions = islice(_definitions(text), OF_A_FILE)
            rows += [(path, package, code) for code, _ in definitions]
    sizes = Counter(package for _, package in {row[:2] for row in rows})
    largest = sorted(sorted(sizes), key=lambda name: -sizes[name])[:PACKAGES]
    rows = [row for row in rows if row[1] in largest]
    paths, packages, codes = zip(*rows, strict=True)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    splits = ["train"] * len(rows)
    for name, (_, held_out) in zip(
        ("validation", "test"), folds.split(codes, packages, paths), strict=False
    ):
        for i in held_out:
            splits[i] = name
    for split, package, code in zip(splits, packages, codes, strict=True):
        yield split, {"code": code, "label": package}


def _docstrings() -> Iterator[tuple[str, dict[str, str]]]:
    """Every documented function twice: with the first line of its own docstring, and with that of
    the next function of the file, or of another file where there is none; so neither text alone
    tells the label."""
    lonely: dict[str, list[tuple[str, str]]] = {name: [] for name in SPLITS}
    for _, split, text in stdlib_files():
        functions = [(code, line) for code, line in _definitions(text, documented=True) if line]
        if len({line for _, line in functions}) < 2:
            lonely[split] += functions
        else:
            yield from _with_others(functions, split)
    for split, functions in lonely.items():
        yield from _with_others(functions, split)


def _with_others(
    functions: Sequence[tuple[str, str]], split: str
) -> Iterator[tuple[str, dict[str, str]]]:
    for i, (code, line) in enumerate(functions):
        others = (other for _, other in (*functions[i + 1 :], *functions[:i]) if other != line)
        if other := next(others, None):
            yield split, {"text": line, "code": code, "label": "true"}
            yield split, {"text": other, "code": code, "label": "false"}


def _definitions(text: str, *, documented: bool = False) -> Iterator[tuple[str, str]]:
    """Source of each function, method and class of three lines or more, and "".

    With `documented` those functions alone that have a docstring: their source without it, and its
    first line.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escapes
            tree = ast.parse(text.replace("\r\n", "\n"))
    except (SyntaxError, ValueError):
        return
    lines = text.replace("\f", " ").splitlines(keepends=True)
    nodes = [n for top in tree.body for n in (top, *getattr(top, "body", ()))]
    for node in nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        start, end = node.lineno - 1, node.end_lineno or node.lineno
        first, doc, said = node.body[0], "", lines[:0]
        if documented:
            doc = (ast.get_docstring(node) or "").strip().partition("\n")[0].strip()
            apart = first.lineno > node.lineno and len(node.body) > 1
            if isinstance(node, ast.ClassDef) or not (doc and apart):
                continue
            said = lines[start : first.lineno - 1]
            start = first.end_lineno or first.lineno
        code = textwrap.dedent("".join([*said, *lines[start:end]])).rstrip()
        if code.count("\n") >= 2:
            yield code[:LONGEST], doc
