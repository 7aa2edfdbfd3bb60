"""Tasks made of Python's own functions: no text alone tells the label, nothing leaks."""

import ast
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
from datasets import DatasetDict

from attar.data.labelled.functions import own_names, parse_function, rename, stdlib_functions
from attar.data.labelled.load import load_labelled
from attar.data.labelled.stdlib_clones import MARGIN, overlap
from attar.data.labelled.task import Task
from attar.data.text import SPLITS


@pytest.fixture
def small_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(sysconfig.get_paths()["stdlib"])
    for name in ("asyncio", "email", "json", "logging", "unittest"):
        for file in (root / name).rglob("*.py"):
            copy = tmp_path / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})


def plain(code: str) -> str:
    tree = parse_function(code)
    rename(tree, {name: f"_{i}" for i, name in enumerate(own_names(tree))})
    tree.name = "_"
    return ast.unparse(tree)


def apart(data: DatasetDict) -> bool:
    texts = [{plain(text) for text in data[name]["text"]} for name in SPLITS]
    return sum(map(len, texts)) == len(set().union(*texts))


@pytest.mark.usefixtures("small_library")
def test_clones_and_defects_of_the_library() -> None:
    data, task = load_labelled("python-stdlib:clone")
    assert task == Task("single_label", ("false", "true"), pair=True)
    assert apart(data)
    for name in SPLITS:
        assert len(data[name]) >= 8
        for column in ("text", "text_pair"):
            labels: dict[str, list[int]] = {}
            for text, label in zip(data[name][column], data[name]["label"], strict=True):
                labels.setdefault(text, []).append(label)
                assert isinstance(ast.parse(text).body[0], ast.FunctionDef | ast.AsyncFunctionDef)
            assert all(sorted(found) == [0, 1] for found in labels.values())
        shares = [overlap(r["text"], r["text_pair"]) for r in data[name]]
        gap = sum((2 * y - 1) * s for y, s in zip(data[name]["label"], shares, strict=True))
        assert gap / len(shares) * 2 <= MARGIN

    functions = {f.code: f.split for f in stdlib_functions()}
    data, task = load_labelled("python-stdlib:defect")
    assert task == Task("single_label", ("defect", "fine"))
    assert apart(data)
    for name in SPLITS:
        texts, labels = data[name]["text"][:], data[name]["label"][:]
        assert abs(Counter(labels)[0] - Counter(labels)[1]) <= 1
        assert all(
            functions.get(t) == (name if y else None) for t, y in zip(texts, labels, strict=True)
        )
        assert all(ast.parse(text) for text in texts)
