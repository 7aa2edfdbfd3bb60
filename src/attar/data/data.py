"""`Data`: where text or examples come from, and which of their columns are meant."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from attar import artefacts
from attar.errors import ConfigError, require

STDLIB = "python-stdlib"
Source = str | Path | Dataset | DatasetDict


@dataclass(frozen=True)
class Data:
    """A source of data with its configuration and columns. A plain source is `Data(source)`."""

    source: Source = STDLIB
    """A data set on the Hub, a file or a folder, a data set object, or `python-stdlib`."""
    config: str | None = None
    """Configuration of a data set on the Hub."""
    text_column: str | None = None
    """Column of the text. None: `text`; of labelled data the first usual name, as for the next
    two."""
    pair_column: str | None = None
    """Column of the second text."""
    label_column: str | None = None
    """Column of the labels."""
    prompt_column: str | None = None
    """Column of prompts as text, or of conversations as messages. None: `prompt`, `messages` or
    `conversations`, if there is one."""
    completion_column: str = "completion"
    """Column of what follows the prompts; need not be there."""
    media_column: str | None = None
    """Column of pictures or sound. None: the only column of such a type."""
    skip_empty: bool = False
    """Leave out labelled rows without text, which are refused otherwise."""

    def __post_init__(self) -> None:
        fine = isinstance(self.source, str | Path | Dataset | DatasetDict) and self.source != ""
        expected = "a file, a folder, the name of a data set, or a data set of the datasets library"
        found = self.source if isinstance(self.source, str) else type(self.source).__name__
        require(fine, "data", found, expected)

    @classmethod
    def of(cls, data: "DataLike | None") -> "Data":
        """The data itself, or the data of a plain source.

        Raises:
            ConfigError: it is neither.
        """
        return data if isinstance(data, Data) else cls(data)  # pyright: ignore[reportArgumentType]

    @property
    def path(self) -> Path | None:
        """The file or folder that it names; None where there is none of that name."""
        if not isinstance(self.source, str | Path):
            return None
        path = artefacts.expanded(self.source)
        return path if os.path.exists(path) else None  # noqa: PTH110 - pathlib's raises for long names

    @property
    def name(self) -> str:
        """How records call it: its name or path, or how many rows a data set in memory has."""
        if isinstance(self.source, str | Path):
            return str(self.source)
        if isinstance(self.source, Dataset):
            return f"a data set of {len(self.source)} rows"
        rows = ", ".join(f"{len(rows)} {split}" for split, rows in self.source.items())
        return f"a data set of {rows} rows"

    @property
    def origin(self) -> str:
        """How errors call it."""
        return str(self.source) if isinstance(self.source, str | Path) else "the given data set"

    def is_on_hub(self, *, own: bool) -> bool:
        """Whether it is a data set on the Hub.

        Args:
            own: it is made from the source code of this Python.

        Raises:
            ConfigError: it is not, and a configuration is given.
        """
        named = isinstance(self.source, str | Path)
        on_hub = named and self.path is None and not own
        if self.config is not None and not on_hub:
            raise ConfigError(
                f"expected a data set on the Hub with the configuration {self.config!r}, found "
                f"{self.origin}, which has no configurations; leave config (--data-config) out"
            )
        return on_hub

    def settings(self) -> dict[str, Any]:
        """What is recorded of it: its name under `data`, and what differs from the default."""
        given = {
            field.name: getattr(self, field.name)
            for field in fields(self)[1:]
            if getattr(self, field.name) != field.default
        }
        if "config" in given:
            given["data_config"] = given.pop("config")
        return {"data": self.name, **given}

    def at(self, source: Source) -> "Data":
        """The same columns of another source."""
        return replace(self, source=source)


DataLike = Source | Data
"""What verbs take as data."""
