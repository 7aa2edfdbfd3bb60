"""Segmenters that others made, for what people see before there is a model of their own."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from attar.data.segments.legal import legal
from attar.errors import ConfigError
from attar.methods.active_segmentation.dictionary import thai_package

Engine = Callable[[str], tuple[int, ...]]
"""Text -> the offsets at which words begin, but for its start."""

ENGINES = ("newmm", "longest", "nlpo3", "icu", "deepcut", "attacut", "oskut", "sefr_cut")
"""Engines of `pythainlp.word_tokenize`. `newmm` and `longest` come with it, and `deepcut` as an
ONNX file that needs onnxruntime; each of the others is a package of its own."""


@cache
def load_engine(name: str) -> Engine:
    """An engine of PyThaiNLP; its cuts are those of its words that are legal.

    Args:
        name: one of `ENGINES`.

    Raises:
        ConfigError: there is no such engine, or its package is not installed.
        MissingExtraError: pythainlp is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(
            f"expected an engine of pythainlp ({', '.join(ENGINES)}), found {name!r}; give one of "
            "them"
        )
    tokenize: Any = thai_package("pythainlp.tokenize", "an engine").word_tokenize
    try:
        tokenize("กา", engine=name)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"the engine {name} of pythainlp needs a package that is not installed ({error}); "
            "install it, or take newmm"
        ) from None

    def cut(text: str) -> tuple[int, ...]:
        if not text:
            return ()
        edges = _located(text, tokenize(text, engine=name))
        return tuple(np.intersect1d(edges, legal(text)).tolist())

    return cut


def _located(text: str, words: Sequence[str]) -> list[int]:
    """Where words begin and end. Some engines change a text, or leave white space out: the words
    that are found again count."""
    edges, at = set[int](), 0
    for word in words:
        place = text.find(word, at)
        if place >= 0:
            at = place + len(word)
            edges |= {place, at}
    return sorted(edges - {0, len(text)})
