"""The verbs that score a model print what Python says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cyclopts import App
from transformers import (
    PreTrainedTokenizerFast,
)

import characters
import tiny
from attar import checkpoint
from attar.cli import cost as cli_cost
from attar.cli import env as cli_env
from attar.cli import evaluate as cli_evaluate
from attar.data.text import load_text
from attar.errors import ConfigError
from attar.evaluation import likelihood
from attar.measure.cost import cost_of


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return characters.letters()


@pytest.fixture
def model() -> Any:
    return tiny.model("llama")


def verb(function: Callable[..., int], *arguments: str) -> Any:
    app = App(result_action="return_value")
    app.default(function)
    return app(arguments, exit_on_error=False, print_error=False)


def test_verbs_print_what_python_says(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, text = str(tmp_path / "model"), tmp_path / "train.txt"
    checkpoint.save(model, Path(folder), tokenizer=tokenizer)
    text.write_text("\n".join("abc def" * 3 for _ in range(400)))
    options = ("--data", str(text), "--eval-tokens", "200", "--json", "-")
    capsys.readouterr()
    assert verb(cli_evaluate.evaluate, folder, *options, "--no-speed") == 0
    printed = json.loads(capsys.readouterr().out)
    documents = load_text(text)["test"]
    loaded, own = checkpoint.load(folder), checkpoint.load_tokenizer(folder)
    score = likelihood.score(loaded, own, documents=documents, eval_tokens=200)
    assert printed["quality"]["after"] == score.to_dict()
    assert printed["cost"] == {}

    assert verb(cli_cost.cost, folder, "--no-measure", "--context", "7", "--json", "-") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["cost"]["after"] == cost_of(model, context=7).to_dict()
    with pytest.raises(ConfigError, match="repeats must be 1 or more"):
        verb(cli_cost.cost, folder, "--repeats", "0")

    bert = str(tmp_path / "bert")
    tiny.model("bert").save_pretrained(bert)
    assert verb(cli_cost.cost, bert, "--repeats", "1", "--prompt-tokens", "4") == 0
    out = capsys.readouterr().out
    assert "forward pass" in out
    assert re.search(r"KV cache per token +none", out)


def test_env_names_versions_and_no_paths(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "/private/folder")
    assert verb(cli_env.env) == 0
    out = capsys.readouterr().out
    assert re.search(rf"torch +{re.escape(torch.__version__)}", out)
    assert re.search(r"HF_HOME +set", out)
    assert "/private" not in out
