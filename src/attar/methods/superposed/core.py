"""One step of Superposed Decoding, as the paper has it: its equations, and the step itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attar.decode.ngrams import NGrams
from attar.methods.superposed.config import SuperposedConfig

Array = NDArray[np.float64]

#: n-grams from this length on tell whether a store knows a domain
TELLING = 4


@dataclass(frozen=True)
class Draft:
    """Tokens behind a prompt.

    Attributes:
        tokens: of the draft; the one that ended it among them.
        score: s, its logarithm of a product of scores, in nats.
        hits: steps before which the store had seen the last three tokens or more.
        ended: whether a stop ended it.
    """

    tokens: tuple[int, ...] = ()
    score: float = 0.0
    hits: int = 0
    ended: bool = False

    @property
    def mean_score(self) -> float:
        """Score by token, by which drafts of different lengths are compared."""
        return self.score / max(1, len(self.tokens))


@dataclass(frozen=True)
class Row:
    """A prompt and its drafts, between two steps.

    Attributes:
        context: tokens of the prompt that the store goes by.
        width: how many drafts may be alive.
        alive: drafts that go on. In the beginning there is one, and it is empty.
        finished: drafts that a stop ended.
        exact: whether the one draft that is alive stands for itself, unmixed: before the first
            step, and after a reset.
        store: n-grams; None: the model alone.
        allowed: which tokens may come first, `(V,)`; None: all.
        ends: whether a draft with these tokens is at its end.
    """

    context: tuple[int, ...]
    width: int
    ends: Callable[[tuple[int, ...]], bool]
    alive: tuple[Draft, ...] = (Draft(),)
    finished: tuple[Draft, ...] = ()
    exact: bool = True
    store: NGrams | None = None
    allowed: Tensor | None = None


# ------------------------------------------------------------------------ equations of the paper


def mixing_weights(scores: Sequence[float], *, temperature: float = 1.0) -> Array:
    """gamma_i = p_i / sum_j p_j, `(n,)` (equation 4), with p_i = exp(s_i)."""
    scaled = np.asarray(scores, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max())
    return powers / powers.sum()


def superposed_embedding(embeddings: Tensor, weights: Array) -> Tensor:
    """x~ = sum_i gamma_i E[last_i], `(d,)` (equation 3), mixed in float32 at least.

    Args:
        embeddings: rows of the last tokens, `(n, d)`.
        weights: gamma, `(n,)`.
    """
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    gamma = torch.as_tensor(weights, dtype=wide, device=embeddings.device)
    return (gamma[:, None] * embeddings.to(wide)).sum(0).to(embeddings.dtype)


def likeliest(logits: Tensor, *, count: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Ids of the `count` likeliest tokens and l(v), their log-probabilities at a temperature,
    renormalised over them: both `(B, count)`, the likeliest first (appendix B).

    Args:
        logits: `(B, V)`.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    values, ids = logits.to(wide).topk(min(count, logits.shape[-1]))
    return ids, (values / temperature).log_softmax(-1)


def ngram_mixture(probabilities: Array, lambdas: Sequence[float]) -> Array:
    """g(v) = sum_n lambda_n count(ctx_n, v) / count(ctx_n), `(C,)` (section 3): orders whose
    context was never seen give nothing, and nobody gets their share.

    Args:
        probabilities: `(orders, C)`, 2-grams first.
        lambdas: weights of the orders; of as many as both have.
    """
    orders = min(len(probabilities), len(lambdas))
    return np.asarray(lambdas[:orders]) @ probabilities[:orders]


def interpolated(log_probs: Array, mixture: Array, *, alpha: float) -> Array:
    """(1 - alpha) l(v) + alpha log g(v), `(C,)` (section 3): the geometric interpolation; minus
    infinity where the n-grams do not know a token."""
    with np.errstate(divide="ignore"):
        return (1 - alpha) * log_probs + alpha * np.log(mixture)


def penalised(log_probs: Array, *, alpha: float, penalty: float) -> Array:
    """(1 - alpha) l(v) - Delta, `(C,)` (equation 7): for drafts that the n-grams know nothing
    of."""
    return (1 - alpha) * log_probs - penalty


# ------------------------------------------------------------------------------------- the step


def step(
    rows: Sequence[Row],
    *,
    read: Callable[[Sequence[Row]], Tensor],
    config: SuperposedConfig,
) -> list[Row]:
    """Every draft of every row gets one more token, by one forward pass.

    Args:
        rows: prompts with drafts, independent of each other.
        read: the forward pass: logits behind the exact draft of a row, or behind the mixture of its
            drafts' last tokens (equations 3 and 4), `(B, V)`.
        config: how.
    """
    # 1. Forward: one entry of the cache per row, whatever k is; earlier entries stay.
    logits = read(rows)
    for i, row in enumerate(rows):
        if row.exact and row.allowed is not None:
            logits[i] = logits[i].masked_fill(~row.allowed.to(logits.device), -torch.inf)
    # 2. The m_c likeliest tokens of each row are the candidates of all of its drafts.
    ids, log_probs = likeliest(logits, count=config.pool, temperature=config.temperature)
    table = zip(rows, ids.tolist(), log_probs.double().cpu().numpy(), strict=True)
    return [
        _with_next_token(row, tokens=tokens, log_probs=ell, config=config) if row.alive else row
        for row, tokens, ell in table
    ]


def _with_next_token(
    row: Row, *, tokens: list[int], log_probs: Array, config: SuperposedConfig
) -> Row:
    """Steps 3 to 6, of one row."""
    # 3 and 4. Every draft scores the candidates, with what the n-grams say behind its own tokens.
    lists = [
        _continuations(draft, row, tokens=tokens, log_probs=log_probs, config=config)
        for draft in row.alive
    ]
    # 5. The k best of all become the drafts. They differ, as those that they continue differ.
    # 6. What ends among them is kept, and its place goes to the next best.
    if config.anchor_first and not row.exact:  # each first token keeps a draft
        chosen = [_best(one, width=1, row=row, refill=config.refill) for one in lists]
        alive = tuple(draft for kept, _ in chosen for draft in kept)
        finished = tuple(draft for _, gone in chosen for draft in gone)
    else:
        pool = [candidate for one in lists for candidate in one]
        alive, finished = _best(pool, width=row.width, row=row, refill=config.refill)
    width = row.width if config.refill else row.width - len(finished)
    return replace(
        row, alive=alive, finished=row.finished + finished, exact=False, width=width, allowed=None
    )


class _Candidate(NamedTuple):
    """A draft with one more token. `spare`: taken only where there are fewer than k others."""

    score: float
    parent: Draft
    token: int
    spare: bool

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of the draft with it."""
        return *self.parent.tokens, self.token


