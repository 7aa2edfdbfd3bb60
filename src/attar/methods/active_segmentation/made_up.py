"""Text whose words are known because it was made of them, for demonstrations and tests.

Thai words are drawn from pythainlp's list of word frequencies and laid one after another, by topic:
each document prefers words of its own, as documents do. It means nothing and has no grammar, so
scores on it show how the machinery works and nothing about Thai. Some words are left out of the
dictionary that goes with it, as in real text no list knows every name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.artefacts import write_text
from attar.data.segments.cuts import Segmented
from attar.data.segments.legal import illegal
from attar.errors import MissingExtraError, require

#: words of the list, by frequency, that sentences are made of
_WORDS = 4000
#: words that each document prefers, and how many times as often they come
_TOPIC, _PREFERENCE = 60, 30.0


@dataclass(frozen=True)
class MadeUp:
    """A corpus of known words."""

    rows: tuple[Segmented, ...]
    """Its sentences; `meta` has the document of each."""
    dictionary: tuple[str, ...]
    """The words that dictionary features may know."""
    unknown: tuple[str, ...]
    """Those that were left out of it."""

    def save_dictionary(self, file: Path) -> Path:
        """One word a line, as `SegmenterConfig.dictionary` takes it."""
        write_text(file, "\n".join(self.dictionary) + "\n")
        return file


def make_up(
    sentences: int = 2000,
    *,
    seed: int = 0,
    unknown_share: float = 0.15,
    words: int = _WORDS,
    per_document: int = 20,
) -> MadeUp:
    """Make text up.

    Args:
        sentences: how many.
        seed: of all chance.
        unknown_share: of the words, left out of the dictionary.
        words: different ones that may occur.
        per_document: sentences that share a topic.

    Raises:
        ConfigError: an option is out of range.
        MissingExtraError: pythainlp is not installed.
    """
    require(sentences >= 1, "sentences", sentences, "1 or more")
    require(words >= 100, "words", words, "100 or more")
    require(0 <= unknown_share < 1, "unknown_share", unknown_share, "at least 0 and below 1")
    generator = np.random.default_rng(seed)
    known = frequent_words(words)
    vocabulary = [word for word, _ in known]
    counts = np.array([count for _, count in known], float)
    shares = np.sqrt(counts)  # real frequencies would leave little but a few particles
    left_out = generator.random(len(vocabulary)) < unknown_share
    rows = []
    for first in range(0, sentences, per_document):
        weights, document = _topic(shares, generator), f"d{first // per_document:04}"
        for _ in range(min(per_document, sentences - first)):
            rows.append(_sentence(vocabulary, weights, generator, document=document))
    pairs = list(zip(vocabulary, left_out.tolist(), strict=True))
    return MadeUp(
        tuple(rows),
        tuple(sorted(word for word, gone in pairs if not gone)),
        tuple(sorted(word for word, gone in pairs if gone)),
    )


def frequent_words(count: int) -> list[tuple[str, int]]:
    """The most frequent Thai words of pythainlp's list that can stand anywhere in a text, with
    their frequencies; most frequent first, equal ones by name.

    Raises:
        MissingExtraError: pythainlp is not installed.
    """
    try:
        from pythainlp.corpus import tnc
    except ImportError:
        raise MissingExtraError(
            "made-up text needs pythainlp for its words; install it with: pip install 'attar[thai]'"
        ) from None
    ordered = sorted(tnc.word_freqs(), key=lambda pair: (-int(pair[1]), pair[0]))
    fitting = ((word, int(n)) for word, n in ordered if len(word) > 1 and _fits(word))
    return list(islice(fitting, count))


def _fits(word: str) -> bool:
    """Whether a word is Thai letters alone, and legal to cut before and behind."""
    thai = all(
        "\u0e01" <= c <= "\u0e2e" or "\u0e30" <= c <= "\u0e3a" or "\u0e40" <= c <= "\u0e4d"
        for c in word
    )
    around = illegal(f"ก{word}ก")
    return thai and not around[0] and not around[-1]


def _topic(shares: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """How often each word comes in one document."""
    weights = shares.copy()
    weights[generator.choice(len(weights), min(_TOPIC, len(weights)), replace=False)] *= _PREFERENCE
    return weights / weights.sum()


def _sentence(
    vocabulary: Sequence[str],
    weights: NDArray[np.float64],
    generator: np.random.Generator,
    *,
    document: str,
) -> Segmented:
    """Phrases of words with spaces between them, which are words of their own."""
    tokens: list[str] = []
    for phrase in range(int(generator.integers(1, 4))):
        drawn = generator.choice(len(vocabulary), int(generator.integers(2, 9)), p=weights)
        tokens += [*([" "] if phrase else []), *(vocabulary[i] for i in drawn)]
    cuts = tuple(accumulate(len(token) for token in tokens[:-1]))
    return Segmented("".join(tokens), cuts, None, {"document": document})
