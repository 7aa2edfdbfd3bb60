"""The options of the verbs of `attar annotate` that are none of a project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from attar.errors import check_types, require

#: `picks.STRATEGIES`, as a type
Strategy = Literal[
    "mnlp",
    "least_confidence",
    "margin",
    "sequence_entropy",
    "total_token_entropy",
    "mean_token_entropy",
    "min_margin",
    "topk_entropy",
    "bald",
    "vote_entropy",
    "badge",
    "coreset",
    "density",
    "stochastic",
    "random",
    "boundaries",
    "random_boundaries",
]


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """What is simulated."""

    arms: tuple[Strategy, ...] = ("random", "mnlp")
    """Strategies that are compared, separated by commas; the first is what the others are measured
    against."""
    seeds: int = 3
    """Repetitions, with other random orders, mistakes and times."""
    spend: int = 30_000
    """Of each arm after the common start, in the unit of the budget."""
    seed_sentences: int = 25
    """First sentences of the random order, which all arms share."""
    reserve_fraction: float = 0.02
    """Share of the sentences that is kept for evaluation."""
    reserve_minimum: int = 1000
    """Sentences that are kept for evaluation, at least, up to a quarter of all."""
    annotators: int = 1
    """People who take turns."""
    mistakes: float = 0.0
    """Probability of a wrong answer at a true boundary and at the places next to it."""
    prefill: bool = True
    """Show people what the model thinks, so that they correct it; costs corrections, not labels."""
    refits: int = 5
    """Models that are fitted to resamples of what is labelled, for the training interval; each
    costs a training at every point. 0: none."""
    by: str | None = None
    """What the data know of each sentence by which scores are given apart, such as document."""
    events: Path | None = None
    """YAML file with what changes on the way: a list, each with batch and kind."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arms", tuple(self.arms))
        check_types(self)
        distinct = len({*self.arms}) == len(self.arms) > 0
        require(distinct, "arms", self.arms, "one strategy or more, each once")
        for name in ("seeds", "spend", "annotators"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("seed_sentences", "reserve_minimum", "refits", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        share = self.reserve_fraction
        require(0 <= share < 1, "reserve_fraction", share, "at least 0 and below 1")
        require(0 <= self.mistakes <= 0.5, "mistakes", self.mistakes, "between 0 and 0.5")


@dataclass(frozen=True, kw_only=True)
class AnnotateServeConfig:
    """How a project is served."""

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for other machines, behind a proxy with TLS."""
    port: int = 8000
    """Port to listen at; 0 takes one that is free."""
    public_url: str | None = None
    """The address that people type, such as https://annotate.example.org; requests under other
    names are refused. Unset: names of this machine for itself, or, where other machines can
    reach it, any."""
    worker: bool | None = None
    """Run the worker in a process beside. Unset: with SQLite, but not with PostgreSQL."""
    max_body: int = 16 * 2**20
    """Bytes of a request, at most."""
    grace: float = 10.0
    """Seconds that running requests may take to finish when the server is stopped."""

    def __post_init__(self) -> None:
        check_types(self)
        require(0 <= self.port < 2**16, "port", self.port, "between 0 and 65535")
        require(self.max_body >= 1, "max_body", self.max_body, "at least 1")
        require(self.grace >= 0, "grace", self.grace, "0 or more")
        fine = self.public_url is None or bool(urlsplit(self.public_url).hostname)
        require(fine, "public_url", self.public_url, "an address such as https://example.org")
