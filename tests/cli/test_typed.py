"""A mistyped option is told without the seconds that torch takes."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from attar.cli.app import COMMANDS, NOUNS, build_app
from attar.cli.typed import unknown_option


def commands() -> Iterator[tuple[str, ...]]:
    app = build_app()
    for name in COMMANDS:
        if name not in NOUNS:
            yield (name,)
        else:
            for verb in app[name]:
                if not verb.startswith("-"):
                    yield name, verb


def test_every_option_of_every_command_is_known() -> None:
    app = build_app()
    for words in commands():
        if words == ("run",):  # has those of the command that its recipe names
            continue
        one = app
        for word in words:
            one = one[word]
        typed = [
            name
            for argument in one.assemble_argument_collection()
            if argument.parse
            for name in argument.names
            if name.startswith("--")
        ]
        assert typed or words == ("env",) or words == ("recipe",), words
        assert unknown_option(words, typed) is None, words
        assert unknown_option(words, ["--learning_rates", *typed]) is not None, words


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["heal", "m", "--teecher", "t"], "Unknown option: --teecher. Did you mean --teacher?"),
        (["draft", "train", "d", "--max_stepz=3"], "--max_stepz. Did you mean --max-steps?"),
        (["run", "pocket/1m", "--max-stepz", "3"], "--max-stepz. Did you mean --max-steps?"),
        (["tokenizer", "encode", "t", "--block-size", "3"], "In this version it is --context"),
    ],
)
def test_a_mistyped_option_needs_no_torch(typed: list[str], said: str) -> None:
    code = (
        "import sys; from attar.cli.app import run; code = run(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules); sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *typed], capture_output=True, text=True, check=False
    )
    assert said in ended.stderr
    assert ended.returncode == 2
