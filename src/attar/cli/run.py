"""`attar run`: the command that a recipe names, with its options."""

from dataclasses import fields
from importlib import import_module
from inspect import isfunction, signature
from typing import Any

from attar.errors import ConfigError
from attar.recipes import check_recipe, no_command, options_from, read_recipe


def run(recipe: str, /, *options: str) -> int:
    """Run a recipe: the command that it names (its key `verb`), with its options.

    Example: `attar run pocket/1m --data python-stdlib -o my-model`

    Options that follow are those of that command, and override the recipe's.

    Parameters
    ----------
    recipe
        A recipe's name (see attar recipe list) or a YAML file.
    options
        Whatever else the command takes.
    """
    raise ConfigError(f"expected a recipe after `attar run`, found {recipe!r}")


def run_recipe(recipe: str, *arguments: Any, **options: Any) -> Any:
    """The same for Python: `attar.run("pocket/1m", output_dir="my-model")`.

    Args:
        recipe: name or path of a recipe that names its command.
        arguments: what the command takes first, such as a model.
        options: its keywords; they override the recipe's.

    Raises:
        ConfigError: the recipe names no command, or holds an option that the command does not have.
    """
    stored = {name.replace("-", "_"): value for name, value in read_recipe(recipe).items()}
    words = str(stored.pop("verb", ""))
    check_recipe(stored, verb=words, command="", source=recipe)
    target = _verb(words, recipe)
    parameters = signature(target).parameters
    kind = type(parameters["config"].default)
    if "recipe" in stored:
        raise ConfigError(f"the recipe {recipe!r} holds 'recipe', which is not an option")
    of_config = {field.name for field in fields(kind)}
    stored |= {name: options.pop(name) for name in list(options) if name in of_config}
    keywords = {name: stored.pop(name) for name in list(stored) if name in parameters}
    config = options_from(stored, kind, source=recipe)
    return target(*arguments, **{"config": config, "recipe": recipe, **keywords, **options})


def _verb(words: str, recipe: str) -> Any:
    """The function of the verb that a recipe names."""
    target: Any = import_module("attar")
    known, verb = list[str](), ""
    for name in words.split():
        known = [f"{verb} {one}".strip() for one in getattr(target, "__all__", ())]
        verb = f"{verb} {name}".strip()
        target = getattr(target, name) if verb in known else None
    if not isfunction(target) or "config" not in signature(target).parameters:
        raise no_command(words, set(known) - {words}, source=recipe)
    return target
