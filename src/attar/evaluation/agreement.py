"""How far people who segmented the same texts agree.

Only legal positions count, and of them those that both decided: nobody chooses where no word can
begin, and counting such places would make agreement look better than it is. Cuts elsewhere are left
out.

- Cohen's kappa (1960): agreement of two beyond what their own shares of cuts would give by chance.
- Krippendorff's alpha for nominal values (1970; computing it, 2011): of any number of annotators,
  not all of whom need to see everything.
- Boundary similarity B (Fournier 2013, ACL, pages 1702 to 1712): 1 less the misses over the cuts of
  both, where a cut that one of them put at the next position (a transposition, n_t = 2) is half a
  miss.
- Word F1 of one annotator against the other, which is symmetric.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attar.data.segments.cuts import Segmented
from attar.data.segments.legal import legal
from attar.errors import DataError
from attar.evaluation.segmentation import count

Decisions = NDArray[np.int8]

#: values of a decision
CUT, NO_CUT, UNDECIDED = 1, 0, -1


class Comparison(NamedTuple):
    """Two segmentations of one text, or summed over some.

    Attributes:
        both: positions where both cut.
        first: where only the first does.
        second: where only the second does.
        neither: where none does.
        near: pairs of a cut of the first alone and one of the second alone at the next position,
            counted in `first` and `second`, too.
        words_both: words that both have.
        words_first: words of the first.
        words_second: words of the second; all three of texts that both decided completely.
        texts: how many were compared.
    """

    both: int = 0
    first: int = 0
    second: int = 0
    neither: int = 0
    near: int = 0
    words_both: int = 0
    words_first: int = 0
    words_second: int = 0
    texts: int = 0

    @property
    def positions(self) -> int:
        """Legal positions that both decided."""
        return self.both + self.first + self.second + self.neither

    @property
    def differing(self) -> int:
        """Those on which they differ."""
        return self.first + self.second

    @property
    def observed(self) -> float | None:
        """Share of the positions on which they agree; None where there is none."""
        return 1 - self.differing / self.positions if self.positions else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa; None where both cut everywhere or nowhere, which says nothing."""
        total = self.positions
        one, other = self.both + self.first, self.both + self.second
        chance = one * other + (total - one) * (total - other)
        if not total or chance == total**2:
            return None
        return 1 - total * self.differing / (total**2 - chance)

    @property
    def boundary_similarity(self) -> float | None:
        """Fournier's B; None where nobody cuts."""
        misses = self.differing - 2 * self.near
        pairs = misses + self.near + self.both
        return 1 - (misses + self.near / 2) / pairs if pairs else None

    @property
    def word_f1(self) -> float | None:
        """F1 of the words of one against those of the other; None where there are none."""
        words = self.words_first + self.words_second
        return 2 * self.words_both / words if words else None


def decisions(row: Segmented) -> Decisions:
    """What was decided at each legal position: `CUT`, `NO_CUT` or `UNDECIDED`."""
    places = legal(row.text)
    values = np.isin(places, row.cuts).astype(np.int8)
    if row.decided is not None:
        values[~np.isin(places, row.decided)] = UNDECIDED
    return values


def compare(one: Segmented, other: Segmented) -> Comparison:
    """Compare two segmentations of a text.

    Raises:
        DataError: the texts differ.
    """
    _same_text((one, other))
    a, b = decisions(one), decisions(other)
    known = (a != UNDECIDED) & (b != UNDECIDED)
    first, second = known & (a > b), known & (b > a)
    words = (0, 0, 0)
    if one.decided is None and other.decided is None:
        counted = count(one, other.cuts)
        words = counted.tp, counted.gold, counted.predicted
    return Comparison(
        int((known & (a == CUT) & (b == CUT)).sum()),
        int(first.sum()),
        int(second.sum()),
        int((known & (a == NO_CUT) & (b == NO_CUT)).sum()),
        _near(first, second),
        *words,
        texts=1,
    )


def total(comparisons: Iterable[Comparison]) -> Comparison:
    """The sum over texts."""
    rows = np.array([*comparisons], np.int64).reshape(-1, len(Comparison._fields))
    return Comparison(*rows.sum(0).tolist())


def pairwise(
    answers: Iterable[Mapping[str, Segmented]],
) -> dict[tuple[str, str], Comparison]:
    """Each two annotators who segmented the same texts, compared.

    Args:
        answers: of each text, by annotator.

    Returns:
        By pairs of names in alphabetical order.

    Raises:
        DataError: two answers are about different texts.
    """
    found: dict[tuple[str, str], list[Comparison]] = {}
    for by_annotator in answers:
        for one, other in combinations(sorted(by_annotator), 2):
            compared = compare(by_annotator[one], by_annotator[other])
            found.setdefault((one, other), []).append(compared)
    return {pair: total(found[pair]) for pair in sorted(found)}


def krippendorffs_alpha(answers: Iterable[Sequence[Segmented]]) -> float | None:
    """Krippendorff's alpha of any number of annotators, over the legal positions that two or more
    of them decided.

    Args:
        answers: of each text, those of whoever segmented it.

    Returns:
        1 for agreement, 0 for what chance gives; None where all cut everywhere or nowhere.

    Raises:
        DataError: two answers are about different texts.
    """
    cuts, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for rows in answers:
        if len(rows) > 1:
            _same_text(rows)
            values = np.stack([decisions(row) for row in rows])
            cuts.append((values == CUT).sum(0))
            others.append((values == NO_CUT).sum(0))
    cut, other = np.concatenate(cuts), np.concatenate(others)
    paired = cut + other > 1
    cut, other = cut[paired], other[paired]
    expected = int(cut.sum()) * int(other.sum())
    if not expected:
        return None
    differing = float((cut * other / (cut + other - 1)).sum())
    return 1 - (int((cut + other).sum()) - 1) * differing / expected


def _near(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> int:
    """The most pairs of neighbours of which one is in each; nothing is in both or in two pairs."""
    pairs, position = 0, 0
    while position + 1 < len(first):
        if (first[position] and second[position + 1]) or (second[position] and first[position + 1]):
            pairs += 1
            position += 1
        position += 1
    return pairs


def _same_text(rows: Sequence[Segmented]) -> None:
    for row in rows:
        if row.text != rows[0].text:
            raise DataError(
                f"expected answers about the same text, found {rows[0].text[:40]!r} and "
                f"{row.text[:40]!r}; compare them by the uid of the text"
            )
