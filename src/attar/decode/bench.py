"""Whether a draft pays on this machine: how much of it is accepted, what each part costs, what
follows from that, and what is then measured.

Leviathan et al. (2023) predict a speed-up of tau / (c g + 1) for drafts of g tokens, with c the
draft's time over the target's. It holds where a pass over g + 1 tokens takes as long as one over a
single token, which on a processor it does not. So the times are measured: with t_1 a token of
plain decoding, t_d a drafted one, t_v(g + 1) the verification and t_o all else in a block,

    speed-up(g) = tau(g) t_1 / (g t_d + t_v(g + 1) + t_o).

A shared machine has slow minutes that make a wide pass dearer and one over a single token hardly
so. Parts are therefore timed beside the races as well, and a prediction holds for the machine that
a race saw.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from attar.decode.agreement import Texts, agreement
from attar.decode.cache import cached
from attar.decode.distributions import Uniforms, Warp
from attar.decode.drafters import ModelDrafter
from attar.decode.forced import Ids
from attar.decode.race import Race, generate_one, race
from attar.decode.sampling import encoded, starts
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.decode.stats import SpecStats, settle
from attar.errors import ConfigError

#: repeats of each timing behind a prompt, and prompts
_TURNS, _PROMPTS = 3, 4


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


@dataclass(frozen=True)
class Outlook:
    """What drafts of some length give at one temperature.

    Attributes:
        length: tokens of a draft.
        tau: tokens for each pass of the target, told by the target's texts.
        published: speed-up by the published formula, tau / (c g + 1).
        predicted: speed-up by measured times.
    """

    length: int
    tau: float
    published: float
    predicted: float


@dataclass(frozen=True)
class Profile:
    """A pair at one temperature.

    Attributes:
        temperature: 0 is greedy.
        length: of the drafts that promised most before anything was raced.
        alpha: acceptance rate of a token.
        acceptance: of the first, second, ... drafted token, where it is drafted.
        outlooks: for each length of a draft.
        times: of the parts.
        races: what was then measured.
    """

    temperature: float
    length: int
    alpha: float
    acceptance: list[float]
    outlooks: list[Outlook]
    times: Times
    races: list[Race] = field(default_factory=list)

    @property
    def best(self) -> Outlook:
        """What drafts of the chosen length give."""
        return next(one for one in self.outlooks if one.length == self.length)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"best": self.best.length, "c": self.times.cost}


def profile(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    *,
    prompts: Sequence[Ids],
    temperature: float,
    max_new_tokens: int = 64,
    lengths: Sequence[int] = range(1, 9),
    rounds: int = 3,
    stops: Sequence[int] = (),
    config: SpecConfig = SpecConfig(),
    seed: int = 0,
) -> Profile:
    """Measure a pair at one temperature.

    Args:
        target: in evaluation mode.
        draft: in evaluation mode, of the same tokenizer.
        prompts: token ids.
        temperature: 0 is greedy.
        max_new_tokens: of a text.
        lengths: of drafts.
        rounds: of the races, plain and with drafts in turns; 0: none are run.
        stops: tokens that end a text.
        config: how drafts are verified in the races; lengths are set here.
        seed: of what the target writes.

    Raises:
        ConfigError: there is no prompt, or no length.
    """
    if not prompts or not lengths:
        raise ConfigError("a profile needs at least one prompt and one length of a draft")
    texts = Texts.of(
        target,
        prompts,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
        stops=stops,
    )
    agreed = agreement(target, draft, texts=texts)
    clock = Stopwatch(
        target, draft, lengths=lengths, temperature=temperature, tokens=max_new_tokens
    )
    timed = list(prompts[:: max(1, len(prompts) // _PROMPTS)][:_PROMPTS])
    for prompt in timed:
        clock.time(prompt)
    times = clock.times()
    taus = {length: agreed.block_efficiency(length) for length in lengths}
    outlooks = _outlooks(taus, times)
    found = Profile(
        temperature=temperature,
        length=max(outlooks, key=lambda one: one.predicted).length,
        alpha=agreed.alpha,
        acceptance=agreed.acceptance(max(lengths)),
        outlooks=outlooks,
        times=times,
    )
    if not rounds:
        return found
    policies = [replace(config, policy="constant", draft_tokens=found.length)]
    policies.append(replace(config, policy="cost", draft_tokens=max(lengths)))
    races = race(
        target,
        draft,
        prompts=prompts,
        policies=policies,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        rounds=rounds,
        stops=stops,
        before=lambda prompt: clock.time(prompt) if prompt in timed else None,
    )
    times = clock.times()
    return replace(found, races=races, times=times, outlooks=_outlooks(taus, times))


def _outlooks(taus: dict[int, float], times: Times) -> list[Outlook]:
    return [
        Outlook(
            length,
            tau,
            tau / (times.cost * length + 1),
            tau * times.plain / times.block(length),
        )
        for length, tau in taus.items()
    ]


# ----------------------------------------------------------------------------------------- timing


class Stopwatch:
    """Times the parts of decoding, one prompt after the other, as often as it is asked to.

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
        self._visits: list[Times] = []

    def time(self, prompt: Ids) -> None:
        """Time all parts behind a prompt, in turns."""
        target, draft, temperature = self._target, self._draft, self._temperature
        verify, drafted = _time_block(
            target, draft, prompt, widths=self._widths, temperature=temperature
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
) -> tuple[dict[int, float], float]:
    """Seconds of the target's passes by width, and of a drafted token, as medians.

    Drafting and verification come in turns, as they do in decoding: a draft alone would find its
    weights in the processor's cache, where the target's pass leaves none of them.
    """
    reader = cached(target, 1, **encoded(target, [prompt]))
    drafter = ModelDrafter(
        draft,
        warp=Warp(greedy=True) if not temperature else Warp(greedy=False).at(temperature),
        size=target.config.get_text_config(decoder=True).vocab_size,
    )
    drafter.start([[]], **encoded(draft, [prompt]))
    uniforms = Uniforms([torch.Generator().manual_seed(0)])
    row = starts(target, [prompt])[0]
    start = len(row)
    long = [*row, *[row[-1]] * max(widths)]
    verify: dict[int, list[float]] = {width: [] for width in widths}
    drafted: list[float] = []
    reader.score([row], wanted=[1])
    for turn in range(_TURNS + 1):
        for width in widths:
            began = time.perf_counter()
            if width > 1:
                drafter.propose([row], [width - 1], uniforms=uniforms, go_on=lambda *_: True)
                drafter.keep([start - 1])
            middle = time.perf_counter()
            settle(reader.score([long[: start + width]], wanted=[width]))
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
        found = generate_one(target, prompt, tokens=1 + tokens, temperature=temperature)
        whole.append(found.seconds)
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
