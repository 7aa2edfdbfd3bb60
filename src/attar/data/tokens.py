"""Documents as blocks of token ids, and a byte-level BPE tokenizer trained on them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import datasets.config
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from attar.data.byte_level import ALPHABET, byte_level, learn_merges
from attar.data.files import cache_folder
from attar.data.text import progress_only_on_terminals
from attar.errors import ConfigError, DataError, require
from attar.models import DocumentTokenizer, leading_bos, separator

END_OF_TEXT = "<|endoftext|>"
_BLOCKS = Features({"input_ids": List(Value("int32"))})


def encode(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, literal: bool = False
) -> Iterator[list[int]]:
    """The ids of documents, without special tokens; those without a token are left out.

    Args:
        texts: the documents.
        tokenizer: of the model.
        literal: a special token that is spelt out in a text is text, too.
    """
    split: dict[str, Any] = {"split_special_tokens": True} if literal else {}
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # documents may well be longer than the model's context
        **split,
    )["input_ids"]
    yield from (ids for ids in encoded if ids)


def pack(
    documents: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    vocab_size: int | None = None,
    literal: bool = False,
) -> Dataset:
    """Tokenize documents, join them with EOS after each, and cut the stream into equal blocks.

    Where the tokenizer puts BOS before a text, it stands before each document too, and takes the
    place of the first id of every block, which nothing predicts. No other special token is added,
    documents without a token are left out, and the rest that does not fill a block is dropped once,
    at the end. The result is cached with the data sets under `HF_HOME`.

    Args:
        documents: a column `text`, one document a row.
        tokenizer: its `attar.models.separator` stands after each document, where ends do not lie
            inside ids.
        context: ids in a row.
        vocab_size: ids of the model that will read the blocks; None: not checked.
        literal: a special token that is spelt out in a text is text, too.

    Returns:
        One column `input_ids`, every row exactly `context` ids (int32 on disk, read as int64 by
        the torch and numpy formats).

    Raises:
        DataError: no separator, an id outside the vocabulary, or not enough text for one block.
        ConfigError: `context` is not positive.
    """
    _check_column(documents)
    cutter = _Cutter(
        tokenizer,
        separator=separator(tokenizer),
        context=context,
        vocab_size=vocab_size,
        literal=literal,
    )
    return _cut(documents, cutter, column="text")


def _cut(rows: Dataset, cutter: "_Cutter", *, column: str) -> Dataset:
    require(cutter.context >= 1, "context", cutter.context, "at least 1")
    fingerprint = cutter.fingerprint(rows)
    with progress_only_on_terminals():
        blocks = rows.map(
            cutter,
            batched=True,
            input_columns=column,
            remove_columns=rows.column_names,
            features=_BLOCKS,
            new_fingerprint=fingerprint,
            cache_file_name=_cache_file(fingerprint),
            desc="packing",
        )
    if len(blocks) == 0:
        raise DataError(
            f"expected at least one block of {cutter.context} tokens, found fewer in "
            f"{len(rows)} documents; give more text, or lower the context"
        )
    return blocks


def pack_ids(rows: Dataset, *, context: int, vocab_size: int | None = None) -> Dataset:
    """Join rows of ids that are there already, separators among them, and cut equal blocks as
    `pack` does.

    Args:
        rows: a column `input_ids`.
        context: ids in a row.
        vocab_size: ids of the model that will read the blocks; None: not checked.

    Raises:
        DataError: an id outside the vocabulary, or not enough ids for one block.
        ConfigError: `context` is not positive.
    """
    cutter = _Cutter(None, separator=0, context=context, vocab_size=vocab_size)
    return _cut(rows, cutter, column="input_ids")


class _Cutter:
    """A stateful map function: what does not fill a block opens the next batch.

    `Dataset.map` calls it once a batch, in order, in one process.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        separator: int,
        context: int,
        vocab_size: int | None,
        literal: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.separator = separator
        self.bos = None if tokenizer is None else leading_bos(tokenizer)
        self.context = context
        self.vocab_size = vocab_size
        self.literal = literal
        self.rest: list[int] = []

    def __call__(self, rows: Sequence[Any]) -> Mapping[str, list[list[int]]]:
        stream = self.rest
        for ids in rows if self.tokenizer is None else self._encoded(self.tokenizer, rows):
            stream.extend(ids)
        self._check(stream)
        whole = len(stream) // self.context * self.context
        self.rest = stream[whole:]
        blocks = [stream[i : i + self.context] for i in range(0, whole, self.context)]
        if self.bos is not None:
            for block in blocks:
                block[0] = self.bos
        return {"input_ids": blocks}

    def _encoded(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
    ) -> Iterator[list[int]]:
        if isinstance(tokenizer, DocumentTokenizer) and tokenizer.ends_inside:
            yield tokenizer.encode_documents([text for text in texts if text]).tolist()
            return
        # a token that both begins and ends a text stands once between two
        first = [] if self.bos in (None, self.separator) else [self.bos]
        yield from (
            [*first, *ids, self.separator] for ids in encode(texts, tokenizer, literal=self.literal)
        )

    def _check(self, ids: Sequence[int]) -> None:
        if self.vocab_size is not None and (highest := max(ids, default=0)) >= self.vocab_size:
            raise DataError(
                f"expected token ids below the model's vocabulary of {self.vocab_size}, found id "
                f"{highest}: the tokenizer does not fit the model; give the model's own tokenizer"
            )

    def fingerprint(self, documents: Dataset) -> str | None:
        """A name for the result, equal in every process; None where `datasets` has to find one."""
        state = self._state()
        if state is None:
            return None
        options: tuple[Any, ...] = (self.separator, self.bos, self.context, self.vocab_size)
        options += ("literal",) if self.literal else ()
        return Hasher.hash((documents._fingerprint, json.dumps(state), options))

    def _state(self) -> dict[str, Any] | None:
        """What the ids of a text depend on; None where it is not known."""
        if self.tokenizer is None:
            return {}
        if isinstance(self.tokenizer, DocumentTokenizer):
            return self.tokenizer.dependencies
        if not self.tokenizer.is_fast:
            return None
        backend: Tokenizer = self.tokenizer.backend_tokenizer  # pyright: ignore[reportAssignmentType]
        state = json.loads(backend.to_str())
        # Earlier calls leave their truncation and padding behind; ours sets its own.
        return {key: value for key, value in state.items() if key not in ("truncation", "padding")}


