"""A part of a text that speaks for all of it: passages spread evenly over its documents.

The first documents of a split are a poor sample. Of the test modules of `python-stdlib` the first
ones are tables, and a model's loss on 10,000 tokens of them is nearly twice its loss on 50,000.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

Encode = Callable[[str], Sequence[int]]
#: characters of a passage: this part of the tokens asked for, so that there are fifty or so
_SHARE, _LEAST, _MOST = 16, 256, 4096


def sample_passages(texts: Sequence[str], encode: Encode, *, tokens: int) -> list[str]:
    """The texts themselves if they take at most `tokens` ids, else passages from all over them.

    The texts are cut into passages of about equal length in characters, at the starts of lines, so
    that every character is as likely to be read as any other, however many ids it takes. Passages
    are taken in an order of which every beginning is spread evenly, until the next one would be too
    much; that one is cut. Nothing is drawn at random: the same texts give the same passages.

    Args:
        texts: documents; empty ones are left out.
        encode: text to ids, without special tokens.
        tokens: ids in all, counting one more for every passage and for every document that begins
            in it (its separator).
    """
    texts = [text for text in texts if text]
    if _fit(texts, encode, tokens):
        return texts
    size = min(_MOST, max(_LEAST, tokens // _SHARE))
    taken = _taken(texts, encode, tokens=tokens, size=size)
    return [part for _, part in sorted(taken, key=lambda one: one[0]) if part]


def _taken(
    texts: Sequence[str], encode: Encode, *, tokens: int, size: int
) -> Iterator[tuple[int, str]]:
    """Number and pieces of the passages that there is room for."""
    ends = list(accumulate(map(len, texts)))
    for passage in evenly(-(-ends[-1] // size)):
        for part in _parts(texts, ends, passage=passage, size=size):
            cost = 1 + len(encode(part))
            if cost > tokens:
                yield passage, _head(part, encode, tokens - 1)
                return
            tokens -= cost
            yield passage, part


def _fit(texts: Sequence[str], encode: Encode, tokens: int) -> bool:
    for text in texts:
        tokens -= 1 + len(encode(text))
        if tokens < 0:
            return False
    return True


def evenly(count: int) -> Iterator[int]:
    """0 to `count - 1` with their binary digits reversed: every beginning is spread evenly."""
    digits = (count - 1).bit_length()
    for i in range(1 << digits):
        number = int(format(i, f"0{digits}b")[::-1], 2) if digits else 0
        if number < count:
            yield number


def _start(texts: Sequence[str], ends: Sequence[int], *, passage: int, size: int) -> int:
    """The first character of a passage, counted over all texts: the first start of a line or text
    from `passage * size` on, or that character itself if there is none for a whole passage."""
    at = passage * size
    if at >= ends[-1]:
        return ends[-1]
    number = bisect_right(ends, at)
    begin = ends[number] - len(texts[number])
    if at == begin:
        return at
    after = texts[number].find("\n", at - begin - 1, at - begin + size)
    if after >= 0:
        return begin + after + 1
    return ends[number] if ends[number] < at + size else at


def _parts(texts: Sequence[str], ends: Sequence[int], *, passage: int, size: int) -> Iterator[str]:
    """The pieces of the documents in a passage."""
    start, end = (_start(texts, ends, passage=which, size=size) for which in (passage, passage + 1))
    number = bisect_right(ends, start)
    while start < end:
        begin = ends[number] - len(texts[number])
        yield texts[number][start - begin : end - begin]
        start, number = ends[number], number + 1


def _head(text: str, encode: Encode, room: int) -> str:
    """The longest head of `text` that takes at most `room` ids, found by bisection."""
    # Cutting characters and not ids keeps a byte count right for every tokenizer, also where an
    # id is part of a character.
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(encode(text[:middle])) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low]
