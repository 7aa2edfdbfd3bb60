"""The encoders to choose from: one, many at once, and the space of all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import RobertaConfig

from attar.arch.space import compact, expand
from attar.errors import ConfigError, check_types, did_you_mean, require, shown
from attar.recipes import read_mapping

Integers = NDArray[np.int64]

#: channels of a head, as near as a space allows, where the number of heads is not searched
HEAD_SIZE = 32
#: rows of RoBERTa's table of positions that no token uses: it counts from after that of padding
PADDING_ROWS = 2
#: the largest values: with them every count fits into 64 bits
_MOST = {
    "vocab_size": 10_000_000,
    "num_attention_heads": 65_536,
    "hidden_size": 65_536,
    "intermediate_size": 65_536,
    "num_hidden_layers": 2000,
    "context": 65_536,
}


@dataclass(frozen=True, order=True)
class EncoderShape:
    """One encoder: a vocabulary and four widths, by their names in a config.

    Shapes are ordered by their fields as they stand here.

    Raises:
        ConfigError: a value is below 1, or the heads do not divide the hidden width.
    """

    vocab_size: int
    num_attention_heads: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int

    def __post_init__(self) -> None:
        check_types(self)
        for name, value in asdict(self).items():
            require(1 <= value <= _MOST[name], name, value, f"from 1 to {_MOST[name]}")
        heads, width = self.num_attention_heads, self.hidden_size
        expected = f"a divisor of hidden_size {width}"
        require(width % heads == 0, "num_attention_heads", heads, expected)

    def __str__(self) -> str:
        heads = self.num_attention_heads
        return (
            f"{self.num_hidden_layers} x {self.hidden_size}, {heads} head{'s' * (heads > 1)}, "
            f"{self.intermediate_size} neurons, vocabulary {self.vocab_size}"
        )

    def to_dict(self) -> dict[str, int]:
        """Whole numbers by the names of a config."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "EncoderShape":
        """Read what `to_dict` gave.

        Raises:
            ConfigError: a value is missing, too many or no width.
        """
        names = [field.name for field in fields(cls)]
        require(set(stored) == set(names), "a shape", dict(stored), f"{', '.join(names)}")
        return cls(**stored)

    def config(self, *, outputs: int, context: int, **others: Any) -> RobertaConfig:
        """The config of the encoder with a head, for a tokenizer whose `<s>`, `<pad>` and `</s>`
        are 0, 1 and 2.

        Args:
            outputs: classes, or 1 for a figure.
            context: the most tokens of a text.
            others: further settings, such as `hidden_dropout_prob`.
        """
        settings: dict[str, Any] = {
            **self.to_dict(),
            "num_labels": outputs,
            "max_position_embeddings": context + PADDING_ROWS,
            "type_vocab_size": 1,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
        }
        return RobertaConfig(**settings | others)


@dataclass(frozen=True)
class ShapeArrays:
    """Many shapes at once: five arrays of whole numbers that broadcast against each other, such as
    an open mesh; the shapes are those of the broadcast."""

    vocab_size: Integers
    num_attention_heads: Integers
    hidden_size: Integers
    intermediate_size: Integers
    num_hidden_layers: Integers

    @classmethod
    def of(cls, shapes: Sequence[EncoderShape]) -> "ShapeArrays":
        """Arrays `(N,)` of a list of shapes."""
        columns = np.array([astuple(shape) for shape in shapes], dtype=np.int64).reshape(-1, 5).T
        return cls(*columns)


