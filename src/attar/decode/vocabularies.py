"""A draft with another tokenizer than the target's: it reads the text in its own tokens, and drafts
only what both vocabularies have (Timor et al., 2025, arXiv 2502.05202: token-level intersection).

How the text is put into the draft's tokens decides what it drafts, and nothing else: each of the
target's tokens alone, so that a longer text never changes what was read before.
"""

from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from attar.errors import CompatibilityError

#: a smaller share of the draft's tokens would hardly ever be drafted
_LEAST = 0.05


class Translation:
    """Between the ids of two tokenizers.

    Args:
        target: the target's tokenizer.
        draft: the draft's.

    Raises:
        CompatibilityError: hardly a token is in both.
    """

    def __init__(self, target: PreTrainedTokenizerBase, draft: PreTrainedTokenizerBase) -> None:
        ours, theirs = target.get_vocab(), draft.get_vocab()
        shared = sorted(ours.keys() & theirs.keys(), key=lambda token: ours[token])
        if len(shared) < _LEAST * len(theirs):
            raise CompatibilityError(
                f"target and draft must share tokens, but of the draft's {len(theirs):,} only "
                f"{len(shared):,} are also the target's; give a draft with the target's tokenizer"
            )
        self.target_ids = torch.tensor([ours[token] for token in shared], device="cpu")
        self.draft_ids = torch.tensor([theirs[token] for token in shared], device="cpu")
        self._same = dict(zip(self.target_ids.tolist(), self.draft_ids.tolist(), strict=True))
        self._target, self._draft = target, draft
        self.pieces = cache(self._pieces)

    def _pieces(self, token: int) -> tuple[int, ...]:
        """A token of the target in tokens of the draft; at least one."""
        if token in self._same:
            return (self._same[token],)
        text = self._target.decode([token], clean_up_tokenization_spaces=False)
        pieces = self._draft.encode(text, add_special_tokens=False)
        return tuple(pieces) or (int(self.draft_ids[0]),)

    def logits(self, logits: Tensor, *, size: int) -> Tensor:
        """The draft's logits `(..., V')` as of `size` tokens of the target, -inf where it has none:
        `(..., size)`."""
        translated = logits.new_full((*logits.shape[:-1], size), -torch.inf)
        known = self.target_ids < size
        ids, own = self.target_ids[known], self.draft_ids[known]
        translated[..., ids.to(logits.device)] = logits[..., own.to(logits.device)]
        return translated


def translation(
    target: PreTrainedTokenizerBase, draft: PreTrainedTokenizerBase
) -> Translation | None:
    """What is needed between two tokenizers; None where their ids mean the same.

    Raises:
        CompatibilityError: hardly a token is in both.
    """
    ours, theirs = target.get_vocab(), draft.get_vocab()
    alike = all(theirs.get(token, number) == number for token, number in ours.items())
    numbers = {number: token for token, number in ours.items()}
    alike = alike and all(numbers.get(number, token) == token for token, number in theirs.items())
    return None if alike else Translation(target, draft)
