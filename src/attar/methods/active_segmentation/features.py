"""What a segmenter sees at a position: the characters and their types around it, and the words of a
dictionary that begin, end or go on there; each as a number below 2^hash_bits.

Texts are laid one after another with three empty characters between them, so that features of all
of them are computed at once and none reaches into its neighbour. A *row* is a position in that
layout.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.compiled import compiled
from attar.methods.active_segmentation.dictionary import Dictionary

Codes = NDArray[np.uint32]
Rows = NDArray[np.int64]

#: characters on either side of a position that its features reach
REACH = 3
_GAP = "\0" * REACH
#: offsets from the position of the characters of each feature
CHARACTERS = (
    *((at,) for at in range(-3, 3)),
    *((at, at + 1) for at in range(-2, 2)),
    *((at, at + 1, at + 2) for at in range(-3, 1)),
)
#: first and last offset of each pattern of character types
TYPES = ((-3, 2), (-2, 1), (-1, 0))
#: a longer word of the dictionary counts as one of so many characters
LONGEST = 8

(
    *(_CONSONANT, _VOWEL, _LEADING, _TONE, _SIGN, _REPEAT, _DIGIT, _SPACE, _LATIN, _OTHER),
    _NOTHING,
) = range(11)
_ASCII_AND_THAI = 0x0E80


@dataclass(frozen=True)
class Layout:
    """Texts one after another.

    Attributes:
        text: all of them, with three empty characters before, between and after.
        codes: the code points of `text`, `(R + 6,)`.
        starts: the first row of each text, `(N,)`.
        stops: one behind its last row, `(N,)`.
        tags: a number for the tag of each row's text, `(R,)`; None: the texts have none.
    """

    text: str
    codes: Codes
    starts: Rows
    stops: Rows
    tags: Codes | None = None

    @property
    def rows(self) -> int:
        """R, rows of gaps between texts among them."""
        return len(self.codes) - 2 * REACH


def lay_out(texts: Sequence[str], *, tags: Sequence[str] | None = None) -> Layout:
    """Texts one after another.

    Args:
        texts: any.
        tags: one for each text: every feature then comes twice, once for all texts and once for
            those of the same tag, so that what tags share and what is theirs alone are both learned
            (Daume: Frustratingly Easy Domain Adaptation, ACL 2007).
    """
    text = _GAP + _GAP.join(texts) + _GAP
    lengths = np.array([len(one) for one in texts], np.int64)
    starts = np.cumsum(lengths + REACH) - lengths - REACH
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    numbers = None
    if tags is not None:
        of_each = np.array([zlib.crc32(tag.encode("utf-8", "surrogatepass")) for tag in tags])
        numbers = np.zeros(len(codes) - 2 * REACH, np.uint32)
        spans = zip(starts.tolist(), (starts + lengths).tolist(), of_each.tolist(), strict=True)
        for start, stop, number in spans:
            numbers[start:stop] = number
    return Layout(text, codes, starts, starts + lengths, numbers)


def features(layout: Layout, *, dictionary: Dictionary | None, bits: int) -> Iterator[Codes]:
    """The features of all rows, one kind of feature after another, each `(R,)` below 2^bits.

    There are 18, and 4 more with a dictionary; of texts with tags twice as many.
    """
    rows = layout.rows
    codes = layout.codes
    kinds = _types(codes)
    parts: list[list[Codes]] = [[np.zeros(rows, np.uint32)]]
    parts += [[codes[REACH + at :][:rows] for at in offsets] for offsets in CHARACTERS]
    for first, last in TYPES:
        pattern = np.zeros(rows, np.uint32)
        for at in range(first, last + 1):
            pattern = pattern << np.uint32(4) | kinds[REACH + at :][:rows]
        parts.append([pattern])
    if dictionary is not None:
        begin, end, across = word_lengths(layout, dictionary)
        parts += [[begin], [end], [across], [begin * np.uint32(LONGEST + 1) + end]]
    for number, part in enumerate(parts):
        yield _hashed(number, part, bits)
    if layout.tags is not None:
        for number, part in enumerate(parts, len(parts)):
            yield _hashed(number, [*part, layout.tags], bits)


def feature_matrix(
    layout: Layout, *, dictionary: Dictionary | None, bits: int, rows: Rows | None = None
) -> NDArray[np.int32]:
    """The features of some rows, or of all, `(R, F)` int32."""
    count = 1 + len(CHARACTERS) + len(TYPES) + (4 if dictionary else 0)
    count *= 1 if layout.tags is None else 2
    matrix = np.empty((layout.rows if rows is None else len(rows), count), np.int32)
    for number, found in enumerate(features(layout, dictionary=dictionary, bits=bits)):
        matrix[:, number] = found if rows is None else found[rows]
    return matrix


def _hashed(number: int, parts: Sequence[Codes], bits: int) -> Codes:
    """One number below 2^bits for a kind of feature and its parts."""
    mixed = np.full(len(parts[0]), (number + 1) * 0x9E3779B1 % 2**32, np.uint32)
    for part in parts:
        mixed = (mixed ^ part) * np.uint32(0x85EBCA6B)
        mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    return mixed >> np.uint32(32 - bits)


def _types(codes: Codes) -> Codes:
    """The type of each character."""
    return np.where(
        codes < _ASCII_AND_THAI, _TABLE[np.minimum(codes, _ASCII_AND_THAI - 1)], np.uint32(_OTHER)
    )


def _table() -> Codes:
    """The types of the code points up to the end of the Thai block."""
    table = np.full(_ASCII_AND_THAI, _OTHER, np.uint32)
    for kind, spans in {
        _NOTHING: ("\0\0",),
        _SPACE: ("\t\r", "  ", "\u00a0\u00a0"),
        _DIGIT: ("09", "๐๙"),
        _LATIN: ("AZ", "az", "\u00c0\u024f"),
        _CONSONANT: ("กฮ",),
        _VOWEL: ("ะฺ", "ๅๅ"),
        _LEADING: ("เไ",),
        _TONE: ("่๋",),
        _SIGN: ("ฯฯ", "็็", "์๎"),
        _REPEAT: ("ๆๆ",),
    }.items():
        for first, last in spans:
            table[ord(first) : ord(last) + 1] = kind
    return table


_TABLE = _table()


def word_lengths(layout: Layout, dictionary: Dictionary) -> tuple[Codes, Codes, Codes]:
    """At each row: characters of the longest word that begins there, that ends just before it, and
    that goes on across it, at most `LONGEST`; 0: none.
    """
    ends, lengths = dictionary.matches(layout.text)
    found = _spread(ends - REACH + 1, lengths, layout.rows, LONGEST)
    return found[0], found[1], found[2]


@compiled
def _spread(ends, lengths, rows, longest):
    """`ends`: one behind the last row of each match."""
    found = np.zeros((3, rows), np.uint32)
    for match in range(len(ends)):
        end = ends[match]
        begin = end - lengths[match]
        length = min(lengths[match], longest)
        found[0, begin] = max(found[0, begin], length)
        found[1, end] = max(found[1, end], length)
        for row in range(begin + 1, end):
            found[2, row] = max(found[2, row], length)
    return found
