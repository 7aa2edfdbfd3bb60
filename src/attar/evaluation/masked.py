"""How likely a masked language model finds the tokens that it cannot see: nats a token."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.sequences import IGNORED, Sequences
from attar.data.sources import Batch
from attar.errors import DataError
from attar.evaluation.means import mean_loss

MaskedModel = Callable[..., Any]
"""What is called with `input_ids`, `attention_mask` and the like, and gives `logits` (B, T, V)."""


def masked_token_losses(model: MaskedModel, batch: Batch) -> Tensor:
    """Negative log-likelihood of the tokens with a label, (N,) nats in float32, row by row."""
    logits = model(**{name: batch[name] for name in MODEL_INPUTS if name in batch}).logits
    chosen = batch["labels"] != IGNORED
    # Chosen before they become float32: few of the (B, T, V) logits are looked at.
    return F.cross_entropy(logits[chosen].float(), batch["labels"][chosen], reduction="none")


def masked_loss(
    model: PreTrainedModel | MaskedModel,
    source: Sequences,
    *,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> float:
    """Mean negative log-likelihood per masked token, in nats.

    A source has the same tokens masked in every call, so that models can be compared.

    Args:
        model: a masked language model, or a function that is called like one (see
            `attar.evaluation.means.mean_loss`, as for what follows).
        source: the rows, with masks.
        batch_size: rows per call of the model.
        device: where a function wants its inputs.

    Raises:
        DataError: no token of the source is to be predicted.
    """
    mean = None
    if "labels" in source.batch([0]):
        mean = mean_loss(model, source, masked_token_losses, batch_size=batch_size, device=device)
    if mean is None:
        raise DataError(
            "expected tokens to predict, found none masked; make the sequences with a "
            "mask_probability above 0"
        )
    return mean
