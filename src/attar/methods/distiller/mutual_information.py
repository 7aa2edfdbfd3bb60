"""MI-alpha: the mutual information between student and teacher features as the intermediate loss.

MSE, cosine, CE and PKD all bound that information from below with a fixed form of q(y|x). MI-alpha
learns a critic f instead, and alpha trades bias for variance: 1 is InfoNCE, steady but never above
log(K - 1); 0 is TUBA, with no ceiling but far noisier. Student, critic and baseline all go uphill
on the same bound, so that -I_alpha is the loss.

    I_alpha = 1 + E[ log e^f(x1,y) / (alpha m(y) + (1 - alpha) q(y)) ]      (x1, y) from one example
                - E[     e^f(x1,y) / (alpha m(y) + (1 - alpha) q(y)) ]      x1 and y independent
    m(y) = mean over a batch of e^f(x,y),  q(y) > 0 any function of y

He, Shi, Mueller, Zha, Li, Karypis: Distiller, 2021, arXiv 2109.11105, section 3. Poole, Ozair, van
den Oord, Alemi, Tucker: On Variational Bounds of Mutual Information, 2019, arXiv 1905.06922.

Deviations (paper; official code; here; why):
- Orientation: rows are teacher items, as q is a function of y; the code has student rows with the
  teacher's baseline; here as the paper.
- alpha: in [0, 1]; its logit, infinite at the ends; here in [0, 1] with both ends as cases of their
  own.
- Copies of one source in a batch: not treated; the same; here left out as false negatives.
- Critic: an MLP per side; a transformer over positions whose scores compare positions, not
  examples; here the MLP, as in the runs behind the published tables.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from attar.errors import ConfigError, require
from attar.models import without_autocast


def mi_alpha(
    scores: Tensor,
    log_baseline: Tensor,
    *,
    alpha: float,
    same: Tensor | None = None,
    clamp: float | None = None,
) -> Tensor:
    """The interpolated lower bound I_alpha of the mutual information, over all pairs of a batch.

    K is what one forward pass sees: accumulating gradients does not lift the ceiling log(K - 1).
    Adding c to a row of `scores` and to its `log_baseline` changes nothing.

    For alpha from 1e-37 the second term is at most 1 / alpha, so that the value is finite for all
    scores. For alpha = 0 it is exp(score - log_baseline), which overflows above 88 and makes the
    value -inf: `clamp` keeps the scores below that.

    Args:
        scores: (K, K), the critic's f; row i is the teacher's item i, column j the student's item
            j, so that the diagonal holds the true pairs.
        log_baseline: (K,), log q of the teacher's items; not read where alpha is 1.
        alpha: weight of the batch average against the baseline, in [0, 1].
        same: (K, K), true where two items come from one source (augmented copies, mixed pairs):
            false negatives, which are left out. None: every item has its own source.
        clamp: scores are cut to [-clamp, clamp] first; the published code's remedy, with 50.

    Returns:
        Scalar, nats, float32. The loss to minimise is its negative.

    Raises:
        ConfigError: alpha outside [0, 1], a clamp that is not above 0, tensors of other shapes, or
            fewer than two items, or two sources, in the batch.
    """
    require(0 <= alpha <= 1, "alpha", alpha, "between 0 and 1")
    require(clamp is None or clamp > 0, "clamp", clamp, "above 0, or none")
    positive, negative = _pairs(scores, log_baseline, same)

    # F[i, j]: score of teacher item i with student item j; log_q[i]: baseline of teacher item i.
    F, log_q = scores.float(), log_baseline.float()
    if clamp is not None:
        F = F.clamp(-clamp, clamp)
    # A row without negatives says nothing and is left out: R <= K rows remain.
    used = negative.any(1)
    F, log_q, positive, negative = F[used], log_q[used], positive[used], negative[used]
    F = F.masked_fill(~(positive | negative), -torch.inf)
    # Only differences within a row count. Measured from its largest score no digits are lost.
    top = F.detach().amax(1)
    F, log_q = F - top[:, None], log_q - top

    # M[i, j]: log of the mean of exp F[i, k] over the positive and all negatives k but j.
    M = _log_sum_of_others(F) - negative.sum(1, keepdim=True).log()
    # B[i, j]: log of alpha m + (1 - alpha) q, for the pair (i, j).
    if alpha == 1:
        B = M
    elif alpha == 0:
        B = log_q[:, None].expand_as(F)
    else:
        B = torch.logaddexp(math.log(alpha) + M, math.log1p(-alpha) + log_q[:, None])
    joint = (F[positive][:, None] - B)[negative].mean()
    gaps = (F - B[positive][:, None])[negative]
    marg = (gaps.logsumexp(0) - math.log(len(gaps))).exp()
    return 1 + joint - marg


class Critic(nn.Module):
    """f and log q: an MLP on each side and their dot product, and an MLP on the teacher.

    Computed in float32 also under autocast. Trained with the student, at its learning rate, and
    thrown away after. One critic serves all matched layers, or each pair has its own.

    Args:
        student_size: width of the student's features, d_S.
        teacher_size: width of the teacher's features, d_T.
        hidden: width of the two hidden layers of each MLP.
        size: width in which the two sides meet.
        baseline: `learned`; or `fixed`, log q = 1, with which alpha = 0 is NWJ. With alpha = 1
            nothing reads the baseline: `fixed` then leaves no weight without a gradient.
        generator: draws the weights; None: torch's own.

    Raises:
        ConfigError: `baseline` is neither.
    """

    def __init__(
        self,
        student_size: int,
        teacher_size: int,
        *,
        hidden: int = 128,
        size: int = 64,
        baseline: Literal["learned", "fixed"] = "learned",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        require(baseline in ("learned", "fixed"), "baseline", baseline, "learned or fixed")
        self.student = _mlp(student_size, hidden, outputs=size, generator=generator)
        self.teacher = _mlp(teacher_size, hidden, outputs=size, generator=generator)
        learned = baseline == "learned"
        self.baseline = (
            _mlp(teacher_size, hidden, outputs=1, generator=generator) if learned else None
        )

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Student features (K, d_S) and teacher features (K, d_T) of the same items -> scores
        (K, K), a row for each teacher item, and log q (K,).

        The teacher's features get no gradient.
        """
        with without_autocast(student.device):
            student, teacher = student.float(), teacher.detach().float()
            scores = self.teacher(teacher) @ self.student(student).T
            if self.baseline is None:
                return scores, torch.ones_like(scores[:, 0])
            return scores, self.baseline(teacher).squeeze(-1)


