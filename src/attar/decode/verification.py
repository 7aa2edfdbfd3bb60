"""Which drafted tokens are accepted, so that the text has exactly the target's distribution.

`p` are the target's probabilities and `q` the draft's, both after all processing of the logits, at
the position of each drafted token `d`. Token-wise (Leviathan et al. 2023, arXiv 2211.17192; Chen et
al. 2023, arXiv 2302.01318): a token is accepted with probability min(1, p(d) / q(d)), and behind
the first rejected one the next token is drawn from the residual, what p has more than q.
Block-wise (Sun et al. 2024, arXiv 2403.10444): the longest prefix is kept that its joint
probability carries; never shorter on average.

A rule says two things, which the tests put together into the distribution of the text, in exact
arithmetic: how likely each length is to be reached (`acceptance`), and what the next token is drawn
from (`residual`).
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from attar.decode.distributions import draw

LossyKind = Literal["lin", "sq", "exp", "ensemble", "typical"]
#: of the threshold of `typical`, as in Medusa's published runs
_TYPICAL = 0.3
#: what p has more than q sums to less than this only by rounding
_NOTHING = 1e-12


@dataclass(frozen=True)
class Drafts:
    """Drafted tokens with what both models say of them. B rows, up to G drafted tokens a row.

    Attributes:
        tokens: (B, G) int64; anything behind a row's length.
        lengths: (B,) int64, how many tokens were drafted for the row, from 0 to G.
        p: the target's probabilities, (B, G + 1, V); the last is for the token behind the draft.
        q: the draft's, (B, G, V); None where each token was certain to be proposed.
    """

    tokens: Tensor
    lengths: Tensor
    p: Tensor
    q: Tensor | None

    @property
    def drafted(self) -> Tensor:
        """Where there is a drafted token: (B, G) bool."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]

    @property
    def p_of_token(self) -> Tensor:
        """(B, G)."""
        return _of(self.p[:, :-1], self.tokens)

    @property
    def q_of_token(self) -> Tensor:
        """(B, G)."""
        return torch.ones_like(self.p_of_token) if self.q is None else _of(self.q, self.tokens)

    def p_at(self, position: Tensor) -> Tensor:
        """The target's distribution at a position of each row: (B,), 0 to its length -> (B, V)."""
        return self.p[torch.arange(len(position), device=position.device), position]

    def q_at(self, position: Tensor) -> Tensor:
        """The draft's distribution at a position of each row, zero behind the draft: (B,) ->
        (B, V)."""
        rows = torch.arange(len(position), device=position.device)
        if not self.tokens.shape[1]:
            return torch.zeros_like(self.p[:, 0])
        inside = position.clamp_max(self.tokens.shape[1] - 1)
        if self.q is None:
            q = torch.zeros_like(self.p[:, 0])
            q.scatter_(1, self.tokens[rows, inside][:, None], 1.0)
        else:
            q = self.q[rows, inside]
        return q * (position < self.lengths)[:, None]


class Rule(Protocol):
    """How drafted tokens are judged."""

    def acceptance(self, drafts: Drafts) -> Tensor:
        """(B, G): for each drafted token the threshold that its random number must fall below."""
        ...

    def count(self, below: Tensor) -> Tensor:
        """How many are accepted: (B, G) whether a number fell below its threshold -> (B,)."""
        ...

    def residual(self, drafts: Drafts, kept: Tensor) -> Tensor:
        """The distribution of the token behind them, not normalised: (B,) -> (B, V)."""
        ...


@dataclass(frozen=True)
class TokenRule:
    """Token by token: each is accepted with probability min(1, p / q), up to the first rejected."""

    def acceptance(self, drafts: Drafts) -> Tensor:
        """min(1, p / q), (B, G); 0 where p is 0, whatever q."""
        return _ratio(drafts.p_of_token, drafts.q_of_token)

    def count(self, below: Tensor) -> Tensor:
        """The length of the first run of accepted tokens: (B, G) bool -> (B,) int64."""
        return below.long().cumprod(-1).sum(-1)

    def residual(self, drafts: Drafts, kept: Tensor) -> Tensor:
        """What p has more than q; p itself behind the draft: (B,) -> (B, V)."""
        return _more(drafts.p_at(kept), drafts.q_at(kept))


