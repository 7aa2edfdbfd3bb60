"""`python-stdlib:clone`: are two texts one function, written in two ways?

Functions of the standard library are put in pairs of two that use much the same words. Both are
rewritten: in other names, other statements of the same meaning, another order where that is safe.
Each function then comes with its own rewrite (`true`) and with that of the other one (`false`), and
so does each rewrite: neither text alone tells the label. A rewrite gets its names from the other
function of the pair, and pairs whose words tell too much are left out, so that their overlap tells
little; what has to be read is what is done with the names.

How hard it is, with the library of Python 3.11 (6,000 rows of train, 600 of validation and 350 of
test): a threshold on the overlap of words is right in 61% of validation and 65% of test; a
logistic regression on the words that both texts have and those that one has, 86% and 83%. On the
words of one text or of each text by itself nothing can be better than 50%.
"""

import ast
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from datasets import Dataset
from scipy.sparse import csr_matrix

from attar.data.labelled.functions import (
    Function,
    common_names,
    rename,
    stdlib_functions,
    used_names,
)
from attar.data.labelled.rewrites import rewrite
from attar.data.text import SPLITS

MARGIN = 0.25
"""By how much the overlap of the words of a function and its own rewrite may exceed that with the
other one, on average over the two of a pair."""
_NEAREST = 20
"""Candidates for the partner of a function."""
_COMMON = 0.2
"""Words of more than this share of the functions say nothing about who is like whom."""
_LENGTH = 0.5
"""What a difference in length takes away from a cosine, for each factor of e."""
_WORD = re.compile(r"[^\W\d]\w*|\d+")


def clone_tables() -> dict[str, Dataset]:
    """The columns text, text_pair and label of each split."""
    functions = stdlib_functions()
    pool = common_names(f for f in functions if f.split == "train")
    tables: dict[str, Dataset] = {}
    for split in SPLITS:
        pairs = partners([f for f in functions if f.split == split])
        tables[split] = Dataset.from_list([*chain.from_iterable(_rows(*p, pool) for p in pairs)])
    return tables


def _rows(one: Function, other: Function, pool: Sequence[str]) -> Iterator[dict[str, str]]:
    """Four rows, or none where words tell too much."""
    first, second = rewritten(one, other, pool=pool), rewritten(other, one, pool=pool)
    own = overlap(one.code, first) + overlap(other.code, second)
    foreign = overlap(one.code, second) + overlap(other.code, first)
    if (own - foreign) / 2 <= MARGIN:
        for text, right, wrong in ((one.code, first, second), (other.code, second, first)):
            yield {"text": text, "text_pair": right, "label": "true"}
            yield {"text": text, "text_pair": wrong, "label": "false"}


def overlap(text: str, other: str) -> float:
    """Share of the words of two texts that both have."""
    one, two = ({*_WORD.findall(t)} for t in (text, other))
    return len(one & two) / max(1, len(one | two))


def rewritten(function: Function, partner: Function, *, pool: Sequence[str]) -> str:
    """A function in another way, and with other names: of parameters and variables, of the function
    itself and of the attributes of `self`.

    Args:
        function: the one that is rewritten.
        partner: the one whose names it gets, as far as they go.
        pool: names for the others.
    """
    draw, tree = random.Random(function.seed), function.tree
    used = used_names(tree)
    theirs = partner.tree
    lent = {"name": [n for n in partner.names if n not in used]}
    lent["attribute"] = [n for n in _attributes(theirs) if n not in {*used, *lent["name"]}]
    every = {*lent["name"], *lent["attribute"], theirs.name}
    free = [name for name in pool if name not in used and name not in every]
    for names in (*lent.values(), free):
        draw.shuffle(names)
    unused = iter(free)
    own = {"name": [*function.names], "attribute": _attributes(tree)}
    new: dict[str, dict[str, str]] = {}
    for kind, names in own.items():
        draw.shuffle(names)
        new[kind] = dict(zip(names, chain(lent[kind], unused), strict=False))
    _rename_function(tree, next(unused), attributes=new["attribute"])
    rename(tree, new["name"])
    return ast.unparse(rewrite(tree, seed=function.seed, spare=[next(unused)]))


def _rename_function(
    tree: ast.FunctionDef | ast.AsyncFunctionDef, name: str, *, attributes: dict[str, str]
) -> None:
    """Rename the function, where it calls itself too, and the attributes of `self`."""
    special = tree.name.startswith("__")
    names = {} if special else {tree.name: name}
    attributes = attributes | names
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not _is_method(tree):
            node.id = names.get(node.id, node.id)
        elif _of_self(node):
            node.attr = attributes.get(node.attr, node.attr)  # pyright: ignore
    tree.name = names.get(tree.name, tree.name)


def _is_method(tree: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(tree.args.args) and tree.args.args[0].arg in ("self", "cls")


def _of_self(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Attribute) else None
    return isinstance(value, ast.Name) and value.id == "self"


def _attributes(tree: ast.AST) -> list[str]:
    """Of `self`, in the order of their first use, without those that Python knows."""
    nodes = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _of_self(n))
    return [name for name in dict.fromkeys(n.attr for n in nodes) if name[:2] != "__"]


def partners(functions: Sequence[Function]) -> Iterator[tuple[Function, Function]]:
    """Functions in pairs, the most similar two first; each is in one pair at most.

    Similar are those of similar length that have rare words in common, as the cosine of their words
    weighted by rarity tells; names that can be changed do not count.
    """
    bags = [sorted({*_WORD.findall(f.code)} - {*f.names}) for f in functions]
    count = len(functions)
    times = Counter(chain.from_iterable(bags))
    known = sorted(w for w, n in times.items() if 2 <= n <= max(2, _COMMON * count))
    place = {word: i for i, word in enumerate(known)}
    where = [(i, place[w]) for i, bag in enumerate(bags) for w in bag if w in place]
    if not where:
        return
    rows, columns = np.asarray(where).T
    rarity = np.log(count / np.asarray([times[word] for word in known]))[columns]
    squares = np.bincount(rows, rarity**2, minlength=count)
    values = rarity / np.sqrt(squares)[rows]
    words = csr_matrix((values, (rows, columns)), shape=(count, len(known)))
    size = np.log([len(f.code) for f in functions])
    edges: set[tuple[float, int, int]] = set()
    for start in range(0, count, 500):
        here = slice(start, start + 500)
        near = (words[here] @ words.T).toarray() - _LENGTH * np.abs(size[here, None] - size)
        near[np.arange(len(near)), start + np.arange(len(near))] = -np.inf
        best = np.argsort(-near, axis=1, kind="stable")[:, : min(_NEAREST, count - 1)]
        for i, line in enumerate(best):
            for j in line.tolist():
                edges.add((-round(float(near[i, j]), 6), *sorted((start + i, j))))  # pyright: ignore
    taken: set[int] = set()
    for _, a, b in sorted(edges):
        if not {a, b} & taken:
            taken |= {a, b}
            yield functions[a], functions[b]