def _pairs(scores: Tensor, log_baseline: Tensor, same: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the true pairs are, and where those of different sources, (K, K) each."""
    _check_square(scores)
    for name, given, shape in (
        ("log_baseline", log_baseline, scores.shape[:1]),
        ("same", same, scores.shape),
    ):
        if given is not None and given.shape != shape:
            raise ConfigError(
                f"{name} must have shape {tuple(shape)} for scores of shape {tuple(scores.shape)}, "
                f"but its shape is {tuple(given.shape)}."
            )
    positive = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    negative = ~positive if same is None else ~(positive | same.to(scores.device).bool())
    if not negative.any():
        raise ConfigError(
            "mutual information needs items of at least 2 sources in a batch, but all come from "
            "one; make the batch larger or leave this one out."
        )
    return positive, negative


def _check_square(scores: Tensor) -> None:
    if scores.dim() != 2 or scores.shape[0] != scores.shape[1]:
        raise ConfigError(
            "scores must be (K, K), one row and one column per item, but their shape is "
            f"{tuple(scores.shape)}."
        )
    if len(scores) < 2:
        raise ConfigError(
            f"mutual information needs at least 2 items in a batch, but there is {len(scores)}; "
            "make the batch larger or leave the last, smaller one out."
        )


def _log_sum_of_others(F: Tensor) -> Tensor:
    """Log of the sum of exp F[i, k] over all k but j, at [i, j], for rows whose largest entry is 0.

    Taking one term from the sum of all is safe for all but the largest: what is left is at least
    1. Without the largest the others are summed again. So (K, K) memory does, not (K, K, K).
    """
    largest = torch.zeros_like(F, dtype=torch.bool).scatter(1, F.argmax(1, keepdim=True), True)
    weights = F.exp()
    left = torch.where(largest, 1.0, weights.sum(1, keepdim=True) - weights)
    others = F.masked_fill(largest, -torch.inf).logsumexp(1, keepdim=True)
    return torch.where(largest, others, left.log())


def _mlp(inputs: int, hidden: int, *, outputs: int, generator: torch.Generator | None) -> nn.Module:
    layers = [nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)]
    for layer in layers:  # as torch does by itself, but from this generator
        bound = layer.in_features**-0.5
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
