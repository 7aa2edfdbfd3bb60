"""What the benchmarks of equal-information windows share: text, in parts that nobody sees twice."""

from pathlib import Path

from attar.data.data import STDLIB
from attar.data.text import load_text


def corpus(data: Path) -> dict[str, list[str]]:
    """Documents to fit byte models and BPE on (`fit`), to train models on (`train`), and `test`.

    English fiction where it is at hand, split by author, else Python's standard library.
    """
    books = data / "books"
    found = load_text(books if books.is_dir() else STDLIB)
    rows = list(found["train"]["text"])
    return {
        "fit": rows[::3],
        "train": [r for i, r in enumerate(rows) if i % 3],
        "test": list(found["test"]["text"]),
    }


def head(texts: list[str], size: int) -> str:
    """So many bytes of text, a document in three from the start on."""
    parts, got = [], 0
    for text in texts[::3]:
        parts.append(text)
        got += len(text.encode())
        if got >= size:
            break
    return "".join(parts).encode()[:size].decode("utf-8", "ignore")
