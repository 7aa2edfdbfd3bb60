"""What the model and the store read of a prompt: token healing, and text behind the cursor."""

import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from attar.decode.fim import Fim
from attar.errors import CompatibilityError
from attar.models import leading_bos

#: tokens before a draft with which it is decoded: by itself it may lose the space before a word
_TAIL = 16


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is read.

    Attributes:
        ids: what the model reads.
        context: what the store goes by, and a draft is decoded behind: the text before the cursor,
            without BOS.
        typed: what drafts must begin with, as their first token was typed in part.
        ends: tokens that end a draft besides those of the model.
    """

    ids: tuple[int, ...]
    context: tuple[int, ...]
    typed: str = ""
    ends: frozenset[int] = frozenset()


class Words:
    """A tokenizer, as prompts and drafts need it.

    Args:
        tokenizer: the model's.
        size: rows of the model's output.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, size: int) -> None:
        self.tokenizer, self.size = tokenizer, size
        self.bos = leading_bos(tokenizer)

    def prompt(self, text: str, *, suffix: str | None = None, heal: bool) -> Prompt:
        """A text to continue, or to fill in before a suffix.

        Raises:
            CompatibilityError: there is a suffix, and the tokenizer has no tokens for that.
        """
        before = self._ids(text, special=suffix is None)
        before, typed = self._healed(before, text) if heal else (before, "")
        if suffix is None:
            return self.of_ids(before, typed)
        if self._fim is None:
            name = self.tokenizer.name_or_path or "this tokenizer"
            raise CompatibilityError(
                "suffix needs a model that was trained to fill in text, with tokens such as "
                f"<fim_prefix>; {name} has none, so leave suffix out, or give another model"
            )
        return self.of_ids(self._fim.around(before, self._ids(suffix, special=False)), typed)

    def of_text(self, ids: Sequence[int]) -> Prompt:
        """The ids of a whole text, with token healing."""
        return self.of_ids(*self._healed(list(ids), self._decoded(ids)))

    def of_ids(self, ids: Sequence[int], typed: str = "") -> Prompt:
        """A prompt of token ids, which may ask for what is before a suffix."""
        if self._fim is not None and (before := self._fim.text_before(ids)) is not None:
            return Prompt(tuple(ids), tuple(before), typed, frozenset(self._fim.ends))
        context = tuple(ids)[bool(ids) and ids[0] == self.bos :]
        return Prompt(tuple(ids), context, typed)

    def text_of(self, prompt: Prompt, tokens: Sequence[int]) -> str:
        """What tokens add to a prompt as it was typed."""
        before = list(prompt.context[-_TAIL:])
        start, whole = self._decoded(before), self._decoded([*before, *tokens])
        added = whole[len(start) :] if whole.startswith(start) else self._decoded(tokens)
        return added.removeprefix(prompt.typed)

    def allowed(self, prompt: Prompt) -> Tensor | None:
        """Tokens that begin with what was typed, `(V,)`; None: all."""
        if not prompt.typed:
            return None
        fits = torch.zeros(self.size, dtype=torch.bool)
        fits[self._beginning(prompt.typed)] = True
        return fits

    @cached_property
    def _fim(self) -> Fim | None:
        return Fim.of(self.tokenizer)

    def _healed(self, ids: list[int], text: str) -> tuple[list[int], str]:
        """Ids without the last one, and its text, if the text ends with a space or in a word and
        another token begins with the same."""
        if not (text[-1:].isspace() or text[-1:].isalnum() or text[-1:] == "_"):
            return ids, ""
        last = self._texts[ids[-1]] if ids and ids[-1] < len(self._texts) else ""
        behind_bos = len(ids) > 1  # something is left to read
        if not (behind_bos and last and text.endswith(last) and len(self._beginning(last)) > 1):
            return ids, ""
        return ids[:-1], last

    def _beginning(self, typed: str) -> list[int]:
        """Tokens whose text begins with what was typed."""
        texts, ids = self._sorted
        first = bisect_left(texts, typed)
        return ids[first : bisect_left(texts, typed + chr(sys.maxunicode), lo=first)]

    @cached_property
    def _sorted(self) -> tuple[list[str], list[int]]:
        """The texts of the tokens in order, and their ids."""
        ids = sorted(range(len(self._texts)), key=self._texts.__getitem__)
        return [self._texts[i] for i in ids], ids

    @cached_property
    def _texts(self) -> list[str]:
        """What each token adds to a text; nothing for special ones."""
        anchor = self._ids("a", special=False)
        start = self._decoded(anchor)
        count = min(len(self.tokenizer), self.size)
        whole = self.tokenizer.batch_decode(
            [[*anchor, i] for i in range(count)],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return [text[len(start) :] if "\ufffd" not in text else "" for text in whole]

    def _ids(self, text: str, *, special: bool) -> list[int]:
        found: Any = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return list(found)

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
