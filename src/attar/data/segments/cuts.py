"""A text and where its words begin.

A text is an immutable sequence of n Unicode code points. A segmentation of it is a strictly
increasing list of cuts, offsets in 1..n-1 at which a word begins; the words are the slices between
them, and joined they give the text back exactly. Offsets are code points everywhere.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import index
from typing import Any

from attar.errors import DataError, shown


@dataclass(frozen=True)
class Segmented:
    """A text with its words; what is stored, exchanged and trained on.

    Attributes:
        text: n code points, as they came: nothing is normalised.
        cuts: offsets in 1..n-1 at which a word begins, strictly increasing.
        decided: the offsets that somebody decided on, strictly increasing; outside of them it is
            not known whether a word begins, and `cuts` means nothing. None: every offset is
            decided. Empty: raw text.
        meta: what else is known, as JSON values: id, spans, annotator, guideline, arms, batch,
            model, history, ...

    Raises:
        DataError: the offsets are none of this text, or the text holds half a surrogate pair.
    """

    text: str
    cuts: tuple[int, ...]
    decided: tuple[int, ...] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the offsets."""
        where = f"the segmentation of {shown(self.text[:40])}"
        check(self.text, self.cuts, where=where)
        object.__setattr__(self, "cuts", tuple(map(index, self.cuts)))
        if self.decided is not None:
            check(self.text, self.decided, where=where, what="decided offsets")
            object.__setattr__(self, "decided", tuple(map(index, self.decided)))

    @classmethod
    def of(cls, tokens: Iterable[str], *, meta: Mapping[str, Any] | None = None) -> "Segmented":
        """The text that these words make, all of it decided.

        Args:
            tokens: the words in order, white space included; none is empty.
            meta: what else is known. None: nothing.

        Raises:
            DataError: a word is empty.
        """
        words = list(tokens)
        return cls("".join(words), cuts_of(words), meta=meta or {})

    @classmethod
    def raw(cls, text: str, *, meta: Mapping[str, Any] | None = None) -> "Segmented":
        """A text that nobody has segmented yet."""
        return cls(text, (), decided=(), meta=meta or {})

    @property
    def tokens(self) -> list[str]:
        """The words, which joined are the text."""
        return tokens_of(self.text, self.cuts)


def tokens_of(text: str, cuts: Sequence[int]) -> list[str]:
    """The slices of a text between cuts; none of an empty text."""
    if not text:
        return []
    return [text[a:b] for a, b in zip((0, *cuts), (*cuts, len(text)), strict=True)]


def cuts_of(tokens: Sequence[str]) -> tuple[int, ...]:
    """Where the second and later words begin in the text that all of them make.

    Raises:
        DataError: a word is empty.
    """
    if "" in tokens:
        place = list(tokens).index("") + 1
        raise DataError(f"expected words with characters, found word {place} empty; leave it out")
    return tuple(accumulate(map(len, tokens[:-1])))


def check(
    text: str, cuts: Sequence[int], *, where: str = "the segmentation", what: str = "cuts"
) -> None:
    """Refuse offsets that are not strictly increasing in 1..n-1, and text that UTF-8 cannot hold.

    Args:
        text: of n code points.
        cuts: offsets in it.
        where: they came from, for the message.
        what: they are, for the message.

    Raises:
        DataError: says which offset is wrong.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"expected whole characters in {where}, found half a surrogate pair at offset "
            f"{error.start}; read the text as UTF-8 or UTF-16"
        ) from None
    last = 0
    try:
        for offset in map(index, cuts):
            if not last < offset < len(text):
                break
            last = offset
        else:
            return
    except TypeError:
        raise DataError(
            f"expected whole numbers as {what} in {where}, found {shown(list(cuts))}"
        ) from None
    found = f"{offset} after {last}" if 0 < offset <= last else offset
    raise DataError(
        f"expected {what} that rise within 1 and {len(text) - 1} in {where}, found {found}; count "
        "code points, and give each offset once"
    )


def cuts_of_spans(
    spans: Iterable[tuple[int, int]], *, text: str, where: str
) -> tuple[tuple[int, ...], int]:
    """The cuts that spans of words make; what lies between two spans becomes a word, too.

    Args:
        spans: start and end (exclusive) of words, in any order.
        text: that they lie in.
        where: they came from, for the message.

    Returns:
        The cuts, and how many gaps became words.

    Raises:
        DataError: a span is empty, leaves the text or overlaps another.
    """
    edges, end, gaps = set[int](), 0, 0
    for start, stop in sorted(spans):
        if not 0 <= start < stop <= len(text):
            raise DataError(
                f"expected spans within 0 and {len(text)} in {where}, found {start} to {stop}; "
                "count code points, and let the end be exclusive"
            )
        if start < end:
            raise DataError(
                f"expected words that do not overlap in {where}, found one from {start} to {stop} "
                f"though another ends at {end}; correct one of them"
            )
        gaps += start > end
        edges |= {start, stop}
        end = stop
    return tuple(sorted(edges - {0, len(text)})), gaps + (end < len(text))


def spans_of(row: Segmented) -> Iterator[tuple[int, int, str]]:
    """Start, end (exclusive) and text of each word."""
    start = 0
    for token in row.tokens:
        yield start, start + len(token), token
        start += len(token)
