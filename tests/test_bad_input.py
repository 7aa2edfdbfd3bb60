"""What Python's verbs say to arguments of a wrong kind: one sentence, before any work."""

from pathlib import Path
from typing import Any

import pytest

import attar
import tiny
from attar.errors import BudgetError, ConfigError


@pytest.mark.parametrize("model", [3, None, ""])
def test_a_model_is_a_name_or_a_model(model: Any) -> None:
    for verb, more in ((attar.cost, ()), (attar.generate, ("a text",)), (attar.evaluate, ())):
        with pytest.raises(ConfigError, match="model must be a folder, a name on the Hub, or a m"):
            verb(model, *more)


@pytest.mark.parametrize("prompts", [None, [], "", [3], ["a text", " "], "\udcff"])
def test_a_prompt_is_text(prompts: Any) -> None:
    with pytest.raises(ConfigError, match="a prompt must be text of at least one word"):
        attar.generate(tiny.model(), prompts)


@pytest.mark.parametrize("folder", [5, "", ["out"]])
def test_an_output_folder_is_a_path(folder: Any) -> None:
    with pytest.raises(ConfigError, match="output_dir must be a folder"):
        attar.cost(tiny.model(), output_dir=folder)


def test_nothing_is_pruned_without_a_budget(tmp_path: Path) -> None:
    for both in ({}, {"budget": "blocks<=50%", "apply": tmp_path}):
        found = "both" if both else "neither"
        with pytest.raises(ConfigError, match=f"say what the result may cost.*found {found}"):
            attar.prune(tiny.model(), output_dir=tmp_path / "out", **both)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_has_the_budget_and_what_is_given_goes_first(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("budget: size<=5MB\n", encoding="utf-8")
    with pytest.raises(BudgetError, match="'size' in budget 'size<=5MB'"):
        attar.prune(tiny.model(), config=str(recipe))
    with pytest.raises(BudgetError, match="'rows' in budget 'rows<=5'"):
        attar.prune(tiny.model(), budget="rows<=5", config=str(recipe))
