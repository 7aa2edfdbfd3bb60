"""How `attar generate` prints what it is given."""

from typing import Any

import pytest

from attar.methods.superposed.completions import Completion, Completions
from scene import run


@pytest.mark.parametrize(
    ("texts", "printed"),
    [
        ((" b", " c"), "a b\na c\n"),
        ((" b\nx", " c"), "a b\nx\n---\na c\n"),  # else nobody sees where a draft ends
    ],
)
def test_several_drafts_are_told_apart(
    texts: tuple[str, ...],
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drafts = tuple(Completion(text, (), 0.0, None, "length", None) for text in texts)

    def write(*_: Any, each: Any, **options: Any) -> None:
        each("a", Completions(drafts, None, False, 1, 1, 0.1))

    monkeypatch.setattr("attar.cli.generate.generate_texts", write)
    assert run(["generate", "model", "a", "--drafts", "2"]) == 0
    assert capsys.readouterr().out == printed
