"""A mistyped option or value is told without the seconds that torch takes."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from attar.cli.app import COMMANDS, COMPARED, NOUNS, PARTS, build_app, run

#: for every command an option with a value that it does not take; none where there is none
WRONG: dict[str, tuple[str, ...]] = {
    "demo": ("--size", "giant"),
    "export": ("--quantize", "q9"),
    "pretrain": ("--vocab-size", "1.5"),
    "pretrain compare": ("--seeds", "1.5"),
    "prune": ("model", "--step", "abc"),
    "heal": ("model", "--max-steps", "0"),
    "distill": ("--student-layers", "x"),
    "ngrams evaluate": ("store", "--eval-tokens", "few"),
    "ngrams train": ("model", "--order", "six"),
    "ngrams search": ("store", "--target", "t", "--alphas", "0,x"),
    "pipeline search": ("--trials", "0"),
    "pipeline evaluate": ("--seed", "x"),
    "recommend": ("--count", "x"),
    "generate": ("model", "--temperature", "hot"),
    "serve": ("model", "--rows", "0"),
    "draft init": ("model", "--init", "cutt"),
    "draft train": ("draft", "--target", "t", "--draft-share", "2"),
    "draft search": ("draft", "--divergences", "tvd,q"),
    "draft evaluate": ("draft", "--temperatures", "a,b"),
    "supernet train": ("model", "--n-random", "x"),
    "supernet search": ("net", "--top", "0"),
    "supernet evaluate": ("net", "--n-random", "few"),
    "supernet export": (),
    "tokenizer train": ("--window-bits", "x"),
    "tokenizer encode": ("words", "--workers", "x"),
    "tokenizer decode": (),
    "tokenizer evaluate": ("words", "--max-bytes", "x"),
    "tokenizer compress": (),
    "tokenizer decompress": (),
    "codec train": ("--reduction", "half"),
    "codec encode": ("codec", "--engine", "slurm"),
    "codec decode": ("codec", "--data", "latents", "--stages", "all"),
    "codec evaluate": ("codec", "--baselines", "jpeg,gif"),
    "annotate init": ("project", "--unit", "words"),
    "annotate import": ("project", "--data", "text", "--offsets", "bytes"),
    "annotate serve": ("project", "--port", "http"),
    "annotate worker": ("project", "--once", "maybe"),
    "annotate draw": (),
    "annotate train": (),
    "annotate status": (),
    "annotate curve": ("project", "--x", "euros"),
    "annotate agree": (),
    "annotate transfer": ("project", "--kind", "bert"),
    "annotate export": ("project", "--on-pipe", "drop"),
    "annotate convert": ("text", "--offsets", "bytes"),
    "annotate simulate": ("--seeds", "few"),
    "annotate backup": (),
    "annotate upgrade": (),
    "annotate doctor": (),
    "annotate event add": ("project", "--kind", "guideline.changes"),
    "annotate event list": (),
    "annotate user add": ("project", "name", "--role", "boss"),
    "annotate user role": ("project", "name", "--role", "boss"),
    "annotate user list": (),
    "evaluate": ("model", "--split", "tests"),
    "cost": ("model", "--repeats", "0"),
    "compare": (),
    "recipe": ("lisst",),
    "run": ("pocket/1m", "--max-steps", "x"),
    "env": (),
}
#: what is typed, and what is said
SAID = {
    "heal m --teecher t": "Unknown option: --teecher. Did you mean --teacher?",
    "draft train d --max_stepz=3": "--max_stepz. Did you mean --max-steps?",
    "run pocket/1m --max-stepz 3": "--max-stepz. Did you mean --max-steps?",
    "tokenizer encode t --block-size 3": "In this version it is --context",
    "prune m --method foo": 'Invalid value "foo" for --method. Choose from: "bonsai", ',
    "prune m --step 1.5": "step must be a share in (0, 1]; found 1.5",
    "heal m": "attar heal needs --teacher; ",
    "heal m --teacher": "attar heal needs a value after --teacher; ",
}
ALL = """
import contextlib, io, json, sys
from attar.cli.app import run
for line in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = run(line)
    heavy = {"torch", "transformers", "datasets"} & set(sys.modules)
    print(json.dumps([line, code, said.getvalue(), sorted(heavy)]))
    if heavy:
        break
"""


def commands() -> Iterator[str]:
    app = build_app()
    for name in COMMANDS:
        if name not in NOUNS:
            yield name
            yield from (" ".join(words) for words in COMPARED if words[0] == name)
            continue
        for verb in app[name]:
            if (name, verb) in PARTS:
                yield from (f"{name} {verb} {one}" for one in app[name][verb] if one[0] != "-")
            elif not verb.startswith("-"):
                yield f"{name} {verb}"


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[int, str, list[str]]]:
    """What one process answers to everything that is mistyped: code, words, heavy modules."""
    lines = [[*command.split(), *wrong] for command, wrong in WRONG.items() if wrong]
    lines += [[*command.split(), "pocket/1m", "--flagg", "3"] for command in WRONG]
    lines += [line.split() for line in SAID]
    ended = subprocess.run(
        [sys.executable, "-c", ALL, json.dumps(lines)], capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    return {" ".join(line): (code, said, heavy) for line, code, said, heavy in found}


def test_what_is_mistyped_needs_no_torch(answers: dict[str, tuple[int, str, list[str]]]) -> None:
    assert set(WRONG) == set(commands())
    for line, (code, said, heavy) in answers.items():
        assert (code, heavy) == (2, []), (line, said)
        assert said.count("\n") == 1, said
        assert said.startswith("attar: "), said
        if "--flagg" in line:
            assert "Unknown option: --flagg" in said, line
    assert len(answers) == len(SAID) + sum(1 + bool(wrong) for wrong in WRONG.values())


def test_what_is_mistyped_is_told_in_words_that_help(
    answers: dict[str, tuple[int, str, list[str]]],
) -> None:
    for line, words in SAID.items():
        assert words in answers[line][1]


def test_a_missing_argument_is_told_where_pydantic_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pydantic")
    assert run(["prune", "--data", "text"]) == 2
    assert "attar prune needs MODEL;" in capsys.readouterr().err
