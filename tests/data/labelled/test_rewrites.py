"""What a function does does not change with the way it is written; a planted bug changes it."""

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.data.labelled.functions import Function, own_names, parse_function, rename
from attar.data.labelled.rewrites import rewrite
from attar.data.labelled.stdlib_clones import rewritten
from attar.data.labelled.stdlib_defects import with_defect

SOURCES = [
    """
def f(n, m):
    total = 0
    found = []
    for i in range(n):
        if i == m:
            continue
        if not i == 3 and i != 5:
            total += i
            found.append(i)
        elif i > m:
            total = total - 1
        else:
            found.append(-i)
    return (total, found)
""",
    """
def f(n, m):
    best = n if n < m else m
    spare = best
    rest = {}
    while True:
        if not (best < 0 or m is None):
            best -= 2
        else:
            break
        rest[best] = [x * m for x in range(best) if x not in (1, 2)]
    if n < 3:
        return
    return rest if m > 1 else [spare, best]
""",
    """
def f(n, m):
    def inner(depth, width=2):
        nonlocal n
        n += 1
        return depth if depth <= 0 else inner(depth - 1, width=width) + width
    scale = lambda x: x * m
    try:
        value = 10 // m
    except ZeroDivisionError as error:
        return str(error)
    return (inner(m), scale(value), n, {k: v for k, v in zip('abc', range(n))})
""",
    """
def f(n, m):
    match (n, m):
        case (0, rest):
            return rest
        case (1, *more):
            return more
        case (first, _) if first != 4 and m:
            raise ValueError(first)
    if n and m > 2:
        if n == 4:
            return f'{n=}{m}'
    print_ = len
    return print_([n, m]) + max(n, m)
""",
    """
def f(n, m):
    if n == m:
        raise KeyError(n)
    if m != 2:
        return f(n + 1, m=m - 1) if m > 0 else n
    else:
        n = n + 1
    return not n != m
""",
    """
def f(n, m):
    old = n
    n = 0
    new = old
    old = 7
    m = m
    return (old, n, new, m)
""",
]


def results(code: str) -> list[Any]:
    """What the function of a text gives or raises for some numbers."""
    tree = ast.parse(code)
    scope: dict[str, Any] = {}
    exec(compile(tree, "f", "exec"), scope)
    name = getattr(tree.body[0], "name", "")
    given = []
    for n in range(6):
        for m in range(5):
            try:
                given.append(scope[name](n, m))
            except (ValueError, KeyError, RecursionError) as error:
                given.append((type(error), error.args))
    return given


@given(which=st.sampled_from(SOURCES), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_rewriting_leaves_what_a_function_does(which: str, seed: int) -> None:
    tree = rewrite(parse_function(which.strip()), seed=seed, spare=["outcome"])
    assert results(ast.unparse(tree)) == results(which)


@pytest.mark.parametrize("code", SOURCES)
def test_new_names_leave_what_a_function_does(code: str) -> None:
    tree = parse_function(code.strip())
    names = own_names(tree)
    rename(tree, {name: f"v{i}" for i, name in enumerate(names)})
    renamed = ast.unparse(tree)
    assert len(own_names(tree)) == len(names) > 0
    assert not {*own_names(tree)} & {*names}
    assert results(renamed) == results(code)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def f(self, a):\n    import b\n    c = a.d\n    return c", ["a", "c"]),
        ("def f(a):\n    global b\n    b = len(a)\n    return b", ["a"]),
        ("def f(a):\n    b = 1\n    return locals()", []),
        ("def f(a, b):\n    return f(a=1) + g(b=2)", ["b"]),
        ("def f(a):\n    class b:\n        a = a\n    return b", []),
        ("def f(a):\n    return [a for __b in a]", ["a"]),
        ("def f(a):\n    g = lambda len: len\n    return g(len(a))", ["a", "g"]),
    ],
)
def test_names_that_others_see_stay(code: str, names: list[str]) -> None:
    assert own_names(parse_function(code)) == names


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ("a < b", {"a < b", "b > a"}),
        ("a() < b", {"a() < b"}),
        ("a != b", {"a != b", "b != a", "not a == b"}),
        ("not (a or b)", {"not (a or b)", "not a and (not b)"}),
        ("[]", {"[]", "list()"}),
        ("range(9)", {"range(9)", "range(0, 9)"}),
    ],
)
def test_expressions_have_these_other_ways(code: str, texts: set[str]) -> None:
    trees = (rewrite(parse_function(f"def f():\n    g({code})"), seed=i) for i in range(40))
    assert {ast.unparse(tree).partition("g(")[2][:-1] for tree in trees} == texts


def function(code: str) -> Function:
    code = ast.unparse(ast.parse(code))
    return Function("a.py", "train", code, False, tuple(own_names(parse_function(code))))


@pytest.mark.parametrize("code", SOURCES)
def test_a_clone_of_other_names_does_the_same(code: str) -> None:
    other = function("def g(left, right):\n    self.inner = left\n    return right")
    pool = [f"name{i}" for i in range(30)]
    clone = rewritten(function(code), other, pool=pool)
    assert results(clone) == results(code)
    tree = parse_function(clone)
    assert tree.name in pool
    assert {"left", "right"} & {*own_names(tree)}


@pytest.mark.parametrize("code", SOURCES)
def test_a_bug_changes_one_place(code: str) -> None:
    whole = function(code)
    broken = with_defect(whole)
    assert broken is not None
    assert broken == with_defect(whole)
    old, new = whole.code.splitlines(), broken.splitlines()
    assert len(old) == len(new)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1


def test_no_bug_is_planted_where_none_fits() -> None:
    assert with_defect(function("def f(a):\n    a.b()\n    a.c()\n    return a.d")) is None