def _cache_file(fingerprint: str | None) -> str | None:
    """A place that outlives the process also for documents that lie in memory."""
    if fingerprint is None or not datasets.is_caching_enabled():
        return None
    folder = cache_folder() / "attar"
    folder.mkdir(exist_ok=True)
    return str(folder / f"blocks-{fingerprint}.arrow")


def train_bpe(
    documents: Dataset, *, vocab_size: int, context: int, sentinels: int = 0
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which gives any text back to the byte.

    Digits stand alone, and the spaces of an indentation are one piece, so that code stays short.
    The same documents give the same tokenizer. The vocabulary is smaller than asked for where the
    text has fewer pairs that occur twice.

    Args:
        documents: a column `text`, one document a row.
        vocab_size: ids, with the 256 bytes and the one special token, at least 257.
        context: `model_max_length`, the longest sequence the model will read.
        sentinels: where this is above 0, the tokenizer is one for a T5: with `<pad>`, and `</s>`
            at the end of each text, in place of the one special token, and with so many of
            `<extra_id_0>`, `<extra_id_1>` and so on. They count among the ids.

    Raises:
        ConfigError: `vocab_size` is below 257, or below what the bytes and special tokens need.
        DataError: there is no column `text`.
    """
    marks = [f"<extra_id_{i}>" for i in range(sentinels)]
    special = ["<pad>", "</s>", *marks] if sentinels else [END_OF_TEXT]
    if vocab_size < len(ALPHABET) + len(special):
        names = f"{len(special)} special tokens" if sentinels else END_OF_TEXT
        raise ConfigError(
            f"expected a vocabulary of at least {len(ALPHABET) + len(special)} (256 bytes and "
            f"{names}), found {vocab_size}; ask for more"
        )
    _check_column(documents)
    tokenizer = byte_level(models.BPE())
    learn_merges(tokenizer, _texts(documents), vocab_size=vocab_size, special_tokens=special)
    options: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
    if sentinels:
        end = [("</s>", special.index("</s>"))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=end
        )
        options = {"eos_token": "</s>", "pad_token": "<pad>", "additional_special_tokens": marks}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **options,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _check_column(documents: Dataset) -> None:
    if "text" not in documents.column_names:
        names = ", ".join(documents.column_names) or "none"
        raise DataError(
            f"expected documents in a column text, found the columns {names}; rename one, or load "
            "the documents with load_text"
        )


def _texts(documents: Dataset) -> Iterator[str]:
    for start in range(0, len(documents), 1000):
        yield from documents[start : start + 1000]["text"]
