"""Bits per byte, next to the score of a model that knows nothing and the cost of a byte.

A low figure can come from the tokenizer alone. Next to it stands the figure of a model for which
all ids are equally likely, and of one that knows how often each occurs.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.evaluation.likelihood import Score, count_ends, id_count, score_with_ids
from attar.measure.cost import linear_macs

_NOTHING = 1e-3  # nearer to uniform than this share of it, a model has learned nothing


@dataclass(frozen=True)
class BitsPerByte:
    """Bits for each UTF-8 byte of text, comparable between tokenizers.

    Attributes:
        score: loss, ids and bytes; the cost of predicting the ends of documents counts, and they
            have no bytes.
        uniform: of a model that finds all ids of the tokenizer equally likely.
        unigram: of one that knows how often each id occurs here (Miller-Madow's correction for how
            few were seen; close to `uniform` where most ids occur once).
        ends: how many of the ids are ends of documents.
        flops_per_byte: 2 for every multiply-accumulate of the model's linear layers on one id, over
            the bytes of an id; without attention's part that grows with the context, and without
            experts that are no linear layers of their own.
        flops_per_byte_with_softmax: with the output layer, which a large vocabulary makes dear.
    """

    score: Score
    uniform: float
    unigram: float
    ends: int
    flops_per_byte: float
    flops_per_byte_with_softmax: float

    @property
    def bits_per_byte(self) -> float:
        """Of the model: all nats spent on ids, in bits, over the bytes of the text."""
        return self.score.bits_per_byte

    @property
    def bytes_per_token(self) -> float:
        """Bytes of an id, which is a step of decoding."""
        return self.score.bytes / self.score.tokens

    @property
    def steps_per_kilobyte(self) -> float:
        """Ids, and so steps of decoding, for 1,000 bytes."""
        return 1000 / self.bytes_per_token

    @property
    def learned_nothing(self) -> bool:
        """Whether the model is no better than uniform, by less than 0.1%."""
        return self.bits_per_byte > self.uniform * (1 - _NOTHING)

    def to_dict(self) -> dict[str, float]:
        """Fields and derived figures."""
        derived = ("bytes_per_token", "steps_per_kilobyte", "learned_nothing")
        own = {name: value for name, value in asdict(self).items() if name != "score"}
        return self.score.to_dict() | own | {name: getattr(self, name) for name in derived}


def bits_per_byte(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    texts: Sequence[str] | Dataset,
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    eval_tokens: int | None = None,
) -> BitsPerByte:
    """Bits per byte of any causal LM and tokenizer, next to those of a model that knows nothing.

    Args:
        model: any transformers causal LM.
        tokenizer: the model's tokenizer.
        texts: documents, or a data set with a column `text`.
        context, stride, batch_size, eval_tokens: as in `score`.

    Raises:
        CompatibilityError, ConfigError, DataError: as in `score`.
    """
    documents = texts if isinstance(texts, Dataset) else Dataset.from_dict({"text": list(texts)})
    score, ids = score_with_ids(
        model,
        tokenizer,
        documents=documents,
        context=context,
        stride=stride,
        batch_size=batch_size,
        eval_tokens=eval_tokens,
    )
    bits = math.log2(id_count(tokenizer))
    head = model.get_output_embeddings()
    output = 0 if head is None else linear_macs(head)
    macs, size = linear_macs(model), score.bytes / score.tokens
    return BitsPerByte(
        score=score,
        uniform=bits / size,
        unigram=min(bits, unigram_bits(ids[1:])) / size,
        ends=count_ends(tokenizer, ids) - count_ends(tokenizer, ids[:1]),
        flops_per_byte=2 * (macs - output) / size,
        flops_per_byte_with_softmax=2 * macs / size,
    )


def unigram_bits(ids: Tensor) -> float:
    """Entropy of ids in bits, corrected for small samples: `H + (K - 1) / (2 N ln 2)` (Miller,
    1955), K different ones among N."""
    counts = torch.bincount(ids)
    counts = counts[counts > 0].double()
    total = counts.sum()
    entropy = float(torch.log2(total) - (counts * torch.log2(counts)).sum() / total)
    # Rounded, the entropy of a single id can lie below 0.
    return max(entropy, 0.0) + (len(counts) - 1) / (2 * float(total) * math.log(2))
