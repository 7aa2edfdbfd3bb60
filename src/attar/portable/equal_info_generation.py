"""Generating with equal-information windows: text from ids as they come, and ids that fit a prompt.

Travels with every tokenizer next to `tokenization_equal_info.py`; it needs transformers and numpy
alone.
"""

import codecs

import numpy as np
from transformers import LogitsProcessor


class StreamDecoder:
    """Text from ids as they come; a character that is not complete yet is held back."""

    def __init__(self, tokenizer, *, skip_special_tokens=True):
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._waiting = []
        self._group = np.lcm(tokenizer.token_bits, tokenizer.window_bits) // tokenizer.token_bits
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def put(self, ids):
        """What these ids add to the text."""
        text = ""
        for one in np.atleast_1d(np.asarray(ids, np.int64)).tolist():
            self._waiting.append(one)
            if one >= self._tokenizer.vocab_size or len(self._waiting) == self._group:
                text += self._flush(final=False)
        return text

    def end(self):
        """What is left: a broken character shows as U+FFFD, an unfinished window not at all."""
        return self._flush(final=True)

    def _flush(self, *, final):
        data = b"".join(self._tokenizer._pieces(self._waiting, self._skip))
        self._waiting = []
        return self._decoder.decode(data, final)


class StartsWith(LogitsProcessor):
    """Allows only some ids right after the prompt."""

    def __init__(self, allowed, *, prompt_length):
        self.allowed = allowed
        self.prompt_length = prompt_length

    def __call__(self, input_ids, scores):
        """Scores of the allowed ids, minus infinity for all others."""
        if input_ids.shape[1] != self.prompt_length:
            return scores
        kept = scores.new_full(scores.shape, -float("inf"))
        kept[:, self.allowed] = scores[:, self.allowed]
        return kept


class Canonical(LogitsProcessor):
    """Forbids an id whose string begins as a longer match of the last one would go on."""

    def __init__(self, dictionary):
        self.dictionary = dictionary

    def __call__(self, input_ids, scores):
        """Scores, minus infinity for ids that encoding would not put there."""
        scores = scores.clone()
        for row, last in enumerate(input_ids[:, -1].tolist()):
            if last < len(self.dictionary.parent):
                longer = np.isin(self.dictionary.first, self.dictionary.extensions(last))
                scores[row, np.flatnonzero(longer)] = -float("inf")
        return scores
