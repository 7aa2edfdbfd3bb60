"""The line that says what to do next can be pasted, and names the data and what belongs to them."""

import logging
import shlex
from pathlib import Path
from typing import Any

import pytest

from attar.cli import distill, draft, heal, pretrain, prune
from attar.cli import tokenizer as tokenizers
from attar.cli.data import LabelledOptions, PromptOptions
from attar.data.data import Data
from attar.methods.distiller.config import DistillConfig
from attar.report.artefact import artefact
from attar.report.record import Run

PLACE = Path("my models") / "it's"
COLUMNS = ["--data", "my books", "--text-column", "body", "--data-config", "en"]
_DATA: dict[str, Any] = {"data": "my books", "data_config": "en", "text_column": "body"}
DETAILS = {
    "notes": (),
    "form": "uniform",
    "test_rows": 3,
    "draft_tokens": 2,
    "best_step": 1,
    "predicted_speedup": 1.0,
    "best_length": 2,
}


def following(said: str) -> list[str]:
    return shlex.split(said.split("Next: ")[-1].splitlines()[0])


def done(*_: Any, **options: Any) -> Run:
    figures = {"perplexity": 2.0, "bytes_per_window": 2.0, "bytes_per_id": 2.0}
    return Run("a command", quality={"after": figures}, details=DETAILS)


@pytest.mark.parametrize(
    ("module", "function", "verb", "options", "expected"),
    [
        (heal, "heal_model", "heal MODEL", {"teacher": "t"},
         ["evaluate", PLACE, *COLUMNS, "--eval-tokens", "50000"]),
        (pretrain, "train_model", "pretrain", {},
         ["prune", PLACE, *COLUMNS, "--budget", "blocks<=50%", "-o", f"{PLACE}-half"]),
        (prune, "prune_model", "prune MODEL", {"budget": "blocks<=50%", "eval_tokens": 9},
         ["heal", PLACE, "--teacher", "MODEL", *COLUMNS, "-o", f"{PLACE}-healed",
          "--eval-tokens", "9"]),
        (distill, "distill_model", "distill MODEL", {"config": DistillConfig(context=32)},
         ["evaluate", PLACE, *COLUMNS, "--context", "32"]),
        (tokenizers, "train_tokenizer", "train", {}, ["tokenizer", "evaluate", PLACE, *COLUMNS]),
        (draft, "train_draft", "train MODEL", {"target": "a target"},
         ["draft", "evaluate", PLACE, "--target", "a target", *COLUMNS]),
    ],
)  # fmt: skip
def test_the_next_command_names_the_same_data(
    module: Any,
    function: str,
    verb: str,
    options: dict[str, Any],
    expected: list[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, *model = verb.split()
    monkeypatch.setattr(module, function, done)
    kind = LabelledOptions if module is distill else PromptOptions
    getattr(module, name)(*model, data=kind(**_DATA), output_dir=PLACE, **options)
    assert following(capsys.readouterr().out) == ["attar", *map(str, expected)]


def test_a_draft_is_trained_on_the_data_of_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parent, healed = tmp_path / "parent", tmp_path / "healed"
    Run("pretrain", data="my books", settings=_DATA).save(parent)
    Run("prune --apply", model=str(parent)).save(healed)
    monkeypatch.setattr(draft, "init_draft", done)
    draft.init(str(healed), output_dir=PLACE)
    words = ["--target", str(healed), *COLUMNS, "-o", f"{PLACE}-trained"]
    assert following(capsys.readouterr().out) == ["attar", "draft", "train", str(PLACE), *words]


@pytest.mark.parametrize(
    ("command", "role", "data", "warned"),
    [
        ("evaluate", "model", "python-stdlib", True),
        ("heal", "teacher", "python-stdlib", True),
        ("evaluate", "model", "/home/me/my books", False),
        ("evaluate", "model", "my ids", False),
        ("tokenizer encode", "model", "python-stdlib", False),
    ],
)
def test_other_data_than_a_model_was_made_with_is_told(
    command: str,
    role: str,
    data: str,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Run("pretrain", data="my books", settings=_DATA).save("book-model")
    Run("tokenizer encode", data="my books", settings=_DATA).save("my ids")
    settings = {role: "book-model", **Data(data).settings()}
    with caplog.at_level(logging.WARNING), artefact(None, command=command, settings=settings):
        pass
    assert ("made with the data my books, but this command reads" in caplog.text) == warned