def _continuations(
    draft: Draft, row: Row, *, tokens: list[int], log_probs: Array, config: SuperposedConfig
) -> list[_Candidate]:
    """Steps 3 and 4, of one draft: s_i + the score of each candidate."""
    finite = np.isfinite(log_probs)
    first = row.exact
    store, alpha = row.store, config.alpha
    if store is None or alpha == 0 or (not draft.tokens and not config.first_token_ngrams):
        return _candidates(draft, tokens, draft.score + log_probs, usable=finite)
    # g_i(v), by the last real tokens of this draft
    context = [*row.context, *draft.tokens][-(store.order - 1) :]
    mixture = ngram_mixture(store.probabilities(context, tokens), config.lambdas)
    hit = bool(store.seen(context)[TELLING - 2 :].any())
    draft = replace(draft, hits=draft.hits + hit)
    # a draft without a known candidate pays for it, where there is another draft
    alone = draft.score + penalised(log_probs, alpha=alpha, penalty=config.penalty)
    known = (mixture > 0) & finite
    if not known.any():
        return _candidates(draft, tokens, alone + config.penalty * first, usable=finite)
    both = draft.score + interpolated(log_probs, mixture, alpha=alpha)
    rest = _candidates(draft, tokens, alone, usable=finite & ~known, spare=True)
    return _candidates(draft, tokens, both, usable=known) + rest


def _candidates(
    draft: Draft,
    tokens: Sequence[int],
    scores: Array,
    *,
    usable: NDArray[np.bool_],
    spare: bool = False,
) -> list[_Candidate]:
    table = zip(scores.tolist(), tokens, usable.tolist(), strict=True)
    return [_Candidate(score, draft, token, spare) for score, token, fine in table if fine]


def _best(
    pool: Sequence[_Candidate], *, width: int, row: Row, refill: bool
) -> tuple[tuple[Draft, ...], tuple[Draft, ...]]:
    """Steps 5 and 6: the drafts that go on, and those that end. An end among the `width` best is
    kept, and its place goes to the next best, or to none.

    Of equal scores that of the better draft goes first, and then the likelier token.
    """
    alive: list[Draft] = []
    finished: list[Draft] = []
    for rank, one in enumerate(sorted(pool, key=lambda one: (one.spare, -one.score))):
        taken = len(alive) if refill else rank
        if taken >= width:
            break
        tokens = one.tokens
        if not row.ends(tokens):
            alive.append(Draft(tokens, one.score, one.parent.hits))
        elif rank < width:
            finished.append(Draft(tokens, one.score, one.parent.hits, ended=True))
    return tuple(alive), tuple(finished)
