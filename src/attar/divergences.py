"""How far a student's next-token distributions are from a teacher's: nats per token, in float32.

Every divergence gives one number per token, `(B, T)`, and says nothing of masks and batches;
`mean_over` alone reduces them. So a weight means the same whatever the batch, the vocabulary or the
number of processes.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from attar.errors import require

Divergence = Callable[[Tensor, Tensor], Tensor]
"""(student logits (B, T, V), teacher logits (B, T, V)) -> (B, T)."""


def forward_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher || student), `(B, T, V)` each -> `(B, T)`: covers all that the teacher does."""
    return _kl(_log_softmax(teacher_logits), _log_softmax(student_logits))


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(student || teacher), `(B, T, V)` each -> `(B, T)`: stays within what the teacher does."""
    return _kl(_log_softmax(student_logits), _log_softmax(teacher_logits))


def js(student_logits: Tensor, teacher_logits: Tensor, *, beta: float = 0.5) -> Tensor:
    """Generalised Jensen-Shannon divergence, `(B, T, V)` each -> `(B, T)`.

    beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q, p the teacher's and q
    the student's distribution. Bounded by the entropy of (beta, 1 - beta); symmetric at one half,
    where the bound is log 2.

    Raises:
        ConfigError: `beta` is not between 0 and 1.
    """
    require(0 < beta < 1, "beta", beta, "between 0 and 1")
    p, q = _log_softmax(teacher_logits), _log_softmax(student_logits)
    weights = torch.tensor([beta, 1 - beta], device=p.device).log()
    m = torch.logaddexp(p + weights[0], q + weights[1])
    return beta * _kl(p, m) + (1 - beta) * _kl(q, m)


def tvd(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Total variation distance, `(B, T, V)` each -> `(B, T)`: half the summed difference of the
    probabilities. One less the chance that speculative decoding accepts a token of the student's.
    """
    gap = student_logits.float().softmax(-1) - teacher_logits.float().softmax(-1)
    return gap.abs().sum(-1) / 2


def overlap(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """What both distributions have in common, the sum of the smaller probabilities, `(B, T, V)`
    each -> `(B, T)`, from 0 to 1."""
    q, p = student_logits.float().softmax(-1), teacher_logits.float().softmax(-1)
    return torch.minimum(p, q).sum(-1)


def lk(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The hybrid of LK losses (arXiv 2602.23881), `(B, T, V)` each -> `(B, T)`.

    a KL(teacher || student) + (1 - a) TVD with a = exp(-3 overlap), taken as a constant: as good as
    forward KL where the two hardly overlap, and nearer to `tvd` the more they do.
    """
    distance = tvd(student_logits, teacher_logits)
    share = (-3 * (1 - distance.detach())).exp()
    return share * forward_kl(student_logits, teacher_logits) + (1 - share) * distance


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy with the teacher's distribution, `(..., V)` each -> `(...)`.

    Forward KL plus the entropy of the teacher, and so with the same gradient.
    """
    log_p, log_q = _log_softmax(teacher_logits), _log_softmax(student_logits)
    possible = log_p > -torch.inf
    return -(log_p.exp() * torch.where(possible, log_q, 0.0)).sum(-1)


def binary_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of labels that are on or off each by itself, averaged over the labels:
    `(..., V)` each -> `(...)`."""
    student, teacher = student_logits.float(), teacher_logits.float()
    return F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none").mean(-1)


def binary_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Forward KL of labels that are on or off each by itself, averaged over the labels:
    `(..., V)` each -> `(...)`."""
    entropy = binary_cross_entropy(teacher_logits, teacher_logits)
    return (binary_cross_entropy(student_logits, teacher_logits) - entropy).clamp_min(0.0)


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared difference of logits, `(..., V)` each -> `(...)`. Where the teacher's logit is
    -inf there is nothing to predict, and the mean is over the others."""
    known = teacher_logits > -torch.inf
    gap = torch.where(known, student_logits.float(), 0.0) - torch.where(
        known, teacher_logits.float(), 0.0
    )
    return gap.square().sum(-1) / known.sum(-1).clamp_min(1)


DivergenceName = Literal["forward_kl", "reverse_kl", "js", "tvd", "lk"]
DIVERGENCES: Mapping[DivergenceName, Divergence] = MappingProxyType(
    {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "js": js, "tvd": tvd, "lk": lk}
)
"""Between next-token distributions, by the name that options give."""


def at_temperature(
    divergence: Divergence, *, temperature: float, tau_squared: bool = True
) -> Divergence:
    """The divergence of logits divided by a temperature, times its square, so that the size of its
    gradient, and with it the weight of the loss, does not depend on it.

    Raises:
        ConfigError: the temperature is not above 0.
    """
    require(temperature > 0, "temperature", temperature, "above 0")

    def scaled(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        distance = divergence(student_logits / temperature, teacher_logits / temperature)
        return distance * temperature**2 if tau_squared else distance

    return scaled


def topk_forward_kl(
    student_logits: Tensor, ids: Tensor, *, log_probs: Tensor, log_rest: Tensor
) -> Tensor:
    """KL(teacher || student) over the teacher's `k` likeliest tokens and one bucket of all others.

    Never negative, never above the full KL, and equal to it when `k` is the vocabulary. The
    teacher's probabilities are scaled to sum to one, since they may have been stored with few
    digits.

    Args:
        student_logits: (B, T, V).
        ids: the teacher's likeliest tokens, (B, T, k), each once.
        log_probs: their log-probabilities, (B, T, k).
        log_rest: log of the probability of all other tokens, (B, T); -inf where there is none.

    Returns:
        (B, T).
    """
    ids = ids.long()
    logits = student_logits.float()
    p = torch.cat([log_probs.float(), log_rest.float()[..., None]], -1).log_softmax(-1)
    q = logits.gather(-1, ids)
    if ids.shape[-1] == logits.shape[-1]:
        return _kl(p[..., :-1], q.log_softmax(-1))
    # Normalised over k + 1 numbers: one pass over the vocabulary, in `log_mass_outside`, is enough.
    q = torch.cat([q, log_mass_outside(logits, ids)[..., None]], -1)
    return _kl(p, q.log_softmax(-1))


def log_mass_outside(logits: Tensor, ids: Tensor) -> Tensor:
    """Log of the summed `exp(logits)` of all tokens but `ids`: (B, T, V), (B, T, k) -> (B, T).

    A sum over the others, not one minus the sum of `ids`, which would lose all digits where the
    others are rare.
    """
    return logits.scatter(-1, ids, -torch.inf).logsumexp(-1)


def mean_over(per_token: Tensor, mask: Tensor | None, *, count: int | Tensor) -> Tensor:
    """The one reducer: the sum of `(B, T)` values where `mask` is true, over `count` -> scalar.

    `count` is the number of tokens of the whole step, over all accumulated batches and processes,
    so that the shares add up to the mean. `mask` None counts every token. Values under a false mask
    may be anything, NaN too.
    """
    if mask is not None:
        per_token = torch.where(mask.bool(), per_token, 0.0)
    return per_token.sum() / count


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    # A token that p never takes costs nothing, whatever q makes of it: 0 log 0 = 0.
    never = log_p == -torch.inf
    gap = torch.where(never, 0.0, log_p) - torch.where(never, 0.0, log_q)
    # Rounding may leave a hair below zero where both are equal.
    return (log_p.exp() * gap).sum(-1).clamp_min(0.0)
