"""How many tokens to draft: fixed, by what was accepted, by how sure the draft is, or by time.

The decision may look at anything that is known, also at what was drafted, so long as nothing that
was drawn is thrown away for its own value: it is kept, and then no more is drafted. So the text
keeps the target's distribution.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Block:
    """What one block of speculative decoding cost and gave.

    Attributes:
        drafted: tokens that were drafted for each row.
        kept: how many of them were accepted.
        passes: forward passes of the draft.
        draft_seconds: what drafting took.
        verify_seconds: what the target's forward pass took.
        other_seconds: all else.
        first: the pass read the prompt too, so that its times mean nothing for the next one.
    """

    drafted: Sequence[int]
    kept: Sequence[int]
    passes: int
    draft_seconds: float
    verify_seconds: float
    other_seconds: float
    first: bool = False


class DraftLength(Protocol):
    """Decides how many tokens are drafted."""

    def start(self, rows: int) -> None:
        """A new batch of so many rows."""
        ...

    def counts(self) -> list[int]:
        """At most so many tokens for each row, in the next block."""
        ...

    def keep_drafting(self, row: int, drafted: int, chance: float) -> bool:
        """Whether to draft another after the last one, whose probability this is."""
        ...

    def learn(self, block: Block) -> None:
        """Take note of a block."""
        ...

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch only, in this order."""
        ...


@dataclass
class Constant:
    """Always as many."""

    length: int
    _rows: int = field(default=0, init=False)

    def start(self, rows: int) -> None:
        """A new batch."""
        self._rows = rows

    def counts(self) -> list[int]:
        """The same for every row."""
        return [self.length] * self._rows

    def keep_drafting(self, row: int, drafted: int, chance: float) -> bool:
        """Always."""
        return True

    def learn(self, block: Block) -> None:
        """There is nothing to learn."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows."""
        self._rows = len(rows)


@dataclass
class Confidence(Constant):
    """Until the draft is not sure: it stops after a token less likely than `threshold`."""

    threshold: float = 0.4

    def keep_drafting(self, row: int, drafted: int, chance: float) -> bool:
        """While the draft is sure."""
        return chance >= self.threshold


