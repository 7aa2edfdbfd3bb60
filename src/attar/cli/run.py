"""`attar run`: the command that a recipe names, with its options."""

from importlib import import_module
from typing import Any

from attar.errors import ConfigError
from attar.recipes import read_recipe


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
        options: its keywords; `config` is the recipe.

    Raises:
        ConfigError: the recipe names no command.
    """
    verb = str(read_recipe(recipe).get("verb", ""))
    attar = import_module("attar")
    target: Any = attar
    try:
        for word in verb.split() or [""]:
            target = getattr(target, word)
    except AttributeError:
        raise ConfigError(
            f"the recipe {recipe!r} names no command to run; add a line such as 'verb: prune'"
        ) from None
    return target(*arguments, config=recipe, **options)
