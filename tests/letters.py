"""Pairs of texts of letters, and a tokenizer with a token a letter, for tests."""

from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = ["<pad>", "<unk>", "</s>", *"abcdefghij"]


def words(*, end: bool = True, **special: Any) -> PreTrainedTokenizerFast:
    """A tokenizer with a token a letter; `end` puts an end behind each text."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    if end:
        ends = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 2)])
        inner.post_processor = ends  # pyright: ignore[reportAttributeAccessIssue]
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"} | special
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


SOURCES, TARGETS = ["a b c", "d", "e f"], ["b", "c d e f", "a a"]
