"""The verb `cost`: what a model costs, counted and timed on this machine."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from attar import checkpoint
from attar.budget import Cost
from attar.errors import check_types, require
from attar.measure.cost import cost_of
from attar.measure.timing import measure
from attar.models import computed_in
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.figures import tokens_per_second
from attar.report.record import Run
from attar.report.units import count, milliseconds, size
from attar.runtime import place


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """What is counted and timed."""

    measure: bool = True
    """Time the model and watch its memory; otherwise only count."""
    prompt_tokens: int = 256
    """Tokens of the timed prompt."""
    max_new_tokens: int = 32
    """Tokens decoded in the timing."""
    batch_size: int = 1
    """Sequences at a time in the timing."""
    repeats: int = 5
    """Timings to take the median of."""
    context: int = 0
    """Count MACs with this many tokens in the cache, and show the cache at that length."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("prompt_tokens", "max_new_tokens", "batch_size", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        require(self.context >= 0, "context", self.context, "0 or more")


@takes_recipe("cost")
def cost(
    model: str | Path | PreTrainedModel,
    *,
    config: CostConfig | str = CostConfig(),
    revision: str | None = None,
    trust_remote_code: bool = False,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Count a model's parameters, bytes, operations and cache, and time it on this machine.

    Args:
        model: folder, Hub name or any transformers model; one without a key/value cache has no
            decoding to time.
        config: what is counted and timed; or the name or path of a recipe.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run modelling code that comes with the checkpoint.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record, with `Cost.to_dict()` as `cost["after"]`.

    Raises:
        ConfigError: an option is out of range.
        DataError: the model cannot be read.
    """
    config, recipe = configured(config, CostConfig, recipe=recipe)
    settings = {"model": checkpoint.name_of(model), **asdict(config)}
    with artefact(output_dir, command="cost", settings=settings, recipe=recipe) as work:
        loaded = checkpoint.model_of(model, revision=revision, trust_remote_code=trust_remote_code)
        place(loaded)
        counted = cost_of(loaded, context=config.context)
        if config.measure:
            timed = measure(
                loaded,
                prompt_tokens=config.prompt_tokens,
                new_tokens=config.max_new_tokens,
                batch_size=config.batch_size,
                repeats=config.repeats,
            )
            counted = replace(timed, macs=counted.macs)
        work.run.cost = {"after": counted.to_dict()}
        work.run.details = {"computed_in": computed_in(loaded)}
    return work.run


def cost_lines(run: Run) -> list[tuple[str, str]]:
    """The record of a cost as labels and texts."""
    cost, context = Cost.from_dict(run.cost["after"]), run.settings["context"]
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
    return lines + speed_lines(run.cost["after"])


def speed_lines(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was timed, as labels and texts: prefill or forward pass, decoding, peak memory.

    Args:
        figures: of `Cost.to_dict`.
    """
    cost = Cost.from_dict(figures)
    timed = cost.timed or {}
    lines = []
    for phase, latency in (("prefill", cost.prefill), ("decode", cost.decode)):
        if latency is None:
            continue
        rate = tokens_per_second(figures, phase) or 0.0
        label = phase if cost.decode else "forward pass"
        per = f"{timed.get('prompt_tokens', 0)} tokens" if phase == "prefill" else "a token"
        spread = (
            f"spread {milliseconds(latency.spread)}" if latency.spread else "once: spread unknown"
        )
        text = f"{count(rate)} tokens/s  ({milliseconds(latency.median)} for {per}, {spread})"
        lines.append((label, text))
    if lines:
        setting = f"batch {timed.get('batch_size', 1)}, threads {timed.get('threads', 1)}"
        repeated = any(latency and latency.spread for latency in (cost.prefill, cost.decode))
        how = ", median of repeats and interquartile range" if repeated else ""
        lines.append(("timed with", setting + how))
    if cost.peak_memory:
        lines.append(("peak memory", f"{size(cost.peak_memory)} of weights, activations and cache"))
    return lines
