"""Which format a file has, told by its name and its first lines."""

import json
import re
from itertools import islice
from pathlib import Path

from attar.data.segments.streams import Report, lines
from attar.errors import DataError

#: names that leave no doubt
_BY_SUFFIX = {
    ".label": "best",
    ".conllu": "conllu",
    ".conll": "conll2003",
    ".bio": "bio",
    ".bies": "bies",
    ".json": "label-studio",
    ".parquet": "datasets",
}
#: tables, of which nobody has said which column is the text
_TABLES = (".csv", ".tsv")
#: lines that are looked at
_HEAD = 100
_VISTEC = re.compile(r"</(ne|msp)>")


def suffix(file: Path) -> str:
    """The end of a name that tells the format, without .gz."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def guess(file: Path) -> str:
    """The name of the format: of JSON lines by their keys, of text by its `|` and tags, otherwise
    raw lines.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or is a table.
    """
    end = suffix(file)
    if file.is_dir():
        return "datasets"
    if end in _BY_SUFFIX:
        return _BY_SUFFIX[end]
    if end in _TABLES:
        raise DataError(
            f"expected a sentence on each line of {file}, or words that are marked, found a table; "
            "save its column of text as .jsonl with the key text, or say --format lines to take "
            "each whole line as a sentence"
        )
    head = [line.text for line in islice(lines(file, report=Report()), _HEAD)]
    filled = [text for text in head if text.strip()]
    if end in (".jsonl", ".ndjson"):
        return _of_json(filled[0] if filled else "")
    if "<EOS>" in head:
        return "talpco"
    if sum("|" in text for text in filled) * 2 > len(filled):
        return "vistec" if any(map(_VISTEC.search, filled)) else "best"
    return "lines"


def _of_json(first: str) -> str:
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):  # whose reader says it better
        return "jsonl"
    if not isinstance(row, dict):
        return "jsonl"
    tokens = row.get("tokens")
    if isinstance(tokens, list) and tokens and isinstance(tokens[0], dict):
        return "prodigy"
    if "cuts" not in row and any(
        isinstance(row.get(k), list) for k in ("label", "labels", "entities")
    ):
        return "doccano"
    return "jsonl"
