"""How well a draft agrees with its target, read off the target's own texts without decoding one.

Given a text `x` that the target wrote, a drafted token is accepted where speculative decoding
reaches position t with probability min(1, q(x_t) / p(x_t)), whatever happened before: in the joint
distribution of drafted and accepted tokens it is the chance that x_t was accepted rather than drawn
again. So the number of blocks that a text takes is known exactly for drafts of any length, from one
pass of each model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.decode.distributions import of_size
from attar.decode.forced import Ids, answers, batch_of
from attar.decode.sampling import sample
from attar.models import inference
from attar.runtime import Bar

#: rows of a pass
_BATCH = 16


@dataclass(frozen=True)
class Texts:
    """What a target wrote behind some prompts at one temperature."""

    prompts: Sequence[Ids]
    completions: Sequence[Ids]
    temperature: float

    @classmethod
    def of(
        cls,
        target: PreTrainedModel,
        prompts: Sequence[Ids],
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int = 0,
        stops: Sequence[int] = (),
    ) -> "Texts":
        """Let the target write."""
        written: list[Ids] = []
        starts = range(0, len(prompts), _BATCH)
        for start in Bar(starts, desc="texts of the target", unit="batch", leave=False):
            some = prompts[start : start + _BATCH]
            written += sample(
                target,
                some,
                max_new_tokens=max_new_tokens,
                seeds=range(seed + start, seed + start + len(some)),
                temperature=temperature,
                stops=stops,
            )
        return cls(prompts, written, temperature)


@dataclass(frozen=True)
class Agreement:
    """Of a draft with its target, token by token of the target's texts.

    Attributes:
        overlap: summed smaller probabilities, one less the total variation distance; at temperature
            0 one where both have the same likeliest token, else zero.
        chances: that the token of the text is accepted where a block reaches it.
    """

    overlap: Sequence[np.ndarray]
    chances: Sequence[np.ndarray]

    @property
    def alpha(self) -> float:
        """Mean overlap over all tokens: the acceptance rate of a token."""
        return float(np.concatenate(self.overlap).mean())

    def block_efficiency(self, length: int) -> float:
        """Tokens for each pass of the target with drafts of this length, from 1 to
        `length + 1` (tau). Exact for token-wise verification of these texts."""
        blocks = sum(expected_blocks(chances, length) for chances in self.chances)
        return sum(map(len, self.chances)) / blocks

    def efficiency_error(self, length: int) -> float | None:
        """The standard error of `block_efficiency`, from how it differs between texts: that of a
        ratio of sums, sqrt(n / (n - 1) sum (T_i - tau b_i)^2) / sum b_i, of T_i tokens in b_i
        blocks; None of a single text."""
        n = len(self.chances)
        if n < 2:
            return None
        tokens = np.array([len(chances) for chances in self.chances])
        blocks = np.array([expected_blocks(chances, length) for chances in self.chances])
        apart = tokens - tokens.sum() / blocks.sum() * blocks
        return float(np.sqrt(n / (n - 1) * (apart**2).sum()) / blocks.sum())

    def acceptance(self, length: int) -> list[float]:
        """The chance that the i-th drafted token is accepted where it is drafted, i from 1, over
        all blocks of drafts of this length."""
        reached, accepted = np.zeros(length), np.zeros(length)
        for chances in self.chances:
            begins = block_starts(chances, length)
            for start in np.flatnonzero(begins):
                block = chances[start : start + length]
                before = np.concatenate([[1.0], np.cumprod(block)])
                reached[: len(block)] += begins[start] * before[:-1]
                accepted[: len(block)] += begins[start] * before[1:]
        return (accepted / np.maximum(reached, 1e-12)).tolist()


def expected_blocks(chances: np.ndarray, length: int) -> float:
    """How many blocks a text takes whose tokens are accepted with these chances, (T,)."""
    return float(block_starts(chances, length).sum())


def block_starts(chances: np.ndarray, length: int) -> np.ndarray:
    """The chance that a block begins at each token of a text, (T,) -> (T,).

    A block that begins at t keeps tokens up to the first rejected one, which is drawn again and
    ends it; behind a draft that is accepted whole comes one more token of the target.
    """
    begins = np.zeros(len(chances) + length + 2)
    begins[0] = 1.0
    for t in range(len(chances)):
        left = begins[t]
        for k, chance in enumerate(chances[t : t + length]):
            begins[t + k + 1] += left * (1 - chance)
            left *= chance
        begins[t + len(chances[t : t + length]) + 1] += left
    return begins[: len(chances)]


def agreement(target: PreTrainedModel, draft: PreTrainedModel, *, texts: Texts) -> Agreement:
    """Let both models read the target's texts.

    Args:
        target: which wrote them.
        draft: of the same tokenizer; padded vocabularies may differ.
        texts: of some length each.
    """
    overlap: list[np.ndarray] = []
    chances: list[np.ndarray] = []
    pairs = [pair for pair in zip(texts.prompts, texts.completions, strict=True) if pair[1]]
    starts = range(0, len(pairs), _BATCH)
    with inference(target), inference(draft):
        for start in Bar(starts, desc="acceptance", unit="batch", leave=False):
            prompts, completions = zip(*pairs[start : start + _BATCH], strict=True)
            batch = batch_of(target, prompts=prompts, completions=completions)
            logits = [
                answers(model, {k: v.to(model.device) for k, v in batch.items()}).float()
                for model in (target, draft)
            ]
            size = logits[0].shape[-1]
            p, q = (_probabilities(of_size(one, size), texts.temperature) for one in logits)
            common = torch.minimum(p, q).sum(-1).clamp_max(1.0)
            for r, completion in enumerate(completions):
                ids = torch.tensor(list(completion), device=p.device)[:, None]
                of_p, of_q = (one[r, : len(ids)].gather(1, ids)[:, 0] for one in (p, q))
                # the target can write what it wrote; a zero is a tie of greedy decoding, rounded
                ratio = torch.where(of_p > 0, of_q / of_p.clamp_min(1e-30), 0.0).clamp_max(1.0)
                overlap.append(common[r, : len(ids)].double().cpu().numpy())
                chances.append(ratio.double().cpu().numpy())
    return Agreement(overlap, chances)


def _probabilities(logits: Tensor, temperature: float) -> Tensor:
    """The distribution that tokens are drawn from, (B, C, V) each."""
    if temperature:
        return (logits / temperature).softmax(-1)
    return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
