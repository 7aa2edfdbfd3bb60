"""Options that Bonsai and the baselines share."""

from dataclasses import dataclass
from typing import Literal

from attar.errors import check_types, require
from attar.evaluation.harness import TaskOptions
from attar.pruning.importance import Prior

Method = Literal["bonsai", "blockwise", "random", "magnitude", "wanda", "flap"]
Layout = Literal["per_layer", "uniform", "depth", "padded"]


@dataclass(frozen=True, kw_only=True)
class PruneConfig(TaskOptions):
    """How a model is pruned, whatever values its parts."""

    step: float = 0.05
    """Share of the prunable cost that goes in one step (Bonsai paper: p = 0.05)."""
    evaluations: int | None = None
    """Sub-models measured per step, for attention and for neurons each (Bonsai paper: 200 for both
    at once). None: twice the number of candidates, within 32 and 200, and not below that number.
    """
    windows: int = 16
    """Windows of text per evaluation, new ones in every step (Bonsai paper: 32)."""
    context: int | None = None
    """Tokens per window. None: 512, or the model's context if that is shorter (Bonsai paper: the
    full context).
    """
    prior: Prior = "wanda"
    """Score that picks the candidates inside each module."""
    ffn_block: int | None = None
    """Neurons that are switched together (Bonsai paper: 1). None: width / 32, at least 8, and
    doubled while there are too many blocks for the evaluations to tell apart."""
    pool_factor: float = 3.0
    """Size of the candidate pool as a multiple of what a step removes (Bonsai paper: 2)."""
    utility: Literal["nll", "perplexity"] = "nll"
    """nll: minus the mean negative log-likelihood per token. perplexity: minus the perplexity, as
    the Bonsai paper has it.
    """
    rank_by: Literal["value_per_cost", "value"] = "value_per_cost"
    """What goes first: the least value per unit of the constraint, or the least value (as in the
    Bonsai paper).
    """
    round_to: int = 8
    """Feed-forward widths stay multiples of this, which processors prefer."""
    allocation: Literal["global", "equal"] = "global"
    """For the one-shot baselines: standardised scores ranked over all modules, or an equal share of
    every module.
    """
    iterative: bool = False
    """For the one-shot baselines: remove in steps of `step` with new scores, as Bonsai does,
    instead of all at once as published.
    """
    timing: bool = True
    """Time the model and watch its memory before and after."""
    batch_size: int = 8
    """Windows per forward pass."""
    protect: tuple[str, ...] = ()
    """Modules to leave whole, such as `layers.0.attention` or `layers.3.mlp`."""
    seed: int = 0
    """Random seed of the windows and of the sub-models."""

    def __post_init__(self) -> None:
        check_types(self)
        require(0 < self.step <= 1, "step", self.step, "a share in (0, 1]")
        require(self.pool_factor >= 1, "pool_factor", self.pool_factor, "at least 1")
        for name in ("round_to", "windows", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        if self.evaluations is not None:
            require(self.evaluations >= 4, "evaluations", self.evaluations, "at least 4")
        if self.ffn_block is not None:
            fine = self.ffn_block >= 1 and self.ffn_block % self.round_to == 0
            require(fine, "ffn_block", self.ffn_block, f"a multiple of round_to ({self.round_to})")
        if self.context is not None:
            require(self.context >= 2, "context", self.context, "at least 2")
