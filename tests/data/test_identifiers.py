"""New names for what a text defines: consistent, and everything else as it was."""

import re
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.data.identifiers import CodeLanguage, rename_identifiers
from attar.errors import ConfigError, MissingExtraError

pytest.importorskip("tree_sitter")

PYTHON = '''
import os.path as osp
from math import sqrt

def helper(count, *rest, scale=2, **more):
    """count stays here."""
    total = sum(rest) + len(more)
    for i, (a, b) in enumerate([(count, 1)] * 3):
        total += i * a - b  # count
    with open(osp.devnull) as file:
        file.count = total
    squares = [x * x for x in range(count) if (y := x) > 1]
    try:
        print = 1 // 0
    except ZeroDivisionError as error:
        return f"{total}" + str(len(squares)), str(error), y, (lambda q, *w: q)(sqrt(4))

class Box:
    size = 3
    def grow(self, by):
        size = self.size + by
        return size

result = helper(4, 5, scale=3, zeta=1), Box().grow(2)
'''
C = """
#define SQ(v) ((v) * n)
extern int shared;
static int twice(int n, char *name, int (*hook)(int)) {
    int total = 0, *p = &total, list[3];
    for (int i = 0; i < n; i++) total += list[i] + SQ(n) + shared;
    node->total = total; hook(other(name, p));
again:
    if (total) goto again;
    return twice(total, name, hook);
}
int other(char *a, int *b);
"""
JAVA = """
import a.b.path;
public class K extends L {
    int field;
    @Override public int size(int field) { return field; }
    static int work(String path, int... rest) throws Bad {
        int size = size(), count = rest.length;
        for (String s : all(path)) {
            try (R r = open(s)) { count += r.count; } catch (Bad e) { log(e); }
        }
        call((u, v) -> u + v, x -> x, T::work2, k -> work(path, k));
        @A(count = 1) int[] deep = {1};
        loop: while (true) { break loop; }
        if (o instanceof S t) return t.path;
        return work(path, count) + this.used(2) + used(3) + size;
    }
    int used(int n) { return n; }
}
"""
CASES: list[tuple[CodeLanguage, str, set[str]]] = [
    (
        "python",
        PYTHON,
        {
            *("helper", "count", "rest", "more", "total", "i", "a", "b", "file", "squares", "x"),
            *("y", "error", "q", "w", "by", "result"),
        },
    ),
    ("c", C, {"twice", "name", "hook", "total", "p", "list", "i", "a", "b"}),
    (
        "java",
        JAVA,
        {*("rest", "size", "count", "s", "r", "e", "u", "v", "x", "k", "t", "n", "work", "deep")},
    ),
]
WORD = re.compile(r"\w+")


def renamed(text: str, new: str) -> dict[str, set[str]]:
    """What each word that was changed became; everything between words must be as it was."""
    assert WORD.split(text) == WORD.split(new)
    changes: dict[str, set[str]] = {}
    for a, b in zip(WORD.findall(text), WORD.findall(new), strict=True):
        if a != b:
            changes.setdefault(a, set()).add(b)
    return changes


@pytest.mark.parametrize(("language", "text", "names"), CASES)
def test_what_is_defined_gets_one_new_name(
    language: CodeLanguage, text: str, names: set[str]
) -> None:
    for seed in range(3):
        changes = renamed(text, rename_identifiers(text, language, seed=seed))
        assert {*changes} == names
        fresh = [name for new in changes.values() for name in new]
        assert len(fresh) == len({*fresh}) == len(names)
        assert not {*fresh} & {*WORD.findall(text)}
    assert rename_identifiers(text, language, seed=1) == rename_identifiers(text, language, seed=1)
    assert rename_identifiers(text, language, seed=1) != rename_identifiers(text, language, seed=2)


def test_python_does_the_same_under_new_names() -> None:
    scopes: list[dict[str, Any]] = []
    for text in (PYTHON, rename_identifiers(PYTHON, "python")):
        scope: dict[str, Any] = {"__name__": "made"}
        exec(text.replace("print = 1 // 0", "1 // 0"), scope)
        scopes.append(scope)
    new = next(iter(renamed(PYTHON, rename_identifiers(PYTHON, "python"))["result"]))
    assert scopes[0]["result"] == scopes[1][new]


def test_what_must_stay_stays() -> None:
    new = rename_identifiers(PYTHON, "python")
    assert '"""count stays here."""' in new
    assert "# count" in new
    assert ".count = " in new
    assert "scale=3, zeta=1" in new
    assert "size = self.size + " in new
    new = rename_identifiers(C, "c")
    assert not re.search(r"\b(twice|name|hook|list|i|p)\b", new)
    assert "->total = " in new
    assert "goto again" in new
    assert "shared;" in new
    new = rename_identifiers(JAVA, "java")
    assert re.search(
        r"\((\w+), (\w+)\) -> \1 \+ \2, (\w+) -> \3, T::work2, (\w+) -> \w+\(path, \4", new
    )
    assert "= size()" in new
    assert ".count;" in new
    assert "@A(count = 1)" in new
    assert "size(int field) { return field; }" in new


@pytest.mark.parametrize("call", ["locals()", "eval ('x')"])
def test_names_that_are_looked_at_stay(call: str) -> None:
    text = f"def f(x):\n    return {call}"
    assert rename_identifiers(text, "python") == text


@given(
    case=st.sampled_from(CASES), cut=st.tuples(st.integers(0, 900), st.integers(0, 900)),
    noise=st.text(max_size=5),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_pieces_that_do_not_parse_keep_all_but_names(
    case: tuple[CodeLanguage, str, set[str]], cut: tuple[int, int], noise: str
) -> None:
    text = case[1][min(cut) : max(cut)] + noise
    renamed(text, rename_identifiers(text, case[0]))


def test_more_names_than_words() -> None:
    text = "def f():\n" + "".join(f"    v{i} = {i}\n" for i in range(200))
    changes = renamed(text, rename_identifiers(text, "python"))
    assert len({name for new in changes.values() for name in new}) == 201


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="one of python, c, java"):
        rename_identifiers("x", "cobol")  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "tree_sitter_java", None)
    with pytest.raises(MissingExtraError, match=r"tree_sitter_java; run pip install '.\[code\]'"):
        rename_identifiers("x", "java")
