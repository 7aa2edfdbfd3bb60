"""What a vocabulary of some size costs in bytes, and how much of the texts a model then reads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from attar.data.vocabulary import (
    LEAST,
    VocabularyKind,
    bytes_by_size,
    cut_vocabulary,
    learn,
    train_vocabulary,
    vocabulary_files,
    wrapped,
)
from attar.errors import DataError, require

_ROWS = 500  # encoded at a time

Sizes = int | Sequence[int] | NDArray[Any]


@dataclass(frozen=True)
class Reading:
    """How much of some texts a model reads.

    Attributes:
        context: tokens that it reads of a text or pair, special tokens included.
        characters_per_token: of whole texts, without special tokens.
        cut: share of the texts (pairs) that are longer.
        read: share of all characters that are within.
    """

    context: int
    characters_per_token: float
    cut: float
    read: float


def reading_of(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    *,
    pairs: Sequence[str] | None = None,
    context: int,
) -> Reading:
    """Count what is within `context` tokens, where texts are cut as training cuts them: at the end,
    and of a pair the longer one first.

    Raises:
        DataError: there is no text.
        ConfigError: `context` is too short for the special tokens and a token of each text.
    """
    least = tokenizer.num_special_tokens_to_add(pair=pairs is not None) + 1 + (pairs is not None)
    require(context >= least, "context", context, f"{least} or more")
    sides = [texts] if pairs is None else [texts, pairs]
    characters = sum(len(text) for side in sides for text in side)
    if not characters:
        raise DataError("expected texts to read, found none with a character; give some")
    room = context - tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    backend: Tokenizer = tokenizer.backend_tokenizer  # pyright: ignore[reportAssignmentType]
    backend.no_truncation()  # that an earlier call may have left behind
    tokens = cut = unread = 0
    for start in range(0, len(texts), _ROWS):
        rows = [list(side[start : start + _ROWS]) for side in sides]
        encoded = [backend.encode_batch(side, add_special_tokens=False) for side in rows]
        for row in zip(*encoded, strict=True):
            tokens += sum(map(len, row))
            cut += sum(map(len, row)) > room
        for side, encodings in enumerate(encoded):
            for i, encoding in enumerate(encodings):
                kept = _kept(tuple(len(other[i]) for other in encoded), room)[side]
                if kept < len(encoding):
                    last = max((end for _, end in encoding.offsets[:kept]), default=0)
                    unread += len(rows[side][i]) - last
    return Reading(
        context=context,
        characters_per_token=characters / max(1, tokens),
        cut=cut / len(texts),
        read=1 - unread / characters,
    )


def _kept(lengths: tuple[int, ...], room: int) -> tuple[int, ...]:
    """Tokens that stay of a text or of a pair, the longer of which is cut first."""
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return (room,)
    short, long = sorted(lengths)
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if lengths[0] <= lengths[1] else (long, short)


@dataclass(frozen=True)
class VocabularyFacts:
    """What vocabularies of some texts cost and read, by their size.

    Attributes:
        kind: of the tokenizers.
        trained_on: `content_hash` of the texts that they were learned on.
        most: the largest of the sizes asked for that the texts have entries for.
        sizes: entries, ascending.
        tokenizer_bytes: of the tokenizer's files with so many entries.
        read_sizes: some of the sizes.
        readings: of the same texts, with so many entries.
    """

    kind: VocabularyKind
    trained_on: str
    most: int
    sizes: tuple[int, ...]
    tokenizer_bytes: tuple[int, ...]
    read_sizes: tuple[int, ...]
    readings: tuple[Reading, ...]

    def bytes_at(self, vocab_sizes: Sizes) -> NDArray[np.float64]:
        """Bytes of the tokenizer's files, exact at `sizes`, linear between."""
        return np.asarray(np.interp(vocab_sizes, self.sizes, self.tokenizer_bytes))

    def read_at(self, vocab_sizes: Sizes) -> NDArray[np.float64]:
        """Share of the characters that is read, between `read_sizes` linear in the logarithm."""
        return self._at(vocab_sizes, [reading.read for reading in self.readings])

    def cut_at(self, vocab_sizes: Sizes) -> NDArray[np.float64]:
        """Share of the texts that are cut, as `read_at`."""
        return self._at(vocab_sizes, [reading.cut for reading in self.readings])

    def characters_per_token_at(self, vocab_sizes: Sizes) -> NDArray[np.float64]:
        """Characters of a token, as `read_at`."""
        return self._at(vocab_sizes, [reading.characters_per_token for reading in self.readings])

    def _at(self, vocab_sizes: Sizes, values: Sequence[float]) -> NDArray[np.float64]:
        return np.asarray(np.interp(np.log(vocab_sizes), np.log(self.read_sizes), values))

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "VocabularyFacts":
        """Read what `to_dict` gave."""
        lists = {key: tuple(stored[key]) for key in ("sizes", "tokenizer_bytes", "read_sizes")}
        readings = tuple(Reading(**reading) for reading in stored["readings"])
        return cls(**{**stored, **lists, "readings": readings})


