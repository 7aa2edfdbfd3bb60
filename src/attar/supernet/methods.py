"""What the verbs of supernets need of a method; each paper's side is in a module of its own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.arch import Arch, Space
from attar.data.data import DataLike
from attar.data.sources import Source
from attar.families import is_encoder_decoder
from attar.report.record import Paper
from attar.search.elastic_training import SupernetConfig
from attar.search.supernet import Depth, Draws, Supernet
from attar.train.trainer import Training

MethodName = Literal["autodistil", "mixture-of-supernets"]

Scorer = Callable[[Supernet, Sequence[Arch]], list[float]]
"""The held-out losses of networks of one supernet, in their order; the lower, the better."""


def rules_of(config: SupernetConfig, model: PreTrainedModel) -> dict[str, Any]:
    """How the networks of a model are cut out, as `Supernet` takes it: `depth`, and
    `head_slicing`."""
    usual: Depth = "first" if is_encoder_decoder(model) else "spread"
    return {"depth": config.depth or usual, "head_slicing": config.head_slicing}


class Method(Protocol):
    """How supernets of one method begin, are trained, and are compared."""

    @property
    def name(self) -> MethodName:
        """The method's name."""
        ...

    @property
    def paper(self) -> Paper:
        """The publication behind it."""
        ...

    @property
    def model(self) -> PreTrainedModel:
        """What parents are made of; of AutoDistil the teacher."""
        ...

    @property
    def unit(self) -> str:
        """What losses are, in words."""
        ...

    @property
    def providers(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Kind and options of each provider, for the description."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """Of the method, for the description."""
        ...

    def default_spaces(self, name: str | None, *, k: int) -> dict[str, Space]:
        """The spaces of this name, in proportion to the model; None: the method's own.

        Raises:
            ConfigError: there are none of this name.
        """
        ...

    def rows(self, data: DataLike, tokenizer: PreTrainedTokenizerBase, *, split: str) -> Source:
        """What is trained on, or of another split compared on.

        Raises:
            ConfigError: an option does not suit the model.
            DataError: the data cannot be read.
        """
        ...

    def start(self, space: Space, rows: Source, *, plain: bool = False) -> Supernet:
        """A supernet before its training; `plain`: without providers, for a network alone.

        Raises:
            CompatibilityError: the model does not contain the space.
        """
        ...

    def train(
        self,
        supernet: Supernet,
        draws: Draws,
        rows: Source,
        *,
        max_steps: int | None = None,
        state_dir: Path | None = None,
        resume: bool = False,
    ) -> Training:
        """Train a supernet in place; `max_steps`: instead of those of the config.

        Raises:
            TrainingDivergedError: the loss became infinite or NaN.
        """
        ...

    def scorer(self, rows: Source, *, batch_size: int) -> Scorer:
        """What compares networks on held-out rows."""
        ...

    def published_size(self, arch: Arch, *, vocabulary: int) -> tuple[int, int] | None:
        """Parameters and multiply-accumulates by the paper's formulas; None where it has none."""
        ...
