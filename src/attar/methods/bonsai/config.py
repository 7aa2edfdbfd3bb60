"""Options of Bonsai and of the baselines that share its signature."""

from dataclasses import dataclass
from typing import Literal

from attar.errors import ConfigError
from attar.methods.bonsai.priors import Prior

Method = Literal["bonsai", "blockwise", "random", "magnitude", "wanda", "flap"]
Layout = Literal["per_layer", "uniform", "depth", "padded"]


@dataclass(frozen=True)
class BonsaiConfig:
    """Defaults are those that the specification recommends (its section 2.10), which says where
    they leave the paper.
    """

    step: float = 0.05
    """Share of the prunable cost that goes in one step (paper: p = 0.05)."""
    evaluations: int | None = None
    """Sub-models measured per step, for attention and for neurons each (paper: 200 for both at
    once). None: twice the number of pieces, within 32 and 200.
    """
    windows: int = 16
    """Windows of text per evaluation, new ones in every step (paper: 32)."""
    window_tokens: int | None = None
    """Tokens per window. None: 512, or the model's context if that is shorter (paper: the full
    context).
    """
    prior: Prior = "wanda"
    """Score that picks the candidates inside each module."""
    ffn_block: int | None = None
    """Neurons that are switched together (paper: 1). None: width / 32, at least 8."""
    pool_factor: float = 3.0
    """Size of the candidate pool as a multiple of what a step removes (paper: 2)."""
    sampling: Literal["coin", "prior_weighted"] = "coin"
    """coin: every candidate is off with probability 1/2. prior_weighted: the published fixed count
    per module.
    """
    joint: bool = False
    """Switch attention and feed-forward candidates together, as published. Apart, the large effects
    of attention do not drown the small ones of neurons."""
    utility: Literal["nll", "perplexity"] = "nll"
    """nll: minus the mean negative log-likelihood per token. perplexity: minus the perplexity, as
    published.
    """
    rank_by: Literal["value_per_cost", "value"] = "value_per_cost"
    """What goes first: the least value per unit of the budget's currency, or the least value (as
    published).
    """
    round_to: int = 8
    """Feed-forward widths stay multiples of this, which processors prefer."""
    allocation: Literal["global", "equal"] = "global"
    """For the one-shot baselines: standardised scores ranked over all modules, or an equal share of
    every module.
    """
    iterative: bool = False
    """For the one-shot baselines: remove in steps of `step` with scores made anew, as Bonsai does,
    instead of all at once as published.
    """
    batch_size: int = 8
    """Windows per forward pass."""
    protect: tuple[str, ...] = ()
    """Modules left whole, such as `layers.0.attention` or `layers.3.mlp`."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check(0 < self.step <= 1, "step", self.step, "a share in (0, 1]")
        _check(self.pool_factor >= 1, "pool_factor", self.pool_factor, "at least 1")
        _check(self.round_to >= 1, "round_to", self.round_to, "at least 1")
        _check(self.windows >= 1, "windows", self.windows, "at least 1")
        _check(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        if self.evaluations is not None:
            _check(self.evaluations >= 4, "evaluations", self.evaluations, "at least 4")
        if self.ffn_block is not None:
            fine = self.ffn_block >= 1 and self.ffn_block % self.round_to == 0
            _check(fine, "ffn_block", self.ffn_block, f"a multiple of round_to ({self.round_to})")
        if self.window_tokens is not None:
            _check(self.window_tokens >= 2, "window_tokens", self.window_tokens, "at least 2")


def _check(fine: bool, name: str, value: object, wanted: str) -> None:
    if not fine:
        raise ConfigError(f"{name} must be {wanted}; found {value!r}")
