"""The next token of many texts at once, each with settings and random numbers of its own."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.generation import logits_process as lib

from attar.decode.distributions import Nucleus, Uniforms, Warp, draw

COLD = 1e-5
"""Below this temperature the likeliest token is taken: logits divided by less may overflow."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is drawn, as the OpenAI API names it."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_k: int = 0
    """Draw from this many likeliest tokens; 0: from all."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that together have this probability."""
    min_p: float = 0.0
    """Draw from tokens with at least this share of the probability of the likeliest."""
    presence_penalty: float = 0.0
    """Is subtracted from the logits of tokens that were written before."""
    frequency_penalty: float = 0.0
    """The same, as many times as they were written."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Is added to the logits of these tokens."""
    seed: int | None = None
    """None: drawn from torch's generator."""

    @property
    def law(self) -> tuple[float, int, float, float]:
        """What is done to the logits whatever was written before."""
        return self.temperature, self.top_k, self.top_p, self.min_p

    def warp(self) -> Warp:
        """The same, as `generate` does it."""
        if self.temperature < COLD:
            return Warp(greedy=True)
        processors: list[lib.LogitsProcessor] = []
        if self.temperature != 1:
            processors.append(lib.TemperatureLogitsWarper(self.temperature))
        if self.top_k:
            processors.append(lib.TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            processors.append(Nucleus(self.top_p))
        if self.min_p:
            processors.append(lib.MinPLogitsWarper(self.min_p))
        return Warp(greedy=False, processors=tuple(processors))


class Chooser:
    """Chooses the tokens of one text."""

    def __init__(self, sampling: Sampling) -> None:
        seed = sampling.seed
        if seed is None:
            seed = int(torch.randint(2**31, (1,), device="cpu"))
        self.sampling = sampling
        self.uniforms = Uniforms([torch.Generator().manual_seed(seed)])
        self._counts: Counter[int] = Counter()

    def penalise(self, scores: Tensor) -> None:
        """Change the scores `(V,)` of tokens in place."""
        own = self.sampling
        if own.logit_bias:
            tokens, values = zip(*own.logit_bias, strict=True)
            scores[list(tokens)] += torch.tensor(values, device=scores.device)
        if self._counts and (own.presence_penalty or own.frequency_penalty):
            counts = torch.tensor(list(self._counts.values()), device=scores.device)
            scores[list(self._counts)] -= own.presence_penalty + own.frequency_penalty * counts

    def count(self, token: int) -> None:
        """Learn what was written."""
        self._counts[token] += 1


def choose(logits: Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """The next token of each text, from logits `(B, V)`."""
    scores = logits.float().clone()
    alike: defaultdict[tuple[float, ...], list[int]] = defaultdict(list)
    for row, chooser in enumerate(choosers):
        chooser.penalise(scores[row])
        alike[chooser.sampling.law].append(row)
    tokens = [0] * len(choosers)
    for rows in alike.values():
        warp = choosers[rows[0]].sampling.warp()
        own = warp(scores[rows][:, None], _no_prefix, first=[0] * len(rows), numbers=rows)[:, 0]
        if warp.greedy:
            best = own.argmax(-1)
        else:
            numbers = [choosers[row].uniforms.take([1])[0, 0] for row in rows]
            best = draw(own.softmax(-1), torch.stack(numbers).to(own.device))
        for row, token in zip(rows, best.tolist(), strict=True):
            tokens[row] = token
            choosers[row].count(token)
    return tokens


def _no_prefix(row: int, position: int) -> Sequence[int]:
    raise AssertionError("no processor looks at the tokens before")
