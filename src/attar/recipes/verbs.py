"""What a recipe gives to a verb in Python: the same options as on the command line."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, get_args, get_type_hints

from attar.recipes import check_recipe, options_from, read_recipe
from attar.recipes.typed import from_recipe

P = ParamSpec("P")
R = TypeVar("R")

#: what is given with a command -> what it makes void in the recipe, of which only one can hold
_OVERRULED = MappingProxyType(
    {
        "max_steps": "num_train_epochs",
        "tokenizer": "vocab_size",
        "apply": "budget",
        "budget": "apply",
        "plan": "budget",
    }
)


def overruled(options: Mapping[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """A recipe's options without those that cannot stand beside what is `given`, which goes first:
    epochs beside steps, a budget beside a plan."""
    gone = {_OVERRULED.get(name) for name in given}
    return {name: value for name, value in options.items() if name not in gone}


def takes_recipe(command: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let `config` be the name or path of a recipe, with options where the caller gives none.

    Args:
        command: the verb as it is typed; a recipe may be for no other.
    """

    def decorate(verb: Callable[P, R]) -> Callable[P, R]:
        @wraps(verb)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            recipe = kwargs.get("config")
            if not isinstance(recipe, str | Path):
                return verb(*args, **kwargs)
            given = signature(verb).bind_partial(*args, **kwargs).arguments
            del given["config"]
            options = read_recipe(str(recipe))
            named = str(options.pop("verb", ""))
            check_recipe(options, verb=named, command=command, source=str(recipe))
            whole: Callable[..., R] = verb
            return whole(**completed(verb, options, given=given, source=str(recipe)))

        return call

    return decorate


def option_classes(verb: Callable[..., Any]) -> dict[str, type]:
    """The dataclasses of options that a verb takes, by parameter."""
    parameters = signature(verb).parameters.items()
    return {name: type(p.default) for name, p in parameters if is_dataclass(p.default)}


def completed(
    verb: Callable[..., Any], options: Mapping[str, Any], *, given: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """All that a verb is called with.

    Args:
        verb: a function of Python's.
        options: of a recipe: keywords of the verb, fields of its dataclasses of options, and how
            its data is read.
        given: by the caller, by name; this goes first.
        source: how errors call the recipe.

    Raises:
        ConfigError: the verb has no such option, or a value has the wrong type.
    """
    hints, kinds = get_type_hints(verb), option_classes(verb)
    homes: dict[str, str] = {}  # a name in several classes is the first one's
    for name, kind in kinds.items():
        for field in fields(kind):
            homes.setdefault(field.name, name)
    chosen: dict[str, Any] = {"recipe": source}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in overruled(options, given).items():
        if name in hints and name not in (*kinds, "recipe", "return"):
            if value is not None:  # null: as if it were not there
                chosen[name] = _typed(value, hints[name], name=f"{name} in the recipe {source!r}")
        else:
            home = "data" if name in _columns(hints) else homes.get(name, "config")
            parts.setdefault(home, {})[name] = value
    columns = parts.pop("data", {})
    for name, part in parts.items():
        chosen[name] = options_from(part, kinds[name], source=source)
    chosen |= given
    if columns and isinstance(chosen.get("data"), str | Path):
        chosen["data"] = _with_columns(chosen["data"], columns, hints)
    return chosen


def _data_class(hints: Mapping[str, Any]) -> Any:
    """What says how a verb's data is read, next to plain sources; None: it has no data."""
    return next((kind for kind in get_args(hints.get("data")) if is_dataclass(kind)), None)


def _columns(hints: Mapping[str, Any]) -> set[str]:
    """What the command line calls the fields of that."""
    kind = _data_class(hints)
    names = {field.name for field in fields(kind)} - {"source"} if kind else set()
    return {"data_config" if name == "config" else name for name in names}


def _with_columns(data: str | Path, columns: dict[str, Any], hints: Mapping[str, Any]) -> Any:
    plain = {"config" if name == "data_config" else name: v for name, v in columns.items()}
    return _data_class(hints)(data, **plain)


def _typed(value: Any, hint: Any, *, name: str) -> Any:
    """A number or switch as the command line would read it; all else is the verb's to judge."""
    plain = {int, float, bool} & {hint, *get_args(hint)}
    return from_recipe(value, hint, name=name) if plain else value
