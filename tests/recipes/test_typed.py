"""Text in a recipe is read as the same text on the command line."""

from pathlib import Path
from typing import Any

import pytest

from attar.cli import generate, prune
from attar.decode.generate import GenerateConfig
from attar.errors import ConfigError
from attar.methods.bonsai import BonsaiConfig
from attar.recipes import configured
from attar.report.record import Run
from scene import run


def commanded(kind: Any, *words: str) -> Any:
    """The options that the command line makes of these words."""

    def capture(*_: Any, config: Any, **__: Any) -> Run:
        seen.append(config)
        return Run("captured", details={"form": "uniform", "notes": []}, quality={"after": {}})

    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prune, "prune_model", capture)
        patch.setattr(generate, "generate_texts", capture)
        command = {
            BonsaiConfig: ["prune", "m", "--budget", "blocks<=50%", "-o", "x"],
            GenerateConfig: ["generate", "m", "a text"],
        }[kind]
        assert run([*command, *words]) == (0 if seen else 2)
    return seen[0] if seen else None


@pytest.mark.parametrize(
    ("kind", "line", "words", "value"),
    [
        (BonsaiConfig, "protect: layers.0.mlp", "--protect=layers.0.mlp", ("layers.0.mlp",)),
        (BonsaiConfig, "protect: [layers.0.mlp]", "--protect=layers.0.mlp", ("layers.0.mlp",)),
        (BonsaiConfig, "protect: []", "", ()),
        (BonsaiConfig, "evaluations: 1e1", "--evaluations=1e1", 10),
        (BonsaiConfig, "evaluations: null", "", None),
        (BonsaiConfig, "step: 1e-1", "--step=1e-1", 0.1),
        (BonsaiConfig, "seed: '7'", "--seed=7", 7),
        (GenerateConfig, 'chat: "false"', "--chat=false", False),
        (GenerateConfig, 'chat: "yes"', "--chat=yes", True),
        (GenerateConfig, 'stop: "##("', "--stop=##(", ("##(",)),
        (GenerateConfig, 'stop: ["a,b", "##("]', "--stop=a,b --stop=##(", ("a,b", "##(")),
    ],
)
def test_a_value_is_the_same_on_the_command_line_and_in_a_recipe(
    kind: Any, line: str, words: str, value: Any, tmp_path: Path
) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(line + "\n")
    made, _ = configured(str(recipe), kind, recipe=None)
    found = getattr(made, line.split(":")[0])
    assert (found, type(found)) == (value, type(value))
    assert commanded(kind, *words.split()) == made
    assert commanded(kind, "--config", str(recipe)) == made


@pytest.mark.parametrize(
    ("kind", "line", "expected"),
    [
        (BonsaiConfig, "seed: 1.5", "a whole number"),
        (BonsaiConfig, "seed: true", "a whole number"),
        (BonsaiConfig, "step: [0.1, 0.2]", "a finite number"),
        (BonsaiConfig, "prior: Wanda", "one of wanda"),
        (BonsaiConfig, "iterative: maybe", "true or false"),
    ],
)
def test_a_value_that_the_command_line_refuses_is_refused_in_a_recipe(
    kind: Any, line: str, expected: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(line + "\n")
    name = line.split(":")[0]
    with pytest.raises(ConfigError, match=f"{name}( in the recipe .*)? must be {expected}"):
        configured(str(recipe), kind, recipe=None)
    assert commanded(kind, "--config", str(recipe)) is None
