"""`Arch`: a frozen description of one network's widths; `Space`: the networks to choose from.

The keys are those of transformers' configs and of their `per_layer_config`, so that an `Arch` can
be written into a config as it stands.
"""

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from transformers import PreTrainedModel

from attar.errors import ConfigError, require
from attar.families import Body, Family
from attar.foreign import parse_json


@dataclass(frozen=True)
class LayerShape:
    """Widths of one layer."""

    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int


@dataclass(frozen=True)
class Arch:
    """The widths of one network; hashable and JSON-able.

    Attributes:
        layers: the widths of every layer, first layer first.
        hidden_size: channels of the residual stream; None where it does not matter.
        head_dim: channels of one attention head; None as above.
        vocab_size: rows of the token embeddings; None as above.
    """

    layers: tuple[LayerShape, ...]
    hidden_size: int | None = None
    head_dim: int | None = None
    vocab_size: int | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Arch":
        """Read the widths from the model's real tensors."""
        body = Body(model)
        layers = (LayerShape(x.heads, x.kv_groups, x.neurons) for x in body.layers)
        return cls(tuple(layers), body.hidden, body.head_dim, body.vocabulary)

    @property
    def num_hidden_layers(self) -> int:
        """The number of layers."""
        return len(self.layers)

    @property
    def uniform(self) -> bool:
        """True when all layers have the same widths, so that a stock config can describe them."""
        return len(set(self.layers)) <= 1

    def overrides(self, family: Family) -> dict[int, dict[str, int]]:
        """`per_layer_config` for this network: every layer's widths under the family's config
        keys.
        """
        return {i: layer_keys(shape, family) for i, shape in enumerate(self.layers)}

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> "Arch":
        """Read what `to_dict` gave, or the list of layers that earlier versions wrote."""
        if not isinstance(stored, Mapping):
            stored = {"layers": stored}
        layers = tuple(LayerShape(**row) for row in stored["layers"])
        return cls(**{**stored, "layers": layers})

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "Arch":
        """Read what `to_json` wrote, or the list of layers that earlier versions wrote."""
        return cls.from_dict(parse_json(text, "the architecture"))


def layer_keys(shape: LayerShape, family: Family) -> dict[str, int]:
    """The config attributes that size one layer of this family."""
    keys = {family.ffn_key: shape.intermediate_size}
    if not family.no_heads:
        keys["num_attention_heads"] = shape.num_attention_heads
        keys["num_key_value_heads"] = shape.num_key_value_heads
    return keys


# ------------------------------------------------------------------------------------------ spaces

PerLayer = Literal["num_attention_heads", "intermediate_size"]


