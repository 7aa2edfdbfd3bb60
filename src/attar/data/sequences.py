"""Text as an encoder reads it: pieces of documents between special tokens, some tokens masked.

Unlike packed windows no row holds more than one document. Which tokens of a row are masked depends
on the seed and the row alone, so that a resumed run, another batch size and every evaluation see
the same. BERT's masking: Devlin et al. 2019, arXiv 1810.04805, section 3.1.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from attar.data.data import DataLike
from attar.data.sources import Batch
from attar.data.text import SPLITS, load_text
from attar.data.tokens import encode
from attar.errors import ConfigError, DataError, require

IGNORED = -100
"""The label of a token that is not to be predicted, as in transformers."""
_MASKED, _RANDOM = 0.8, 0.1  # of the chosen tokens; the others stay as they are
_DOCUMENTS = 1000  # tokenized at a time


class Sequences:
    """A source of rows (see `attar.data.sources.Source`), each a piece of a document with the
    special tokens that the tokenizer puts around a text.

    Of each row a share of the ordinary tokens, at least one, is to be predicted, which `labels`
    hold: 80% of them are masked, 10% are ordinary tokens drawn at random, 10% stay. Special tokens
    and unknown ones are never chosen.

    Args:
        texts: documents; those without a token are left out.
        tokenizer: the encoder's.
        context: tokens in a row, special ones among them, at most.
        mask_probability: share of the tokens to predict; 0: plain text without labels.
        max_predictions: of a row, at most; None: no bound.
        duplicates: rows that are made of a piece, with other tokens masked in each.
        seed: of the masks.

    Raises:
        ConfigError: an option is out of range, or tokens are to be masked and the tokenizer has no
            mask token.
        DataError: there is no text.
    """

    def __init__(
        self,
        texts: Iterable[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        context: int = 128,
        mask_probability: float = 0.15,
        max_predictions: int | None = None,
        duplicates: int = 1,
        seed: int = 0,
    ) -> None:
        self._head, self._tail = _frame(tokenizer)
        room = context - len(self._head) - len(self._tail)
        expected = f"at least {context - room + 1}, for one token and the special ones around it"
        require(room >= 1, "context", context, expected)
        require(
            0 <= mask_probability < 1,
            "mask_probability",
            mask_probability,
            "0 or more, and below 1",
        )
        fine = max_predictions is None or max_predictions >= 1
        require(fine, "max_predictions", max_predictions, "at least 1")
        require(duplicates >= 1, "duplicates", duplicates, "at least 1")
        require(seed >= 0, "seed", seed, "0 or more")
        mask, pad = _id(tokenizer.mask_token_id), _id(tokenizer.pad_token_id)
        if mask_probability > 0 and mask is None:
            raise ConfigError(
                "mask_probability above 0 needs a tokenizer with a mask token, but "
                f"{tokenizer.name_or_path or type(tokenizer).__name__!r} has none; set it to 0 to "
                "read plain text, or take another tokenizer"
            )
        self._mask, self._pad, self._seed = mask, pad or 0, seed
        self._probability, self._most = mask_probability, max_predictions
        self._segments = "token_type_ids" in tokenizer("a")
        self._special = np.asarray(tokenizer.all_special_ids, np.int32)
        self._ordinary = np.setdiff1d(np.arange(len(tokenizer), dtype=np.int32), self._special)
        self._ids, self._ends = _pieces(texts, tokenizer, room=room)
        self._rows = np.arange(duplicates * (len(self._ends) - 1))
        self.tokens_per_row = len(self._ids) / (len(self._ends) - 1) + context - room

    def __len__(self) -> int:
        return len(self._rows)

    def length(self, row: int) -> int:
        """Tokens of a row, special ones among them."""
        return len(self._head) + len(self._piece(row)) + len(self._tail)

    def select(self, rows: Sequence[int]) -> "Sequences":
        """Some of the rows, with the same tokens masked."""
        chosen = copy(self)
        chosen._rows = self._rows[list(rows)]
        chosen.tokens_per_row = float(np.mean([self.length(row) for row in rows]))
        return chosen

    def batch(self, rows: Sequence[int]) -> Batch:
        """`input_ids` and `attention_mask` (B, T), `token_type_ids` (B, T) where the tokenizer
        gives them, `labels` (B, T) where tokens are masked, and `rows` (B,)."""
        shape = len(rows), max(self.length(row) for row in rows)
        ids, labels = np.full(shape, self._pad), np.full(shape, IGNORED)
        real = np.zeros(shape, np.int64)
        for at, row in enumerate(rows):
            piece = self._piece(row)
            start, end = len(self._head), len(self._head) + len(piece)
            real[at, : end + len(self._tail)] = 1
            ids[at, :start], ids[at, end : end + len(self._tail)] = self._head, self._tail
            ids[at, start:end] = piece
            if self._probability:
                chosen, instead = self._masked(piece, int(self._rows[row]))
                labels[at, start + chosen] = piece[chosen]
                ids[at, start + chosen] = instead
        arrays = {"input_ids": ids, "attention_mask": real}
        if self._segments:
            arrays["token_type_ids"] = np.zeros_like(real)
        if self._probability:
            arrays["labels"] = labels
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return tensors | {"rows": torch.tensor(rows)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """`rows`; `tokens` without padding; `pairs` of tokens of one row, each with itself too;
        `labels`, tokens to predict."""
        lengths = batch["attention_mask"].sum(1).double()
        labels = (batch["labels"] != IGNORED).sum() if "labels" in batch else 0
        return {
            "rows": float(len(lengths)),
            "tokens": float(lengths.sum()),
            "pairs": float(lengths.square().sum()),
            "labels": float(labels),
        }

    def fingerprint(self) -> str:
        """Of all ids, and of what the masks depend on."""
        options = [
            *(self._mask, self._pad, self._probability, self._most, self._seed, self._segments),
            *(self._head.tolist(), self._tail.tolist(), self._special.tolist()),
            len(self._ordinary),
        ]
        digest = hashlib.sha256(json.dumps(options).encode())
        for array in (self._ids, self._ends, self._rows):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _piece(self, row: int) -> NDArray[np.int32]:
        """Its ids without special tokens around them."""
        piece = self._rows[row] % (len(self._ends) - 1)
        return self._ids[self._ends[piece] : self._ends[piece + 1]]

    def _masked(
        self, piece: NDArray[np.int32], row: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Places that are to be predicted, and what stands there instead."""
        places = np.flatnonzero(~np.isin(piece, self._special))
        count = min(max(1, round(self._probability * len(places))), len(places))
        count = count if self._most is None else min(count, self._most)
        generator = np.random.default_rng((self._seed, row))
        chosen = generator.permutation(places)[:count]
        drawn = self._ordinary[generator.integers(len(self._ordinary), size=count)]
        kind = generator.random(count)
        instead = np.where(kind < _MASKED, np.int32(self._mask or 0), piece[chosen])
        return chosen, np.where((kind >= _MASKED) & (kind < _MASKED + _RANDOM), drawn, instead)


