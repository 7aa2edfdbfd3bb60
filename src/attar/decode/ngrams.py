"""How often tokens follow each other in a text of any size: a store of n-grams on disk.

The text is one array of tokens, with a separator after each document, and its beginning comes after
its end. Beside it lie all positions, sorted by the tokens before them, the last one first, and then
by their own. So the positions after a context are a range, those after a longer context a range
within it, and a count is the length of a range: one array serves n-grams of every length, in 6
bytes a token. Both are mapped into memory. Where the last one or two tokens are so frequent that
counting what follows them would take long, that is listed as well.
"""

import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from attar import checkpoint
from attar.artefacts import expanded
from attar.errors import CompatibilityError, ConfigError, DataError, require
from attar.foreign import read_json

ORDER = 6
"""The longest n-gram by default: five tokens and the one that follows."""
FORMAT = "attar-ngrams-1"
META = "meta.json"
TOKENS, POSITIONS, STARTS = "tokens.bin", "pos.bin", "starts.bin"
FOLLOWING = "csr_{n}.bin"
"""What follows the contexts of one token (2) and of two (3) that are frequent."""
TOKENIZER = "tokenizer"
"""The folder of the tokenizer in a store."""
FREQUENT = 2048
"""Occurrences from which on a short context is listed: to count fewer takes microseconds."""
_BLOCK, _BLOCKS = 4096, 1024  # of a file, in bytes, that its checksum reads

Integers = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Tokens = Sequence[int] | NDArray[Any]


class NGrams(Protocol):
    """What predicts tokens by those before them."""

    @property
    def order(self) -> int:
        """The longest n-gram."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer, as `checkpoint.tokenizer_fingerprint` gives it."""
        ...

    def probabilities(self, context: Tokens, tokens: Tokens) -> Probabilities:
        """How likely each of `tokens` is after the context, by n-grams of each length.

        Args:
            context: all tokens so far; the last `order - 1` count.
            tokens: C candidates.

        Returns:
            `(order - 1, C)`: row n - 2 is c_n(context, v) / c_n(context) for the last n - 1 tokens
            of the context; zeros where those never occurred, or where there are fewer.
        """
        ...

    def seen(self, context: Tokens) -> NDArray[np.bool_]:
        """Whether anything followed the last 1, 2, ... tokens of the context, `(order - 1,)`."""
        ...


class CountedNGrams:
    """Probabilities and hits of a store that counts.

    Attributes:
        order: the longest n-gram.
        fingerprint: of the tokenizer.
        separator: the token between documents, which no n-gram holds.
    """

    order: int
    fingerprint: str
    separator: int

    def tally(self, context: Tokens, tokens: Tokens) -> tuple[Integers, Integers]:
        """`counts`, and how often each context occurs before any token, `(order - 1,)`."""
        raise NotImplementedError

    def counts(self, context: Tokens, tokens: Tokens) -> Integers:
        """How often each of `tokens` follows the last 1, 2, ... tokens of the context,
        `(order - 1, C)`."""
        return self.tally(context, tokens)[0]

    def probabilities(self, context: Tokens, tokens: Tokens) -> Probabilities:
        """See `NGrams`."""
        counts, whole = self.tally(context, tokens)
        return counts / np.maximum(whole, 1)[:, None]

    def seen(self, context: Tokens) -> NDArray[np.bool_]:
        """See `NGrams`."""
        return self.tally(context, ())[1] > 0

    def last(self, context: Tokens) -> list[int]:
        """The tokens that count, last one first: up to `order - 1`, of the present document."""
        found: list[int] = []
        for token in reversed(context[-(self.order - 1) :]):
            if token == self.separator:
                break
            found.append(int(token))
        return found


@dataclass(frozen=True)
class Following:
    """What follows the frequent contexts of one length.

    Attributes:
        starts: where the range of each context begins, rising, `(R,)`.
        offsets: where its row begins and the next one's, `(R + 1,)`.
        tokens: rows of tokens, the most frequent one first, `(E,)`.
        counts: how often each of them follows, `(E,)`.
    """

    starts: NDArray[np.uint32]
    offsets: NDArray[np.uint32]
    tokens: NDArray[np.uint32]
    counts: NDArray[np.uint32]

    @classmethod
    def of(cls, array: NDArray[np.uint32], *, contexts: int) -> "Following":
        """The parts of what one file holds."""
        starts, offsets, rows = np.split(array, [contexts, 2 * contexts + 1])
        return cls(starts, offsets, *np.split(rows, 2))

    def row(self, start: int) -> tuple[Integers, Integers]:
        """Tokens and counts after the context whose range begins there."""
        at = int(np.searchsorted(self.starts[:-1], start))
        row = slice(int(self.offsets[at]), int(self.offsets[at + 1]))
        return self.tokens[row].astype(np.int64), self.counts[row].astype(np.int64)


