"""Texts that no corpus holds, but that people type and paste."""

from hypothesis import strategies as st

from attar.data.segments import Segmented

AWKWARD = (
    *"กขคงดน",
    *"ะาิีุู่้๊์็ๆ",
    *"เแโใไ",
    "ำ",
    "ํา",  # the same, decomposed
    *"abAB019",
    *"|<>/#_\\=-'\"?",
    *"\u200b\u200d\ufeff\xa0\u2423\u3000\u2028\x85\x0b\x1c",
    *" \t",
    "😰",
    "👩\u200d🚀",
    "👍🏽",
    "🇹🇭",
    "<NE>",
    "</NE",
    "<msp='x'>",
    "<EOS>",
    "-DOCSTART-",
    "\\u0020",
)
LINE_ENDS = ("\n", "\r", "\r\n")

#: the characters that every format has to hold, whatever else it must refuse
PLAIN = tuple(part for part in AWKWARD if not set(part) & set("|<>\t\x0b\x1c\x85\u2028"))


def texts(parts: tuple[str, ...] = AWKWARD) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), min_size=1, max_size=12).map("".join)


@st.composite
def rows(draw: st.DrawFn, parts: tuple[str, ...] = AWKWARD, *, partial: bool = False) -> Segmented:
    """A text cut anywhere."""
    text = draw(texts(parts))
    offsets = st.sets(st.integers(1, len(text) - 1)) if len(text) > 1 else st.just(set[int]())
    decided = tuple(sorted(draw(offsets))) if partial and draw(st.booleans()) else None
    return Segmented(text, tuple(sorted(draw(offsets))), decided)


def lists(
    parts: tuple[str, ...] = AWKWARD, *, partial: bool = False
) -> st.SearchStrategy[list[Segmented]]:
    return st.lists(rows(parts, partial=partial), min_size=1, max_size=4)


def known(row: Segmented) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """What a row says: its text, its decided offsets, and the cuts among them."""
    whole = tuple(range(1, len(row.text)))
    decided = whole if row.decided is None else row.decided
    return row.text, decided, tuple(cut for cut in row.cuts if cut in decided)
