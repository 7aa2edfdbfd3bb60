"""The settings files that come with Attar, one command's options each, and files of that form."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from yaml.constructor import ConstructorError

from attar import artefacts
from attar.errors import ConfigError, did_you_mean
from attar.recipes.renamed import RENAMED, RENAMED_OPTIONS
from attar.recipes.typed import from_recipe

C = TypeVar("C")


class _EachKeyOnce(yaml.SafeLoader):
    """YAML that refuses a key that comes again, of which PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            name = str(key.value).replace("-", "_")
            if name in known:
                said = f"expected each key once, found {key.value!r} again"
                raise ConstructorError(problem=said, problem_mark=key.start_mark)
            known.add(name)
        return super().construct_mapping(node, deep)


def recipes() -> dict[str, Traversable]:
    """The shipped recipe files by name, `method/file` without the suffix."""
    root = files("attar").joinpath("recipes")
    shipped = {
        f"{folder.name}/{file.name.removesuffix('.yaml')}": file
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }
    return dict(sorted(shipped.items()))


def recipe_file(name: str) -> Path:
    """The file of a shipped recipe, or the path itself when it is a file.

    Raises:
        ConfigError: it is neither.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = recipes()
    if name not in shipped:
        near = get_close_matches(name, shipped, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "`attar recipe list` shows all."
        raise ConfigError(f"{name!r} is neither a file nor a recipe of Attar's; {hint}")
    return Path(str(shipped[name]))


def read_recipe(name: str) -> dict[str, Any]:
    """The options in a recipe, by name or path, with underscores in their names.

    Raises:
        ConfigError: there is none, or it is not YAML of the form `option: value`, each once.
    """
    options = read_mapping(
        recipe_file(name), what=f"the recipe {name!r}", of="options", such="max_steps: 500"
    )
    if options.get("verb", "") is None:  # null: as if it were not there
        del options["verb"]
    return {name.replace("-", "_"): value for name, value in options.items()}


def read_mapping(file: Path, *, what: str, of: str, such: str) -> dict[str, Any]:
    """A YAML file with a mapping, each key once.

    Args:
        file: the file.
        what: it is, for errors.
        of: what it maps.
        such: a line that it may have, for errors.

    Raises:
        ConfigError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        with file.open(encoding="utf-8") as stream:  # the error names the file and the line
            values = yaml.load(stream, _EachKeyOnce)
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{what} cannot be read as YAML: {reason}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(
            f"expected a mapping of {of} in {what}, with lines such as {such!r}; found "
            f"{type(values).__name__} {str(values)[:60]!r}"
        )
    return values


def write_recipe(path: Path, options: Any, *, comment: str) -> None:
    """Write options, a mapping or a dataclass, as a recipe; what is unset is left out.

    Raises:
        ConfigError: the file cannot be written.
    """
    given: dict[str, Any] = dict(options if isinstance(options, Mapping) else asdict(options))
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value is not None
    }
    text = f"# {comment}\n{yaml.safe_dump(plain, sort_keys=False)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        artefacts.write_text(path, text)
    except OSError as error:
        raise ConfigError(f"cannot write the recipe {path}: {error.strerror}") from error


def no_command(verb: str, known: Iterable[str], *, source: str) -> ConfigError:
    """What to raise for a recipe whose verb is none of those known."""
    hint = did_you_mean(verb, known) or "; `attar --help` lists all"
    if not verb:
        hint = f"; add a line such as 'verb: prune', or give it to a command with --config {source}"
    return ConfigError(
        f"the recipe {source!r} names no command to run{f', but {verb!r}' if verb else ''}{hint}"
    )


def check_recipe(options: Mapping[str, Any], *, verb: str, command: str, source: str) -> None:
    """Refuse a recipe for another command, or with words of version 0.1.

    Args:
        options: of the recipe, without its verb.
        verb: that the recipe names; empty: none.
        command: that is to run; empty: any.
        source: how errors call the recipe.

    Raises:
        ConfigError: with the command that it is for, or the present word.
    """
    if (new := RENAMED.get(tuple(verb.split()))) is not None:  # pyright: ignore[reportArgumentType,reportCallIssue]
        raise ConfigError(f"the recipe {source!r} is for attar {verb}, which is now {new}")
    alike = {("distill", "pipeline search"), ("pretrain", "pretrain compare")}  # these train alike
    if verb and command and verb != command and (verb, command) not in alike:
        raise ConfigError(
            f"the recipe {source!r} is for attar {verb}, not for attar {command}; `attar recipe "
            "list` shows all"
        )
    for name in options:
        if (new := RENAMED_OPTIONS.get(name)) is not None:
            raise ConfigError(f"the recipe {source!r} holds {name!r}, which is now {new}")


def configured(config: C | str, kind: type[C], *, recipe: str | None) -> tuple[C, str | None]:
    """The options themselves, or those of a recipe by name or path, and the recipe's name.

    Args:
        config: options, or a recipe.
        kind: the dataclass of the options.
        recipe: the name that the options given came from, if any.

    Raises:
        ConfigError: there is no such recipe, or it holds an option that `kind` does not have.
    """
    if isinstance(config, kind):
        return config, recipe
    if not isinstance(config, str):
        raise ConfigError(
            f"config must be a {kind.__name__}, or the name or path of a recipe; found "
            f"{type(config).__name__}"
        )
    options = read_recipe(config)
    named = str(options.pop("verb", ""))
    check_recipe(options, verb=named, command="", source=config)
    return options_from(options, kind, source=config), config


def options_from(options: Mapping[str, Any], kind: type[C], *, source: str) -> C:
    """A dataclass of options from a recipe's.

    Args:
        options: by name, with underscores; lists become tuples.
        kind: the dataclass.
        source: how errors call the recipe.

    Raises:
        ConfigError: `kind` has no such option, or a value has the wrong type.
    """
    known = {field.name for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    if unknown := [name for name in options if name not in known]:
        raise ConfigError(
            f"the recipe {source!r} holds {unknown[0]!r}, which is not an option of "
            f"{kind.__name__}{did_you_mean(unknown[0], known)}"
        )
    hints = get_type_hints(kind)
    given = {
        name: from_recipe(value, hints[name], name=f"{name} in the recipe {source!r}")
        for name, value in options.items()
        if value is not None  # null: as if it were not there
    }
    return kind(**given)
