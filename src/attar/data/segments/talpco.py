"""TALPCo: for each sentence a line with its id, a line for each word, and the line <EOS>.

Spaces are no words there: they are told by a second file, `id TAB text` a line, which lies beside
the first. It is called `data_tha.txt` where the words are in `data_tha-token.txt`, and
`words-text.txt` where they are in `words.txt`.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from attar.data.segments.cuts import Segmented
from attar.data.segments.streams import (
    Line,
    Options,
    Report,
    lines,
    require_none_of,
    require_whole,
    writing,
)
from attar.errors import DataError

_END = "<EOS>"
_TOKENS = "-token"


def text_beside(path: Path) -> Path:
    """Where the texts of a file of words lie."""
    name, dot, ends = path.name.partition(".")
    stem = name.removesuffix(_TOKENS) if name.endswith(_TOKENS) else f"{name}-text"
    return path.with_name(stem + dot + ends)


# ------------------------------------------------------------------------------------------ reading


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """The sentences of a file of words; white space between two words in the texts is a word, too.

    Where there is no text, or one of other words, the words are joined without anything between
    them, which is counted.

    Raises:
        DataError: <EOS> is missing, or the texts are of other sentences.
    """
    beside = text_beside(path)
    if not beside.is_file():
        options.report.note("texts told by their words alone", where=str(beside))
        for name, words in _blocks(path, options.report):
            yield Segmented.of([word.text for word in words], meta={"id": name.text})
        return
    texts = lines(beside, report=options.report)
    for name, words in _blocks(path, options.report):
        found = next(texts, None)
        key, tab, text = found.text.partition("\t") if found else ("nothing", "", "")
        if found is None or not tab or key != name.text:
            raise DataError(
                f"expected the text of sentence {name.text!r}, which begins in {name.where}, in "
                f"{found.where if found else beside}, found {key[:40]!r}; give both files in one "
                "order"
            )
        tokens = _between([word.text for word in words], text)
        if tokens is None:
            options.report.note("sentences whose text has other words", where=found.where)
        yield Segmented.of(tokens or [word.text for word in words], meta={"id": key})
    if (rest := next(texts, None)) is not None and rest.text:
        raise DataError(f"expected the words of {rest.where} in {path}, found none; add them")


def _blocks(path: Path, report: Report) -> Iterator[tuple[Line, list[Line]]]:
    """The line of the id and the lines of the words of each sentence."""
    name: Line | None = None
    words = list[Line]()
    for line in lines(path, report=report):
        if name is None:
            if line.text:
                name = line
        elif line.text != _END:
            if not line.text:
                raise DataError(f"expected a word or {_END} in {line.where}, found an empty line")
            words.append(line)
        else:
            if words:
                yield name, words
            else:
                report.note("sentences without words", where=name.where)
            name, words = None, []
    if name is not None:
        raise DataError(
            f"expected {_END} after the sentence that begins in {name.where}, found the end of the "
            "file; add what is missing"
        )


def _between(words: list[str], text: str) -> list[str] | None:
    """The words with the white space between them; None: the text has others."""
    tokens, at = list[str](), 0
    for word in [*words, ""]:
        start = text.find(word, at) if word else len(text)
        if start < 0 or text[at:start].strip():
            return None
        tokens += filter(None, (text[at:start], word))
        at = start + len(word)
    return tokens


# ------------------------------------------------------------------------------------------ writing


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a file of words, and the file of texts beside it.

    Raises:
        ConfigError: one of the two is there already.
        DataError: a sentence is not segmented, or a word or id would break the lines.
    """
    with ExitStack() as files:
        texts = files.enter_context(writing(text_beside(path)))
        out = files.enter_context(writing(path))
        for number, row in enumerate(rows, 1):
            where = f"sentence {number}"
            require_whole(row, name="talpco", where=where)
            require_none_of(row.text, "\n\r", name="talpco", where=where)
            name = str(row.meta.get("id", number))
            words = _without_spaces(row.tokens)
            if _END in words or not name or any(end in name for end in "\t\r\n\ufeff"):
                raise DataError(
                    f"expected words other than {_END} and an id on one line in {where}, found "
                    f"the id {name[:40]!r} and words that the format talpco cannot hold; leave "
                    "the sentence out"
                )
            texts(f"{name}\t{row.text}\n")
            out("".join(f"{line}\n" for line in (name, *words, _END)))
            options.report.rows += 1


def _without_spaces(tokens: list[str]) -> list[str]:
    """The words without white space where the text tells that it is one word of its own."""
    blank = [not token.strip() for token in tokens]
    runs = [
        was or follows for was, follows in zip([False, *blank], [*blank[1:], False], strict=False)
    ]
    kept = [t for t, space, run in zip(tokens, blank, runs, strict=True) if not space or run]
    return kept or tokens
