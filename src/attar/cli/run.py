"""`attar run`: the command that a recipe names, with its options."""

from dataclasses import fields
from importlib import import_module
from inspect import isfunction, signature
from typing import Any

from attar.errors import ConfigError
from attar.recipes import check_recipe, no_command, read_recipe
from attar.recipes.verbs import completed, option_classes, overruled


def run(recipe: str, /, *options: str) -> int:
    """Run a recipe: the command that it names (its key `verb`), with its options.

    Example: `attar run pocket/1m --data python-stdlib -o my-model`

    Options that follow are those of that command, and override the recipe's.

    Parameters
    ----------
    recipe
        A recipe's name (see attar recipe list) or a YAML file.
    options
        Options of that command.
    """
    raise ConfigError(f"expected a recipe after `attar run`, found {recipe!r}")


def run_recipe(recipe: str, *arguments: Any, **options: Any) -> Any:
    """Run the command that a recipe names: `attar.run("pocket/1m", output_dir="my-model")`.

    Args:
        recipe: name or path of a recipe that names its command.
        arguments: what the command takes first, such as a model.
        options: its keywords; they override the recipe's.

    Raises:
        ConfigError: the recipe names no command, or holds an option that the command does not have.
    """
    stored = read_recipe(recipe)
    words = str(stored.pop("verb", ""))
    check_recipe(stored, verb=words, command="", source=recipe)
    target = _verb(words, recipe)
    fine = {field.name for kind in option_classes(target).values() for field in fields(kind)}
    own = {name: options.pop(name) for name in fine & set(options)}
    given = signature(target).bind_partial(*arguments, **options).arguments
    return target(**completed(target, overruled(stored, own) | own, given=given, source=recipe))


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
