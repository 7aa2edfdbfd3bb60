"""What tests of equal-information windows share: counts of n-grams, listed windows, tokenizers."""

from functools import cache
from typing import Any

import tiny
from attar.coding.ngram import NgramModel, symbols_of
from attar.coding.windows import compile_windows
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import make_tokenizer
from attar.portable.equal_info_windows import WindowDictionary
from attar.portable.tokenization_equal_info import EqualInfoTokenizer
from scene import sources


@cache
def ngrams(alphabet: int = 256, order: int = 4) -> NgramModel:
    documents = [symbols_of(text, end=alphabet > 256) for text in sources(200_000)]
    return NgramModel.fit(documents, order=order, alphabet=alphabet, precision=16)


@cache
def listed(bits: int, alphabet: int = 256) -> WindowDictionary:
    return compile_windows(ngrams(alphabet), window_bits=bits)


def unseen() -> Any:
    return symbols_of(sources(600_000)[-1][:6000])


SHAPES = {
    "12": {"window_bits": 12},
    "12 in 6": {"window_bits": 12, "token_bits": 6},
    "12 in 8": {"window_bits": 12, "token_bits": 8},
    "12 in window": {"window_bits": 12, "eos": "in_window"},
    "12 in 6 in window": {"window_bits": 12, "token_bits": 6, "eos": "in_window"},
    "24 in 8": {"window_bits": 24, "token_bits": 8},
}


@cache
def made(shape: str = "12") -> EqualInfoTokenizer:
    options: Any = SHAPES[shape]
    return make_tokenizer(sources(150_000), config=EqualInfoConfig(order=4, **options))


def small_model(tokenizer: EqualInfoTokenizer) -> Any:
    return tiny.model(
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
