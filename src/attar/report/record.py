"""The record that every command leaves next to its artefact: `attar.json`."""

import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attar.artefacts import write_text
from attar.errors import DataError, finite
from attar.foreign import read_json
from attar.report.migrations import MIGRATIONS, NOT_FINITE
from attar.report.places import found_from, seen_from
from attar.report.tables import comparison, run_table, run_text
from attar.report.verdict import scored_apart

SCHEMA = 2
FILE_NAME = "attar.json"
#: records that are followed from a model to those it was made from
_ANCESTORS = 8
_COLUMNS = ("text_column", "pair_column", "label_column", "prompt_column", "completion_column")
_OF_DATA = ("data", *_COLUMNS, "data_config")


@dataclass(frozen=True)
class Paper:
    """A publication that a method implements."""

    title: str
    authors: tuple[str, ...] | str
    year: int
    arxiv: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.authors, str):
            object.__setattr__(self, "authors", tuple(self.authors))

    @property
    def names(self) -> str:
        """Authors as one string."""
        return self.authors if isinstance(self.authors, str) else ", ".join(self.authors)

    @property
    def link(self) -> str | None:
        """Where to read it."""
        return self.url or (f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else None)

    def __str__(self) -> str:
        source = f"arXiv:{self.arxiv}" if self.arxiv else self.url
        shown = self.names
        if not isinstance(self.authors, str) and len(self.authors) > 2:
            shown = f"{self.authors[0]} et al."
        return f"{shown}: {self.title}, {self.year}" + (f", {source}" if source else "")

    def bibtex(self) -> str:
        """A BibTeX entry."""
        authors = self.authors if isinstance(self.authors, str) else " and ".join(self.authors)
        first = (authors.split(" and ")[0].split(",")[0].split() or ["anon"])[-1]
        key = "".join(c for c in f"{first}{self.year}".lower() if c.isalnum())
        lines = [
            f"  title  = {{{self.title}}}",
            f"  author = {{{authors}}}",
            f"  year   = {{{self.year}}}",
        ]
        if self.arxiv:
            lines += [f"  eprint = {{{self.arxiv}}}", "  archivePrefix = {arXiv}"]
        if self.link:
            lines.append(f"  url    = {{{self.link}}}")
        return f"@misc{{{key},\n" + ",\n".join(lines) + "\n}"


def versions() -> dict[str, str]:
    """Versions of Python, torch, transformers and Attar."""
    own = {name: version_of(name) for name in ("torch", "transformers", "attar")}
    return {"python": platform.python_version(), **own}


