"""Numbers to watch while a study runs, and what they suggest. Advice only: nothing stops it."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attar.data.segments.cuts import Segmented
from attar.data.segments.legal import legal
from attar.methods.active_segmentation.beliefs import Beliefs
from attar.methods.active_segmentation.labels import Label
from attar.methods.active_segmentation.scores import binary_entropy

#: share of changed cuts below which a model counts as stable, and how often in a row
STABLE, TIMES = 0.002, 3
#: of two distributions, in bits from 0 to 1, above which a batch is unlike the corpus
UNLIKE = 0.1
#: share of near duplicates in what a batch came upon, above which a corpus repeats itself
REPEATING = 0.5
#: share of control offsets that an annotator should get right
CONTROL = 0.95
#: probability against what a model proposes from which it counts as unsure
DOUBT = 0.2

Level = Literal["fine", "look", "act"]


Monitor = Literal[
    "uncertainty",
    "stability",
    "lengths",
    "sources",
    "duplicates",
    "near_duplicates",
    "corrections",
    "controls",
    "projection",
]


@dataclass(frozen=True)
class Advice:
    """What a monitor says: figures, which the service puts into a sentence."""

    monitor: Monitor
    value: float
    level: Level = "fine"
    about: str = ""
    """The arm or the annotator; empty: the whole project."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Other figures, by name."""


def mean_uncertainty(beliefs: Iterable[Beliefs]) -> float:
    """Binary entropy of a cut, in nats, over all offsets of a pool."""
    found = [(binary_entropy(b.cut_probabilities).sum(), len(b.cut_probabilities)) for b in beliefs]
    return float(sum(h for h, _ in found) / max(sum(n for _, n in found), 1))


def doubtful(beliefs: Beliefs) -> list[int]:
    """The offsets at which a cut, or none, has a probability of at least `DOUBT` against it."""
    p = beliefs.cut_probabilities
    return (np.flatnonzero(np.minimum(p, 1 - p) >= DOUBT) + 1).tolist()


def change_rate(
    before: Sequence[Sequence[int]], after: Sequence[Sequence[int]], *, texts: Sequence[str]
) -> float:
    """Share of legal offsets that two models decide differently, over the same texts."""
    changed = sum(len(set(a) ^ set(b)) for a, b in zip(before, after, strict=True))
    return changed / max(sum(len(legal(text)) for text in texts), 1)


def uncertainty(values: Sequence[float]) -> Advice:
    """How unsure the model is of the pool, and how unsure the first one was.

    Args:
        values: `mean_uncertainty` after each training, oldest first; one at least.
    """
    return Advice("uncertainty", values[-1], more={"first": values[0]})


def stability(rates: Sequence[float]) -> Advice:
    """Whether the last models agree: then more labels of this kind may not be worth their cost.

    Args:
        rates: `change_rate` of each retraining, oldest first; one at least.
    """
    stable = len(rates) >= TIMES and max(rates[-TIMES:]) < STABLE
    more = {"times": TIMES, "limit": STABLE}
    return Advice("stability", rates[-1], "look" if stable else "fine", more=more)


def duplicates(occurrences: Iterable[int]) -> Advice:
    """Share of the lines of the corpus that repeat another one; they are asked about once.

    Args:
        occurrences: of each distinct sentence.
    """
    counts = list(occurrences)
    lines = sum(counts)
    return Advice("duplicates", (lines - len(counts)) / max(lines, 1))


def near_duplicates(skipped: int, picked: int, *, arm: str) -> Advice:
    """Share of the sentences that an arm's last batch came upon that read almost like one that it
    has: what is asked next is said again and again."""
    share = skipped / max(skipped + picked, 1)
    return Advice("near_duplicates", share, "look" if share > REPEATING else "fine", arm)


def divergence(batch: Iterable[str], corpus: Iterable[str]) -> float:
    """How unlike two lists of names are, such as the genres or length groups of their sentences:
    the Jensen-Shannon divergence in bits, 0 to 1.
    """
    counts = Counter(batch), Counter(corpus)
    names = sorted(counts[0].keys() | counts[1].keys())
    p, q = (np.array([c[name] for name in names], float) / max(c.total(), 1) for c in counts)
    middle = (p + q) / 2

    def against(one: NDArray[np.float64]) -> float:
        seen = one > 0
        return float((one[seen] * np.log2(one[seen] / middle[seen])).sum())

    return (against(p) + against(q)) / 2


