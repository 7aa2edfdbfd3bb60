"""The options of speculative decoding, and the rule and policy that they name."""

from dataclasses import dataclass
from typing import Literal

from attar.decode.draft_length import Confidence, Constant, CostModel, DraftLength, Heuristic
from attar.decode.verification import BlockRule, LossyKind, LossyRule, Rule, TokenRule
from attar.errors import ConfigError, check_types, require

Policy = Literal["cost", "constant", "heuristic", "confidence"]
Verification = Literal["token", "block"]


@dataclass(frozen=True, kw_only=True)
class SpecConfig:
    """How a text is drafted and verified. Only `lossy` changes the distribution of the text."""

    policy: Policy = "cost"
    """How many tokens are drafted: `cost` takes what was fastest so far, and drafts nothing where
    nothing pays; `constant`; `heuristic`, more while all is accepted; `confidence`, while the draft
    is sure."""
    draft_tokens: int | None = None
    """Tokens of a draft: always (`constant`), to begin with (`heuristic`), or at most. Unset: 8 for
    `cost`, else 5."""
    threshold: float = 0.4
    """Of `confidence`: it goes on after a token at least so likely."""
    verification: Verification = "token"
    """`token` judges one token after another, `block` the whole draft together."""
    draft_temperature: float | None = None
    """Of the draft, if it is not to be the target's; 0 takes its likeliest token."""
    lossy: LossyKind | None = None
    """Accept more of the draft than the target's distribution allows: faster, and another text.
    With `verification` token only."""
    epsilon: float = 1.0
    """How strict `lossy` is, from 0 to 1; 1 is not lossy, but for `typical`."""
    seed: int | None = None
    """Of the first text of a decoder; the next one, also of a later call, has the next number.
    Unset: drawn from torch's generator.
    With the policy `cost` drafts are as long as the clock says, and drawn texts differ with them:
    take another to repeat a text."""

    def __post_init__(self) -> None:
        check_types(self)
        length, heat = self.draft_tokens, self.draft_temperature
        require(length is None or length >= 1, "draft_tokens", length, "at least 1")
        require(0 <= self.threshold <= 1, "threshold", self.threshold, "between 0 and 1")
        require(heat is None or heat >= 0, "draft_temperature", heat, "0 or more")
        if self.lossy is None and self.epsilon != 1:
            raise ConfigError(
                f"epsilon {self.epsilon} says how strict a lossy verification is, but lossy is "
                "unset; set it to lin, or leave epsilon out"
            )
        require(0 < self.epsilon <= 1, "epsilon", self.epsilon, "above 0 and at most 1")
        if self.lossy is not None and self.verification == "block":
            raise ConfigError("a lossy verification goes token by token; set verification to token")

    @property
    def length(self) -> int:
        """`draft_tokens`, or what it is where unset."""
        return self.draft_tokens or (8 if self.policy == "cost" else 5)

    def rule(self) -> Rule:
        """How drafted tokens are judged."""
        if self.lossy is not None:
            return LossyRule(self.lossy, self.epsilon)
        return BlockRule() if self.verification == "block" else TokenRule()

    def draft_length(self) -> DraftLength:
        """The policy, with nothing learned yet."""
        if self.policy == "cost":
            return CostModel(self.length)
        if self.policy == "confidence":
            return Confidence(self.length, threshold=self.threshold)
        return (Heuristic if self.policy == "heuristic" else Constant)(self.length)
