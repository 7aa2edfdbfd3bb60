"""Pairs of texts for encoder-decoders: one that is read, and one that is written, as in
translation.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from attar.data.data import Data, DataLike
from attar.data.prompts import tables_of
from attar.data.sequences import IGNORED
from attar.data.sources import Batch
from attar.data.text import SPLITS, check_splits, complete
from attar.errors import ConfigError, DataError, require

logger = logging.getLogger(__name__)

_TEXTS = 1000  # tokenized at a time


class Pairs:
    """A source of rows (see `attar.data.sources.Source`), each a pair of texts.

    Both texts have the special tokens that the tokenizer puts around them (around a target, where
    it tells them apart), and end with EOS. Pairs of which one text is empty or too long are left
    out: a cut translation would teach to stop early.

    Attributes:
        left_out: how many pairs are.

    Args:
        sources: texts to read.
        targets: texts to write, as many.
        tokenizer: of both.
        context: tokens of either text, special ones among them, at most.
        decoder_start_token_id: what the decoder begins with; None: padding, as in T5 and Marian.

    Raises:
        ConfigError: an option is out of range, or the tokenizer has no padding or no EOS.
        DataError: there are no pairs, or not as many targets as sources.
    """

    def __init__(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        context: int = 128,
        decoder_start_token_id: int | None = None,
    ) -> None:
        require(context >= 2, "context", context, "at least 2, for a token and the end")
        if len(sources) != len(targets):
            raise DataError(
                f"expected a target for each of {len(sources)} sources, found {len(targets)}; give "
                "pairs"
            )
        pad = tokenizer.pad_token_id
        if not isinstance(pad, int):
            raise ConfigError(
                "expected a tokenizer with a padding token, found none in "
                f"{tokenizer.name_or_path or type(tokenizer).__name__!r}; set tokenizer.pad_token"
            )
        self._pad = pad
        self._start = pad if decoder_start_token_id is None else decoder_start_token_id
        read = encoded(sources, tokenizer)
        written = encoded(targets, tokenizer, target=True)
        fits = [
            (source, target)
            for source, target in zip(read, written, strict=True)
            if 1 < len(source) <= context and 1 < len(target) <= context
        ]
        self.left_out = len(sources) - len(fits)
        if not fits:
            raise DataError(
                f"expected pairs of texts with 1 to {context - 1} tokens, found none among "
                f"{len(sources)}; give other data, or raise context"
            )
        if self.left_out:
            logger.info(
                "%d of %d pairs are left out, as a text is empty or longer than %d tokens",
                *(self.left_out, len(sources), context),
            )
        self._pairs = fits
        self.tokens_per_row = sum(len(s) + len(t) for s, t in fits) / len(fits)

    def __len__(self) -> int:
        return len(self._pairs)

    def length(self, row: int) -> int:
        """Tokens of both texts of a pair."""
        source, target = self._pairs[row]
        return len(source) + len(target)

    def select(self, rows: Sequence[int]) -> "Pairs":
        """Some of the pairs."""
        chosen = copy(self)
        chosen._pairs = [self._pairs[row] for row in rows]
        chosen.tokens_per_row = sum(map(self.length, rows)) / max(1, len(rows))
        return chosen

    def batch(self, rows: Sequence[int]) -> Batch:
        """`input_ids` and `attention_mask` (B, S), `decoder_input_ids` and `labels` (B, T), -100
        behind the end, and `rows` (B,)."""
        chosen = [self._pairs[row] for row in rows]
        ids = padded([source for source, _ in chosen], self._pad)
        labels = padded([target for _, target in chosen], IGNORED)
        shifted = shifted_right(labels, start=self._start, pad=self._pad)
        real = [[1] * len(source) for source, _ in chosen]
        arrays = {
            "input_ids": ids,
            "attention_mask": padded(real, 0),
            "decoder_input_ids": shifted,
            "labels": labels,
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return tensors | {"rows": torch.tensor(rows)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """`rows`; `tokens` of both texts; `labels`, tokens of the targets."""
        labels = float((batch["labels"] != IGNORED).sum())
        tokens = float(batch["attention_mask"].sum()) + labels
        return {"rows": float(len(batch["labels"])), "tokens": tokens, "labels": labels}

    def fingerprint(self) -> str:
        """Of all ids."""
        digest = hashlib.sha256(f"{self._pad} {self._start}".encode())
        for pair in self._pairs:
            for ids in pair:
                digest.update(np.asarray([len(ids), *ids], "<i4").tobytes())
        return digest.hexdigest()


def shifted_right(labels: NDArray[np.int64], *, start: int, pad: int) -> NDArray[np.int64]:
    """What the decoder reads to write these labels, `(B, T)`.

    Args:
        labels: -100 behind the end.
        start: what it begins with.
        pad: what stands for -100.
    """
    shifted = np.full_like(labels, start)
    shifted[:, 1:] = np.where(labels[:, :-1] == IGNORED, pad, labels[:, :-1])
    return shifted


def padded(rows: Sequence[Sequence[int]], value: int) -> NDArray[np.int64]:
    """Rows of different lengths, with this value behind their ends, `(B, T)`."""
    array = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for at, row in enumerate(rows):
        array[at, : len(row)] = row
    return array


def encoded(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, target: bool = False
) -> Iterator[list[int]]:
    """Ids of each text with its special tokens, an end among them; an end alone for no text.

    Args:
        texts: what to encode.
        tokenizer: of the model.
        target: they are to be written, which some tokenizers encode otherwise.

    Raises:
        ConfigError: the tokenizer has no token for the end of a text.
    """
    end = tokenizer.eos_token_id
    end = tokenizer.sep_token_id if end is None else end
    if not isinstance(end, int):
        raise ConfigError(
            "expected a tokenizer with a token for the end of a text (EOS or SEP), found none in "
            f"{tokenizer.name_or_path or type(tokenizer).__name__!r}; set tokenizer.eos_token"
        )
    for start in range(0, len(texts), _TEXTS):
        some = list(texts[start : start + _TEXTS])
        options: Any = {"text_target" if target else "text": some, "verbose": False}
        for text, ids in zip(some, tokenizer(**options)["input_ids"], strict=True):
            if not text.strip():
                yield [end]
            else:
                yield ids if ids[-1:] == [end] else [*ids, end]


def load_pairs(
    data: DataLike,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str = "train",
    context: int = 128,
    decoder_start_token_id: int | None = None,
) -> Pairs:
    """The pairs of one split of a table with two columns of text.

    Args:
        data: a data set, or files of tables, with texts to read in the column `text_column` (None:
            `source`) and texts to write in `pair_column` (None: `target`). Splits that are not
            there are drawn from train.
        tokenizer: of both texts.
        split: `train`, `validation` or `test`.
        context: see `Pairs`, as is the next.
        decoder_start_token_id: what the decoder begins with.

    Raises:
        DataError: the source cannot be read, or has no such columns.
    """
    texts = load_texts(data, split=split)
    return Pairs(*texts, tokenizer, context=context, decoder_start_token_id=decoder_start_token_id)


_NAME_THEM = "name them with text_column (--text-column) and pair_column (--pair-column)"


def load_texts(
    data: DataLike, *, split: str = "train", remedy: str = _NAME_THEM
) -> tuple[list[str], list[str]]:
    """The texts to read and those to write of one split, as `load_pairs` takes them, with its
    errors, of which the one about columns ends with `remedy`."""
    require(split in SPLITS, "split", split, f"one of {', '.join(SPLITS)}")
    data = Data.of(data)
    tables = tables_of(data)
    names = [] if tables is None else tables["train"][0].column_names
    columns = (data.text_column or "source", data.pair_column or "target")
    if tables is None or not set(columns) <= set(names):
        raise DataError(
            f"expected the columns {columns[0]!r} and {columns[1]!r} in {data.origin}, found "
            f"{'the columns ' + ', '.join(names) if names else 'plain text'}; {remedy}"
        )
    parts = {
        name: [_texts(rows, columns, data.origin) for rows in files]
        for name, files in tables.items()
    }
    rows = check_splits(complete(parts), data.origin)[split]
    return rows["text"][:], rows["target"][:]


def _texts(rows: Dataset, columns: tuple[str, str], origin: str) -> Dataset:
    values: list[list[Any]] = [rows.with_format(None)[name][:] for name in columns]
    for name, column in zip(columns, values, strict=True):
        for number, text in enumerate(column, 1):
            if not isinstance(text, str):
                raise DataError(
                    f"expected text in column {name!r} of {origin}, found {type(text).__name__} "
                    f"{str(text)[:40]!r} in row {number}; correct or leave out that row"
                )
    return Dataset.from_dict(dict(zip(("text", "target"), values, strict=True)))
