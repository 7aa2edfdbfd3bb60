"""The options of the verbs of `attar annotate` that are none of a project."""

from dataclasses import dataclass
from pathlib import Path

from attar.errors import check_types, require


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """What is simulated."""

    arms: tuple[str, ...] = ("random", "mnlp")
    """Strategies that are compared; the first is what the others are measured against."""
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
