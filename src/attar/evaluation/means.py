"""The mean of a loss over the tokens of a source, whatever the loss is."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attar.data.sources import Batch
from attar.errors import require
from attar.models import autocast, computing, inference
from attar.runtime import Bar

TokenLosses = Callable[[Any, Batch], Tensor]
"""(model, batch) -> losses of the tokens that are to be predicted, (N,)."""


class Rows(Protocol):
    """Rows of different lengths."""

    def __len__(self) -> int: ...

    def length(self, row: int) -> int:
        """Tokens of a row."""
        ...

    def batch(self, rows: Sequence[int]) -> Batch:
        """These rows as one batch."""
        ...


def mean_loss(
    model: Callable[..., Any],
    source: Rows,
    losses: TokenLosses,
    *,
    batch_size: int,
    device: torch.device | str | None = None,
) -> float | None:
    """Mean over all tokens with a loss; None where there are none.

    No gradients; a model's training mode is restored, and it runs under `attar.models.autocast`;
    NaN and infinity pass through. The batch size does not matter.

    Args:
        model: a model; or a function that is called like one, such as a network of a supernet,
            which sees to its own mode and precision.
        source: the rows.
        losses: of a batch.
        batch_size: rows per call of the model.
        device: where a function wants its inputs; None: the model's, or the processor.
    """
    require(batch_size >= 1, "batch_size", batch_size, "1 or more")
    if isinstance(model, nn.Module):
        device = device or next(model.parameters()).device
        with inference(model), computing(model), autocast(model):
            return _mean(model, source, losses, batch_size=batch_size, device=device)
    with torch.no_grad():
        return _mean(model, source, losses, batch_size=batch_size, device=device or "cpu")


def _mean(
    model: Callable[..., Any],
    source: Rows,
    losses: TokenLosses,
    *,
    batch_size: int,
    device: torch.device | str,
) -> float | None:
    by_length = sorted(range(len(source)), key=source.length)  # little padding
    total, count = 0.0, 0
    starts = range(0, len(by_length), batch_size)
    for start in Bar(starts, desc="scoring", unit="batch", leave=False):
        batch = source.batch(by_length[start : start + batch_size])
        values = losses(model, {name: x.to(device) for name, x in batch.items()})
        total += float(values.sum(dtype=torch.float64))
        count += len(values)
    return total / count if count else None
