"""How likely a masked language model finds the tokens that it cannot see: nats a token."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.sequences import IGNORED, Sequences
from attar.data.sources import Batch
from attar.errors import DataError, require
from attar.models import autocast, computing, inference
from attar.runtime import Bar

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

    A source has the same tokens masked in every call, so that models can be compared. No gradients;
    a model's training mode is restored, and it runs under `attar.models.autocast`; NaN and infinity
    pass through. The batch size does not matter.

    Args:
        model: a masked language model; or a function that is called like one, such as a network of
            a supernet, which sees to its own mode and precision.
        source: the rows, with masks.
        batch_size: rows per call of the model.
        device: where a function wants its inputs; None: the model's, or the processor.

    Raises:
        DataError: no token of the source is to be predicted.
    """
    require(batch_size >= 1, "batch_size", batch_size, "1 or more")
    if isinstance(model, nn.Module):
        device = device or next(model.parameters()).device
        with inference(model), computing(model), autocast(model):
            return _mean(model, source, batch_size=batch_size, device=device)
    with torch.no_grad():
        return _mean(model, source, batch_size=batch_size, device=device or "cpu")


def _mean(
    model: MaskedModel, source: Sequences, *, batch_size: int, device: torch.device | str
) -> float:
    by_length = sorted(range(len(source)), key=source.length)  # little padding
    total, count = 0.0, 0
    starts = range(0, len(by_length), batch_size)
    for start in Bar(starts, desc="scoring", unit="batch", leave=False):
        batch = source.batch(by_length[start : start + batch_size])
        if "labels" not in batch:
            break
        losses = masked_token_losses(model, {n: x.to(device) for n, x in batch.items()})
        total += float(losses.sum(dtype=torch.float64))
        count += len(losses)
    if not count:
        raise DataError(
            "expected tokens to predict, found none masked; make the sequences with a "
            "mask_probability above 0"
        )
    return total / count
