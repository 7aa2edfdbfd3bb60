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
    """How a text is drafted and verified. Only `lossy` changes the output distribution."""

    policy: Policy = "cost"
    """How the draft length is chosen: `cost`, the length that was fastest so far, and no drafting
    where it does not pay; `constant`; `heuristic`, longer after a draft that was accepted whole;
    `confidence`, as long as the draft is confident of its tokens."""
    draft_tokens: int | None = None
    """Draft length, in tokens: fixed (`constant`), initial (`heuristic`) or at most. Unset: 8 for
    `cost`, else 5."""
    threshold: float = 0.4
    """For `confidence`: drafting stops after a token with a probability below this."""
    verification: Verification = "token"
    """`token` verifies one token after another, `block` the whole draft jointly."""
    draft_temperature: float | None = None
    """Sampling temperature of the draft; 0 is greedy. Default: the target's."""
    draft_vocabulary: int | None = None
    """Let a draft model propose only this many tokens, the first of the vocabulary: faster drafts,
    and the same output distribution. Unset: what `draft train` found to suffice, else all."""
    lossy: LossyKind | None = None
    """Lossy acceptance: faster, but changes the output distribution. With `verification` token
    only."""
    epsilon: float = 1.0
    """Strictness of `lossy`, above 0 and at most 1; 1 is lossless, except for `typical`."""
    seed: int | None = None
    """Random seed of the first text; each further text takes the next number. Unset: drawn from
    torch's generator. The policy `cost` chooses draft lengths by measured time, so that sampled
    texts differ from run to run: use another policy to reproduce them."""

    def __post_init__(self) -> None:
        check_types(self)
        length, heat = self.draft_tokens, self.draft_temperature
        require(length is None or length >= 1, "draft_tokens", length, "at least 1")
        size = self.draft_vocabulary
        require(size is None or size >= 1, "draft_vocabulary", size, "at least 1")
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
