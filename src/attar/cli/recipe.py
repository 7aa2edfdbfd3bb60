"""`attar recipe`: the settings files that come with Attar."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import takewhile
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import yaml

from attar.cli.output import note, show, show_pairs
from attar.errors import ConfigError


def recipe(
    action: Literal["list", "show", "copy"],
    name: str | None = None,
    path: Path | None = None,
    /,
) -> int:
    """List, show or copy the recipes that come with Attar.

    A recipe is a YAML file of one command's options: `attar recipe copy pocket/1m` gives you one
    to edit, and `--config` or the command's recipe option takes it.

    Parameters
    ----------
    action
        `list` names all, `show` prints one, `copy` writes one to a file of your own.
    name
        The recipe, as `list` shows it.
    path
        Where `copy` writes; the recipe's own file name in this folder when not given.
    """
    found = recipes()
    if action == "list":
        show_pairs((key, _headline(file)) for key, file in found.items())
        return 0
    if name is None:
        raise ConfigError(f"attar recipe {action} needs a name; `attar recipe list` shows all.")
    text = recipe_file(name).read_text(encoding="utf-8")
    if action == "show":
        show(text.rstrip("\n"))
    else:
        note(f"recipe {name} copied to {_copy(text, name, path)}")
    return 0


def recipes() -> dict[str, Traversable]:
    """The shipped recipe files by name, `method/file` without the suffix."""
    root = files("attar").joinpath("recipes")
    found = {
        f"{folder.name}/{file.name.removesuffix('.yaml')}": file
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }
    return dict(sorted(found.items()))


def recipe_file(name: str) -> Path:
    """The file of a shipped recipe, or the path itself when it is a file.

    Raises:
        ConfigError: it is neither.
    """
    if Path(name).is_file():
        return Path(name)
    found = recipes()
    if name not in found:
        near = get_close_matches(name, found, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "`attar recipe list` shows all."
        raise ConfigError(f"{name!r} is neither a file nor a recipe of Attar's; {hint}")
    return Path(str(found[name]))


def read_recipe(name: str) -> dict[str, Any]:
    """The options in a recipe, by name or path.

    Raises:
        ConfigError: there is none, or it is not YAML of the form `option: value`.
    """
    file = recipe_file(name)
    try:
        with file.open(encoding="utf-8") as stream:  # the error names the file and the line
            options = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the recipe {name!r} cannot be read as YAML: {reason}") from error
    if options is None:
        return {}
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise ConfigError(
            f"expected a mapping of options in the recipe {name!r}, with lines such as "
            f"'max_steps: 500'; found {type(options).__name__} {str(options)[:60]!r}"
        )
    return options


def overruled(options: Mapping[str, Any], tokens: Iterable[str]) -> dict[str, Any]:
    """A recipe's options without its epochs where the command line counts in steps: epochs go
    before steps, and what is typed goes before a recipe."""
    typed = {_option(token.split("=")[0]) for token in tokens if token.startswith("--")}
    gone = {"num_train_epochs"} if "max_steps" in typed else set()
    return {name: value for name, value in options.items() if _option(name) not in gone}


def _option(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _headline(file: Traversable) -> str:
    """The first sentence of the comment at the top: what the recipe gives."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda x: x.startswith("#"), lines))
    return shorten(re.split(r"[.;:] ", comment.removeprefix("Gives: "))[0].rstrip("."), 110)


def _copy(text: str, name: str, path: Path | None) -> Path:
    target = path or Path()
    target = target / f"{name.split('/')[-1]}.yaml" if target.is_dir() else target
    if target.exists():
        raise ConfigError(f"{target} exists already; give another path or remove it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}.") from error
    return target
