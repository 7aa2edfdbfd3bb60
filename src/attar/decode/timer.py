"""Seconds of the parts of decoding on this machine: a plain token, a drafted one, a verification,
and the loop around them."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from attar.decode.captured import passes_of
from attar.decode.distributions import Uniforms, Warp
from attar.decode.drafters import ModelDrafter
from attar.decode.forced import Ids
from attar.decode.race import generate_one
from attar.decode.sampling import encoded, starts
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.decode.static import Passes, reader_of
from attar.decode.stats import SpecStats
from attar.runtime import synchronize

TURNS = 3
"""Repeats of each timing behind a prompt."""


@dataclass(frozen=True)
class Times:
    """Seconds of the parts of decoding, batch 1.

    Attributes:
        plain: of a token of plain decoding, by `generate`.
        verify: of a pass of the target over so many tokens, with a cache.
        draft: of a drafted token.
        other: of all else in a block.
    """

    plain: float
    verify: dict[int, float]
    draft: float
    other: float

    @property
    def cost(self) -> float:
        """c: the time of a drafted token over that of the target's pass over one."""
        return self.draft / self.verify[1]

    def block(self, length: int) -> float:
        """Seconds of a block with a draft of so many tokens."""
        widths = sorted(self.verify)
        verify = float(np.interp(length + 1, widths, [self.verify[w] for w in widths]))
        return length * self.draft + verify + self.other


class StepTimer:
    """Times the parts of decoding, one prompt after the other, as often as `time` is called.

    Each visit to a prompt gives a median, which no hiccup moves; a part's time is the mean over the
    visits, in which slow minutes count as much as they do in a race.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        draft: PreTrainedModel,
        *,
        lengths: Sequence[int],
        temperature: float,
        tokens: int,
    ) -> None:
        self._target, self._draft = target, draft
        self._longest, self._temperature, self._tokens = max(lengths), temperature, min(tokens, 32)
        self._widths = [1 + length for length in (0, *lengths)]
        self._passes = [passes_of(model, compile=None) for model in (target, draft)]
        self._visits: list[Times] = []

    def time(self, prompt: Ids) -> None:
        """Time all parts behind a prompt, in turns."""
        target, draft, temperature = self._target, self._draft, self._temperature
        verify, drafted = _time_block(
            target,
            draft,
            prompt,
            widths=self._widths,
            temperature=temperature,
            passes=self._passes,
        )
        self._visits.append(
            Times(
                plain=_plain(target, prompt, temperature=temperature, tokens=self._tokens),
                verify=verify,
                draft=drafted,
                other=_other(target, draft, prompt, temperature=temperature, length=self._longest),
            )
        )

    def times(self) -> Times:
        """Means over all visits so far."""
        return Times(
            plain=statistics.mean(one.plain for one in self._visits),
            verify={
                w: statistics.mean(one.verify[w] for one in self._visits) for w in self._widths
            },
            draft=statistics.mean(one.draft for one in self._visits),
            other=statistics.mean(one.other for one in self._visits),
        )


@torch.no_grad()
def _time_block(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompt: Ids,
    *,
    widths: Sequence[int],
    temperature: float,
    passes: Sequence[Passes | None],
) -> tuple[dict[int, float], float]:
    """Seconds of the target's passes by width, and of a drafted token, as medians.

    Drafting and verification come in turns, as they do in decoding: a draft alone would find its
    weights in the processor's cache, where the target's pass leaves none of them.
    """
    reader = reader_of(target, 1, passes=passes[0], **encoded(target, [prompt]))
    drafter = ModelDrafter(
        draft,
        warp=Warp(greedy=True) if not temperature else Warp(greedy=False).at(temperature),
        size=target.config.get_text_config(decoder=True).vocab_size,
        passes=passes[1],
    )
    drafter.start([[]], **encoded(draft, [prompt]))
    uniforms = Uniforms([torch.Generator().manual_seed(0)])
    row = starts(target, [prompt])[0]
    start = len(row)
    long = [*row, *[row[-1]] * max(widths)]
    verify: dict[int, list[float]] = {width: [] for width in widths}
    drafted: list[float] = []
    reader.score([row], counts=[1])
    for turn in range(TURNS + 1):
        for width in widths:
            began = time.perf_counter()
            if width > 1:
                drafter.propose(
                    [row], [width - 1], uniforms=uniforms, keep_drafting=lambda *_: True
                )
                drafter.keep([start - 1])
            middle = time.perf_counter()
            synchronize(reader.score([long[: start + width]], counts=[width]).device)
            end = time.perf_counter()
            reader.keep([start])
            if turn:  # the first one warms up
                verify[width].append(end - middle)
                drafted += [(middle - began) / (width - 1)] if width > 1 else []
    return {w: statistics.median(seconds) for w, seconds in verify.items()}, statistics.median(
        drafted
    )


def _plain(target: PreTrainedModel, prompt: Ids, *, temperature: float, tokens: int) -> float:
    """Seconds of a token of plain decoding, without the reading of the prompt."""
    begun, whole = [], []
    for _ in range(2):
        begun.append(generate_one(target, prompt, tokens=1, temperature=temperature).seconds)
        text = generate_one(target, prompt, tokens=1 + tokens, temperature=temperature)
        whole.append(text.seconds)
    return max(1e-9, statistics.median(whole) - statistics.median(begun)) / tokens


def _other(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompt: Ids,
    *,
    temperature: float,
    length: int,
) -> float:
    """Seconds that a block takes outside both models."""
    config = SpecConfig(policy="constant", draft_tokens=length, seed=0)
    decoder = SpeculativeDecoder(target, draft, config=config)
    stats = SpecStats()
    for _ in range(2):  # the first one warms up
        stats = generate_one(
            target, prompt, tokens=24, decoder=decoder, temperature=temperature
        ).stats
    return stats.other_seconds / max(stats.blocks, 1)
