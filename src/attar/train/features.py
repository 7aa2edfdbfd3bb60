"""How far a student's features are from its teacher's, layer by layer, in float32.

Every loss gives one number per token, `(B, T)`, or per item, `(B,)`, and divides by nothing that
depends on the batch: the caller sums and divides by the count of the whole step, so that
accumulated batches and several processes give the same loss. A token under a false mask counts
exactly 0, whatever its features are, and passes no gradient. The teacher never gets a gradient.

Source: He et al. 2021, Distiller, arXiv 2109.11105, section 3; attention losses as in TextBrewer.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attar.divergences import soft_cross_entropy
from attar.errors import CompatibilityError, ConfigError

Pool = Literal["cls", "mean"]
"""How one vector is made of a text: from its first token, or from all."""
FLOOR = 1e-6
"""Attention below this is as good as none: dropout and half precision turn small values into 0,
whose logarithm would be infinite."""


def hidden_mse(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference over the features of each token.

    Args:
        student: (B, T, d), projected to the teacher's width.
        teacher: (B, T, d).
        mask: (B, T), true at real tokens; None: all are.

    Returns:
        (B, T).

    Raises:
        CompatibilityError: the shapes differ.
    """
    _require_same(student, teacher)
    mask = _mask(mask, student.shape[:2], student.device)
    # One pass over the features: this loss is the default one, and memory traffic its cost.
    return _only(student.float() - teacher.detach().float(), mask[..., None]).square().mean(-1)


def hidden_ce(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of each token with its features as logits over d classes, nats.

    The entropy of the teacher where both agree. Arguments, shapes and errors as in `hidden_mse`.
    """
    student, teacher, mask = _hidden(student, teacher, mask)
    return torch.where(mask, soft_cross_entropy(student, teacher), 0.0)


def hidden_cosine(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """One minus the cosine between the features of each token, 0 to 2.

    Arguments, shapes and errors as in `hidden_mse`.
    """
    student, teacher, mask = _hidden(student, teacher, mask)
    return torch.where(mask, _gap(student, teacher) / 2, 0.0)


def pkd(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the normalised vectors of each item, such as those of [CLS]: 0 to 4.

    Patient knowledge distillation: Sun et al. 2019, arXiv 1908.09355.

    Args:
        student: (B, d), projected to the teacher's width.
        teacher: (B, d).

    Returns:
        (B,).

    Raises:
        CompatibilityError: the shapes differ.
    """
    _require_same(student, teacher)
    return _gap(student.float(), teacher.detach().float())


def attention_mse(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Squared difference of attention probabilities, averaged over the heads and over the keys that
    are real tokens.

    Heads are compared one by one, or, where student and teacher differ in their number, the
    averages over all heads of each.

    Args:
        student: (B, H_S, T, T), each query's attention to each key.
        teacher: (B, H_T, T, T).
        mask: (B, T), true at real tokens; None: all are.

    Returns:
        (B, T), one number per query.

    Raises:
        CompatibilityError: the shapes differ in more than heads.
    """
    student, teacher, mask = _attention(student, teacher, mask)
    keys = mask.sum(-1).clamp_min(1)[:, None]
    squared = (student - teacher).square().mean(1).sum(-1) / keys
    return torch.where(mask, squared, 0.0)


def attention_ce(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of attention distributions, nats, averaged over the heads; over the keys that
    are real tokens it is the average weighted by the teacher's attention.

    Both sides are scaled to sum to one over those keys, which also undoes the scale of dropout. A
    student's probability below `FLOOR` counts as `FLOOR` and gets no gradient, so train without
    dropout on attention. Arguments, heads, shapes and errors as in `attention_mse`.
    """
    student, teacher, mask = _attention(student, teacher, mask)
    p, q = (side / side.sum(-1, keepdim=True).clamp_min(FLOOR) for side in (teacher, student))
    cross_entropy = -(p * q.clamp_min(FLOOR).log()).sum(-1).mean(1)
    return torch.where(mask, cross_entropy, 0.0)


def pool(features: Tensor, *, how: Pool = "cls", mask: Tensor | None = None) -> Tensor:
    """One vector per item, float32: (B, T, d) -> (B, d).

    Args:
        features: hidden states.
        how: `cls`, the first real token; or `mean`, over the real tokens.
        mask: (B, T), true at real tokens; None: all are. An item without any gives zeros.

    Raises:
        ConfigError: `how` is neither.
    """
    if how not in ("cls", "mean"):
        raise ConfigError(f"features are pooled by cls or mean, but the pooling is {how!r}.")
    mask = _mask(mask, features.shape[:2], features.device)
    if how == "cls":
        first = mask & (mask.cumsum(1) == 1)
        return _only(features, first[..., None]).sum(1)
    return _only(features, mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


class Projection(nn.Module):
    """Takes the student's features to the teacher's width: a linear layer of its own for each
    matched layer, trained with the student and thrown away after.

    Weights start as N(0, 0.02) and biases at 0. Where the widths agree there is no layer: features
    pass as they are.

    Args:
        student_size: width of the student, d_S.
        teacher_size: width of the teacher, d_T.
        generator: draws the weights; None: torch's own.
    """

    def __init__(
        self, student_size: int, teacher_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.linear = (
            None if student_size == teacher_size else nn.Linear(student_size, teacher_size)
        )
        if self.linear is not None:
            nn.init.normal_(self.linear.weight, std=0.02, generator=generator)
            nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(..., d_S) -> (..., d_T)."""
        if self.linear is None:
            return features
        return self.linear(features.to(self.linear.weight.dtype))


def _hidden(student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides in float32 with zeros under the mask, and the mask."""
    _require_same(student, teacher)
    mask = _mask(mask, student.shape[:2], student.device)
    wide = mask[..., None]
    return _only(student, wide), _only(teacher.detach(), wide), mask


def _attention(
    student: Tensor, teacher: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides in float32 with equal heads and zeros where query or key is masked; the mask."""
    _require_same(student[:, 0], teacher[:, 0])
    mask = _mask(mask, (student.shape[0], student.shape[-1]), student.device)
    both = (mask[:, None, :, None] & mask[:, None, None, :]).expand(-1, 1, -1, -1)
    student, teacher = _only(student, both), _only(teacher.detach(), both)
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    return student, teacher, mask


def _mask(mask: Tensor | None, shape: tuple[int, ...], device: torch.device) -> Tensor:
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    if mask.shape != shape:
        raise CompatibilityError(
            f"the mask must have shape {tuple(shape)} as the features have, but its shape is "
            f"{tuple(mask.shape)}; pass the attention mask of the same batch."
        )
    return mask.bool()


def _only(features: Tensor, mask: Tensor) -> Tensor:
    # Before any arithmetic: NaN times 0 is NaN, in the loss and in its gradient.
    return torch.where(mask, features.float(), 0.0)


def _gap(student: Tensor, teacher: Tensor) -> Tensor:
    # Twice one minus the cosine, but exactly 0 for equals and never below.
    return (F.normalize(student, dim=-1) - F.normalize(teacher, dim=-1)).square().sum(-1)


def _require_same(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise CompatibilityError(
            "the features of student and teacher must have one shape, but the student's are "
            f"{tuple(student.shape)} and the teacher's {tuple(teacher.shape)}; project the "
            "student's, and give both models the same tokens."
        )
