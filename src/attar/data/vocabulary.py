"""Byte-level tokenizers of exactly as many entries as asked for, and the smallest files of them.

For small classifiers, whose embeddings are a large part of their bytes: the vocabulary's size is a
choice like depth and width. The layout is RoBERTa's with other numbers: `<s>` 0, `<pad>` 1, `</s>`
2, `<unk>` 3, the 256 bytes at 4 to 259, then what was learned; pairs read `<s> a </s></s> b </s>`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from attar.artefacts import write_text
from attar.data.byte_level import ALPHABET, byte_level, in_batches, learn_merges
from attar.errors import CompatibilityError, ConfigError, DataError, require

VocabularyKind = Literal["bpe", "wordpiece", "unigram"]

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
"""By their ids."""
LEAST = len(SPECIAL_TOKENS) + len(ALPHABET)
"""Entries of a vocabulary that has learned nothing."""
TRAINED_ON = "trained_on"
"""Key of tokenizer_config.json: `content_hash` of the texts that the vocabulary was learned on."""

# The longest match is sought from every length down, so the time grows with the square of it.
_LONGEST_WORD = 64
# Of the scores of pieces: finer differences decide nothing, and digits are bytes.
_DECIMALS = 3


def train_vocabulary(
    texts: Iterable[str],
    vocab_size: int,
    *,
    kind: VocabularyKind = "bpe",
    lowercase: bool = False,
    collapse_spaces: bool = False,
    context: int = 512,
) -> PreTrainedTokenizerFast:
    """Learn a tokenizer of exactly `vocab_size` entries; the same texts give the same one.

    Every byte is an entry, so that no text holds an unknown token, and without `lowercase` and
    `collapse_spaces` every text comes back as it was. What a special token is called is read as
    that token where it stands in a text.

    Args:
        texts: of the training split; read once.
        vocab_size: special tokens and bytes included.
        kind: `bpe`; `wordpiece`: the entries of `bpe` without its merges, of which the longest that
            fits comes next, so that the file is smaller and texts are a little longer; `unigram`
            (Kudo, 2018): the likeliest pieces, minutes of training for some megabytes of text.
        lowercase: read all text in lower case.
        collapse_spaces: read every run of spaces, tabs and line ends as one space, none at the
            ends, and a space before the first word, so that it is the same as within a text.
        context: `model_max_length`, the most tokens of a text that the model will read.

    Returns:
        A tokenizer that names what it was trained on (`trained_on` in its `init_kwargs`, and in
        tokenizer_config.json): the `content_hash` of the texts.

    Raises:
        ConfigError: an unknown kind, or a vocabulary of less than 260.
        DataError: the texts have too few repetitions for as many entries; names the most.
    """
    require(context >= 1, "context", context, "1 or more")
    backend, trained_on = learn(
        texts, vocab_size, kind=kind, lowercase=lowercase, collapse_spaces=collapse_spaces
    )
    most = backend.get_vocab_size()
    if most < vocab_size:
        raise DataError(
            f"expected texts for a {kind} vocabulary of {vocab_size} entries, found enough for "
            f"{most} at most; give more text, or ask for a vocabulary of {most}"
        )
    return wrapped(backend, context=context, trained_on=trained_on)


def learn(
    texts: Iterable[str],
    vocab_size: int,
    *,
    kind: VocabularyKind,
    lowercase: bool = False,
    collapse_spaces: bool = False,
) -> tuple[Tokenizer, str]:
    """The bare tokenizer of `train_vocabulary` and the `content_hash` of the texts; with fewer
    entries than asked for where the texts have no more.

    Raises:
        ConfigError: an unknown kind, or a vocabulary of less than 260.
    """
    require(kind in get_args(VocabularyKind), "kind", kind, f"one of {get_args(VocabularyKind)}")
    _check_size(vocab_size)
    digest = hashlib.sha256()
    hashed = _hashed(texts, digest)
    normalizer = _normalizer(lowercase=lowercase, collapse_spaces=collapse_spaces)
    if kind == "unigram":
        backend = _learn_unigram(hashed, vocab_size, normalizer=normalizer)
    else:
        backend = byte_level(models.BPE(), longest=_LONGEST_WORD if kind == "wordpiece" else None)
        if normalizer is not None:
            backend.normalizer = normalizer
        learn_merges(backend, hashed, vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, least=1)
    if kind == "wordpiece":
        backend.model = _longest_match(backend.get_vocab())
    return backend, _digest(digest)


def wrapped(backend: Tokenizer, *, context: int, trained_on: str) -> PreTrainedTokenizerFast:
    """A bare tokenizer of `learn` as transformers knows it, with RoBERTa's special tokens around
    texts and pairs."""
    start, end = ((token, SPECIAL_TOKENS.index(token)) for token in ("<s>", "</s>"))
    backend.post_processor = processors.RobertaProcessing(
        end, start, trim_offsets=True, add_prefix_space=False
    )
    backend.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=context,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **_SPECIALS,
        **{TRAINED_ON: trained_on},
    )


def cut_vocabulary(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> PreTrainedTokenizerFast:
    """The tokenizer that `train_vocabulary` would have made of the same texts with fewer entries,
    for the kinds whose entries are learned one after the other.

    Args:
        tokenizer: of kind `bpe` or `wordpiece`; not changed.
        vocab_size: at most as many as it has.

    Raises:
        ConfigError: fewer than 260, or more than it has.
        CompatibilityError: a tokenizer of another kind.
    """
    _check_size(vocab_size)
    require(vocab_size <= len(tokenizer), "vocab_size", vocab_size, f"{len(tokenizer)} at most")
    stored = _stored(tokenizer)
    model = stored["model"]
    if model["type"] not in ("BPE", "WordPiece"):
        raise CompatibilityError(
            f"expected a vocabulary of kind bpe or wordpiece to cut, found {model['type']}, whose "
            "entries depend on their number; train it anew with train_vocabulary"
        )
    ids = model["vocab"]
    model["vocab"] = {token: i for token, i in ids.items() if i < vocab_size}
    if "merges" in model:  # up to the first that makes an entry which is gone
        made = (ids["".join(pair)] for pair in model["merges"])
        end = next((i for i, token in enumerate(made) if token >= vocab_size), None)
        model["merges"] = model["merges"][:end]
    return wrapped(
        Tokenizer.from_str(json.dumps(stored)),
        context=tokenizer.model_max_length,
        trained_on=tokenizer.init_kwargs[TRAINED_ON],
    )


def content_hash(texts: Iterable[str]) -> str:
    """16 hexadecimal digits that tell texts apart, in their order; equal on every machine."""
    digest = hashlib.sha256()
    for _ in _hashed(texts, digest):
        pass
    return _digest(digest)


def vocabulary_files(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    """The files of a tokenizer of this module, as small as transformers and tokenizers read them.

    `AutoTokenizer.from_pretrained` of a folder with both, also next to any config.json, and
    `Tokenizer.from_file` of tokenizer.json alone give the same ids as the tokenizer.
    """
    stored = _stored(tokenizer)
    model = stored["model"]
    if "merges" in model:  # no entry has a space, so one can part the two
        model["merges"] = [" ".join(pair) for pair in model["merges"]]
    config = {
        # by its name in transformers 4, which 5 knows too
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{key: str(getattr(tokenizer, key)) for key in _SPECIALS},
        "model_max_length": tokenizer.model_max_length,
        "model_input_names": tokenizer.model_input_names,
        "clean_up_tokenization_spaces": False,
        TRAINED_ON: tokenizer.init_kwargs[TRAINED_ON],
    }
    return {"tokenizer.json": _compact(stored), "tokenizer_config.json": _compact(config)}


def save_vocabulary(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> int:
    """Write `vocabulary_files` into a folder, over what is there of these names; their bytes.

    `save_pretrained` writes the same with line ends and indentation, twice the size and more.
    """
    files = vocabulary_files(tokenizer)
    for name, text in files.items():
        write_text(Path(folder) / name, text)
    return sum(len(text.encode()) for text in files.values())


def bytes_by_size(tokenizer: PreTrainedTokenizerFast) -> NDArray[np.int64]:
    """Bytes of the `vocabulary_files` of `cut_vocabulary`, by the number of entries.

    Args:
        tokenizer: of kind `bpe` or `wordpiece`.

    Returns:
        `(V + 1,)`; below 260 entries as with 260.
    """
    model = _stored(tokenizer)["model"]
    added = np.zeros(len(tokenizer), dtype=np.int64)
    for token, i in model["vocab"].items():
        added[i] = len(f"{_compact(token)}:{i},".encode())
    for pair in model.get("merges", ()):  # which are in the order of the entries they make
        added[model["vocab"]["".join(pair)]] += len(f"{_compact(' '.join(pair))},".encode())
    added[:LEAST] = 0
    if model.get("merges"):
        added[LEAST] -= 1  # no comma before the first
    total = sum(len(text.encode()) for text in vocabulary_files(tokenizer).values())
    grown = np.concatenate([[0], np.cumsum(added)])
    return total - grown[-1] + grown


_SPECIALS = {
    "bos_token": SPECIAL_TOKENS[0],
    "eos_token": SPECIAL_TOKENS[2],
    "unk_token": SPECIAL_TOKENS[3],
    "sep_token": SPECIAL_TOKENS[2],
    "pad_token": SPECIAL_TOKENS[1],
    "cls_token": SPECIAL_TOKENS[0],
}


def _check_size(vocab_size: int) -> None:
    if vocab_size < LEAST:
        raise ConfigError(
            f"expected a vocabulary of at least {LEAST} entries (256 bytes and "
            f"{', '.join(SPECIAL_TOKENS)}), found {vocab_size}; ask for {LEAST} or more"
        )


def _normalizer(*, lowercase: bool, collapse_spaces: bool) -> Any:
    steps: list[Any] = [normalizers.Lowercase()] if lowercase else []
    if collapse_spaces:
        steps += [
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),
        ]
    return normalizers.Sequence(steps) if steps else None


def _longest_match(ids: dict[str, int]) -> models.WordPiece:
    return models.WordPiece(
        vocab=ids,
        unk_token=SPECIAL_TOKENS[3],
        max_input_chars_per_word=_LONGEST_WORD,
        continuing_subword_prefix="",  # the space before a word tells its start
    )


def _learn_unigram(texts: Iterable[str], vocab_size: int, *, normalizer: Any) -> Tokenizer:
    """The likeliest pieces, behind the special tokens and the bytes in their order."""
    tokenizer = byte_level(models.Unigram())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list(ALPHABET),
        unk_token=SPECIAL_TOKENS[3],
        show_progress=False,
    )
    tokenizer.train_from_iterator(in_batches(texts), trainer=trainer)
    scores = {
        token: round(score or 0.0, _DECIMALS)  # none where there was no text
        for token, score in json.loads(tokenizer.to_str())["model"]["vocab"]
    }
    rest = [token for token in scores if token not in {*SPECIAL_TOKENS, *ALPHABET}]
    # The trainer ranks bytes that it has not seen by the order of a hash table of this process.
    lowest = min((scores[token] for token in rest), default=0.0)
    pieces = [(token, 0.0) for token in SPECIAL_TOKENS]
    pieces += [(token, max(scores[token], lowest)) for token in ALPHABET]
    pieces += [(token, scores[token]) for token in rest][: vocab_size - LEAST]  # likeliest first
    tokenizer.model = models.Unigram(pieces, unk_id=SPECIAL_TOKENS.index("<unk>"))
    return tokenizer


def _stored(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """As tokenizer.json has it, without the lengths that calls leave behind."""
    backend: Tokenizer = tokenizer.backend_tokenizer  # pyright: ignore[reportAssignmentType]
    return json.loads(backend.to_str()) | {"truncation": None, "padding": None}


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _hashed(texts: Iterable[str], digest: Any) -> Iterator[str]:
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
        yield text


def _digest(digest: Any) -> str:
    return digest.hexdigest()[:16]