def vocabulary_facts(
    texts: Sequence[str],
    sizes: Sequence[int],
    *,
    context: int,
    pairs: Sequence[str] | None = None,
    kind: VocabularyKind = "bpe",
    lowercase: bool = False,
    collapse_spaces: bool = False,
    measured: int = 6,
    sample: int = 300,
) -> VocabularyFacts:
    """What the vocabularies that `train_vocabulary` makes of these texts would cost and read.

    Args:
        texts: of the training split.
        sizes: numbers of entries that come into question, such as an axis of a space; those that
            the texts are too few for are left out.
        context: tokens of a text or pair that the model will read.
        pairs: the second text of each; vocabularies are learned on the texts and then these.
        kind: of the tokenizers. One training serves all sizes of `bpe` and of `wordpiece`, whose
            bytes are exact at each; `unigram` is trained at each measured size, and its bytes lie
            on lines between.
        lowercase: as in `train_vocabulary`.
        collapse_spaces: as in `train_vocabulary`.
        measured: at how many of the sizes texts are read.
        sample: texts, evenly spread, that are read.

    Raises:
        DataError: no text, or too few for any of the sizes; names the most.
        ConfigError: an option is out of range, or a size below 260.
    """
    require(bool(sizes), "sizes", list(sizes), "one number of entries or more")
    require(measured >= 2, "measured", measured, "2 or more")
    asked = sorted({*map(int, sizes)})
    require(asked[0] >= LEAST, "sizes", asked[0], f"{LEAST} or more")
    both = [*texts, *(pairs or ())]
    backend, trained_on = learn(
        both, asked[-1], kind=kind, lowercase=lowercase, collapse_spaces=collapse_spaces
    )
    largest = wrapped(backend, context=context, trained_on=trained_on)
    possible = [size for size in asked if size <= len(largest)]
    if not possible:
        raise DataError(
            f"expected texts for a {kind} vocabulary of {asked[0]} entries or more, found enough "
            f"for {len(largest)} at most; give more text, or smaller vocabularies"
        )
    read_sizes = _spread(possible, measured)
    rows = np.unique(np.linspace(0, len(texts) - 1, min(sample, len(texts))).round().astype(int))
    some = [texts[int(i)] for i in rows]
    others = None if pairs is None else [pairs[int(i)] for i in rows]
    readings: list[Reading] = []
    files: list[int] = []
    for size in read_sizes:
        if kind != "unigram":
            tokenizer = cut_vocabulary(largest, size)
        elif size == len(largest):
            tokenizer = largest
        else:
            tokenizer = train_vocabulary(
                both,
                size,
                kind=kind,
                lowercase=lowercase,
                collapse_spaces=collapse_spaces,
                context=context,
            )
        readings.append(reading_of(some, tokenizer, pairs=others, context=context))
        files.append(sum(len(text.encode()) for text in vocabulary_files(tokenizer).values()))
    if kind != "unigram":
        files = bytes_by_size(largest)[possible].tolist()
    return VocabularyFacts(
        kind=kind,
        trained_on=trained_on,
        most=possible[-1],
        sizes=tuple(read_sizes if kind == "unigram" else possible),
        tokenizer_bytes=tuple(files),
        read_sizes=tuple(read_sizes),
        readings=tuple(readings),
    )


def _spread(sizes: Sequence[int], count: int) -> list[int]:
    """`count` of the ascending sizes at most, the ends among them, evenly by their logarithms."""
    logs = np.log(sizes)
    places = np.linspace(logs[0], logs[-1], min(count, len(sizes)))
    return sorted({sizes[int(np.abs(logs - place).argmin())] for place in places})
