"""What encoders of a space cost, many at once, and which limits they keep."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attar.errors import ConfigError, check_types, require
from attar.measure.encoder_cost import encoder_macs, encoder_parameters
from attar.methods.compressor.space import EncoderSpace, Integers, ShapeArrays
from attar.report.units import amount
from attar.search.statistics import Array


@dataclass(frozen=True)
class ShapeCosts:
    """What many shapes cost: arrays that broadcast to those of the shapes.

    Attributes:
        parameters: all of them.
        weights: bytes of the weights.
        tokenizer: bytes of the files of the tokenizer.
        config: bytes of the config.
        overhead: bytes of what else is stored, such as a graph.
        macs: multiply-accumulates of one text.
        milliseconds: of one text; None where nobody can say.
        read: the share of the characters of the texts that is read; None where nobody can say.
    """

    parameters: Integers
    weights: Array
    tokenizer: Array
    config: Array
    overhead: Array
    macs: Integers
    milliseconds: Array | None = None
    read: Array | None = None

    @property
    def bytes(self) -> Array:
        """All bytes of the folder."""
        return self.weights + (self.tokenizer + self.config) + self.overhead


@dataclass(frozen=True, kw_only=True)
class StudentCosts:
    """How the cost of a student is counted.

    Attributes:
        outputs: classes, or 1 for a figure.
        tokens: of the text whose multiply-accumulates are counted; None: the context of the space.
        bytes_per_param: bytes of a number in a matrix: 4, 2, or 1 in int8.
        vector_bytes: bytes of a number in a bias or a norm; None: as in a matrix.
        channel_bytes: bytes that each output of a linear layer adds, such as a scale of int8.
        tokenizer_bytes: bytes of the tokenizer by the size of the vocabulary, on arrays; None: 0.
        config_bytes: bytes of the config.
        overhead_bytes: bytes of what else is stored, whatever the shape.
        layer_overhead_bytes: the same for each layer.
        milliseconds: of one text, on arrays; None: not known.
        read: the share of characters that is read, by the size of the vocabulary, on arrays; None:
            not known.
    """

    outputs: int = 2
    tokens: int | None = None
    bytes_per_param: float = 4.0
    vector_bytes: float | None = None
    channel_bytes: float = 0.0
    tokenizer_bytes: Callable[[Integers], Array] | None = None
    config_bytes: int = 0
    overhead_bytes: int = 0
    layer_overhead_bytes: int = 0
    milliseconds: Callable[[ShapeArrays], Array] | None = None
    read: Callable[[Integers], Array] | None = None

    def __post_init__(self) -> None:
        require(self.outputs >= 1, "outputs", self.outputs, "1 or more")
        require(self.tokens is None or self.tokens >= 1, "tokens", self.tokens, "1 or more")
        for name in ("bytes_per_param", "vector_bytes"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "above zero")
        for name in (
            "channel_bytes",
            "config_bytes",
            "overhead_bytes",
            "layer_overhead_bytes",
        ):
            require(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")

    def of(self, shapes: ShapeArrays, space: EncoderSpace) -> ShapeCosts:
        """Count what shapes of a space cost.

        Args:
            shapes: many shapes, such as an open mesh.
            space: says how long texts are.
        """
        parameters = encoder_parameters(
            vocab_size=shapes.vocab_size,
            hidden_size=shapes.hidden_size,
            intermediate_size=shapes.intermediate_size,
            num_hidden_layers=shapes.num_hidden_layers,
            positions=space.positions,
            outputs=self.outputs,
        )
        macs = encoder_macs(
            hidden_size=shapes.hidden_size,
            intermediate_size=shapes.intermediate_size,
            num_hidden_layers=shapes.num_hidden_layers,
            tokens=self.tokens or space.context,
            outputs=self.outputs,
        )
        each, vector = self.bytes_per_param, self.vector_bytes
        vectors = parameters.biases + parameters.norms
        # What does not depend on the vocabulary is summed up first: a mesh of it is small.
        inner = each * parameters.inner + self.channel_bytes * parameters.biases
        inner = inner + (0 if vector is None else (vector - each) * vectors)
        tokenizer = np.zeros(())
        if self.tokenizer_bytes is not None:
            tokenizer = np.ceil(self.tokenizer_bytes(shapes.vocab_size))
        layers = shapes.num_hidden_layers
        return ShapeCosts(
            parameters=parameters.total,
            weights=np.ceil(each * parameters.tables + inner),
            tokenizer=tokenizer,
            config=np.asarray(float(self.config_bytes)),
            overhead=np.ceil(self.overhead_bytes + self.layer_overhead_bytes * layers),
            macs=macs.total,
            milliseconds=None if self.milliseconds is None else self.milliseconds(shapes),
            read=None if self.read is None else self.read(shapes.vocab_size),
        )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper bounds of a student; all of those that are given must hold.

    Attributes:
        bytes: of the whole folder: weights, tokenizer, config and what else is stored.
        params: all parameters.
        macs: multiply-accumulates of one text.
        milliseconds: of one text.

    Raises:
        ConfigError: a limit is not above zero, or none is given.
    """

    bytes: float | None = None
    params: float | None = None
    macs: float | None = None
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        check_types(self)
        for name, value in self.given().items():
            require(value > 0, name, value, "above zero")
        names = "bytes, params, macs or milliseconds"
        require(bool(self.given()), "limits", {}, f"at least one of {names}")

    def __str__(self) -> str:
        keys = {"milliseconds": "latency"}
        return ", ".join(
            f"{keys.get(n, n)}<={amount(keys.get(n, n), v)}" for n, v in self.given().items()
        )

    def given(self) -> dict[str, float]:
        """The limits that are set, by name."""
        every = {"bytes": self.bytes, "params": self.params, "macs": self.macs}
        every["milliseconds"] = self.milliseconds
        return {name: value for name, value in every.items() if value is not None}

    def excess(self, costs: ShapeCosts) -> Array:
        """The largest share by which a limit is overrun; zero or less means that all are kept.

        Raises:
            ConfigError: milliseconds are limited and nobody can say them.
        """
        figures = {"bytes": costs.bytes, "params": costs.parameters, "macs": costs.macs}
        over = np.asarray(-1.0)
        for name, limit in self.given().items():
            figure = costs.milliseconds if name == "milliseconds" else figures[name]
            if figure is None:
                raise ConfigError(
                    f"a limit of {limit:g} milliseconds needs to know what shapes take; found "
                    "none in costs.milliseconds: give a function of shapes"
                )
            over = np.maximum(over, figure / limit - 1)
        return over
