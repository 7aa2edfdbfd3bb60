"""The result: drafts of a prompt, and what they took."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Completion:
    """A finished draft.

    Attributes:
        text: what it adds to the prompt, without a stop.
        token_ids: its tokens, with the one that ended it.
        score: s by token, in nats; not the model's probability.
        logprob: the model's own log-probability of the tokens, if it was rescored.
        finish_reason: `stop` or `length`.
        ngram_hit_rate: share of steps at which the store had seen the last three tokens or more;
            None without a store.
    """

    text: str
    token_ids: tuple[int, ...]
    score: float
    logprob: float | None
    finish_reason: str
    ngram_hit_rate: float | None

    @property
    def score_perplexity(self) -> float:
        """exp(-score); not a perplexity of the model."""
        return float(np.exp(-self.score))


@dataclass(frozen=True)
class Completions:
    """The drafts of a prompt, the best first.

    Attributes:
        drafts: at most k, of different texts.
        store_hit_rate: share of the prompt's 4-grams or longer ones that the store knows; None
            without a store, and of a prompt that is too short to tell.
        store_used: whether the n-grams had a say.
        forwards: passes of the model, all rows of the batch together.
        cache_length: entries of the cache, at most.
        seconds: of all rows together.
    """

    drafts: tuple[Completion, ...]
    store_hit_rate: float | None
    store_used: bool
    forwards: int
    cache_length: int
    seconds: float

    def __str__(self) -> str:
        lines = [f"{self.forwards} passes of the model, {1000 * self.seconds:.0f} ms"]
        if self.store_hit_rate is not None:
            used = "" if self.store_used else ", too few, so it is left out"
            lines.append(f"the store knows {self.store_hit_rate:.0%} of the 4-grams{used}")
        scores = ", ".join(f"{one.score:.2f}" for one in self.drafts)
        return "; ".join([*lines, f"scores per token: {scores}"])
