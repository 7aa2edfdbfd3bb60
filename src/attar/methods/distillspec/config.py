"""How a draft is trained."""

from dataclasses import dataclass
from typing import Literal

from attar.divergences import DivergenceName
from attar.errors import ConfigError, require
from attar.train.trainer import TrainConfig

TextSource = Literal["draft", "target", "data"]
"""Who writes the texts that a draft learns from; `data`: what follows the prompts there."""


@dataclass(frozen=True, kw_only=True)
class DistillSpecConfig(TrainConfig):
    """How a draft is trained against its target.

    The divergence, the texts and the average over each text are DistillSpec's (sections 4 and 5.1);
    steps, batch and lengths are for small models on small machines.
    """

    divergence: DivergenceName = "forward_kl"
    """Distance of the draft's next-token distribution from the target's, over the whole
    vocabulary, at temperature 1."""
    draft_share: float = 1.0
    """Share of steps on texts that the draft generates itself (on-policy; lambda of GKD)."""
    target_share: float = 0.0
    """Share of steps on texts that the target generates; all other steps use the completions in
    the data."""
    sampling_temperature: float = 1.0
    """Sampling temperature of these texts; 0 is greedy."""
    average: Literal["sequence", "token"] = "sequence"
    """Averaging of the loss. `sequence`: over the tokens of each text, then over texts, as in the
    paper; `token`: over all tokens."""
    prompt_tokens: int = 32
    """Length of the prompts that are cut from text, and maximum length of given ones, in tokens."""
    max_new_tokens: int = 64
    """Maximum number of generated tokens per prompt."""
    temperature: float = 1.0
    """Sampling temperature of later use: the weights with the highest block efficiency at this
    temperature are kept. Greedy decoding: 0."""
    draft_tokens: int = 5
    """Draft length at which block efficiency is measured."""
    select_best: bool = True
    """Keep the weights with the highest measured block efficiency, not the last."""
    eval_steps: int = 50
    """Steps between two evaluations on held-out prompts."""
    eval_prompts: int = 64
    """Maximum number of held-out prompts."""

    max_steps: int = 300
    per_device_train_batch_size: int = 16
    learning_rate: float = 5e-4
    warmup_steps: float = 0.05
    logging_steps: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = (self.draft_share, self.target_share)
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ConfigError(
                "draft_share and target_share must be zero or more and one together at most, but "
                f"they are {self.draft_share:g} and {self.target_share:g}."
            )
        for name in ("prompt_tokens", "max_new_tokens", "draft_tokens", "eval_steps"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.eval_prompts >= 2, "eval_prompts", self.eval_prompts, "at least 2")
        for name in ("sampling_temperature", "temperature"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")

    @property
    def data_share(self) -> float:
        """Share of steps whose texts are from the data."""
        return max(0.0, 1 - self.draft_share - self.target_share)
