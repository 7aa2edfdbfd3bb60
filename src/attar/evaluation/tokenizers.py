"""How good is a tokenizer? Compared with baselines of as many ids, on held-out text.

The scores say how much text an id holds and how steady ids are, not how well a model learns from
them: that takes a training with each tokenizer, and bits per byte (`attar.evaluation.bits`).
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.data.passages import sample_passages
from attar.data.text import load_text
from attar.errors import ConfigError, DataError, require
from attar.evaluation.bits import unigram_bits
from attar.evaluation.tokenizer_baselines import (
    Encode,
    Ids,
    arithmetic_ids,
    bpe,
    byte_ids,
    fit_ngrams,
    gzip_ids,
    ids_of,
    unigram,
)
from attar.evaluation.tokenizer_checks import verify_tokenizer
from attar.models import DocumentTokenizer
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.report.tables import Table
from attar.runtime import Bar

logger = logging.getLogger(__name__)

OWN = "equal-info"
"""The row of the tokenizer that is evaluated."""
BASELINES = ("bytes", "bpe", "unigram", "static ac", "ac", "gzip")

_SUBWORDS = frozenset({"bpe", "unigram"})
_FIT = 8_000_000  # bytes that baselines are fitted on
_CODED = 100_000  # bytes that the plain arithmetic coder reads: it is written in Python
_SLOW = frozenset({"ac", "static ac"})
_CHANGED = (50, 200)  # passages, and their length, whose first word is changed
_FEW = 10_000  # bytes of text below which scores are rough


@dataclass(frozen=True)
class TokenizerScore:
    """One tokenizer on held-out text.

    Attributes:
        name: `OWN` or a baseline.
        vocabulary: ids, without special tokens.
        bytes: of text that was read.
        bytes_per_id: of text, in UTF-8.
        uniform: bits per byte of a model that finds all ids equally likely.
        unigram: of one that knows how often each occurs.
        stability: share of the ids of a short text that stay when its first word is another.
        megabytes_per_second: of encoding, one thread, this machine.
    """

    name: str
    vocabulary: int
    bytes: int
    bytes_per_id: float
    uniform: float
    unigram: float
    stability: float
    megabytes_per_second: float

    @property
    def ids_per_kilobyte(self) -> float:
        """Steps of decoding for 1,000 bytes."""
        return 1000 / self.bytes_per_id

    def to_dict(self) -> dict[str, float | str]:
        """All of it."""
        return asdict(self) | {"ids_per_kilobyte": self.ids_per_kilobyte}


def evaluate_tokenizer(
    model: str | Path,
    data: DataLike = STDLIB,
    *,
    baselines: Sequence[str] = BASELINES,
    max_bytes: int = 1_000_000,
    verify: bool = False,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Compare a tokenizer with bytes, subwords and plain compression, on held-out text.

    Args:
        model: folder of a tokenizer that `attar tokenizer train` made.
        data: whatever `attar.data.load_text` takes; its training split fits the baselines, its
            test split is measured.
        baselines: some of `BASELINES`; BPE always is among them.
        max_bytes: bytes of the test split that are read, in passages spread over it.
        verify: check the tokenizer, too: its hash, its strings, and that the test split and random
            bytes come back (`verify_tokenizer`).
        output_dir: where the record goes; None keeps it in memory.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: `details["rows"]`, of which `score_table` makes a table; with `verify` also
        `details["verified"]`, how much was checked, by name.

    Raises:
        ConfigError: there is no such baseline, no bytes to read, or the output folder is taken.
        DataError: the tokenizer or the text cannot be read, or the tokenizer is not sound.
    """
    tokenizer = checkpoint.load_document_tokenizer(model)
    data = Data.of(data)
    options = {"baselines": list(baselines), "max_bytes": max_bytes, "verify": verify}
    with artefact(
        output_dir,
        command="tokenizer evaluate",
        settings={"model": str(model), **data.settings(), **options},
        recipe=recipe,
    ) as work:
        if work.main:
            documents = load_text(data)
            texts = documents["test"]["text"]
            work.run.details["content_hash"] = tokenizer.content_hash
            if verify:
                work.run.details["verified"] = verify_tokenizer(tokenizer, texts)
            scores = compare_tokenizers(
                tokenizer,
                texts,
                train_texts=documents["train"]["text"],
                baselines=baselines,
                max_bytes=max_bytes,
            )
            work.run.details["rows"] = [score.to_dict() for score in scores]
            if scores[0].bytes < _FEW:
                logger.warning(
                    "read %d bytes only, figures are rough; give more text or a larger max_bytes",
                    scores[0].bytes,
                )
    return work.run


def score_table(run: Run) -> str:
    """What `evaluate_tokenizer` found as a table, with what its columns mean."""
    head = [
        "Tokenizer",
        "Ids",
        "Bytes per id",
        "Ids per kB",
        "Uniform, bits/byte",
        "Unigram, bits/byte",
        "Stable ids",
        "Encoding, MB/s",
    ]
    rows = run.details["rows"]
    body = [
        [
            row["name"],
            f"{row['vocabulary']:,}",
            f"{row['bytes_per_id']:.2f}",
            f"{row['ids_per_kilobyte']:.0f}",
            f"{row['uniform']:.3f}",
            f"{row['unigram']:.3f}",
            f"{row['stability']:.0%}",
            f"{row['megabytes_per_second']:.3g}",
        ]
        for row in rows
    ]
    return (
        f"{Table(head, body)}\n\nOn {rows[0]['bytes']:,} bytes, of which the arithmetic coders "
        f"read {_CODED:,} at most. Uniform, Unigram: baselines, of a model that has learned "
        "nothing, and of one that knows how often each id occurs. Stable ids: share of the ids of "
        f"{_CHANGED[1]} characters that stay when the first word changes. How well a model "
        "learns from it, only training can tell: `attar pretrain` with this tokenizer."
    )


