"""Spaces of architectures as users write them: one, or several with names, in YAML or in Python."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from attar.arch import Space
from attar.errors import ConfigError, did_you_mean, shown
from attar.recipes import read_mapping
from attar.search.supernet_files import check_name

#: the name of a space that is given without one
ONLY = "whole"
_KEYS = frozenset(field.name for field in fields(Space) if field.init)


def read_spaces(given: str | Path | Mapping[str, Any] | Space) -> dict[str, Space]:
    """Spaces by name; a single one without a name is called `whole`.

    Args:
        given: a YAML file, what it would hold, or a `Space`. For every width one number, a list,
            or `{min, max, step}` with both ends included (see `Space.from_dict`).

    Raises:
        ConfigError: the file cannot be read, or a space in it is none; names the file and the key.
    """
    if isinstance(given, Space):
        return {ONLY: given}
    source, values = "the space", given
    if isinstance(given, str | Path):
        source = f"the file {str(given)!r}"
        values = read_mapping(Path(given), what=source, of="spaces", such="hidden_size: [128, 256]")
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(
            f"expected a space, or several by name, in {source}; found {shown(values)}: give at "
            "least num_hidden_layers, hidden_size, num_attention_heads and intermediate_size"
        )
    single = bool(_KEYS & {*values})
    others = [name for name, one in values.items() if not isinstance(one, Mapping | Space)]
    if others and len(others) < len(values) and not single:
        raise ConfigError(
            f"expected a space for each name in {source}; {others[0]!r} is "
            f"{shown(values[others[0]])}"
        )
    if others or single:
        return {ONLY: _space(values, source)}
    for name in values:
        try:
            check_name(name)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    if len({name.lower() for name in values}) < len(values):  # folders, on some disks the same
        raise ConfigError(
            f"expected names of spaces that differ in more than capitals in {source}; found "
            f"{', '.join(values)}"
        )
    return {name: _space(one, f"{name} in {source}") for name, one in values.items()}


def _space(values: Any, source: str) -> Space:
    if isinstance(values, Space):
        return values
    if unknown := [str(key) for key in values if key not in _KEYS]:
        hint = did_you_mean(unknown[0], _KEYS) or f"; known are {', '.join(sorted(_KEYS))}"
        raise ConfigError(f"{source} holds {unknown[0]!r}, which no space has{hint}")
    try:
        return Space.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
