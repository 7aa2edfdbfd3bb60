"""`attar run`: the command that a recipe names, with its options."""

from importlib import import_module
from inspect import signature
from typing import Any

from attar.errors import ConfigError
from attar.recipes import options_from, read_recipe


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
    verb = str(stored.pop("verb", ""))
    target: Any = import_module("attar")
    try:
        for word in verb.split() or [""]:
            target = getattr(target, word)
    except AttributeError:
        raise ConfigError(
            f"the recipe {recipe!r} names no command to run; add a line such as 'verb: prune'"
        ) from None
    parameters = signature(target).parameters
    keywords = {name: stored.pop(name) for name in list(stored) if name in parameters}
    config = options_from(stored, type(parameters["config"].default), source=recipe)
    given = {"config": config, "recipe": recipe, **keywords, **options}
    return target(*arguments, **given)