def by_count(tokens: NDArray[Any], separator: int) -> tuple[Integers, Integers]:
    """The different tokens among some, without the separator, and how often each occurs, the most
    frequent one first; of equally frequent ones the one with the smaller id."""
    found, counts = np.unique(tokens, return_counts=True)
    kept = found != separator
    found, counts = found[kept].astype(np.int64), counts[kept]
    order = np.argsort(-counts, kind="stable")
    return found[order], counts[order].astype(np.int64)


class NGramStore(CountedNGrams):
    """The n-grams of a text on disk, which `build_store` counts.

    Attributes:
        folder: where it lies.
        meta: what `meta.json` says of it.
        tokens: the text, separators among it.
    """

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder, self.meta = folder, meta
        self.order, self.separator = meta["order"], meta["separator"]
        self.fingerprint, self.vocab_size = meta["tokenizer"], meta["vocab_size"]
        self.tokens = self._array(TOKENS, meta["dtype"])
        self._positions = self._array(POSITIONS, "uint32")
        self._starts = self._array(STARTS, "uint32")
        self._following = {
            int(n): Following.of(self._array(FOLLOWING.format(n=n), "uint32"), contexts=contexts)
            for n, contexts in meta["frequent"].items()
        }

    @classmethod
    def load(
        cls, folder: str | Path, *, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> "NGramStore":
        """Open a store.

        Args:
            folder: that `attar ngrams train` wrote.
            tokenizer: of the model that it is to serve; None: any.

        Raises:
            DataError: there is no store, or it is damaged.
            CompatibilityError: it is of another tokenizer.
        """
        place = expanded(folder)
        if not (place / META).is_file():
            raise DataError(
                f"expected a folder that attar ngrams train wrote, found no {META} in "
                f"{str(folder)!r}; give another"
            )
        meta = read_json(place / META, "the description of the n-grams")
        damage = _damage(place, meta)
        if damage:
            raise DataError(
                f"the n-gram store {str(folder)!r} is damaged: {damage}; copy it again, or make it "
                "again with attar ngrams train"
            )
        store = cls(place, meta)
        if tokenizer is not None:
            require_tokenizer(store, tokenizer, name=str(folder))
        return store

    @property
    def data_bytes(self) -> int:
        """Bytes on disk, without the tokenizer."""
        return sum(facts["bytes"] for facts in self.meta["files"].values())

    def tally(self, context: Tokens, tokens: Tokens) -> tuple[Integers, Integers]:
        """See `CountedNGrams`."""
        from attar.decode.ngram_search import count  # numba is slow to import

        # How often a document ends after the context, too: what follows then is no token.
        candidates = np.append(np.asarray(tokens, np.int64), self.separator)
        last = np.asarray(self.last(context), np.int64)
        counts = np.zeros((self.order - 1, len(candidates)), np.int64)
        ranges = self._ranges(last)
        count(self.tokens, self._positions, self._starts, last, ranges, candidates, counts)
        whole = np.zeros(self.order - 1, np.int64)
        whole[: len(last)] = ranges[:, 1] - ranges[:, 0] - counts[: len(last), -1]
        counts[:, candidates == self.separator] = 0
        return counts[:, :-1], whole

    def following(self, context: Tokens, n: int) -> tuple[Integers, Integers]:
        """The tokens after the last `n - 1` of the context, and how often each follows them, the
        most frequent one first.

        Raises:
            ConfigError: `n` is not between 2 and the order.
        """
        require(2 <= n <= self.order, "n", n, f"2 to {self.order}")
        last = np.asarray(self.last(context)[: n - 1], np.int64)
        if len(last) < n - 1:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        low, high = self._ranges(last)[-1]
        if n in self._following and high - low >= self.meta["frequent_from"]:
            return self._following[n].row(int(low))
        places = np.minimum(self._positions[low:high], len(self.tokens) - 1)
        return by_count(self.tokens[places], self.separator)

    def _ranges(self, last: Integers) -> Integers:
        from attar.decode.ngram_search import narrow

        ranges = np.zeros((len(last), 2), np.int64)
        narrow(self.tokens, self._positions, self._starts, last, ranges)
        return ranges

    def _array(self, name: str, dtype: str) -> NDArray[Any]:
        # not a memmap, whose slices are slow to make
        return np.asarray(np.memmap(self.folder / name, dtype, mode="r"))


class MergedStore:
    """Several stores as one: the weighted mean of their probabilities.

    Args:
        stores: of one tokenizer, such as one for all texts and one for the present project; they
            may be merged ones.
        weights: how much each counts; they are divided by their sum. None: all the same.

    Raises:
        ConfigError: there is no store, or not one weight above 0 for each.
        CompatibilityError: they are of different tokenizers.
    """

    def __init__(self, stores: Sequence[NGrams], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(stores) if weights is None else list(weights)
        fine = len(weights) == len(stores) and all(0 < one < math.inf for one in weights)
        require(fine and bool(stores), "weights", weights, "a number above 0 for each store")
        if len({store.fingerprint for store in stores}) > 1:
            raise CompatibilityError(
                "expected n-gram stores of one tokenizer, found several; count the texts again "
                "with the tokenizer of the model"
            )
        self.stores, self.weights = list(stores), [one / sum(weights) for one in weights]
        self.order = max(store.order for store in stores)
        self.fingerprint = stores[0].fingerprint

    def probabilities(self, context: Tokens, tokens: Tokens) -> Probabilities:
        """See `NGrams`; a store gives zeros for n-grams longer than its own."""
        mean = np.zeros((self.order - 1, len(tokens)))
        for store, weight in zip(self.stores, self.weights, strict=True):
            mean[: store.order - 1] += weight * store.probabilities(context, tokens)
        return mean

    def seen(self, context: Tokens) -> NDArray[np.bool_]:
        """See `NGrams`: by any of the stores."""
        anywhere = np.zeros(self.order - 1, bool)
        for store in self.stores:
            anywhere[: store.order - 1] |= store.seen(context)
        return anywhere


def require_tokenizer(store: NGrams, tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
    """Refuse a store whose tokens mean something else.

    Raises:
        CompatibilityError: they do.
    """
    if store.fingerprint != checkpoint.tokenizer_fingerprint(tokenizer):
        raise CompatibilityError(
            f"expected n-grams of the model's tokenizer, found those of another in {name!r}; "
            "count them again with attar ngrams train and the model"
        )


def require_order(order: int) -> None:
    """Refuse n-grams that are too short or too long.

    Raises:
        ConfigError: they are.
    """
    require(isinstance(order, int) and 2 <= order <= 8, "order", order, "2 to 8")


# ------------------------------------------------------------------------------------------- files


def checksum(file: Path) -> int:
    """CRC-32 of a file's size and of 4 MB spread over it: of a small file that is all of it."""
    size = file.stat().st_size
    blocks = -(-size // _BLOCK)
    total = zlib.crc32(str(size).encode())
    with file.open("rb") as raw:
        for i in range(min(blocks, _BLOCKS)):
            raw.seek(i * blocks // min(blocks, _BLOCKS) * _BLOCK)
            total = zlib.crc32(raw.read(_BLOCK), total)
    return total


def _damage(folder: Path, meta: Any) -> str:
    """What is wrong with the files of a store, as part of a sentence; empty where nothing is."""
    try:
        if meta["format"] != FORMAT:
            return f"{META} names the format {meta['format']!r}, expected {FORMAT!r}"
        require_order(meta["order"])
        if meta["dtype"] not in ("uint16", "uint32"):
            return f"{META} names tokens of the type {meta['dtype']!r}"
        names = {TOKENS, POSITIONS, STARTS, *(FOLLOWING.format(n=n) for n in meta["frequent"])}
        sizes = {name: meta["files"][name]["bytes"] for name in names}
        length = sizes[TOKENS] // np.dtype(meta["dtype"]).itemsize
        if sizes[POSITIONS] != 4 * length or sizes[STARTS] != 4 * (meta["vocab_size"] + 1):
            return f"the sizes in {META} contradict each other"
        for n, contexts in meta["frequent"].items():
            if (sizes[FOLLOWING.format(n=n)] // 4 - 2 * contexts - 1) % 2:
                return f"the sizes in {META} contradict each other"
        for name in sorted(names):
            file = folder / name
            found = file.stat().st_size if file.is_file() else 0
            if found != sizes[name]:
                return f"{name} has {found:,} bytes, expected {sizes[name]:,}"
            if checksum(file) != meta["files"][name]["crc32"]:
                return f"the checksum of {name} is another"
    except (KeyError, TypeError, ValueError, ConfigError, AttributeError):
        return f"{META} lacks what a store has"
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""
