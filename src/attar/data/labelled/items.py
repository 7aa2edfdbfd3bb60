"""What a batch of each kind of labelled task predicts: logits, items, labels, and the loss on them.

An item is one prediction that can be distilled: an example, the first piece of a word, or one of
the two ends of an answer. Logits, losses and masks of a batch have one shape, `logits.shape[:-1]`:
`(B,)` for examples, `(B, T)` for words, `(B, 2)` for the ends of answers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.data.labelled.task import UNLABELLED, Task
from attar.data.sources import Batch


def logits_of(outputs: Any, task: Task) -> Tensor:
    """A model's predictions: `(B, C)`, regression `(B, 1)`; words `(B, T, C)`; ends of answers
    `(B, 2, T)`."""
    if task.kind == "question_answering":
        return torch.stack([outputs.start_logits, outputs.end_logits], 1)
    return outputs.logits


def real_classes(batch: Batch, task: Task) -> Tensor | None:
    """Which of the last axis of the logits are there to be predicted, `(B, 1, T)`: an answer ends
    on a real token. None: all are."""
    if task.kind != "question_answering":
        return None
    return batch["attention_mask"].bool()[:, None]


def hard_loss(logits: Tensor, batch: Batch, *, task: Task) -> Tensor:
    """Loss against the labels of every item, 0 where there is none; in float32, not reduced.

    Cross-entropy in nats; squared error in regression; in multi-label tasks binary cross-entropy in
    nats, the mean over labels.

    Args:
        logits: see `logits_of`.
        batch: as `Examples.batch` makes it.
        task: their task.

    Returns:
        `logits.shape[:-1]`.
    """
    logits, known = logits.float(), labelled(batch, task)
    if task.kind == "regression":
        gap = logits[:, 0] - torch.where(known, batch["labels"].float(), 0.0)
        return torch.where(known, gap.square(), 0.0)
    if task.kind == "multi_label":
        targets = torch.where(known[:, None], batch["labels"].float(), 0.0)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return torch.where(known, losses.mean(-1), 0.0)
    if (real := real_classes(batch, task)) is not None:
        logits = logits.masked_fill(~real, -torch.inf)
    targets = torch.where(known, _targets(batch, task), 0)
    chosen = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return torch.where(known, -chosen, 0.0)


def labelled(batch: Batch, task: Task) -> Tensor:
    """Which items have a label: bool, the shape of `hard_loss`."""
    targets = _targets(batch, task)
    if task.kind == "regression":
        return ~targets.isnan()
    if task.kind == "multi_label":
        return (targets[:, 0] != UNLABELLED) & ~targets[:, 0].isnan()
    return targets != UNLABELLED


def items(batch: Batch, task: Task) -> Tensor:
    """Which predictions are distilled, labelled or not: every example, the first token of every
    word, both ends of every answer. Bool, the shape of `hard_loss`; padding is none."""
    if task.kind == "token_classification":
        return batch["word_starts"].bool() & batch["attention_mask"].bool()
    return torch.ones_like(labelled(batch, task))


def _targets(batch: Batch, task: Task) -> Tensor:
    if task.kind == "question_answering":
        return torch.stack([batch["start_positions"], batch["end_positions"]], 1)
    return batch["labels"]