def version_of(package: str) -> str:
    """The version of a package, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def hardware() -> dict[str, Any]:
    """The processor, torch's number of threads, and the first GPU where torch has one."""
    torch = sys.modules.get("torch")  # never import it for this: reading a record must stay quick
    threads = (
        torch.get_num_threads()
        if torch
        else int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    )
    machine: dict[str, Any] = {"processor": _processor(), "threads": threads}
    if torch and torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name(0)
    return machine


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def now() -> str:
    """This moment in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class Run:
    """One run of one command: what was asked, what it cost, how good the result is.

    Attributes:
        command: what was run, as in `draft train`.
        method: the method's name, or None.
        paper: the publication behind the method.
        model: the parent model's name or path.
        data: the data's name or path.
        settings: every option of the run.
        budget: `{"asked": str, "met": bool, "constraints": [{"key", "limit", "achieved", "met"}]}`,
            with keys as in `Budget`.
        cost: `Cost.to_dict()` under `before` and `after`.
        quality: `Score.to_dict()` under `before` and `after`.
        baselines: models to compare the result with, each with `name`, `cost` and `quality` (plain,
            without before and after).
        details: free. Reports draw two keys: `widths`, `{"KV groups": {"before": [per layer],
            "after": [...]}, "FFN width": ...}`, and `importance`, `{"attention": [per layer],
            "FFN": [...]}`.
        seed: the seed of all randomness.
        versions: of Python, torch, transformers and Attar.
        hardware: processor and threads.
        seconds: wall time.
        date: when it ended, ISO 8601, UTC.
        schema: version of this record's form.
    """

    command: str
    method: str | None = None
    paper: Paper | None = None
    model: str | None = None
    data: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] | None = None
    cost: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    baselines: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=versions)
    hardware: dict[str, Any] = field(default_factory=hardware)
    seconds: float | None = None
    date: str = field(default_factory=now)
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers; other objects turn into what they stand for."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def save(self, directory: str | Path) -> Path:
        """Write `attar.json` into a folder, which is made if need be, and return its path."""
        path = Path(directory) / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json_text(self) + "\n")
        return path

    def name_from(self, folder: Path) -> None:
        """Name all files as seen from a folder: a record says nothing about where it was made."""
        for name in ("model", "data", "settings"):
            setattr(self, name, seen_from(folder, getattr(self, name)))
        if "target" in self.details:
            self.details["target"] = seen_from(folder, self.details["target"])

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Read a record back from its folder or file.

        Raises:
            DataError: there is none, it is damaged, or another schema wrote it.
        """
        file = Path(path)
        file = file / FILE_NAME if file.is_dir() else file
        if not file.exists():
            raise DataError(
                f"no run record at {file}; give a folder that an attar command wrote, "
                f"or its {FILE_NAME}."
            )
        return cls._from_stored(read_json(file, "the run record"), file)

    @classmethod
    def _from_stored(cls, stored: Any, file: Path) -> "Run":
        if not isinstance(stored, dict) or "schema" not in stored or "command" not in stored:
            raise DataError(
                f"{file} is not an attar run record: it lacks the keys 'schema' and 'command'."
            )
        while isinstance(stored["schema"], int) and stored["schema"] in MIGRATIONS:
            stored = MIGRATIONS[stored["schema"]](stored)
        if stored["schema"] != SCHEMA:
            raise DataError(
                f"the run record {file} has schema {stored['schema']!r}, but this attar reads "
                f"schema {SCHEMA}; use the attar version that wrote it (key 'versions'), "
                "or repeat the run."
            )
        known = {f.name for f in fields(cls)}
        try:
            values = {key: _restored(value) for key, value in stored.items() if key in known}
            if values.get("paper") is not None:
                values["paper"] = Paper(**values["paper"])
            for key in ("settings", "cost", "quality", "details", "versions", "hardware"):
                if not isinstance(values.get(key, {}), dict):
                    raise TypeError(f"{key!r} is not an object")
            if not isinstance(values["command"], str):
                raise TypeError("'command' is not text")
            for key in ("method", "model", "data"):
                if not isinstance(values.get(key), str | None):
                    raise TypeError(f"{key!r} is not text")
            if not (values.get("seconds") is None or finite(values["seconds"])):
                raise TypeError("'seconds' is not a number")
            rows = values.get("baselines", [])
            if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
                raise TypeError("'baselines' is not a list of objects")
            run = cls(**values)
            for show in (run_text, lambda one: comparison([one]), lambda one: scored_apart([one])):
                show(run)  # so that whoever shows it finds no mistake
            return run
        except (
            *(TypeError, ValueError, LookupError, AttributeError),
            *(ArithmeticError, RecursionError),
        ) as error:
            raise DataError(
                f"the run record {file} is damaged ({error}); repeat the run."
            ) from error

    def __str__(self) -> str:
        return run_text(self)

    def _repr_html_(self) -> str:
        return run_table(self).html()


def recorded_data(folder: str | Path) -> dict[str, str]:
    """The data that a model was made with, as `Data.settings` names them: as its record says, or
    that of the model it was made from; empty where no record says.
    """
    for _ in range(_ANCESTORS):
        try:
            run = Run.load(folder) if Path(folder).is_dir() else None
        except (DataError, OSError, ValueError):
            run = None
        if run is None or (run.data is None and run.model is None):
            break
        if run.data is not None:
            named = {name: run.settings[name] for name in _OF_DATA if run.settings.get(name)}
            return named | {"data": found_from(folder, run.data)}
        folder = found_from(folder, run.model or "")
    return {}


def json_text(value: Any) -> str:
    """A record, or anything else, as JSON; NaN and infinity as `{"float": "NaN"}` and so on."""
    return json.dumps(_named(_plain(value)), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """The JSON value that stands for a settings object."""
    match value:
        case None | bool() | int() | float() | str() if not isinstance(value, Enum):
            return value
        case Enum():
            return _plain(value.value)
        case Path():
            return str(value)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return sorted((_plain(item) for item in value), key=repr)
    if is_dataclass(value) and not isinstance(value, type):
        own = getattr(value, "to_dict", None)
        return _plain(own() if own else asdict(value))
    items = getattr(value, "tolist", None)  # arrays, tensors and their scalars
    return _plain(items()) if items else str(value)


def _named(value: Any) -> Any:
    """JSON has no NaN and infinity; they are stored as `{"float": "NaN"}`, as JavaScript says."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"}
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list) else value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in NOT_FINITE:
            return float(value["float"])
        return {key: _restored(item) for key, item in value.items()}
    return [_restored(item) for item in value] if isinstance(value, list) else value
