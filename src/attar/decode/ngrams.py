"""How often tokens follow each other in a text of any size: a store of n-grams on disk.

The text is one array of tokens, with a separator after each document, and its beginning comes after
its end. Beside it lie all positions, sorted by the tokens before them, the last one first, and then
by their own. So the positions after a context are a range, those after a longer context a range
within it, and a count is the length of a range: one array serves n-grams of every length, in 6
bytes a token. Both are mapped into memory. Where the last one or two tokens are so frequent that
counting what follows them would take long, that is listed as well.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from attar import checkpoint
from attar.artefacts import expanded
from attar.decode.ngram_files import (
    FOLLOWING,
    META,
    POSITIONS,
    STARTS,
    TOKENS,
    Following,
    Integers,
    by_count,
    damage_of,
)
from attar.errors import CompatibilityError, DataError, require
from attar.foreign import read_json

ORDER = 6
"""The longest n-gram by default: five tokens and the one that follows."""

Probabilities = NDArray[np.float64]
Tokens = Sequence[int] | NDArray[Any]


class NGrams(Protocol):
    """What predicts tokens by those before them."""

    @property
    def order(self) -> int:
        """The longest n-gram."""
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


class StoredNGrams(NGrams, Protocol):
    """N-grams of one tokenizer."""

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer, as `checkpoint.tokenizer_fingerprint` gives it."""
        ...


class CountedNGrams(ABC):
    """Probabilities and hits of a store that counts.

    Attributes:
        order: the longest n-gram.
        fingerprint: of the tokenizer.
        separator: the token between documents, which no n-gram holds.
    """

    order: int
    fingerprint: str
    separator: int

    @abstractmethod
    def tally(self, context: Tokens, tokens: Tokens) -> tuple[Integers, Integers]:
        """`counts`, and how often each context occurs before any token, `(order - 1,)`."""

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
        damage = damage_of(place, meta)
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

    def __init__(
        self, stores: Sequence[StoredNGrams], weights: Sequence[float] | None = None
    ) -> None:
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


def require_tokenizer(
    store: StoredNGrams, tokenizer: PreTrainedTokenizerBase, *, name: str
) -> None:
    """Refuse a store whose tokens mean something else.

    Raises:
        CompatibilityError: they do.
    """
    if store.fingerprint != checkpoint.tokenizer_fingerprint(tokenizer):
        raise CompatibilityError(
            f"expected n-grams of the model's tokenizer, found those of another in {name!r}; "
            "count them again with attar ngrams train and the model"
        )