# -------------------------------------------------------------------------------------- comparing


def compare_tokenizers(
    tokenizer: DocumentTokenizer,
    texts: Sequence[str],
    *,
    train_texts: Sequence[str],
    baselines: Sequence[str] = BASELINES,
    max_bytes: int = 1_000_000,
) -> list[TokenizerScore]:
    """A tokenizer next to baselines with as many ids, fitted on the training text.

    Args:
        tokenizer: ours; it comes first.
        texts: held-out documents.
        train_texts: what baselines are fitted on, at most 8 MB.
        baselines: some of `BASELINES`; BPE always is among them.
        max_bytes: of `texts` that are read, in passages spread over them; the arithmetic coders
            read 100 kB at most.

    Raises:
        ConfigError: there is no such baseline, or there are no bytes to read.
        DataError: there is no text.
    """
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise ConfigError(f"expected baselines among {', '.join(BASELINES)}, found {unknown[0]!r}")
    require(max_bytes >= 1, "max_bytes", max_bytes, "1 or more")
    texts = sample_passages(texts, str.encode, tokens=max_bytes)
    known = sample_passages(train_texts, str.encode, tokens=_FIT)
    if not texts or not known:
        raise DataError("expected text to report on, found none; give other text")
    few = sample_passages(texts, str.encode, tokens=_CODED)
    pairs = first_words_changed(texts)
    scores = []
    for name in (OWN, *(one for one in BASELINES if one in {*baselines, "bpe"})):
        vocabulary, encode = _encoder(name, tokenizer, known)
        stable = stability(encode, pairs)
        read = few if name in _SLOW else texts
        scores.append(_score(name, encode, read, vocabulary=vocabulary, stable=stable))
    return scores


def _encoder(name: str, tokenizer: DocumentTokenizer, known: Sequence[str]) -> tuple[int, Encode]:
    """How many ids there are, and how text becomes ids."""
    if name == OWN:
        return tokenizer.vocab_size, lambda text: _own_ids(tokenizer, text)
    if name == "bytes":
        return 256, byte_ids
    if name == "gzip":
        return 256, gzip_ids
    if name in _SUBWORDS:
        make = bpe if name == "bpe" else unigram
        size = tokenizer.vocab_size + 1
        subwords = make(Dataset.from_dict({"text": list(known)}), vocab_size=max(size, 257))
        return len(subwords) - 1, ids_of(subwords)
    codec = tokenizer.dependencies.get("codec", {})  # the same byte model as that of the windows
    order = 1 if name == "static ac" else codec.get("order", 6)
    counts = fit_ngrams(known, order=order, precision=codec.get("precision_bits", 16))
    return 256, partial(arithmetic_ids, model=counts)


def _own_ids(tokenizer: DocumentTokenizer, text: str) -> Ids:
    return tokenizer.encode_bytes(text.encode()).astype(np.int64)


def _score(
    name: str, encode: Encode, texts: Sequence[str], *, vocabulary: int, stable: float
) -> TokenizerScore:
    encode(texts[0][:100])  # compiles what is compiled on first use
    shown = Bar(texts, desc=name, unit="text", leave=False)
    began = time.perf_counter()
    encoded = [encode(text) for text in shown]
    seconds = time.perf_counter() - began
    ids = torch.from_numpy(np.concatenate(encoded).astype(np.int64))
    size = sum(len(text.encode()) for text in texts)
    each = size / len(ids)
    bits = np.log2(vocabulary)
    return TokenizerScore(
        name=name,
        vocabulary=vocabulary,
        bytes=size,
        bytes_per_id=each,
        uniform=float(bits / each),
        unigram=min(float(bits), unigram_bits(ids)) / each,
        stability=stable,
        megabytes_per_second=size / 1e6 / seconds,
    )


def first_words_changed(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Short texts that differ in their first word: passages of 200 characters from all over the
    given ones, each after two words that occur there (or after "a" and "b").
    """
    text = "\n".join(texts)
    words = list(dict.fromkeys(word[:12] for word in text.split()))
    words = words if len(words) > 1 else ["a", "b"]
    count, length = _CHANGED
    pairs = []
    for place in range(count):
        start = place * max(0, len(text) - length) // count
        begun, _, passage = text[start : start + length].partition(" ")
        passage = passage or begun  # Thai and Chinese have no spaces between words
        one, other = words[place % len(words)], words[(place + len(words) // 2) % len(words)]
        pairs.append((f"{one} {passage}", f"{other} {passage}"))
    return pairs


def stability(encode: Encode, pairs: Sequence[tuple[str, str]]) -> float:
    """Share of ids that two texts have in common, in order, from 0 to 1; mean over pairs.

    1 - (Levenshtein distance of the two encodings) / (length of the longer). Where another first
    word changes all ids that follow, there is little that a model can learn.

    Source: Lester et al. 2024, who compare encodings of one sentence after different first words.
    """
    kept = []
    for pair in pairs:
        one, other = map(encode, pair)
        kept.append(1 - edit_distance(one, other) / max(len(one), len(other)))
    return float(np.mean(kept))


def edit_distance(one: Ids, other: Ids) -> int:
    """Levenshtein distance: the fewest insertions, deletions and changes between two sequences."""
    steps = np.arange(len(other) + 1)
    row = steps
    for at, symbol in enumerate(one, 1):
        reached = np.minimum(row[1:] + 1, row[:-1] + (other != symbol))
        row = np.minimum.accumulate(np.concatenate([[at], reached]) - steps) + steps
    return int(row[-1])