@dataclass(frozen=True)
class EncoderSpace:
    """The encoders that a search may choose from: the product of the values listed here, but for
    those whose heads do not divide the hidden width.

    It is a `Genome` of five genes, in the order of the fields of `EncoderShape`.

    Attributes:
        vocab_size: entries of the vocabulary.
        num_attention_heads: heads.
        hidden_size: channels between the layers.
        intermediate_size: neurons of the feed-forward networks.
        num_hidden_layers: layers.
        context: the most tokens of a text, with those that mark its ends.

    Raises:
        ConfigError: an axis is empty, its values are not rising or out of range, or no heads divide
            a width, or some heads none.
    """

    vocab_size: tuple[int, ...]
    num_attention_heads: tuple[int, ...]
    hidden_size: tuple[int, ...]
    intermediate_size: tuple[int, ...]
    num_hidden_layers: tuple[int, ...]
    context: int = 512

    def __post_init__(self) -> None:
        check_types(self)
        require(3 <= self.context <= _MOST["context"], "context", self.context, "from 3 to 65536")
        for name, values in self._axes().items():
            object.__setattr__(self, name, tuple(values))
            fine = bool(values) and list(values) == sorted(set(values))
            fine = fine and values[0] >= 1 and values[-1] <= _MOST[name]
            expected = f"whole numbers from 1 to {_MOST[name]} in rising order, each once"
            require(fine, name, values, expected)
        for width in self.hidden_size:
            fine = any(width % heads == 0 for heads in self.num_attention_heads)
            expected = f"such that one divides every hidden_size; none divides {width}"
            require(fine, "num_attention_heads", self.num_attention_heads, expected)
        for heads in self.num_attention_heads:
            fine = any(width % heads == 0 for width in self.hidden_size)
            expected = f"such that each divides a hidden_size; {heads} divides none"
            require(fine, "num_attention_heads", self.num_attention_heads, expected)

    # ------------------------------------------------------------------------------- made and read

    @classmethod
    def published(cls) -> "EncoderSpace":
        """The 10,944,000 encoders of the official code."""
        return cls(
            vocab_size=tuple(range(1000, 50_001, 1000)),
            num_attention_heads=(1, 2, 4, 8),
            hidden_size=tuple(range(16, 769, 16)),
            intermediate_size=tuple(range(32, 3041, 32)),
            num_hidden_layers=tuple(range(1, 13)),
        )

    @classmethod
    def default(cls, *, context: int = 512) -> "EncoderSpace":
        """As published, with finer steps at the small end and a wider choice of heads."""
        return cls(
            vocab_size=(
                *range(1000, 4000, 250),
                *range(4000, 8000, 500),
                *range(8000, 16_000, 1000),
                *range(16_000, 32_001, 4000),
            ),
            num_attention_heads=(1, 2, 3, 4, 6, 8, 12, 16, 24),
            hidden_size=(*range(16, 256, 8), *range(256, 769, 16)),
            intermediate_size=(*range(16, 256, 16), *range(256, 1024, 32), *range(1024, 3073, 128)),
            num_hidden_layers=tuple(range(1, 13)),
            context=context,
        )

    @classmethod
    def read(cls, given: "str | Path | Mapping[str, Any] | EncoderSpace") -> "EncoderSpace":
        """A space as a user gives it.

        Args:
            given: `default`, `published`, a YAML file, what it would hold, or a space. What the
                file does not say is as in the default space. For every width one number, a list,
                or `{min, max, step}` with both ends included.

        Raises:
            ConfigError: the file cannot be read, or holds no space; names the file and the key.
        """
        if isinstance(given, EncoderSpace):
            return given
        if given in ("default", "published"):
            return cls.default() if given == "default" else cls.published()
        source, values = "the space", given
        if isinstance(given, str | Path):
            source = f"the file {str(given)!r}"
            if not Path(given).is_file():
                names = ("default", "published")
                raise ConfigError(
                    f"expected a space: {', '.join(names)} or a YAML file; found no file "
                    f"{str(given)!r}{did_you_mean(str(given), names)}"
                )
            such = "hidden_size: {min: 32, max: 256, step: 16}"
            values = read_mapping(Path(given), what=source, of="a space", such=such)
        if not isinstance(values, Mapping):
            raise ConfigError(f"expected a mapping of widths in {source}; found {shown(values)}")
        try:
            return cls.from_dict({**cls.default().to_dict(), **_fitting_heads(values), **values})
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and `{min, max, step}`."""
        return {n: compact(v) for n, v in self._axes().items()} | {"context": self.context}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "EncoderSpace":
        """Read what `to_dict` gave.

        Raises:
            ConfigError: a key is missing or not known, or a value is no axis of a space.
        """
        known = [field.name for field in fields(cls)]
        for key in stored:
            expected = f"one of {', '.join(known)}{did_you_mean(str(key), known)}"
            require(key in known, "a key of a space of encoders", key, expected)
        for key in known:
            require(key in stored, key, None, "at least one value")
        axes = {k: expand(k, v) for k, v in stored.items() if k != "context"}
        return cls(**axes, context=stored["context"])

    # ------------------------------------------------------------------------------------- genes

    def _axes(self) -> dict[str, tuple[int, ...]]:
        return {field.name: getattr(self, field.name) for field in fields(EncoderShape)}

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        """The values of every axis, in the order of the fields of `EncoderShape`."""
        return tuple(self._axes().values())

    @property
    def choices(self) -> tuple[int, ...]:
        """How many values each axis has."""
        return tuple(len(values) for values in self.axes)

    @property
    def size(self) -> int:
        """How many encoders there are."""
        pairs = sum(w % h == 0 for w in self.hidden_size for h in self.num_attention_heads)
        vocabularies, _, _, neurons, layers = self.choices
        return pairs * math.prod((vocabularies, neurons, layers))

    @property
    def positions(self) -> int:
        """Rows of the table of positions."""
        return self.context + PADDING_ROWS

    def canonical(self, genes: Sequence[int]) -> tuple[int, ...]:
        """The genes that stand for all those that mean the same. Where heads do not divide the
        width, they mean the next fewer of the space that do, or else the next more."""
        vocabulary, at, hidden, neurons, layers = genes
        width, heads = self.hidden_size[hidden], self.num_attention_heads
        if width % heads[at]:
            fit = [place for place, count in enumerate(heads) if width % count == 0]
            at = max((place for place in fit if place < at), default=fit[0])
        return (vocabulary, at, hidden, neurons, layers)

    def decode(self, genes: Sequence[int]) -> EncoderShape:
        """The encoder of these genes, by their canonical ones."""
        pairs = zip(self.axes, self.canonical(genes), strict=True)
        return EncoderShape(*(axis[gene] for axis, gene in pairs))

    def genes_of(self, shape: EncoderShape) -> tuple[int, ...]:
        """The places of the values of an encoder.

        Raises:
            ConfigError: it is not in this space.
        """
        try:
            pairs = zip(self.axes, astuple(shape), strict=True)
            return tuple(axis.index(value) for axis, value in pairs)
        except ValueError as error:
            raise ConfigError(f"expected an encoder of the space; found {shape}") from error

    @property
    def smallest(self) -> EncoderShape:
        """The least of everything."""
        return self.decode((0,) * 5)

    def usual_heads(self, hidden_size: int) -> int:
        """Of the numbers of heads that divide a width, that whose heads are nearest to 32 channels
        wide; of two as near, the larger."""
        fit = [n for n in self.num_attention_heads if hidden_size % n == 0]
        return min(fit, key=lambda n: (abs(math.log(hidden_size / n / HEAD_SIZE)), -n))


def _fitting_heads(values: Mapping[str, Any]) -> dict[str, Any]:
    """The default numbers of heads that divide one of the widths given, or nothing where no widths
    are given or none fits."""
    if "hidden_size" not in values:
        return {}
    widths = expand("hidden_size", values["hidden_size"])
    if not all(isinstance(width, int) for width in widths):
        return {}  # told with the other mistakes
    heads = EncoderSpace.default().num_attention_heads
    fit = [count for count in heads if any(width % count == 0 for width in widths)]
    return {"num_attention_heads": fit} if fit else {}
