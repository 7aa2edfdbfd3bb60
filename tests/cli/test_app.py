"""The command line as a whole: exit codes, help, and options from flags and recipes."""

import contextlib
import logging
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attar.cli import env, pretrain
from attar.cli.app import ExitCode, _interrupted_in
from attar.errors import AttarError, BudgetError, ConfigError
from attar.pretraining.config import PretrainConfig
from attar.recipes.verbs import overruled
from scene import run

VERBS = [
    "demo",
    "pretrain",
    "prune",
    "heal",
    "distill",
    "recommend",
    "evaluate",
    "cost",
    "compare",
    "recipe",
    "env",
]


# --------------------------------------------------------------------------------------- exit codes


def test_done_is_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["env"]) == ExitCode.DONE == 0
    assert run(["--version"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AttarError("the run failed."), 1),
        (ConfigError("no such option."), 2),
        (BudgetError("out of reach."), 2),
    ],
)
def test_errors_leave_with_the_code_of_their_class(
    error: AttarError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(env, "show_pairs", _raising(error))
    assert run(["env"]) == code
    assert capsys.readouterr().err == f"attar: {error}\n"


def test_an_interrupt_is_130_and_a_bug_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(env, "show_pairs", _raising(KeyboardInterrupt()))
    assert run(["env"]) == ExitCode.INTERRUPTED == 130
    assert capsys.readouterr().err == "attar: interrupted\n"
    monkeypatch.setattr(env, "show_pairs", _raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):  # which the interpreter ends with 1
        run(["env"])


def test_the_harness_does_not_warn_of_how_we_call_it() -> None:
    """It finds a model where it expects a name; its other warnings are shown."""
    logger = logging.getLogger("lm_eval.models.huggingface")
    logger.setLevel(logging.NOTSET)
    assert run(["recipe", "list"]) == 0
    assert not logger.isEnabledFor(logging.WARNING)
    assert logging.getLogger("lm_eval.api.task").isEnabledFor(logging.WARNING)


def test_a_reader_that_goes_away_is_no_failure() -> None:
    code = "from attar.cli.app import main; main(['recipe', 'list'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_the_end_of_the_output_is_no_traceback() -> None:
    """A full disk, a console without the letters, and Ctrl-C while libraries wind up."""
    code = (
        "import atexit, os, signal, sys; from attar.cli.app import main\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "main(['recipe', 'show', sys.argv[1]])"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as recipe:
        recipe.write("# \u20bd\n")
        recipe.flush()
        command = [sys.executable, "-c", code, recipe.name]
        environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
        done = subprocess.run(command, capture_output=True, env=environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"# \\u20bd\n", b"")
        closed = f"{shlex.join(command)} 2>&-"
        done = subprocess.run(["sh", "-c", closed], capture_output=True, env=environment)
        assert (done.returncode, done.stdout) == (0, b"# \\u20bd\n")
        if (device := Path("/dev/full")).exists():
            with device.open("w") as full:
                done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
            assert done.returncode == ExitCode.FAILED
            assert re.fullmatch(rb"attar: cannot write the output .*\n", done.stderr)


def test_a_request_to_end_is_an_interruption() -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupted_in(os.getpid())(15, None)


def _raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


# -------------------------------------------------------------------------------------------- help


def test_help_is_quick_and_light() -> None:
    code = (
        "import sys, time; from attar.cli.app import run; done = run(['--help'])\n"
        "heavy = {'torch', 'huggingface_hub'} & set(sys.modules)\n"
        "print(done, time.process_time(), *heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, seconds, *heavy = done.stderr.split()
    assert (exit_code, heavy) == ("0", [])
    assert float(seconds) < 1  # of processor time, from the interpreter's start
    for verb in VERBS:
        assert re.search(rf"│ {verb} +[A-Z]", done.stdout), "every verb is listed and described"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"attar {verb}" in said
    # its docstring with the example, and a description of the options
    words = {
        "pretrain": ("-o pocket-6m", "Peak learning rate"),
        "prune": ('--budget "blocks<=50%"', "Upper bounds", "Share of the prunable cost"),
        "heal": ("-o my-model-healed", "divergence from"),
        "cost": ("without a key/value cache",),
    }
    flat = " ".join(said.replace("│", " ").split())
    for word in words.get(verb, ()):
        assert word in flat


# ----------------------------------------------------------------------------------------- options


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[PretrainConfig]:
    """The configs that `attar pretrain` would train with."""
    configs: list[PretrainConfig] = []

    def train(*_: Any, config: PretrainConfig, **__: Any) -> SimpleNamespace:
        configs.append(config)
        return SimpleNamespace(details={})

    monkeypatch.setattr(pretrain, "train_model", train)
    return configs


def test_underscores_and_dashes_are_alike(seen: list[PretrainConfig]) -> None:
    for flag in ("--learning_rate", "--learning-rate"):
        assert run(["pretrain", "-o", "x", flag, "0.25", "--max_steps=7"]) == 0
    assert seen[0] == seen[1] == PretrainConfig(learning_rate=0.25, max_steps=7)


def test_options_come_from_a_recipe_or_a_file_and_flags_override(
    seen: list[PretrainConfig], tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("learning_rate: 1e-4\nhidden-size: 64\ntie_word_embeddings: false\n")
    assert run(["pretrain", "--config", str(file), "-o", "x", "--hidden-size", "32"]) == 0
    assert seen[-1] == PretrainConfig(learning_rate=1e-4, hidden_size=32, tie_word_embeddings=False)
    assert run(["--config=pocket/6m", "pretrain", "-o", "x", "--seed", "3"]) == 0
    assert (seen[-1].hidden_size, seen[-1].max_steps, seen[-1].seed) == (256, 1200, 3)
    file.write_text("# nothing yet\n")
    assert run(["pretrain", "--config", str(file), "-o", "x"]) == 0
    assert seen[-1] == PretrainConfig()
    file.write_text("bf16: null\nmax_steps: 8\n")  # null: as if it were not there
    assert run(["pretrain", "--config", str(file), "-o", "x"]) == 0
    assert seen[-1] == PretrainConfig(max_steps=8)
    file.write_text(f"output_dir: x\ndata: {tmp_path}\nmax_steps: 9\n")
    assert run(["pretrain", "--config", str(file)]) == 0
    assert seen[-1].max_steps == 9


def test_what_is_given_goes_before_what_a_recipe_holds(
    seen: list[PretrainConfig], tmp_path: Path
) -> None:
    """Of epochs and steps, of a budget and a plan, only one can hold."""
    epochs = {"num_train_epochs": 3, "learning_rate": 0.1}
    assert overruled(epochs, ["max_steps"]) == {"learning_rate": 0.1}
    assert overruled(epochs, ["seed"]) == epochs
    assert overruled({"max_steps": 3}, ["max_steps"]) == {"max_steps": 3}
    assert overruled({"budget": "blocks<=50%"}, ["apply"]) == {}
    assert overruled({"budget": "bytes<=1MB"}, ["plan"]) == {}
    file = tmp_path / "mine.yaml"
    file.write_text("vocab-size: 300\nseed: 3\n")
    for typed in ("--tokenizer=t", "--tokenizer t"):
        with contextlib.suppress(KeyError):  # of the record that `seen` does not give
            run(["pretrain", "--config", str(file), "-o", "x", *typed.split()])
        assert seen[-1] == PretrainConfig(seed=3)
