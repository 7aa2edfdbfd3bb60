"""What a tokenizer is measured against: bytes, subwords, gzip, and plain arithmetic code."""

import gzip
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from attar.coding import arithmetic
from attar.coding.arithmetic import NextCdf
from attar.coding.ngram import NgramModel, Symbols, symbols_of
from attar.data.tokens import END_OF_TEXT, train_bpe
from attar.portable.equal_info_windows import regroup

Ids = NDArray[np.int64]
Encode = Callable[[str], Ids]

_ROWS = 4096  # places of a text whose frequencies are worked out at a time


def byte_ids(text: str) -> Ids:
    """Every byte is an id."""
    return symbols_of(text).astype(np.int64)


def gzip_ids(text: str) -> Ids:
    """The bytes of the text after gzip, of which a document is compressed alone, without the head
    of 10 bytes, which is the same for all, and the check sum of 8.
    """
    packed = gzip.compress(text.encode(), mtime=0)[10:-8]
    return np.frombuffer(packed, np.uint8).astype(np.int64)


def arithmetic_ids(text: str, *, model: NgramModel, bits: int = 8) -> Ids:
    """The arithmetic code of a whole text under a byte model that is never reset, cut into ids.

    With an order-1 model it is the paper's StaticAC.
    """
    symbols = symbols_of(text)
    coded = arithmetic.encode(symbols.tolist(), _contexts(symbols, model))
    return regroup(np.asarray(coded, np.int64), bits=1, to_bits=bits)


def _contexts(symbols: Symbols, model: NgramModel) -> NextCdf:
    """What the model says at each place of a text, worked out for many places at a time."""
    width = model.order - 1

    @lru_cache(2)
    def block(number: int) -> NDArray[np.int64]:
        if number < 0:  # the first contexts are shorter
            return np.concatenate(
                [model.frequencies(symbols[None, :at]) for at in range(width)]
            ).reshape(-1, model.alphabet)
        start = width + number * _ROWS
        rows = symbols[start - width : start + _ROWS - 1] if width else symbols[:0]
        if not width:
            return np.repeat(model.frequencies(np.zeros((1, 0), np.uint16)), _ROWS, axis=0)
        return model.frequencies(sliding_window_view(rows, width))

    def next_cdf(seen: Sequence[int]) -> Sequence[int]:
        number, row = divmod(len(seen) - width, _ROWS)
        frequencies = block(-1)[len(seen)] if len(seen) < width else block(number)[row]
        return [0, *np.cumsum(frequencies).tolist()]

    return next_cdf


def bpe(documents: Dataset, *, vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of so many ids, the end of a text among them."""
    return train_bpe(documents, vocab_size=vocab_size, context=2**30)


def unigram(documents: Dataset, *, vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level Unigram tokenizer (Kudo, 2018) of so many ids, or as many as the text gives."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents["text"], trainer=trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT)


def ids_of(tokenizer: Any) -> Encode:
    """The ids of a Hugging Face tokenizer, without special tokens."""

    def encode(text: str) -> Ids:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return np.asarray(ids, np.int64)

    return encode


def fit_ngrams(texts: Sequence[str], *, order: int, precision: int) -> NgramModel:
    """A byte model for the plain code, of the same kind as that of the windows."""
    documents = [symbols_of(text) for text in texts]
    return NgramModel.fit(documents, order=order, alphabet=256, precision=precision)
