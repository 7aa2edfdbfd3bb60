"""`attar recipe`: the settings files that come with Attar."""

import re
from importlib.resources.abc import Traversable
from itertools import takewhile
from pathlib import Path
from typing import Literal

from attar.artefacts import write_text
from attar.cli.output import note, show, show_pairs
from attar.errors import ConfigError
from attar.recipes import read_recipe, recipe_file, recipes


def recipe(
    action: Literal["list", "show", "copy"],
    name: str | None = None,
    path: Path | None = None,
    /,
) -> int:
    """List, show or copy the recipes that come with Attar.

    A recipe is a YAML file of one command's options: `attar recipe copy pocket/1m` gives you one
    to edit, and `--config` reads it.

    Parameters
    ----------
    action
        `list` names all, `show` prints one, `copy` writes one to a file of your own.
    name
        The recipe, as `list` shows it.
    path
        Where `copy` writes; the recipe's own file name in this folder when not given.
    """
    shipped = recipes()
    if action == "list":
        show_pairs((key, _headline(file)) for key, file in shipped.items())
        return 0
    if name is None:
        raise ConfigError(f"attar recipe {action} needs a name; `attar recipe list` shows all.")
    read_recipe(name)  # what cannot be read is refused in one sentence
    text = recipe_file(name).read_text(encoding="utf-8")
    if action == "show":
        show(text.rstrip("\n"))
    else:
        note(f"recipe {name} copied to {_copy(text, name, path)}")
    return 0


def _headline(file: Traversable) -> str:
    """The first sentence of the comment at the top: what the recipe gives."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda x: x.startswith("#"), lines))
    return re.split(r"[.;:] ", comment.removeprefix("Gives: "))[0].rstrip(".")


def _copy(text: str, name: str, path: Path | None) -> Path:
    target = path or Path()
    target = target / f"{name.split('/')[-1]}.yaml" if target.is_dir() else target
    if target.exists():
        raise ConfigError(f"{target} exists already; give another path or remove it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, text)
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror}; give a path elsewhere"
        ) from error
    return target