@dataclass(frozen=True)
class LossyRule(TokenRule):
    """Accepts more than the target's distribution allows, for speed: the text's is another one.

    With p and q of the drafted token, it is accepted with probability min(1, f(p) / q) where f(p)
    is p / epsilon (`lin`), p / epsilon^2 (`sq`) or p^epsilon (`exp`; DistillSpec, section 5.3), or
    epsilon p + (1 - epsilon) q (`ensemble`, arXiv 2604.07622); or where p is above the smaller of
    epsilon and 0.3 exp(-entropy of p) (`typical`, Medusa). At epsilon 1 the first four accept
    what `TokenRule` accepts. What follows the first rejected token is drawn as there.
    """

    kind: LossyKind
    epsilon: float

    def acceptance(self, drafts: Drafts) -> Tensor:
        """The smaller of 1 and f(p) / q, (B, G); for `typical`, 1 where p is large enough."""
        p, q = drafts.p_of_token, drafts.q_of_token
        if self.kind == "typical":
            entropy = -torch.special.xlogy(drafts.p, drafts.p).sum(-1)[:, :-1]
            least = (_TYPICAL * (-entropy).exp()).clamp_max(self.epsilon)
            return (p > least).to(p.dtype)
        raised = {
            "lin": p / self.epsilon,
            "sq": p / self.epsilon**2,
            "exp": p**self.epsilon,
            "ensemble": self.epsilon * p + (1 - self.epsilon) * q,
        }[self.kind]
        return _ratio(raised, q)

    def greedy(self, drafts: Drafts) -> Tensor:
        """The same where the target takes its likeliest token, p being its probabilities at
        temperature 1: (B, G) bool. A token is accepted if it is at least epsilon times as likely as
        the likeliest."""
        if self.kind == "typical":
            return self.acceptance(drafts) > 0
        return drafts.p_of_token >= self.epsilon * drafts.p[:, :-1].amax(-1)


@dataclass(frozen=True)
class BlockRule:
    """The longest prefix that its joint probability carries (Sun et al., algorithm 2).

    With P_0 = 1 and P_i = min(1, P_{i-1} p_i(d_i) / q_i(d_i)): prefix i is reached with probability
    s_i / (s_i + 1 - P_i), where s_i sums what P_i p_{i+1} has more than q_{i+1}; the whole draft
    with P_G.
    """

    def acceptance(self, drafts: Drafts) -> Tensor:
        """(B, G): h_1 ... h_G."""
        joint = self._joint(drafts)
        reached = torch.zeros_like(joint)
        for i in range(drafts.tokens.shape[1]):
            here = joint[:, i]
            at = torch.full_like(drafts.lengths, i + 1)
            more = (here[:, None] * drafts.p_at(at) - drafts.q_at(at)).clamp_min(0).sum(-1)
            missing = more + 1 - here
            partly = more / torch.where(missing > 0, missing, 1.0)
            reached[:, i] = torch.where(drafts.lengths == i + 1, here, partly)
        return reached

    def count(self, below: Tensor) -> Tensor:
        """The last place that is reached: (B, G) bool -> (B,) int64; 0 if none is."""
        places = torch.arange(1, below.shape[1] + 1, device=below.device)
        return torch.where(below, places, 0).amax(-1) if below.shape[1] else below.sum(-1)

    def residual(self, drafts: Drafts, kept: Tensor) -> Tensor:
        """What P_k p has more than q; p itself behind the draft: (B,) -> (B, V)."""
        joint = torch.cat([torch.ones_like(drafts.p[:, :1, 0]), self._joint(drafts)], 1)
        share = joint.gather(1, kept[:, None])
        share = torch.where((kept < drafts.lengths)[:, None], share, 1.0)
        return _more(drafts.p_at(kept), drafts.q_at(kept), share=share)

    def _joint(self, drafts: Drafts) -> Tensor:
        p, q = drafts.p_of_token, drafts.q_of_token
        joint = torch.empty_like(p)
        last = torch.ones_like(p[:, :1])
        for i in range(p.shape[1]):
            last = _ratio(last * p[:, i : i + 1], q[:, i : i + 1])
            joint[:, i : i + 1] = last
        return joint


def verify(drafts: Drafts, uniforms: Tensor, *, rule: Rule) -> tuple[Tensor, Tensor]:
    """Accept drafted tokens, and draw the one behind them (Leviathan et al., algorithm 1, from its
    third comment on).

    Args:
        drafts: with what both models say.
        uniforms: (B, G + 1) in [0, 1); the last of each row is for the token behind.
        rule: how they are judged.

    Returns:
        How many tokens are accepted, (B,), and the token behind them, (B,).
    """
    # 3. determine the number of accepted guesses n
    below = (uniforms[:, :-1] < rule.acceptance(drafts)) & drafts.drafted
    kept = rule.count(below)
    # 4. adjust the target's distribution if one was rejected, and 5. draw one token from it
    return kept, draw(rule.residual(drafts, kept), uniforms[:, -1])


def verify_greedy(tokens: Tensor, *, lengths: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """The same where the target always takes its likeliest token.

    Args:
        tokens: drafted, (B, G).
        lengths: how many of them, (B,).
        best: the target's likeliest tokens, (B, G + 1).

    Returns:
        As `verify`.
    """
    drafted = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    kept = ((tokens == best[:, :-1]) & drafted).long().cumprod(-1).sum(-1)
    return kept, best.gather(1, kept[:, None])[:, 0]


def _ratio(p: Tensor, q: Tensor) -> Tensor:
    """min(1, p / q), 0 where p is 0."""
    return torch.where(p >= q, (p > 0).to(p.dtype), p / torch.where(q > 0, q, 1.0))


def _more(p: Tensor, q: Tensor, *, share: Tensor | float = 1.0) -> Tensor:
    more = (share * p - q).clamp_min(0)
    return torch.where(more.sum(-1, keepdim=True) < _NOTHING, p, more)


def _of(probabilities: Tensor, tokens: Tensor) -> Tensor:
    return probabilities.gather(-1, tokens[..., None])[..., 0]
