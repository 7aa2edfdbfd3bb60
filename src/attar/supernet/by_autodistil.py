"""AutoDistil's side of the verbs of supernets."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.arch import Arch, Space
from attar.data.data import DataLike
from attar.data.sequences import Sequences
from attar.data.sources import Source
from attar.errors import CompatibilityError, require
from attar.families import is_encoder_decoder
from attar.methods.autodistil import (
    PAPER,
    AutoDistilConfig,
    RelationScorer,
    compact,
    fit_super_lm,
    published_size,
    start_super_lm,
)
from attar.report.record import Paper
from attar.search.elastic_training import SupernetConfig
from attar.search.supernet import Draws, Supernet
from attar.supernet.methods import MethodName, Scorer, rules_of
from attar.supernet.rows import load_sequences, masked_share
from attar.train.trainer import Training

_SPACES = ("compact", "compact-stock")


@dataclass(frozen=True)
class AutoDistil:
    """See `attar.supernet.methods.Method`; `model` is the teacher.

    Raises:
        CompatibilityError: it is an encoder-decoder.
    """

    model: PreTrainedModel
    distillation: AutoDistilConfig
    config: SupernetConfig
    name: MethodName = "autodistil"
    paper: Paper = PAPER
    unit: str = "relation loss"

    def __post_init__(self) -> None:
        if is_encoder_decoder(self.model):
            raise CompatibilityError(
                f"autodistil needs an encoder or a decoder as its teacher; found "
                f"{type(self.model).__name__}, which is both: train it with mixture-of-supernets"
            )

    @property
    def providers(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """None: students are slices of a SuperLM."""
        return ()

    @property
    def options(self) -> Mapping[str, Any]:
        """Those of the loss."""
        return asdict(self.distillation)

    def default_spaces(self, name: str | None, *, k: int) -> dict[str, Space]:
        """`compact`, the published sub-spaces, or `compact-stock`, whose heads divide the width."""
        name = name or "compact"
        require(name in _SPACES, "space", name, f"one of {', '.join(_SPACES)}, or a YAML file")
        return compact(self.model, k=k, fixed_heads=name == "compact")

    def rows(self, data: DataLike, tokenizer: PreTrainedTokenizerBase, *, split: str) -> Sequences:
        """Pieces of documents, with masks where the teacher is an encoder."""
        share = masked_share(self.model, tokenizer, self.config)
        require(
            not self.distillation.mlm_weight or share > 0,
            "mlm_weight",
            self.distillation.mlm_weight,
            "0 where nothing is masked: with a decoder, a tokenizer that has no mask token, or a "
            "mask_probability of 0",
        )
        return load_sequences(
            data, tokenizer, split=split, config=self.config, mask_probability=share
        )

    def start(self, space: Space, rows: Source, *, plain: bool = False) -> Supernet:
        """The teacher, cut to the sub-space's widest student."""
        assert isinstance(rows, Sequences)
        return start_super_lm(
            self.model,
            space,
            texts=rows,
            options=self.distillation,
            seed=self.config.seed,
            **rules_of(self.config, self.model),
        )

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
        """On the teacher's relations."""
        assert isinstance(rows, Sequences)
        return fit_super_lm(
            supernet,
            self.model,
            draws=draws,
            texts=rows,
            options=self.distillation,
            config=replace(self.config, max_steps=max_steps or self.config.max_steps),
            state_dir=state_dir,
            resume=resume,
        )

    def scorer(self, rows: Source, *, batch_size: int = 32) -> Scorer:
        """The relation loss, without training."""
        assert isinstance(rows, Sequences)
        return RelationScorer(self.model, rows, options=self.distillation, batch_size=batch_size)

    def published_size(self, arch: Arch, *, vocabulary: int) -> tuple[int, int] | None:
        """By the official code, whose formulas are BERT's; None for others."""
        return size_as_published(arch, self.model.config.model_type, vocabulary=vocabulary)


def size_as_published(arch: Arch, kind: str, *, vocabulary: int) -> tuple[int, int] | None:
    """Parameters and multiply-accumulates by the paper's formulas.

    Args:
        arch: a network.
        kind: the type of its model.
        vocabulary: rows of its token embeddings.

    Returns:
        None for what the formulas do not know: other families than BERT, and layers that differ.
    """
    if kind not in ("bert", "roberta") or not arch.uniform:
        return None
    return published_size(arch, vocabulary=vocabulary)