def unlike(
    batch: Sequence[str], corpus: Sequence[str], *, of: Literal["lengths", "sources"], arm: str
) -> Advice:
    """Whether a batch is far from the corpus. An active one is meant to be; far from it for long,
    it no longer teaches the common cases.

    Args:
        batch: a name for each sentence.
        corpus: the same for the corpus.
        of: what the names are.
        arm: whose batch it is.
    """
    value = divergence(batch, corpus)
    return Advice(of, value, "look" if value > UNLIKE else "fine", arm)


def length_groups(lengths: Sequence[int], corpus: Sequence[int], *, groups: int = 5) -> list[str]:
    """The group of each length, by quantiles of the corpus, as names for `divergence`."""
    edges = np.quantile(np.asarray(corpus, float), np.linspace(0, 1, groups + 1)[1:-1])
    return [str(group) for group in np.searchsorted(edges, lengths, side="left")]


def correction_rate(labels: Iterable[Label]) -> float:
    """Offsets that annotators changed, over those that they judged; of whole sentences the cuts
    that they made stand for these, as a label does not hold its text."""
    rows = [label for label in labels if label.corrections is not None]
    judged = sum(len(r.cuts) + 1 if r.decided is None else len(r.decided) for r in rows)
    return sum(row.corrections or 0 for row in rows) / max(judged, 1)


def control_accuracy(labels: Iterable[Label], gold: Iterable[Segmented]) -> dict[str, float]:
    """Share of legal offsets of control sentences that each annotator got right.

    Args:
        labels: answers, those to other sentences too.
        gold: control sentences, whose `meta` has their `id`.
    """
    truth = {row.meta["id"]: row for row in gold}
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for label in labels:
        if (row := truth.get(label.uid)) is None:
            continue
        places = {int(offset) for offset in legal(row.text)}
        places &= places if label.decided is None else set(label.decided)
        right[label.annotator] += len(places) - len(places & (set(label.cuts) ^ set(row.cuts)))
        seen[label.annotator] += len(places)
    return {name: right[name] / count for name, count in seen.items() if count}


def controls(accuracy: dict[str, float]) -> list[Advice]:
    """Who may need another look at the guideline."""
    return [
        Advice("controls", value, "act" if value < CONTROL else "fine", name)
        for name, value in sorted(accuracy.items())
    ]


@dataclass(frozen=True)
class PowerLaw:
    """score = a - b * cost^(-c), with b and c above 0: a is what more labels lead to."""

    a: float
    b: float
    c: float
    residual: float
    """Root of the mean squared distance from the points."""

    def at(self, cost: float) -> float:
        """The score that the curve has at a cost."""
        return self.a - self.b * cost**-self.c

    def cost_of(self, score: float) -> float | None:
        """The cost at which the curve has a score; None: never."""
        if score >= self.a:
            return None
        with np.errstate(over="ignore"):
            found = float(np.float64(self.b / (self.a - score)) ** (1 / self.c))
        return found if math.isfinite(found) else None


def power_law(costs: Sequence[float], scores: Sequence[float]) -> PowerLaw | None:
    """The inverse power law closest to a learning curve, by least squares.

    For every exponent of a grid the best a and b are those of a line: no start, nothing to get
    stuck in.

    Args:
        costs: above 0.
        scores: of the same points.

    Returns:
        None for fewer than four points of different costs, or a curve that does not rise.
    """
    x, y = np.asarray(costs, float), np.asarray(scores, float)
    if len(np.unique(x)) < 4 or x.min() <= 0:
        return None
    scale = x.max()  # so that powers of large costs stay in range
    best: PowerLaw | None = None
    for c in np.geomspace(0.02, 3, 200):
        z = (x / scale) ** -c
        slope, a = np.polyfit(z, y, 1)
        if slope >= 0:
            continue
        residual = float(np.sqrt(np.mean((a + slope * z - y) ** 2)))
        if best is None or residual < best.residual:
            best = PowerLaw(float(a), float(-slope * scale**c), float(c), residual)
    return best


def projection(costs: Sequence[float], scores: Sequence[float], *, arm: str) -> Advice | None:
    """What twice the cost is expected to give; None while there are too few points."""
    law = power_law(costs, scores)
    if law is None:
        return None
    more = {"now": law.at(max(costs)), "points": len(costs)}
    return Advice("projection", law.at(2 * max(costs)), about=arm, more=more)
