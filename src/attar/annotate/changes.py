"""What is typed about changes: rules, settings, and the file of events of a simulation."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from attar.data.segments.formats import read_segments
from attar.errors import ConfigError, did_you_mean
from attar.methods.active_segmentation.events import Event
from attar.methods.active_segmentation.rules import Rule, RuleKind
from attar.methods.active_segmentation.simulate import Happening

_OF_EVENT = ("kind", "after", "policy", "query", "scope", "note")
_KEYS = (*_OF_EVENT, "batch", "rule", "add", "format", "truth", "relabel_test")


def parse_rule(text: str) -> Rule:
    """A rule such as `join_prefix:การ,ความ`: its kind, a colon, and words with commas between.

    Raises:
        ConfigError: it is none.
    """
    kind, _, words = text.partition(":")
    known = get_args(RuleKind)
    if kind not in known or not words:
        raise ConfigError(
            f"expected a rule as KIND:WORD,WORD with the kind {', '.join(known[:-1])} or "
            f"{known[-1]}, as in join_prefix:การ,ความ; found {text!r}{did_you_mean(kind, known)}"
        )
    return Rule(kind, tuple(word for word in words.split(",") if word))  # pyright: ignore[reportArgumentType]


def parse_changes(pairs: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Settings such as `strategy=margin`, as values: numbers, true, none or text, as in YAML.

    Raises:
        ConfigError: one has no name or no value.
    """
    if isinstance(pairs, Mapping):
        return dict(pairs)
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"expected NAME=VALUE, as in strategy=margin; found {pair!r}")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError:
            read = value
        found[name.replace("-", "_")] = None if value == "none" else read
    return found


def read_happenings(file: str | Path) -> list[Happening]:
    """The events of a simulation: a YAML file with a list, each with `batch`, before which it
    happens, and `kind`; and where they apply `after`, `policy`, `rule`, `query`, `scope`, `note`,
    `add` (a file of gold that joins the corpus, of `format`), `truth` (a rule by which the gold
    changes) and `relabel_test`.

    Raises:
        ConfigError: it cannot be read, or is no such list.
        DataError: a file that it names cannot be read.
    """
    path = Path(file)
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the events {str(path)!r}: {error.strerror}; give a YAML file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(
            f"expected a YAML list of events in {str(path)!r}, found something else; each needs "
            "batch and kind"
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(
            f"expected a YAML list of events in {str(path)!r}, each with batch and kind; found "
            f"{type(rows).__name__}"
        )
    return [_happening(row, path) for row in rows]


def _happening(row: dict[str, Any], file: Path) -> Happening:
    if unknown := sorted({*row} - {*_KEYS}, key=str):
        raise ConfigError(
            f"an event in {str(file)!r} has the key {unknown[0]!r}, expected some of "
            f"{', '.join(_KEYS)}{did_you_mean(str(unknown[0]), _KEYS)}"
        )
    if not isinstance(row.get("batch"), int) or "kind" not in row:
        raise ConfigError(
            f"an event in {str(file)!r} lacks batch, a whole number, or kind; give both"
        )
    given = {name: row[name] for name in _OF_EVENT if row.get(name) is not None}
    if row.get("rule"):
        given["rule"] = parse_rule(str(row["rule"]))
    added = row.get("add")
    return Happening(
        batch=row["batch"],
        event=Event(**given),
        add=list(read_segments(file.parent / added, format=row.get("format"))) if added else (),
        rule=parse_rule(str(row["truth"])) if row.get("truth") else None,
        relabel_test=bool(row.get("relabel_test", True)),
    )
