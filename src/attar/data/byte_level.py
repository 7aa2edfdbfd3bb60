"""What byte-level tokenizers share: the symbols of the bytes, pieces of text, and merges."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

ALPHABET = tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))
"""One symbol for each of the 256 bytes, in the order of their ids."""

# Words with the character before them, single digits, punctuation with the line ends after it,
# runs of line ends, and runs of spaces: of an indentation all but the last space is one piece, and
# that one goes to the word, as it does between two words.
_PIECES = (
    r"(?i:'(?:s|t|re|ve|m|ll|d)\b)"
    r"|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)
_BATCH = 1000


def byte_level(model: models.Model, *, longest: int | None = None) -> Tokenizer:
    """A tokenizer of this model over the bytes of words, digits, signs and spaces.

    Args:
        model: what makes tokens of a piece.
        longest: bytes of a piece; longer ones are cut. None: any number.
    """
    tokenizer = Tokenizer(model)
    steps: list[Any] = [
        pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    if longest is not None:  # no symbol of a byte is a line end, which a dot would not match
        steps.append(pre_tokenizers.Split(Regex(f".{{1,{longest}}}"), behavior="isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def learn_merges(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str],
    least: int = 2,
) -> None:
    """Train a tokenizer whose model is a BPE: the special tokens, the bytes, then merges.

    The same texts give the same merges. There are fewer than asked for where the texts have fewer
    pairs that occur `least` times.
    """
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=least,
        special_tokens=list(special_tokens),
        initial_alphabet=list(ALPHABET),
        show_progress=False,
    )
    tokenizer.train_from_iterator(in_batches(texts), trainer=trainer)


def in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts a thousand at a time, as trainers take them fastest."""
    texts = iter(texts)
    while batch := list(islice(texts, _BATCH)):
        yield batch
