"""Pipelines of distillation on the command line: how they are narrowed, shown and written down."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from attar import artefacts
from attar.errors import ConfigError
from attar.methods.distiller import DistillConfig
from attar.methods.distiller.search import configured
from attar.methods.distiller.space import SPACE, Pipeline, label

#: the options of `attar distill` that a search chooses
SEARCHED = frozenset(field.name for field in fields(Pipeline) if field.name != "mixup") | {
    "mixup_beta"
}


def parse_only(given: Iterable[str]) -> dict[str, list[Any]]:
    """`--only pred_loss=mse,ce --only mixup=false` as the values that are left of each choice.

    Raises:
        ConfigError: not of that form. Names and values are checked by the search.
    """
    found: dict[str, list[Any]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values.strip():
            raise ConfigError(
                f"--only must be a choice and its values, such as pred_loss=mse,ce; found {text!r}"
            )
        words = [word.strip() for word in values.split(",")]
        found.setdefault(name, []).extend(_value(name, word) for word in words)
    return found


def _value(name: str, word: str) -> Any:
    """The value of a choice that a word means; the word itself where it means none."""
    for value in SPACE.get(name, ()):
        if word.lower() == label(name, value).lower():
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and _is(word, value):
            return value
    return tuple(word.split("+")) if name == "augment" else word


def _is(word: str, value: float) -> bool:
    try:
        return float(word) == value
    except ValueError:
        return False


def differences(pipeline: Pipeline) -> str:
    """The choices in which a pipeline differs from the default, such as `layer_map=last`; the
    intermediate loss always, as its default hangs on the student."""
    default = Pipeline()
    found = [
        f"{name}={label(name, value)}"
        for name, value in pipeline.active().items()
        if name == "intermediate" or value != getattr(default, name)
    ]
    return " ".join(found)


def options_of(pipeline: Pipeline) -> dict[str, Any]:
    """The options of `attar distill` that make a pipeline; those without an effect are left out."""
    options = pipeline.active()
    if options.pop("mixup"):
        made = configured(DistillConfig(), pipeline)
        mixed = ("mixup_beta", "per_device_train_batch_size")
        options |= {name: getattr(made, name) for name in mixed}
    return options


def write_recipe(path: Path, options: DistillConfig | Mapping[str, Any], *, comment: str) -> None:
    """Write options as a recipe for `--config`; what is unset is left out.

    Raises:
        ConfigError: the file cannot be written.
    """
    given = asdict(options) if isinstance(options, DistillConfig) else options
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
