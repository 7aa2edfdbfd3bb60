"""Training a supernet: several of its networks in every step, on the same batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.arch import Arch
from attar.data.sources import Batch
from attar.errors import require
from attar.search.supernet import Depth, Draws, Sampling, Supernet
from attar.slicing import HeadSlicing
from attar.train.trainer import Term, TrainConfig

Reduce = Literal["sum", "mean"]

NetworkLoss = Callable[[Arch], dict[str, Term]]
"""The parts of the loss of one network on the present batch."""

Begin = Callable[[Batch], NetworkLoss]
"""Called once for a batch: does what all networks share, such as the teacher's forward pass."""


@dataclass(frozen=True, kw_only=True)
class SupernetConfig(TrainConfig):
    """How a supernet is trained, whatever the method."""

    sampling: Sampling = "sandwich"
    """Networks of a step: the largest, the smallest and random ones (sandwich), the first two
    (extremes), random ones, or one from each band of sizes (stratified)."""
    n_random: int = 2
    """Networks drawn at random in each step; with stratified, the bands."""
    grad_reduce: Reduce = "sum"
    """Whether the losses of a step's networks are added up, as published, or averaged."""
    context: int = 128
    """Tokens of a text that are read at once, special tokens among them."""
    mask_probability: float = 0.15
    """Share of an encoder's tokens that are masked; 0: none."""
    eval_sequences: int = 256
    """Held-out pieces of text, or pairs, that networks are compared on."""
    label_smoothing: float = 0.1
    """Of an encoder-decoder: share of the target that all tokens have alike. Held-out losses are
    without it."""
    depth: Depth | None = None
    """Which of the model's layers a shallower network has: evenly spread ones, or the first; unset:
    of an encoder-decoder the first, as in HAT, of others spread ones."""
    head_slicing: HeadSlicing = "head"
    """Where layers have hidden widths of their own: whether narrower heads keep the first channels
    of every head, or the first of all heads together (flat), as SuperShaper's code does."""

    learning_rate: float = 4e-5
    weight_decay: float = 0.01
    lr_scheduler_type: Literal[
        "linear", "cosine", "polynomial", "constant", "constant_with_warmup"
    ] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.context >= 1, "context", self.context, "at least 1")
        share = self.mask_probability
        require(0 <= share < 1, "mask_probability", share, "0 or more, and below 1")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "label_smoothing", smoothing, "0 or more, and below 1")
        require(self.eval_sequences >= 1, "eval_sequences", self.eval_sequences, "at least 1")


class Sandwich:
    """The loss of a step for `attar.train.trainer.fit`, which trains the parent and, as
    `auxiliary`, the providers. A data-parallel wrapper sees one module and one forward pass.

    Args:
        supernet: whose networks are trained.
        draws: the networks of each step.
        begin: their loss.
        reduce: whether losses are added up or averaged. Gradients are clipped afterwards, so that
            added up they are clipped to the same norm whatever the number of networks.
    """

    def __init__(
        self, supernet: Supernet, draws: Draws, begin: Begin, *, reduce: Reduce = "sum"
    ) -> None:
        self.supernet, self._draws, self._begin, self._reduce = supernet, draws, begin, reduce

    def prepare(self, model: PreTrainedModel, batch: Batch, done: int) -> Batch:
        """The batch with the number of its step, which the networks are drawn by."""
        return batch | {"step": torch.tensor(done)}

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Term]:
        """The parts of the loss, of all networks of the step together."""
        self.supernet.train(model.training)
        archs = self._draws.at(int(batch["step"]))
        loss = self._begin({name: value for name, value in batch.items() if name != "step"})
        share = 1 / len(archs) if self._reduce == "mean" else 1.0
        parts: dict[str, list[Term]] = {}
        for arch in archs:
            for name, term in loss(arch).items():
                parts.setdefault(name, []).append(term)
        terms = {name: _joined(some, share) for name, some in parts.items()}
        first = next(iter(terms))
        return terms | {first: replace(terms[first], values=self._reached(terms[first].values))}

    def _reached(self, values: Tensor) -> Tensor:
        """The same values, with a gradient of zero for every weight that no network of this step
        has: processes that average gradients wait for all of them, and the optimizer should not
        depend on how many processes there are."""
        nothing = [p.sum() for p in self.supernet.parameters() if p.requires_grad]
        return torch.cat([values.flatten(), 0 * torch.stack(nothing).sum()[None]])


def _joined(terms: list[Term], share: float) -> Term:
    values = torch.cat([term.values.flatten() for term in terms])
    return replace(terms[0], values=values, weight=terms[0].weight * share)
