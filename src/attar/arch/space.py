"""The networks that a search may choose from."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from attar.arch.network import Arch, LayerShape
from attar.errors import ConfigError, require, shown

PerLayer = Literal[
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "cross_attention_heads",
    "cross_attention_span",
]
_PER_LAYER = PerLayer.__args__

#: the deepest published networks have some hundreds of layers
LAYERS = 2000
#: of one choice; what is meant by more is a finer grid than any search needs
_VALUES = 10_000
_WIDEST = 2**31

Genes = tuple[int, ...]
"""An architecture as a search sees it: for every choice, the place of the chosen value."""


@dataclass(frozen=True)
class _Gene:
    """One choice. Those of layers beyond the depth of a network are not made."""

    name: str
    values: tuple[Any, ...]
    layer: int = 0


@dataclass(frozen=True)
class Space:
    """The architectures that a search may choose from: the product of the values listed here.

    Attributes:
        num_hidden_layers: numbers of layers.
        hidden_size: channels of the residual stream. Where every layer chooses for itself, the
            stream between the layers keeps the largest.
        num_attention_heads: query heads.
        intermediate_size: neurons of the feed-forward network; or give `intermediate_ratio`.
        intermediate_ratio: neurons as a multiple of `hidden_size`, rounded down.
        num_key_value_heads: key/value heads, one value for each of `num_attention_heads` in the
            same order; empty: as many as query heads.
        head_dim: channels of one head; empty: `hidden_size / num_attention_heads`.
        vocab_size: rows of the token embeddings; empty: those of the parent (`Arch.vocab_size` is
            None).
        per_layer: the widths that every layer chooses for itself.
        attention_size: columns of queries, keys and values, whatever the number of heads that
            share them; empty: heads times `head_dim`.
        cross_attention_heads: of a decoder, heads that attend to the encoder.
        cross_attention_span: of a decoder, how many of the last encoder layers it attends to.
        decoder: the decoders to choose from; then all else describes the encoder.

    Raises:
        ConfigError: values are missing, repeated, not positive whole numbers, or do not fit each
            other.
    """

    num_hidden_layers: tuple[int, ...]
    hidden_size: tuple[int, ...]
    num_attention_heads: tuple[int, ...]
    intermediate_size: tuple[int, ...] = ()
    intermediate_ratio: tuple[float, ...] = ()
    num_key_value_heads: tuple[int, ...] = ()
    head_dim: tuple[int, ...] = ()
    vocab_size: tuple[int, ...] = ()
    per_layer: tuple[PerLayer, ...] = ()
    attention_size: tuple[int, ...] = ()
    cross_attention_heads: tuple[int, ...] = ()
    cross_attention_span: tuple[int, ...] = ()
    decoder: "Space | None" = None
    _genes: tuple[_Gene, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
            require(bool(getattr(self, name)), name, getattr(self, name), "at least one value")
        for each in _stored_fields():
            values = getattr(self, each)
            if each == "per_layer":
                expected = f"among {sorted(_PER_LAYER)} (all other widths run through the network)"
                require(all(value in _PER_LAYER for value in values), each, values, expected)
            elif each == "num_key_value_heads":
                fine = all(_whole(v) for v in values)
                require(fine, each, values, "positive whole numbers")
            elif each != "decoder":
                ratio = each == "intermediate_ratio"
                fine = len(values) <= _VALUES and all(
                    (isinstance(v, float) and 0 < v < _WIDEST and ratio) or _whole(v)
                    for v in values
                )
                fine = fine and list(values) == sorted(set(values))
                expected = "positive numbers" if ratio else "positive whole numbers"
                require(fine, each, values, f"{expected} in rising order, each once")
        deepest = max(self.num_hidden_layers)
        require(deepest <= LAYERS, "num_hidden_layers", deepest, f"at most {LAYERS}")
        self._check_pairs()
        self._check_heads()
        object.__setattr__(self, "_genes", tuple(self._choices()))

    def _check_pairs(self) -> None:
        if bool(self.intermediate_size) == bool(self.intermediate_ratio):
            raise ConfigError(
                "a space needs either intermediate_size or intermediate_ratio, and not both"
            )
        for width in self.hidden_size if self.intermediate_ratio else ():
            widths = self.neurons(width)
            require(
                len(set(widths)) == len(widths) and widths[0] > 0,
                "intermediate_ratio",
                self.intermediate_ratio,
                f"ratios that give different widths; at hidden_size {width} they give "
                f"{shown(widths)}",
            )
        if self.num_key_value_heads:
            pairs = list(zip(self.num_attention_heads, self.num_key_value_heads, strict=False))
            require(
                len(self.num_key_value_heads) == len(self.num_attention_heads)
                and all(heads % kv == 0 for heads, kv in pairs),
                "num_key_value_heads",
                self.num_key_value_heads,
                f"one divisor for each of num_attention_heads {shown(self.num_attention_heads)}",
            )
        if bool(self.cross_attention_heads) != bool(self.cross_attention_span) or (
            self.decoder is not None and (self.decoder.decoder or self.cross_attention_heads)
        ):
            raise ConfigError(
                "expected cross_attention_heads and cross_attention_span together, in the decoder "
                "of a space alone; give both there or neither"
            )
        spans = () if self.decoder is None else self.decoder.cross_attention_span
        if spans and spans[-1] > self.num_hidden_layers[0]:
            raise ConfigError(
                f"cross_attention_span of the decoder must be at most {self.num_hidden_layers[0]}, "
                f"the layers of the shallowest encoder; found {spans[-1]}"
            )
        for name in self.per_layer:
            given = getattr(self, name) or (name == "intermediate_size" and self.intermediate_ratio)
            require(
                bool(given), "per_layer", self.per_layer, f"widths with values; {name} has none"
            )

    def _check_heads(self) -> None:
        if self.attention_size:
            heads = {*self.num_attention_heads, *self.cross_attention_heads}
            odd = [(size, n) for size in self.attention_size for n in sorted(heads) if size % n]
            expected = "sizes that every number of heads divides, without head_dim"
            require(not odd and not self.head_dim, "attention_size", self.attention_size, expected)
        elif "hidden_size" in self.per_layer:
            expected = "empty where every layer has its own hidden_size, divided by its heads"
            require(not self.head_dim, "head_dim", self.head_dim, expected)
        if not self.head_dim and not self.attention_size:
            odd = [
                (width, heads)
                for width in self.hidden_size
                for heads in self.num_attention_heads
                if width % heads
            ]
            require(
                not odd
                and (
                    "num_attention_heads" not in self.per_layer or "hidden_size" in self.per_layer
                ),
                "head_dim",
                self.head_dim,
                "given unless every hidden_size divides by every num_attention_heads, the same in "
                f"all layers{f' ({odd[0][0]} does not divide by {odd[0][1]})' if odd else ''}",
            )

    # ---------------------------------------------------------------------------------- choices

    def neurons(self, hidden_size: int) -> tuple[int, ...]:
        """The feed-forward widths that go with a hidden width, ascending."""
        if self.intermediate_size:
            return self.intermediate_size
        return tuple(neurons_of(hidden_size, ratio) for ratio in self.intermediate_ratio)

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """Pairs of query heads and key/value heads, ascending."""
        kv = self.num_key_value_heads or self.num_attention_heads
        return tuple(zip(self.num_attention_heads, kv, strict=True))

    def _choices(self) -> Iterator[_Gene]:
        """The genes, depth first. A width that layers share is the gene of the first layer."""
        yield _Gene("num_hidden_layers", self.num_hidden_layers)
        if "hidden_size" not in self.per_layer:
            yield _Gene("hidden_size", self.hidden_size)
        for name in ("head_dim", "vocab_size", "attention_size"):
            if values := getattr(self, name):
                yield _Gene(name, values)
        for name in _PER_LAYER:
            values = getattr(self, name)
            if name == "intermediate_size":
                values = values or self.intermediate_ratio
            if name in self.per_layer:
                yield from (_Gene(name, values, i) for i in range(self.num_hidden_layers[-1]))
            elif values and name != "hidden_size":
                yield _Gene(name, values)

    @property
    def choices(self) -> tuple[int, ...]:
        """How many values each gene has."""
        own = tuple(len(gene.values) for gene in self._genes)
        return own + (self.decoder.choices if self.decoder else ())

    def decode(self, genes: Sequence[int]) -> Arch:
        """The architecture of these genes, those of a decoder last.

        Raises:
            ConfigError: a gene is missing, or has no such value.
        """
        fits = len(genes) == len(self.choices)
        fits = fits and all(0 <= g < n for g, n in zip(genes, self.choices, strict=True))
        require(fits, "genes", tuple(genes), f"as many as {self.choices}, each below its number")
        own = {
            (gene.name, gene.layer): gene.values[at]
            for gene, at in zip(self._genes, genes, strict=False)
        }
        depth = own["num_hidden_layers", 0]

        def width(name: str, layer: int) -> Any:
            return own.get((name, layer if name in self.per_layer else 0))

        stream = width("hidden_size", 0)
        if "hidden_size" in self.per_layer:
            stream = self.hidden_size[-1]
        kv, layers = dict(self.heads), []
        for index in range(depth):
            hidden = width("hidden_size", index) if "hidden_size" in self.per_layer else None
            neurons = width("intermediate_size", index)
            if self.intermediate_ratio:
                neurons = neurons_of(hidden or stream, neurons)
            heads = width("num_attention_heads", index)
            cross = width("cross_attention_heads", index), width("cross_attention_span", index)
            layers.append(LayerShape(heads, kv[heads], neurons, hidden, *cross))
        head_dim, attention = width("head_dim", 0), width("attention_size", 0)
        if head_dim is None and attention is None and "hidden_size" not in self.per_layer:
            head_dim = stream // layers[0].num_attention_heads
        rest = genes[len(self._genes) :]
        decoder = self.decoder.decode(rest) if self.decoder else None
        return Arch(tuple(layers), stream, head_dim, width("vocab_size", 0), attention, decoder)

    def genes_of(self, arch: Arch) -> Genes:
        """The genes of an architecture; those of layers that it does not have are 0.

        Raises:
            ConfigError: it is not in this space.
        """
        values = {
            "num_hidden_layers": arch.num_hidden_layers,
            "hidden_size": arch.hidden_size,
            "head_dim": arch.head_dim,
            "vocab_size": arch.vocab_size,
            "attention_size": arch.attention_size,
        }
        try:
            genes = []
            for gene in self._genes:
                if gene.layer >= arch.num_hidden_layers:
                    genes.append(0)
                elif gene.name not in _PER_LAYER or (
                    gene.name == "hidden_size" and "hidden_size" not in self.per_layer
                ):
                    genes.append(gene.values.index(values[gene.name]))
                else:
                    shape, options = arch.layers[gene.layer], gene.values
                    if gene.name == "intermediate_size":
                        options = self.neurons(shape.hidden_size or arch.hidden_size or 0)
                    genes.append(options.index(getattr(shape, gene.name)))
            if self.decoder is not None and arch.decoder is not None:
                genes.extend(self.decoder.genes_of(arch.decoder))
            if self.decode(genes) in (arch, replace(arch, vocab_size=None)):
                return tuple(genes)
        except (ValueError, IndexError, ConfigError):
            pass
        raise ConfigError(
            f"expected an architecture of this space, {self.to_dict()}; found {arch.to_dict()}"
        )

    def encode(self, arch: Arch) -> tuple[float, ...]:
        """The architecture as numbers from 0 to 1, different for different ones: the value of every
        gene between its least and its greatest; 0 where there is one only, or no such layer.
        """
        own, theirs = self.genes_of(arch), ()
        if self.decoder is not None and arch.decoder is not None:
            theirs = self.decoder.encode(arch.decoder)
        return (
            *(
                (gene.values[at] - gene.values[0]) / ((gene.values[-1] - gene.values[0]) or 1)
                for gene, at in zip(self._genes, own, strict=False)
            ),
            *theirs,
        )

    # ---------------------------------------------------------------------------------- members

    @property
    def size(self) -> int:
        """How many architectures there are."""
        own = sum(math.prod(len(g.values) for g in self._free(n)) for n in self.num_hidden_layers)
        return own * (self.decoder.size if self.decoder else 1)

    def _free(self, depth: int) -> list[_Gene]:
        """What is left to choose at this depth."""
        return [gene for gene in self._genes[1:] if gene.layer < depth]

    @property
    def smallest(self) -> Arch:
        """The least of everything."""
        return self.decode([0] * len(self.choices))

    @property
    def largest(self) -> Arch:
        """The most of everything."""
        return self.decode([n - 1 for n in self.choices])

    def sample(self, rng: random.Random) -> Arch:
        """Draw one architecture; every width is drawn uniformly and for itself (where layers
        choose for themselves, depths are therefore equally likely although deep networks are far
        more numerous).
        """
        return self.decode([rng.randrange(n) for n in self.choices])

    def enumerate(self) -> Iterator[Arch]:
        """All architectures, one by one, smaller values first."""
        decoders = (
            [()]
            if self.decoder is None
            else [self.decoder.genes_of(arch) for arch in self.decoder.enumerate()]
        )
        for at, depth in enumerate(self.num_hidden_layers):
            free = self._free(depth)
            places = {id(gene): i for i, gene in enumerate(free)}
            for chosen in itertools.product(*(range(len(gene.values)) for gene in free)):
                own = [chosen[places[id(g)]] if id(g) in places else 0 for g in self._genes[1:]]
                for decoder in decoders:
                    yield self.decode([at, *own, *decoder])

    def contains(self, arch: Arch) -> bool:
        """Whether the architecture is one of this space."""
        try:
            self.genes_of(arch)
        except ConfigError:
            return False
        return True

    # ----------------------------------------------------------------------------------- JSON

    def to_dict(self) -> dict[str, Any]:
        """Plain lists; five and more evenly spaced numbers become `{min, max, step}`. What is
        empty is left out.
        """
        stored = {name: compact(v) for name in _stored_fields()[:-1] if (v := getattr(self, name))}
        return stored | ({"decoder": self.decoder.to_dict()} if self.decoder else {})

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Space":
        """Read what `to_dict` gave, or what a user wrote: for every width one number, a list, or
        `{min, max, step}` with both ends included.

        Raises:
            ConfigError: a key is not known, or a value is no space.
        """
        known = _stored_fields()
        for key in stored:
            require(key in known, "a key of a space", key, f"one of {sorted(known)}")
        for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
            require(key in stored, key, None, "at least one value")
        values = {k: expand(k, v) for k, v in stored.items() if k != "decoder"}
        decoder = stored.get("decoder")
        plain = decoder is None or (isinstance(decoder, Mapping) and "decoder" not in decoder)
        require(plain, "decoder", decoder, "a space without a decoder of its own")
        return cls(**values, decoder=None if decoder is None else cls.from_dict(decoder))


def neurons_of(hidden_size: int, ratio: float) -> int:
    """Neurons as a multiple of a width, rounded down; 29 for 100 and 0.29, whose product is less by
    an error of rounding."""
    return int(round(hidden_size * ratio, 6))


def _stored_fields() -> list[str]:
    """What a user gives, `decoder` last."""
    return [each.name for each in fields(Space) if each.init]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _WIDEST


def compact(values: tuple[Any, ...]) -> Any:
    """The values of one choice as they are written: `{min, max, step}` where that is shorter."""
    whole = all(isinstance(value, int) for value in values)
    if len(values) < 5 or not whole or len({b - a for a, b in itertools.pairwise(values)}) > 1:
        return list(values)
    return {"min": values[0], "max": values[-1], "step": values[1] - values[0]}


def expand(name: str, value: Any) -> tuple[Any, ...]:
    """Read what `compact` gave, or what a user wrote: one value, a list, or a range.

    Raises:
        ConfigError: it is a range, but none of whole numbers.
    """
    if isinstance(value, Mapping):
        expected = "a range {min, max, step} of whole numbers from min to max"
        numbers = [value.get(key) for key in ("min", "max", "step")]
        fine = set(value) == {"min", "max", "step"} and all(isinstance(n, int) for n in numbers)
        require(fine and value["step"] > 0, name, dict(value), expected)
        values = range(value["min"], value["max"] + 1, value["step"])
        few = value["max"] < _WIDEST and len(values[: _VALUES + 1]) <= _VALUES
        require(few, name, dict(value), f"a range of at most {_VALUES} values, each below 2**31")
        return tuple(values)
    return tuple(value) if isinstance(value, list | tuple) else (value,)