def load_sequences(
    data: DataLike,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str = "train",
    context: int = 128,
    mask_probability: float = 0.15,
    max_predictions: int | None = None,
    duplicates: int = 1,
    seed: int = 0,
) -> Sequences:
    """The `Sequences` of one split of whatever `attar.data.load_text` takes, with its errors."""
    documents = load_text(data)
    require(split in documents, "split", split, f"one of {', '.join(SPLITS)}")
    return Sequences(
        documents[split]["text"],
        tokenizer,
        context=context,
        mask_probability=mask_probability,
        max_predictions=max_predictions,
        duplicates=duplicates,
        seed=seed,
    )


def _frame(tokenizer: PreTrainedTokenizerBase) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The special tokens that stand before a text, and those after it."""
    for text in chain(["a"], tokenizer.get_vocab()):  # one that the tokenizer has a token for
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        if plain:
            break
    else:
        raise DataError("expected a tokenizer with a vocabulary, found an empty one; train it")
    framed, count = tokenizer(text)["input_ids"], len(plain)
    start = next(i for i in range(len(framed)) if framed[i : i + count] == plain)
    head, tail = framed[:start], framed[start + count :]
    return np.asarray(head, np.int32), np.asarray(tail, np.int32)


def _pieces(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, *, room: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Ids of all pieces one behind the other, and where each ends, a 0 before them."""
    parts: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    for some in _batches(texts):
        for ids in encode(some, tokenizer):
            parts.append(np.asarray(ids, np.int32))
            lengths += [min(room, len(ids) - start) for start in range(0, len(ids), room)]
    if not parts:
        raise DataError("expected text, found documents without a single token; give more text")
    return np.concatenate(parts), np.cumsum([0, *lengths])


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while some := list(islice(rest, _DOCUMENTS)):
        yield some


def _id(token: object) -> int | None:
    return token if isinstance(token, int) else None
