"""How well a text was cut into words: counts of each sentence, and rates of their sums."""

from collections.abc import Container, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from attar.data.segments.cuts import Segmented
from attar.data.segments.legal import illegal
from attar.errors import DataError


class Counts(NamedTuple):
    """Of one sentence, or summed over some.

    Attributes:
        tp: words that were predicted with both of their ends right.
        predicted: words that were predicted.
        gold: words that there are.
        boundary_tp: cuts that were predicted and are there, at legal positions.
        boundary_predicted: cuts that were predicted there.
        boundary_gold: cuts that are there.
        exact: sentences without any mistake.
        oov_found: words unknown from training among `tp`.
        oov: words unknown from training.
        sentences: how many were counted.
    """

    tp: int = 0
    predicted: int = 0
    gold: int = 0
    boundary_tp: int = 0
    boundary_predicted: int = 0
    boundary_gold: int = 0
    exact: int = 0
    oov_found: int = 0
    oov: int = 0
    sentences: int = 0


def count(
    gold: Segmented,
    predicted_cuts: Sequence[int],
    *,
    whitespace: bool = True,
    known: Container[str] | None = None,
) -> Counts:
    """Compare a prediction with the truth.

    Args:
        gold: every position decided.
        predicted_cuts: offsets, as of `Segmented.cuts`.
        whitespace: whether white space counts: False compares what is left once all white space
            is taken out of the text, as `pythainlp.benchmarks` does.
        known: words of the training data, for `oov`; None: those counts are 0. Words of white
            space are always known.

    Raises:
        DataError: some positions of `gold` are not decided.
    """
    if gold.decided is not None:
        raise DataError(
            f"expected a sentence with every position decided to compare with, found "
            f"{len(gold.decided)} decided of {max(len(gold.text) - 1, 0)} in {gold.text[:40]!r}; "
            "use whole sentences"
        )
    text = gold.text
    truth = _words(text, gold.cuts, whitespace)
    found = _words(text, predicted_cuts, whitespace)
    right = truth.keys() & found.keys()
    new = set()
    if known is not None:
        new = {span for span, word in truth.items() if not word.isspace() and word not in known}
    bad = illegal(text)
    legal_truth = {cut for cut in gold.cuts if not bad[cut - 1]}
    legal_found = {cut for cut in predicted_cuts if not bad[cut - 1]}
    return Counts(
        tp=len(right),
        predicted=len(found),
        gold=len(truth),
        boundary_tp=len(legal_truth & legal_found),
        boundary_predicted=len(legal_found),
        boundary_gold=len(legal_truth),
        exact=int(truth.keys() == found.keys()),
        oov_found=len(new & right),
        oov=len(new),
        sentences=1,
    )


def total(counts: Iterable[Counts]) -> Counts:
    """The sum over sentences."""
    rows = np.array([*counts], np.int64).reshape(-1, len(Counts._fields))
    return Counts(*rows.sum(0).tolist())


def word_f1(counts: Counts) -> float:
    """2 tp / (predicted + gold); 0 where there is no word."""
    return _rate(2 * counts.tp, counts.predicted + counts.gold)


def boundary_f1(counts: Counts) -> float:
    """The same of cuts at legal positions."""
    return _rate(2 * counts.boundary_tp, counts.boundary_predicted + counts.boundary_gold)


def boundary_precision(counts: Counts) -> float:
    """Share of the predicted cuts that are right; 0 where there is none."""
    return _rate(counts.boundary_tp, counts.boundary_predicted)


def boundary_recall(counts: Counts) -> float:
    """Share of the cuts that were found; 0 where there is none."""
    return _rate(counts.boundary_tp, counts.boundary_gold)


def exact_match(counts: Counts) -> float:
    """Share of the sentences without a mistake; 0 where there is none."""
    return _rate(counts.exact, counts.sentences)


def oov_recall(counts: Counts) -> float:
    """Share of the words unknown from training that were found; 0 where there is none."""
    return _rate(counts.oov_found, counts.oov)


def _rate(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _words(text: str, cuts: Iterable[int], whitespace: bool) -> dict[tuple[int, int], str]:
    """Words by where they begin and end."""
    ends = [0, *cuts, len(text)]
    if not whitespace:
        place = np.cumsum([0, *(not character.isspace() for character in text)]).tolist()
        text = "".join(text.split())
        ends = sorted({place[end] for end in ends})
    spans = pairwise(ends)
    return {(first, last): text[first:last] for first, last in spans if last > first}
