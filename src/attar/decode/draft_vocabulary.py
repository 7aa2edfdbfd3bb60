"""A draft that proposes from the first part of its vocabulary.

Most of what a small draft costs is its output layer: of two layers of SmolLM2 it is four fifths.
Byte-pair encoding numbers tokens in the order in which it merged them, the most frequent first, so
that most of a text is among the first ones. A token that the draft cannot propose is still written:
the text keeps the target's distribution.

Zhao et al.: *FR-Spec: Accelerating Large-Vocabulary Language Models via Frequency-Ranked
Speculative Sampling*, 2025, arXiv 2502.14856; there tokens are ranked by a count in a corpus.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.decode.agreement import Texts, agreement

SHARES = (8, 4, 2)
"""Parts of a vocabulary that are tried."""
_SMALLEST = 8192
"""Vocabularies up to this size are cheap enough as they are."""
_KEPT = 0.99
"""Share of the gain over plain decoding that a part must keep."""


class ShortHead(nn.Module):
    """An output layer for the first tokens of the vocabulary; the logits of all others are -inf.

    Args:
        head: for the whole vocabulary; the weights are shared.
        size: the number of tokens that have logits.
    """

    def __init__(self, head: nn.Linear, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(head.weight.detach()[:size], requires_grad=False)
        self.bias = None
        if head.bias is not None:
            self.bias = nn.Parameter(head.bias.detach()[:size], requires_grad=False)
        self.missing = head.out_features - size

    def forward(self, states: Tensor) -> Tensor:
        """Logits, `(..., V)`, of hidden states, `(..., D)`."""
        logits = nn.functional.linear(states, self.weight, self.bias)
        return nn.functional.pad(logits, (0, self.missing), value=-torch.inf)


def shortened(draft: PreTrainedModel, size: int | None) -> PreTrainedModel:
    """A draft that shares all weights with this one and proposes the first `size` tokens only.

    Args:
        draft: stays as it is.
        size: None: the `draft_vocabulary` of its config, or the whole vocabulary.

    Returns:
        The draft itself where there is nothing to cut: its vocabulary is no larger, or its output
        layer is not a plain one.
    """
    head: Any = draft.get_output_embeddings()
    if size is None:
        own = getattr(draft.config, "draft_vocabulary", None)
        size = own if isinstance(own, int) and own > 0 else None
    if size is None or type(head) is not nn.Linear or size >= head.out_features:
        return draft
    shared = {id(weight): weight for weight in draft.parameters()}
    twin: Any = copy.deepcopy(draft, shared)
    twin.set_output_embeddings(ShortHead(head, size))
    return twin


def sufficient_vocabulary(
    target: PreTrainedModel, draft: PreTrainedModel, *, texts: Texts, length: int
) -> int | None:
    """The smallest part of the vocabulary that keeps what the draft gains; None: all of it.

    Args:
        target: which wrote the texts.
        draft: of the same tokenizer.
        texts: that block efficiency is measured on.
        length: of a draft, in tokens.
    """
    whole = draft.config.get_text_config(decoder=True).vocab_size
    sizes = sorted({max(_SMALLEST, whole // share) for share in SHARES})
    gain = None
    for size in [size for size in sizes if size < whole]:
        gain = gain or agreement(target, draft, texts=texts).block_efficiency(length) - 1
        short = shortened(draft, size)
        if agreement(target, short, texts=texts).block_efficiency(length) - 1 >= _KEPT * gain:
            return size
    return None