@dataclass
class Heuristic(Constant):
    """Two more after a draft that was accepted whole, one fewer after another, at least one (as
    transformers does)."""

    _lengths: list[int] = field(default_factory=list, init=False)

    def start(self, rows: int) -> None:
        """All rows begin at `length`."""
        super().start(rows)
        self._lengths = [self.length] * rows

    def counts(self) -> list[int]:
        """Of each row its own."""
        return list(self._lengths)

    def learn(self, block: Block) -> None:
        """Two up or one down."""
        self._lengths = [
            length if not drafted else length + 2 if kept == drafted else max(1, length - 1)
            for length, drafted, kept in zip(self._lengths, block.drafted, block.kept, strict=True)
        ]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows."""
        super().select(rows)
        self._lengths = [self._lengths[row] for row in rows]


class CostModel:
    """The length that gives most tokens a second, by what was measured so far; none at all where no
    draft pays.

    With a_i the share of tokens that are accepted at position i, given that those before were, and
    r the share of a draft's allowed length that is drafted (a text that never repeats itself gives
    none), a block of length g gives 1 + r times the sum over i of a_1 ... a_i tokens and takes the
    time of r g drafted ones, of a pass of the target over r g + 1 tokens, and of the loop itself.
    A time is the median of the last few, and does not count before there are two of its kind: one
    slow pass, whatever slowed it, decides nothing. The first blocks try different lengths; later
    ones look again, now and then, at what the best length does not show.

    Args:
        most: the longest draft.
    """

    #: lengths of the first blocks
    TRIED = (4, 2, 0, 6) * 2
    #: after so many blocks another length is tried
    RETRY = 32
    _FADE = 0.97
    #: what is assumed of a position before it was seen, worth one draft
    _PRIOR = 0.7

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self._rows = self._blocks = self._without = self._length = 0
        self._timed = 0  # rows of the batches that times are of
        self._reached, self._accepted = np.zeros(most), np.zeros(most)
        self._allowed = self._drafted = 0.0
        self._verify: dict[int, deque[float]] = defaultdict(_times)
        self._draft, self._other = _times(), _times()

    def start(self, rows: int) -> None:
        """What was learned of an earlier batch is kept, but for times where the size differs."""
        if rows != self._timed:
            self._verify.clear()
            self._draft, self._other = _times(), _times()
            self._blocks = 0
        self._rows = self._timed = rows

    def counts(self) -> list[int]:
        """The same for every row."""
        length = self._length = self.length()
        self._without = 0 if length else self._without + 1
        return [length] * self._rows

    def length(self) -> int:
        """The length that pays most."""
        if self._blocks < len(self.TRIED):
            return min(self.TRIED[self._blocks], self.most)
        rates = self.rates()
        best = int(np.argmax(rates))
        if best == 0 and self._without >= self.RETRY:
            return 1 + int(np.argmax(rates[1:])) if self.most else 0
        if best and self._blocks % self.RETRY == 0:
            return self._blocks // self.RETRY % (self.most + 1)
        return best

    def rates(self) -> list[float]:
        """Tokens a second, of a row, that each length from 0 to `most` should give."""
        if not any(map(_usual, self._verify.values())):
            return [0.0] * (self.most + 1)
        share = (self._accepted + self._PRIOR) / (self._reached + 1)
        given = (self._drafted + 1) / (self._allowed + 1)
        tokens = 1 + given * np.concatenate([[0], np.cumsum(np.cumprod(share))])
        drafted = given * np.arange(self.most + 1)
        seconds = drafted * (_usual(self._draft) or 0.0) + (_usual(self._other) or 0.0)
        return (tokens / (seconds + self.verify_seconds(drafted + 1))).tolist()

    def verify_seconds(self, width: np.ndarray | float) -> np.ndarray:
        """Of a pass over so many tokens: measured, or on a line between measurements. A pass over
        more tokens that was faster counts for one over fewer."""
        known = {w: _usual(self._verify[w]) for w in sorted(self._verify)}
        known = {w: seconds for w, seconds in known.items() if seconds is not None}
        widths = list(known)
        times = np.minimum.accumulate(list(known.values())[::-1])[::-1]
        slope = (times[-1] - times[0]) / max(1, widths[-1] - widths[0])
        beyond = np.maximum(np.asarray(width) - widths[-1], 0)
        return np.interp(width, widths, times) + slope * beyond

    def keep_drafting(self, row: int, drafted: int, chance: float) -> bool:
        """Always."""
        return True

    def learn(self, block: Block) -> None:
        """Count what was accepted, and take the times."""
        for counts in (self._reached, self._accepted):
            counts *= self._FADE
        self._allowed = self._FADE * self._allowed + self._length * len(block.drafted)
        self._drafted = self._FADE * self._drafted + sum(block.drafted)
        for drafted, kept in zip(block.drafted, block.kept, strict=True):
            self._reached[: min(drafted, kept + 1)] += 1
            self._accepted[:kept] += 1
        if block.first:
            return
        self._blocks += 1
        other = block.other_seconds
        if drafted := max(block.drafted):
            self._draft.append(block.draft_seconds / drafted)
        else:  # it was looked for in vain
            other += block.draft_seconds
        width = max(block.drafted) + 1
        self._verify[width].append(block.verify_seconds)
        self._other.append(other)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows; times are measured anew, block by block."""
        self._rows = len(rows)


def _times() -> deque[float]:
    """The last seconds that something took."""
    return deque(maxlen=5)


def _usual(times: Sequence[float]) -> float | None:
    """Their median, the smaller of two; None of a single one."""
    return median_low(times) if len(times) > 1 else None
