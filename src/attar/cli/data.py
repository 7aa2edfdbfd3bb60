"""The options that say what data a verb reads, flattened for the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from cyclopts import Group, Parameter

from attar.data.data import STDLIB, Data
from attar.data.pictures import DEMO
from attar.errors import ConfigError

_GROUP = Group("Data", sort_key=2)


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Data, as `Data.settings` or a record names it, as words of a command line."""
    words: list[str] = []
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    return words


@dataclass(frozen=True)
class TextOptions:
    """Documents."""

    data: str = STDLIB
    """A Hub name, a .txt, .jsonl, .parquet, .csv or .tsv file (also .gz), a folder of them, a .json
    file, or python-stdlib."""
    data_config: str | None = None
    """Configuration of a data set on the Hub."""
    text_column: str | None = None
    """Column of the text. Default: text; in labelled data, the first usual name, such as
    sentence."""

    def whole(self) -> Data:
        """What Python's verbs take."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return Data(given.pop("data"), config=given.pop("data_config"), **given)

    def words(self) -> list[str]:
        """The same data, as words of another command line."""
        return words_of(self.whole().settings())


@dataclass(frozen=True)
class TextOrPairOptions(TextOptions):
    """Documents, or pairs of texts for an encoder-decoder."""

    text_column: str | None = None
    """Column of the text. Default: text; of the texts that an encoder-decoder reads, source."""
    pair_column: str | None = None
    """Column of the texts that an encoder-decoder writes. Default: target."""


@dataclass(frozen=True)
class PromptOptions(TextOptions):
    """Prompts or conversations, or documents."""

    prompt_column: str | None = None
    """Column of prompts as text, or of conversations as messages. Default: prompt, messages or
    conversations."""
    completion_column: str = "completion"
    """Column of the completions of the prompts; commands that read only prompts need none."""


@dataclass(frozen=True)
class LabelOptions(TextOptions):
    """Documents, or labelled examples."""

    pair_column: str | None = None
    """Column of the second text, in labelled data."""
    label_column: str | None = None
    """Column of the labels, in labelled data."""
    skip_empty: bool = False
    """Leave out labelled rows without text, and say how many; otherwise they are an error."""


@dataclass(frozen=True)
class LabelledOptions(LabelOptions):
    """Labelled examples."""

    data: str = ""
    """Labelled examples: a Hub name, a .csv, .tsv, .jsonl or .parquet file (also .gz), a folder of
    them, python-stdlib:package, :docstring, :clone or :defect."""

    def whole(self) -> Data:
        """What Python's verbs take.

        Raises:
            ConfigError: no data is named.
        """
        if not self.data:
            raise ConfigError("say what to learn from: --data with a file, a folder or a Hub name")
        return super().whole()


@dataclass(frozen=True)
class MediaOptions:
    """Pictures, sound or arrays."""

    data: str = DEMO
    """A picture, a recording or a .npy file, a folder or a .tar of them, a Parquet file, a Hub
    name, or demo: pictures that need no download."""
    data_config: str | None = None
    """Configuration of a data set on the Hub."""
    media_column: str | None = None
    """Column of the pictures or the sound. Default: the only one of such a type."""

    def whole(self) -> Data:
        """What Python's verbs take."""
        return Data(self.data, config=self.data_config, media_column=self.media_column)

    def words(self) -> list[str]:
        """The same data, as words of another command line."""
        return words_of(self.whole().settings())


@dataclass(frozen=True)
class ScoredOptions(LabelOptions, PromptOptions):
    """Whatever a model is scored on: documents, conversations or labelled examples."""


Text = Annotated[TextOptions, Parameter(name="*", group=_GROUP)]
TextOrPairs = Annotated[TextOrPairOptions, Parameter(name="*", group=_GROUP)]
Media = Annotated[MediaOptions, Parameter(name="*", group=_GROUP)]
Scored = Annotated[ScoredOptions, Parameter(name="*", group=_GROUP)]
Labelled = Annotated[LabelledOptions, Parameter(name="*", group=_GROUP)]
Prompts = Annotated[PromptOptions, Parameter(name="*", group=_GROUP)]
