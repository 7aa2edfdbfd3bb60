"""How drafts are made."""

from dataclasses import dataclass
from typing import Literal

from attar.decode.choosing import COLD
from attar.errors import check_types, require


@dataclass(frozen=True, kw_only=True)
class SuperposedConfig:
    """How one pass writes several drafts. Defaults are the paper's for three drafts of ten tokens
    behind fifteen (appendix B and the official parameters), except where they say otherwise.
    """

    k: int = 3
    """Number of drafts of each prompt."""
    max_new_tokens: int = 10
    """Tokens of a draft, at most (section 4): further on, the model makes little of mixtures."""
    temperature: float = 0.06
    """Divides the logits before candidates are ranked and drafts weighed (tau); it samples
    nothing."""
    alpha: float = 0.54
    """Weight of the n-grams against the model, from 0 to 1; used only with a store."""
    lambdas: tuple[float, ...] = (0.01, 0.04, 0.15, 0.18, 0.12)
    """Weights of 2-grams, 3-grams and so on, together 1 at most. A store with shorter n-grams takes
    the first ones."""
    tuned: bool = True
    """Where `attar ngrams search` has tuned alpha, lambdas and temperature for the model and its
    store, use those instead of the defaults."""
    candidates: int | None = None
    """Likeliest tokens that each step considers for every draft (m_c). Unset: three times the
    number of drafts."""
    penalty: float = 200.0
    """What a draft loses, in nats, if the store knows none of its candidates (delta = e^-200)."""
    first_token_ngrams: bool = True
    """Let the n-grams rank first tokens, too. As published, off; as in the official code, on."""
    refill: bool = True
    """Where a draft ends early, let the next best one take its place."""
    stop: tuple[str, ...] = ()
    """End a draft before this string; may be given several times."""
    heal: bool = True
    """Where a prompt ends with a space or in a word, take its last token back and let drafts begin
    with the same letters. An extension; not in the paper."""
    min_hit_rate: float = 0.1
    """Ignore the store if it knows less than this share of a prompt's 4-grams, as its text is then
    of another domain. An extension."""
    anchor_first: bool = False
    """Keep the k best first tokens, each with one draft; with first_token_ngrams off they are the
    likeliest ones. An extension."""
    weight_temperature: float = 1.0
    """Above 1, drafts are mixed more evenly. An extension."""
    rescore: Literal["exact"] | None = None
    """`exact`: one more pass gives the model's own log-probability of each draft, and ranks them by
    it. An extension."""
    reset_every: int | None = None
    """After so many steps go on from one draft alone, drawn by its weight and read exactly
    (section 5.3); for long texts."""
    seed: int = 0
    """Of the draws of `reset_every`."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("k", "max_new_tokens"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("temperature", "weight_temperature"):
            heat = getattr(self, name)
            require(heat >= COLD, name, heat, f"at least {COLD:g}")
        for name in ("alpha", "min_hit_rate"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        weights = self.lambdas
        fine = bool(weights) and min(weights) >= 0 and sum(weights) <= 1 + 1e-9
        require(fine, "lambdas", weights, "0 or more each, and 1 together at most")
        many = self.candidates
        require(many is None or many >= self.k, "candidates", many, f"at least k, here {self.k}")
        require(self.penalty >= 0, "penalty", self.penalty, "0 or more")
        steps = self.reset_every
        require(steps is None or steps >= 1, "reset_every", steps, "at least 1")
        require(all(self.stop), "stop", self.stop, "strings that are not empty")

    @property
    def pool(self) -> int:
        """`candidates`, or what it is where unset."""
        return self.candidates or 3 * self.k
