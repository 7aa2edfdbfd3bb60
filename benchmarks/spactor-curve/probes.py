"""Two tasks of text to text: the feeling of a sentence of a film review, and a name that a later
sentence needs from an earlier passage.

The second is a cloze in the manner of recurring span selection (Ram et al. 2021, arXiv 2101.00438):
a sentence has a name that stood before; there it is replaced by a blank, and is to be written.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FEELING = {"0": "negative", "1": "positive"}
PASSAGE = 60  # words before the sentence that asks
PAIRS = {"train": 6000, "validation": 400, "test": 500}
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_NAME = re.compile(r"(?<![.!?\"'“] )(?<!^)\b[A-Z][a-z]{2,}\b")


def sentiment(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Pairs by split, of SST-2."""
    found: dict[str, list[tuple[str, str]]] = {}
    for split, file in (("train", "train"), ("validation", "dev"), ("test", "test")):
        text = (folder / "sst2" / f"{file}.tsv").read_text(encoding="utf-8")
        rows = [line.rpartition("\t") for line in text.splitlines() if "\t" in line]
        found[split] = [(f"review: {one}", FEELING[label.strip()]) for one, _, label in rows]
    return found


def names(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Pairs by split, of the books, whose authors differ between splits."""
    files = {
        "train": [f"train-{i}" for i in range(6)],
        "validation": ["validation"],
        "test": ["test"],
    }
    found: dict[str, list[tuple[str, str]]] = {}
    for split, parts in files.items():
        pairs: list[tuple[str, str]] = []
        for part in parts:
            with gzip.open(folder / "books" / f"{part}.txt.gz", "rt", encoding="utf-8") as text:
                pairs += _clozes(_SENTENCE.split(re.sub(r"\s+", " ", text.read())))
        step = max(1, len(pairs) // PAIRS[split])  # spread over all books
        found[split] = pairs[::step][: PAIRS[split]]
    return found


def _clozes(sentences: list[str]) -> Iterator[tuple[str, str]]:
    """Sentences that have a name which stood in the passage before them, beside another."""
    words: list[str] = []
    for sentence in sentences:
        passage = " ".join(words[-PASSAGE:])
        asked, before = set(_NAME.findall(sentence)), set(_NAME.findall(passage))
        words += sentence.split()
        if asked & before and len(before) > 1 and len(sentence.split()) <= 30:
            name = min(asked & before, key=sentence.index)
            blank = re.sub(rf"\b{name}\b", "_", sentence)
            yield f"who: {blank} passage: {passage}", name
            words = []  # no two share a passage


def write(folder: Path, data: Path) -> list[Path]:
    """Both as folders of JSON lines, one file a split."""
    folders = []
    for name, pairs in (("sentiment", sentiment(data)), ("names", names(data))):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for split, rows in pairs.items():
            lines = [json.dumps({"source": a, "target": b}) for a, b in rows]
            (place / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        folders.append(place)
    return folders


def baselines(folder: Path) -> dict[str, float]:
    """Exact matches without a model: of the feeling that is most frequent in training, and of the
    first name of each passage."""
    found = {}
    for name in ("sentiment", "names"):
        train, test = (_read(folder / name / f"{split}.jsonl") for split in ("train", "test"))
        likeliest = Counter(target for _, target in train).most_common(1)[0][0]
        guesses = [
            likeliest if name == "sentiment" else _NAME.findall(source.partition("passage: ")[2])[0]
            for source, _ in test
        ]
        right = [guess == target for guess, (_, target) in zip(guesses, test, strict=True)]
        found[name] = sum(right) / len(right)
    return found


def _read(file: Path) -> list[tuple[str, str]]:
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [(row["source"], row["target"]) for row in rows]