@dataclass(frozen=True)
class Space:
    """The architectures that a search may choose from: the product of the values listed here.

    Attributes:
        num_hidden_layers: numbers of layers.
        hidden_size: channels of the residual stream.
        num_attention_heads: query heads.
        intermediate_size: neurons of the feed-forward network; or give `intermediate_ratio`.
        intermediate_ratio: neurons as a multiple of `hidden_size`, rounded down.
        num_key_value_heads: key/value heads, one value for each of `num_attention_heads` in the
            same order; empty: as many as query heads.
        head_dim: channels of one head; empty: `hidden_size / num_attention_heads`.
        vocab_size: rows of the token embeddings; empty: those of the parent (`Arch.vocab_size` is
            None).
        per_layer: the widths that every layer chooses for itself.

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

    def __post_init__(self) -> None:
        for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
            require(bool(getattr(self, name)), name, getattr(self, name), "at least one value")
        for field in fields(self):
            values = getattr(self, field.name)
            if field.name == "per_layer":
                known = {"num_attention_heads", "intermediate_size"}
                expected = f"among {sorted(known)} (all other widths run through the whole network)"
                require(known >= set(values), "per_layer", values, expected)
            elif field.name == "num_key_value_heads":
                fine = all(isinstance(v, int) and v > 0 for v in values)
                require(fine, field.name, values, "positive whole numbers")
            else:
                ratio = field.name == "intermediate_ratio"
                fine = all(isinstance(v, int | float if ratio else int) and v > 0 for v in values)
                fine = fine and list(values) == sorted(set(values))
                expected = "positive numbers" if ratio else "positive whole numbers"
                require(fine, field.name, values, f"{expected} in rising order, each once")
        self._check_pairs()

    def _check_pairs(self) -> None:
        if bool(self.intermediate_size) == bool(self.intermediate_ratio):
            raise ConfigError(
                "a space needs either intermediate_size or intermediate_ratio, and not both"
            )
        for width in self.hidden_size if self.intermediate_ratio else ():
            widths = [int(width * ratio) for ratio in self.intermediate_ratio]
            require(
                len(set(widths)) == len(widths) and widths[0] > 0,
                "intermediate_ratio",
                self.intermediate_ratio,
                f"ratios that give different widths; at hidden_size {width} they give {widths}",
            )
        if self.num_key_value_heads:
            pairs = list(zip(self.num_attention_heads, self.num_key_value_heads, strict=False))
            require(
                len(self.num_key_value_heads) == len(self.num_attention_heads)
                and all(heads % kv == 0 for heads, kv in pairs),
                "num_key_value_heads",
                self.num_key_value_heads,
                f"one divisor for each of num_attention_heads {self.num_attention_heads}",
            )
        if not self.head_dim:
            odd = [
                (width, heads)
                for width in self.hidden_size
                for heads in self.num_attention_heads
                if width % heads
            ]
            require(
                not odd and "num_attention_heads" not in self.per_layer,
                "head_dim",
                self.head_dim,
                "given unless every hidden_size divides by every num_attention_heads, the same in "
                f"all layers{f' ({odd[0][0]} does not divide by {odd[0][1]})' if odd else ''}",
            )

    # -------------------------------------------------------------------------------- members

    def neurons(self, hidden_size: int) -> tuple[int, ...]:
        """The feed-forward widths that go with a hidden width, ascending."""
        if self.intermediate_size:
            return self.intermediate_size
        return tuple(int(hidden_size * ratio) for ratio in self.intermediate_ratio)

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """Pairs of query heads and key/value heads, ascending."""
        kv = self.num_key_value_heads or self.num_attention_heads
        return tuple(zip(self.num_attention_heads, kv, strict=True))

    @property
    def size(self) -> int:
        """How many architectures there are."""
        a, i = len(self.num_attention_heads), len(self.intermediate_size or self.intermediate_ratio)
        by_depth = (
            a ** (n if "num_attention_heads" in self.per_layer else 1)
            * i ** (n if "intermediate_size" in self.per_layer else 1)
            for n in self.num_hidden_layers
        )
        free = len(self.hidden_size) * max(1, len(self.head_dim)) * max(1, len(self.vocab_size))
        return free * sum(by_depth)

    @property
    def smallest(self) -> Arch:
        """The least of everything."""
        return self._corner(0)

    @property
    def largest(self) -> Arch:
        """The most of everything."""
        return self._corner(-1)

    def _corner(self, at: Literal[0, -1]) -> Arch:
        depth, hidden = self.num_hidden_layers[at], self.hidden_size[at]
        head_dim, vocabulary = (self.head_dim or (None,))[at], (self.vocab_size or (None,))[at]
        heads, neurons = self.heads[at], self.neurons(hidden)[at]
        return self._arch(
            hidden,
            head_dim,
            vocabulary=vocabulary,
            heads=[heads] * depth,
            neurons=[neurons] * depth,
        )

    @staticmethod
    def _arch(
        hidden: int,
        head_dim: int | None,
        *,
        vocabulary: int | None,
        heads: Sequence[tuple[int, int]],
        neurons: Sequence[int],
    ) -> Arch:
        layers = tuple(LayerShape(a, kv, n) for (a, kv), n in zip(heads, neurons, strict=True))
        return Arch(layers, hidden, head_dim or hidden // heads[0][0], vocabulary)

    def sample(self, rng: random.Random) -> Arch:
        """Draw one architecture; every width is drawn uniformly and for itself (where layers
        choose for themselves, depths are therefore equally likely although deep networks are far
        more numerous).
        """
        depth, hidden = rng.choice(self.num_hidden_layers), rng.choice(self.hidden_size)

        def draw(name: PerLayer, values: Sequence[Any]) -> list[Any]:
            if name in self.per_layer:
                return [rng.choice(values) for _ in range(depth)]
            return [rng.choice(values)] * depth

        return self._arch(
            hidden,
            rng.choice(self.head_dim or (None,)),
            vocabulary=rng.choice(self.vocab_size or (None,)),
            heads=draw("num_attention_heads", self.heads),
            neurons=draw("intermediate_size", self.neurons(hidden)),
        )

    def enumerate(self) -> Iterator[Arch]:
        """All architectures, one by one, smaller values first."""

        def choices(name: PerLayer, values: Sequence[Any], depth: int) -> Iterator[Sequence[Any]]:
            if name in self.per_layer:
                return itertools.product(values, repeat=depth)
            return ((value,) * depth for value in values)

        for depth, hidden, head_dim, vocabulary in itertools.product(
            self.num_hidden_layers,
            self.hidden_size,
            self.head_dim or (None,),
            self.vocab_size or (None,),
        ):
            for heads in choices("num_attention_heads", self.heads, depth):
                for neurons in choices("intermediate_size", self.neurons(hidden), depth):
                    yield self._arch(
                        hidden, head_dim, vocabulary=vocabulary, heads=heads, neurons=neurons
                    )

    def contains(self, arch: Arch) -> bool:
        """Whether the architecture is one of this space."""
        heads = [(x.num_attention_heads, x.num_key_value_heads) for x in arch.layers]
        neurons = [x.intermediate_size for x in arch.layers]
        if arch.num_hidden_layers not in self.num_hidden_layers or arch.hidden_size is None:
            return False
        head_dims = self.head_dim or (arch.hidden_size // heads[0][0],)
        return (
            arch.hidden_size in self.hidden_size
            and arch.head_dim in head_dims
            and (not self.vocab_size or arch.vocab_size in self.vocab_size)
            and set(heads) <= set(self.heads)
            and set(neurons) <= set(self.neurons(arch.hidden_size))
            and ("num_attention_heads" in self.per_layer or len(set(heads)) == 1)
            and ("intermediate_size" in self.per_layer or len(set(neurons)) == 1)
        )

    # ----------------------------------------------------------------------------------- JSON

    def to_dict(self) -> dict[str, Any]:
        """Plain lists; five and more evenly spaced numbers become `{min, max, step}`. What is
        empty is left out.
        """
        return {f.name: _compact(v) for f in fields(self) if (v := getattr(self, f.name))}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Space":
        """Read what `to_dict` gave, or what a user wrote: for every width one number, a list, or
        `{min, max, step}` with both ends included.

        Raises:
            ConfigError: a key is not known, or a value is no space.
        """
        known = {f.name for f in fields(cls)}
        for key in stored:
            require(key in known, "a key of a space", key, f"one of {sorted(known)}")
        for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
            require(key in stored, key, None, "at least one value")
        return cls(**{key: _expand(key, value) for key, value in stored.items()})


def _compact(values: tuple[Any, ...]) -> Any:
    whole = all(isinstance(value, int) for value in values)
    if len(values) < 5 or not whole or len({b - a for a, b in itertools.pairwise(values)}) > 1:
        return list(values)
    return {"min": values[0], "max": values[-1], "step": values[1] - values[0]}


def _expand(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, Mapping):
        expected = "a range {min, max, step} of whole numbers from min to max"
        numbers = [value.get(key) for key in ("min", "max", "step")]
        fine = set(value) == {"min", "max", "step"} and all(isinstance(n, int) for n in numbers)
        require(fine and value["step"] > 0, name, dict(value), expected)
        return tuple(range(value["min"], value["max"] + 1, value["step"]))
    return tuple(value) if isinstance(value, list | tuple) else (value,)
