"""Plain decoding against decoding with drafts: the same prompts, in turns, on this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from attar.decode.drafters import Drafter
from attar.decode.forced import Ids, answers, batch_of
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.decode.stats import SpecStats
from attar.runtime import Bar, synchronize

#: tokens after which decoding is under way
_BEGUN = 2


@dataclass(frozen=True)
class Race:
    """Plain decoding against decoding with the draft, on the same prompts, in turns.

    Attributes:
        policy: how long drafts were: a number of tokens, or `cost` for the cost model.
        speedup: plain seconds a token over ours, of all prompts together, median over rounds.
        speedup_mean: the same, but the mean over prompts of their own ratios.
        speedup_decode: of all prompts together, without the reading of the prompt.
        block_efficiency: tokens for each pass of the target that were counted.
        equal: share of prompts with the same text as plain decoding; None at a temperature above 0,
            where equal distributions give different texts.
        margin: at temperature 0, the gap between the target's two largest logits where texts first
            differ, the largest of all prompts; 0 where none does.
    """

    policy: str
    speedup: float
    speedup_mean: float
    speedup_decode: float
    block_efficiency: float
    equal: float | None
    margin: float | None

    def __str__(self) -> str:
        name = "lengths by the cost model" if self.policy == "cost" else f"drafts of {self.policy}"
        text = (
            f"{name}: {self.speedup:.2f} times plain decoding ({self.speedup_decode:.2f} without "
            f"reading the prompt), block efficiency {self.block_efficiency:.2f}"
        )
        if self.equal is not None:
            text += f", {self.equal:.0%} of the texts identical"
        if self.margin:
            text += f" (largest gap of logits where they differ {self.margin:.2g})"
        return text


@dataclass(frozen=True)
class Written:
    """The new tokens of one text, and what they took."""

    ids: list[int]
    seconds: float
    stats: SpecStats


def generate_one(
    target: PreTrainedModel,
    prompt: Ids,
    *,
    temperature: float,
    tokens: int,
    stops: Sequence[int] = (),
    decoder: SpeculativeDecoder | None = None,
) -> Written:
    """One text by `generate`, with the decoder or plainly."""
    model: Any = target
    ids = torch.tensor([list(prompt)], device=target.device)
    options: dict[str, Any] = {"custom_generate": decoder} if decoder else {}
    if temperature:
        options |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    began = time.perf_counter()
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=temperature > 0,
        max_new_tokens=tokens,
        min_new_tokens=None if stops else tokens,
        eos_token_id=list(stops) or None,
        pad_token_id=0,
        **options,
    )
    synchronize(output.device)
    new = output[0, 1 if model.config.is_encoder_decoder else len(prompt) :].tolist()
    seconds = time.perf_counter() - began
    return Written(new, seconds, decoder.stats if decoder else SpecStats())


def race(
    target: PreTrainedModel,
    draft: PreTrainedModel | Drafter,
    *,
    prompts: Sequence[Ids],
    policies: Sequence[SpecConfig],
    temperature: float,
    max_new_tokens: int,
    rounds: int = 3,
    stops: Sequence[int] = (),
    before: Callable[[Ids], None] | None = None,
) -> list[Race]:
    """Plain decoding and decoding with drafts, prompt by prompt, in turns.

    `before` is called with each prompt of each round, for what is to be measured with the race.

    Returns:
        One for each policy.
    """
    decoders = [SpeculativeDecoder(target, draft, config=policy) for policy in policies]
    runners: list[SpeculativeDecoder | None] = [None, *decoders]

    def run(runner: SpeculativeDecoder | None, prompt: Ids, tokens: int) -> Written:
        return generate_one(
            target, prompt, temperature=temperature, tokens=tokens, stops=stops, decoder=runner
        )

    for runner in runners:  # the first call of each prepares what later ones find ready
        run(runner, prompts[0], min(8, max_new_tokens))
    shape = (len(runners), rounds, len(prompts))
    whole, begun, tokens = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    first: list[list[Written]] = [[] for _ in runners]
    bar = Bar(total=rounds * len(prompts), desc="timing", unit="text", leave=False)
    for turn in range(rounds):
        for p, prompt in enumerate(prompts):
            bar.update()
            if before is not None:
                before(prompt)
            for r, runner in enumerate(runners):
                written = run(runner, prompt, max_new_tokens)
                whole[r, turn, p], tokens[r, turn, p] = written.seconds, len(written.ids)
                # Behind a first token the draft has not read the prompt yet; behind two it has.
                begun[r, turn, p] = run(runner, prompt, _BEGUN).seconds
                if turn == 0:
                    first[r].append(written)
    bar.close()
    # Drawn texts differ in length, so that seconds are compared by the token.
    rate = whole.sum(2) / tokens.sum(2)
    decode = (whole - begun).sum(2) / (tokens - _BEGUN).sum(2).clip(1)
    each = whole / tokens
    return [
        Race(
            policy="cost" if policy.policy == "cost" else str(policy.length),
            speedup=float(np.median(rate[0] / rate[r])),
            speedup_mean=float(np.median((each[0] / each[r]).mean(1))),
            speedup_decode=float(np.median(decode[0] / decode[r])),
            **_compared(target, prompts, plain=first[0], ours=first[r], greedy=not temperature),
        )
        for r, policy in enumerate(policies, 1)
    ]


def _compared(
    target: PreTrainedModel,
    prompts: Sequence[Ids],
    *,
    plain: Sequence[Written],
    ours: Sequence[Written],
    greedy: bool,
) -> dict[str, Any]:
    """Block efficiency, and how texts differ from those of plain decoding; see `Race`."""
    blocks = sum(written.stats.row_blocks for written in ours)
    efficiency = sum(written.stats.tokens for written in ours) / max(1, blocks)
    if not greedy:
        return {"block_efficiency": efficiency, "equal": None, "margin": None}
    texts = [(a.ids, b.ids) for a, b in zip(plain, ours, strict=True)]
    margins = [_margin(target, p, a=a, b=b) for p, (a, b) in zip(prompts, texts, strict=True)]
    equal = sum(a == b for a, b in texts) / len(texts)
    return {"block_efficiency": efficiency, "equal": equal, "margin": max(margins)}


@torch.no_grad()
def _margin(target: PreTrainedModel, prompt: Ids, *, a: Sequence[int], b: Sequence[int]) -> float:
    """The gap between the two largest logits where two texts first differ; 0 if they do not. Tiny
    where rounding alone made the difference."""
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if at is None:
        return 0.0
    batch = batch_of(target, prompts=[prompt], completions=[a[: at + 1]])
    logits = answers(target, {k: v.to(target.device) for k, v in batch.items()})[0, at]
    two = logits.float().topk(2).values
    return float(two[0] - two[1])
