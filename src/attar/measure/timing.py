"""Milliseconds and peak memory of a model on this machine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from attar.budget import Cost, Latency
from attar.measure.cost import cost_of
from attar.measure.memory import watch_memory
from attar.models import computing, evaluation_mode, has_cache, positions_of
from attar.runtime import synchronize


def measure(
    model: PreTrainedModel,
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 32,
    batch_size: int = 1,
    repeats: int = 5,
    seconds: float = 10.0,
) -> Cost:
    """`cost_of` with timings and peak memory, on this machine and with its present number of
    threads.

    Prompt and new tokens are cut to the model's context. An encoder has a forward pass but no
    decoding. An encoder-decoder reads the prompt and writes the new tokens, and `decode` is the
    time of all of this, the encoder's too, for each of them. After `seconds` each timing ends with
    the repeats that are done, one at least.
    """
    prompt_tokens, new_tokens = within_context(model, prompt_tokens, new_tokens=new_tokens)
    with computing(model):
        call = prefill_call(model, prompt_tokens, batch_size=batch_size)
        prefill = timed(call, repeats, seconds=seconds)
        decode = None
        if model.can_generate():
            writing = translation_call if model.config.is_encoder_decoder else decode_call
            decode = timed(
                writing(model, prompt_tokens, new_tokens=new_tokens, batch_size=batch_size),
                repeats,
                seconds=seconds,
            )
            decode = Latency(decode.median / new_tokens, decode.spread / new_tokens)
            call = writing(model, prompt_tokens, new_tokens=1, batch_size=batch_size)
        with watch_memory(model) as peak:  # which would slow what is timed
            call()
    setting = {
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
    }
    return replace(
        cost_of(model), peak_memory=peak.bytes, prefill=prefill, decode=decode, timed=setting
    )


def within_context(
    model: PreTrainedModel, prompt_tokens: int, *, new_tokens: int
) -> tuple[int, int]:
    """Prompt and new tokens, cut to what the model has positions for; an encoder decodes none."""
    context = positions_of(model) or prompt_tokens + new_tokens
    if not has_cache(model):  # either side of an encoder-decoder has positions of its own
        return max(1, min(prompt_tokens, context)), max(1, min(new_tokens, context))
    new_tokens = max(1, min(new_tokens, context - 1))
    return max(1, min(prompt_tokens, context - new_tokens)), new_tokens


def prefill_call(
    model: PreTrainedModel, prompt_tokens: int, *, batch_size: int = 1
) -> Callable[[], float]:
    """A call that runs one forward pass over a prompt and returns its milliseconds."""
    ids = torch.ones((batch_size, prompt_tokens), dtype=torch.long, device=model.device)
    inputs: dict[str, Any] = {"input_ids": ids}
    if has_cache(model):
        # a server needs only the last position's logits to go on
        inputs |= {"use_cache": True, "logits_to_keep": 1}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :1]

    @torch.no_grad()
    def call() -> float:
        with evaluation_mode(model):
            synchronize(model.device)
            start = time.perf_counter()
            model(**inputs)
            synchronize(model.device)
        return (time.perf_counter() - start) * 1e3

    return call


def decode_call(
    model: PreTrainedModel, prompt_tokens: int, *, new_tokens: int, batch_size: int = 1
) -> Callable[[], float]:
    """A call that fills the cache untimed, then decodes greedily and returns the milliseconds of
    all new tokens.
    """
    ids = torch.ones((batch_size, prompt_tokens), dtype=torch.long, device=model.device)

    @torch.no_grad()
    def call() -> float:
        with evaluation_mode(model):
            out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
            synchronize(model.device)
            start = time.perf_counter()
            for _ in range(new_tokens):
                token = out.logits[:, -1:].argmax(-1)
                out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
            synchronize(model.device)
        return (time.perf_counter() - start) * 1e3

    return call


def translation_call(
    model: PreTrainedModel, prompt_tokens: int, *, new_tokens: int, batch_size: int = 1
) -> Callable[[], float]:
    """A call that has an encoder-decoder read a text and write new tokens greedily, and returns the
    milliseconds of both.
    """
    ids = torch.ones((batch_size, prompt_tokens), dtype=torch.long, device=model.device)
    start_id: Any = getattr(model.config, "decoder_start_token_id", None)
    first = torch.full_like(ids[:, :1], start_id or 0)
    encoder: Any = model.get_encoder()

    @torch.no_grad()
    def call() -> float:
        with evaluation_mode(model):
            synchronize(model.device)
            start = time.perf_counter()
            states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
            token, cache = first, None
            for _ in range(new_tokens):
                out = model(
                    encoder_outputs=states,
                    attention_mask=torch.ones_like(ids),
                    decoder_input_ids=token,
                    past_key_values=cache,
                    use_cache=True,
                )
                token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
            synchronize(model.device)
        return (time.perf_counter() - start) * 1e3

    return call


def timed(call: Callable[[], float], repeats: int, *, seconds: float) -> Latency:
    """Median and interquartile range of a call that returns its own milliseconds, after one
    warm-up; of fewer repeats, but one at least, where they take more than `seconds`.
    """
    began = time.perf_counter()
    call()
    times = [call()]
    while len(times) < repeats and time.perf_counter() - began < seconds:
        times.append(call())
    return latency_of(times)


def latency_of(times: list[float]) -> Latency:
    """Median and interquartile range of timings in milliseconds."""
    if len(times) < 2:
        return Latency(times[0], 0.0)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(statistics.median(times), high - low)
