"""`attar cost`: what a model costs."""

from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from attar.budget import Cost
from attar.cli.output import require_target, show_pairs, write_json
from attar.measure.cost import cost_of


def cost(
    model: str,
    /,
    *,
    measure: bool = True,
    prompt_tokens: int = 256,
    new_tokens: int = 32,
    batch_size: int = 1,
    repeats: int = 5,
    context: int = 0,
    revision: str | None = None,
    trust_remote_code: bool = False,
    json_to: Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
) -> int:
    """Count a model's parameters, bytes, operations and cache, and time it on this machine.

    Works for any transformers model; one without a key/value cache has no decoding to time.

    Parameters
    ----------
    model
        A folder or a name on the Hugging Face Hub.
    measure
        Time the model and watch its memory; otherwise only count.
    prompt_tokens
        Tokens of the timed prompt.
    new_tokens
        Tokens decoded in the timing.
    batch_size
        Sequences at a time in the timing.
    repeats
        Timings to take the median of.
    context
        Count MACs with this many tokens in the cache, and show the cache at that length.
    revision
        Branch, tag or commit on the Hub.
    trust_remote_code
        Run modelling code that comes with the checkpoint.
    json_to
        Write the figures as JSON to this file; `-` prints JSON instead of the table.
    """
    from attar.checkpoint import load
    from attar.errors import ConfigError
    from attar.runtime import place

    for option, value, least in (
        ("--prompt-tokens", prompt_tokens, 1),
        ("--new-tokens", new_tokens, 1),
        ("--batch-size", batch_size, 1),
        ("--repeats", repeats, 1),
        ("--context", context, 0),
    ):
        if value < least:
            raise ConfigError(f"{option} must be {least} or more, but is {value}.")
    require_target(json_to)
    loaded = load(model, revision=revision, trust_remote_code=trust_remote_code)
    place(loaded)
    found = cost_of(loaded, context=context)
    if measure:
        timed = measure(
            loaded,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            batch_size=batch_size,
            repeats=repeats,
        )
        found = replace(timed, macs=found.macs)
    if json_to != "-":
        show_pairs(_count_lines(found, context) + speed_lines(found))
    if json_to:
        write_json(json_to, {"model": model, "context": context, "cost": found.to_dict()})
    return 0


def _count_lines(cost: "Cost", context: int) -> list[tuple[str, str]]:
    from attar.report.units import count, size

    types = ", ".join(f"{name} {size(held)}" for name, held in cost.dtypes.items())
    shared = (
        f"{count(cost.block_params)} in blocks, {count(cost.params - cost.block_params)} outside"
    )
    at = f" with {context:,} tokens of context" if context else ", without attention"
    lines = [
        ("params", f"{count(cost.params)}  ({shared})"),
        ("bytes", f"{size(cost.bytes)}  ({types})"),
        ("MACs per token", f"{count(cost.macs)}{at}"),
        ("KV cache per token", size(cost.kv_bytes) if cost.kv_bytes else "none"),
    ]
    if context and cost.kv_bytes:
        lines.append((f"KV cache at {context:,}", size(cost.kv_bytes * context)))
    return lines


def speed_lines(cost: "Cost") -> list[tuple[str, str]]:
    """What was timed, as `(label, text)`: prefill or forward pass, decoding, peak memory."""
    from attar.report.tables import tokens_per_second
    from attar.report.units import count, milliseconds, size

    figures, timed = cost.to_dict(), cost.timed or {}
    lines = []
    for phase, latency in (("prefill", cost.prefill), ("decode", cost.decode)):
        if latency is None:
            continue
        rate = tokens_per_second(figures, phase) or 0.0
        label = phase if cost.decode else "forward pass"
        per = f"{timed.get('prompt_tokens', 0)} tokens" if phase == "prefill" else "a token"
        spread = f"spread {milliseconds(latency.spread)}"
        text = f"{count(rate)} tokens/s  ({milliseconds(latency.median)} for {per}, {spread})"
        lines.append((label, text))
    if lines:
        setting = f"batch {timed.get('batch_size', 1)}, {timed.get('threads', 1)} threads"
        lines.append(("timed with", f"{setting}, median of repeats and interquartile range"))
    if cost.peak_memory:
        lines.append(("peak memory", f"{size(cost.peak_memory)} of the whole process"))
    return lines
