"""What equal-information windows are measured against: bytes, subwords, plain compression."""

import gzip
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from attar.coding.arithmetic import NextCdf, encode
from attar.coding.ngram import NgramModel, symbols_of
from attar.data.passages import spread
from attar.data.tokens import END_OF_TEXT, train_bpe
from attar.errors import ConfigError, DataError
from attar.evaluation.bits import unigram_bits
from attar.portable.equal_info_windows import COMPILED, regroup
from attar.portable.tokenization_equal_info import EqualInfoTokenizer

Ids = NDArray[np.int64]
Encode = Callable[[str], Ids]

_ROWS = 4096


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
    coded = encode(symbols.tolist(), _contexts(symbols, model))
    return regroup(np.asarray(coded, np.int64), bits=1, to_bits=bits)


def _contexts(symbols: NDArray[np.uint16], model: NgramModel) -> NextCdf:
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
        found = block(-1)[len(seen)] if len(seen) < width else block(number)[row]
        return [0, *np.cumsum(found).tolist()]

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

    def found(text: str) -> Ids:
        given = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return np.asarray(given, np.int64)

    return found


def fit_ngrams(texts: Sequence[str], *, order: int, precision: int) -> NgramModel:
    """A byte model for the plain code, of the same kind as that of the windows."""
    documents = [symbols_of(text) for text in texts]
    return NgramModel.fit(documents, order=order, alphabet=256, precision=precision)


BASELINES = ("bytes", "bpe", "unigram", "static ac", "ac", "gzip")
_SUBWORDS = frozenset({"bpe", "unigram"})
_FIT = 8_000_000  # bytes that baselines are fitted on
_CODED = 100_000  # bytes that the plain arithmetic coder reads: it is written in Python
_SLOW = frozenset({"ac", "static ac"})
_CHANGED = (50, 200)  # passages, and their length, whose first word is changed


@dataclass(frozen=True)
class Row:
    """One tokenizer on held-out text.

    Attributes:
        name: equal-info or a baseline.
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


def tokenizer_report(
    tokenizer: EqualInfoTokenizer,
    texts: Sequence[str],
    *,
    train_texts: Sequence[str],
    baselines: Sequence[str] = BASELINES,
    max_bytes: int = 1_000_000,
) -> list[Row]:
    """A tokenizer beside baselines with as many ids, fitted on the training text.

    It says how much text an id holds, not how well a model learns from it: for that, train one with
    each (`attar tokenizer train-lm`) and compare bits per byte. BPE is always in it.

    Args:
        tokenizer: ours.
        texts: held-out documents.
        train_texts: what baselines are fitted on, at most 8 MB.
        baselines: some of `BASELINES`.
        max_bytes: of `texts` that are read, in passages spread over them; the arithmetic coders
            read 100 kB at most.

    Raises:
        ConfigError: there is no such baseline, or there are no bytes to read.
        DataError: there is no text.
    """
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise ConfigError(f"expected baselines among {', '.join(BASELINES)}, found {unknown[0]!r}")
    if max_bytes < 1:
        raise ConfigError(f"expected max_bytes of 1 or more, found {max_bytes}")
    texts = spread(texts, str.encode, tokens=max_bytes)
    known = spread(train_texts, str.encode, tokens=_FIT)
    if not texts or not known:
        raise DataError("expected text to report on, found none; give other text")
    few = spread(texts, str.encode, tokens=_CODED)
    pairs = first_words_changed(texts)
    rows = []
    for name in ("equal-info", *(one for one in BASELINES if one in {*baselines, "bpe"})):
        vocabulary, encode = _encoder(name, tokenizer, known)
        stable = stability(encode, pairs)
        read = few if name in _SLOW else texts
        rows.append(_row(name, encode, read, vocabulary=vocabulary, stable=stable))
    return rows


def _encoder(name: str, tokenizer: EqualInfoTokenizer, known: Sequence[str]) -> tuple[int, Encode]:
    """How many ids there are, and how text becomes ids."""
    if name == "equal-info":
        return tokenizer.vocab_size, lambda text: _ours(tokenizer, text)
    if name == "bytes":
        return 256, byte_ids
    if name == "gzip":
        return 256, gzip_ids
    if name in _SUBWORDS:
        make = bpe if name == "bpe" else unigram
        size = tokenizer.vocab_size + 1
        found = make(Dataset.from_dict({"text": list(known)}), vocab_size=max(size, 257))
        return len(found) - 1, ids_of(found)
    codec = tokenizer.codec
    order = 1 if name == "static ac" else codec.get("order", 6)
    model = fit_ngrams(known, order=order, precision=codec["precision_bits"])
    return 256, partial(arithmetic_ids, model=model)


def _ours(tokenizer: EqualInfoTokenizer, text: str) -> Ids:
    return tokenizer.encode_bytes(text.encode()).astype(np.int64)


def _row(name: str, encode: Encode, texts: Sequence[str], *, vocabulary: int, stable: float) -> Row:
    encode(texts[0][:100])  # compiles what is compiled on first use
    shown = tqdm(texts, desc=name, disable=None, leave=False)
    began = time.perf_counter()
    found = [encode(text) for text in shown]
    seconds = time.perf_counter() - began
    ids = torch.from_numpy(np.concatenate(found).astype(np.int64))
    size = sum(len(text.encode()) for text in texts)
    each = size / len(ids)
    bits = np.log2(vocabulary)
    return Row(
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


def verify(tokenizer: EqualInfoTokenizer, texts: Sequence[str]) -> dict[str, int]:
    """Check that a tokenizer is sound, and that texts and random bytes come back.

    Returns:
        How much was checked, by name.

    Raises:
        DataError: something is wrong, or its folder lacks a file.
    """
    checked = {}
    if tokenizer.name_or_path:
        _require_files(Path(tokenizer.name_or_path))
    dictionary = tokenizer.dictionary
    if tokenizer.window_bits <= COMPILED:
        codes = np.arange(len(dictionary.parent))
        pairs = dictionary.parent.astype(np.int64) * 512 + dictionary.symbol
        alone = [np.unique(dictionary.symbol[dictionary.parent < 0]).tolist()]
        if len(np.unique(pairs)) != len(codes) or alone[0][:256] != list(range(256)):
            raise DataError("the dictionary lacks a byte or has a string twice; fit it anew")
        if not all(dictionary.encode(dictionary.decode([c])).tolist() == [c] for c in codes):
            raise DataError("a string of the dictionary is not its own longest match; fit it anew")
        checked["strings"] = len(codes)
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, 256, size, np.uint8).tobytes() for size in (0, 1, 1000, 100_000)]
    wanted = [*samples, *(text.encode() for text in texts)]
    for sample in tqdm(wanted, desc="checking", disable=None, leave=False):
        if tokenizer.decode_bytes(tokenizer.encode_bytes(sample)) != sample:
            raise DataError("a text did not come back as it was; please report this")
    checked["random bytes"] = sum(map(len, samples))
    checked["bytes of text"] = sum(len(text.encode()) for text in texts)
    return checked


def _require_files(folder: Path) -> None:
    """What transformers needs to load a tokenizer whose class is not its own."""
    code = ("tokenization_equal_info.py", "equal_info_windows.py")
    for name in ("tokenizer_config.json", *code):
        if folder.is_dir() and not (folder / name).exists():
            raise DataError(
                f"the tokenizer in {str(folder)!r} lacks {name}, without which AutoTokenizer "
                "cannot load it; copy all files of the tokenizer"
            )
