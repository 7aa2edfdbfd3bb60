"""What a model costs, and what a user is willing to pay.

`Cost` is always counted from the real tensors, never from a formula on the config. `Budget` is a
set of upper bounds that carry their units: ``Budget.parse("params<=50%, kv_bytes<=2KB,
latency<=20ms")``.
"""

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.errors import BudgetError
from attar.families import FAMILIES, Body

#: modules that multiply by a weight
LINEAR = (nn.Linear, Conv1D)


@dataclass(frozen=True)
class Latency:
    """A repeated timing: median and interquartile range, both in milliseconds."""

    median: float
    spread: float


@dataclass(frozen=True)
class Cost:
    """What one model costs.

    Attributes:
        params: parameters, tied ones counted once.
        block_params: parameters inside the layers (without embeddings, head and final norm).
        bytes: bytes of all parameters as they are stored, tied ones counted once; `dtypes` says how
            many in which type.
        macs: multiply-accumulates per token in linear layers, plus those of attention at the
            context asked for.
        kv_bytes: bytes that one token adds to the key/value cache (0 for a model without one).
        peak_memory: highest resident memory during a timed forward pass, bytes; None when not
            measured.
        prefill: one forward pass over the prompt; None when not measured.
        decode: one token with a filled cache; None when not measured or not a decoder.
        timed: the setting of the timings (prompt tokens, new tokens, batch size, threads).
    """

    params: int
    block_params: int
    bytes: int
    macs: int
    kv_bytes: int
    dtypes: Mapping[str, int] = field(default_factory=dict)
    peak_memory: int | None = None
    prefill: Latency | None = None
    decode: Latency | None = None
    timed: Mapping[str, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers, for the record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Cost":
        """Read what `to_dict` gave."""
        times = {k: Latency(**stored[k]) for k in ("prefill", "decode") if stored.get(k)}
        return cls(**{**stored, **times})


def cost_of(model: PreTrainedModel, *, context: int = 0) -> Cost:
    """Count a model's cost from its tensors.

    Args:
        model: any transformers model, already loaded.
        context: tokens already in the cache, for the attention part of `macs`; 0 leaves that part
            out.
    """
    parameters = list(model.parameters())
    dtypes: dict[str, int] = {}
    for p in parameters:
        name = str(p.dtype).removeprefix("torch.")
        dtypes[name] = dtypes.get(name, 0) + p.numel() * p.element_size()
    return Cost(
        params=sum(p.numel() for p in parameters),
        block_params=_block_parameters(model),
        bytes=sum(dtypes.values()),
        macs=linear_macs(model) + context * _attention_macs(model),
        kv_bytes=_kv_bytes(model),
        dtypes=dtypes,
    )


def linear_macs(model: PreTrainedModel) -> int:
    """Multiply-accumulates per token in linear layers; a tied head is a product all the same."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, LINEAR))


def _block_parameters(model: PreTrainedModel) -> int:
    if model.config.model_type in FAMILIES:
        return Body(model).block_parameters()
    in_lists = {p for m in model.modules() if isinstance(m, nn.ModuleList) for p in m.parameters()}
    return sum(p.numel() for p in in_lists)


def _attention_macs(model: PreTrainedModel) -> int:
    """Multiply-accumulates per token and per token of context: scores and weighted values."""
    if model.config.model_type not in FAMILIES:
        return 0
    body = Body(model)
    return sum(2 * layer.heads * (body.head_dim or 0) for layer in body.layers)


@torch.no_grad()
def _kv_bytes(model: PreTrainedModel) -> int:
    """Bytes that two tokens really leave in the cache, halved."""
    if not has_cache(model):
        return 0
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    with evaluation_mode(model):
        cache = model(input_ids=ids, use_cache=True).past_key_values
    if cache is None:
        return 0
    tensors = [t for layer in cache.layers for t in (layer.keys, layer.values) if t is not None]
    return sum(t.numel() * t.element_size() for t in tensors) // 2


def has_cache(model: PreTrainedModel) -> bool:
    """True for a decoder-only model that can generate with a key/value cache."""
    return bool(model.can_generate()) and not model.config.is_encoder_decoder


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off for the block; afterwards each module is back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


# -------------------------------------------------------------------------------------- measuring


@dataclass
class Peak:
    """The highest resident memory seen in a `watch_memory` block, and that at its start, in
    bytes.
    """

    start: int = 0
    bytes: int = 0


@contextmanager
def watch_memory(interval: float = 0.002) -> Iterator[Peak]:
    """Measure the peak resident memory of this process during the block.

    Linux keeps an exact high-water mark that can be reset; elsewhere, and where that is forbidden,
    a thread samples.
    """
    process = psutil.Process()
    peak = Peak(start=process.memory_info().rss)
    exact = _reset_high_water()
    stop = Event()

    def sample() -> None:
        while not stop.wait(interval):
            peak.bytes = max(peak.bytes, process.memory_info().rss)

    sampler = Thread(target=sample, daemon=True)
    if not exact:
        sampler.start()
    try:
        yield peak
    finally:
        stop.set()
        if not exact:
            sampler.join()
        peak.bytes = max(
            peak.bytes, peak.start, process.memory_info().rss, _high_water() if exact else 0
        )


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _high_water() > 0


def _high_water() -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) * 1024 if match else 0


def measure(
    model: PreTrainedModel,
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 32,
    batch_size: int = 1,
    repeats: int = 5,
) -> Cost:
    """`cost_of` with timings and peak memory, on this machine and with its present number of
    threads.

    Prompt and new tokens are cut to the model's context. An encoder has a forward pass but no
    decoding.
    """
    prompt_tokens, new_tokens = within_context(model, prompt_tokens, new_tokens)
    with watch_memory() as peak:
        prefill = timed(prefill_call(model, prompt_tokens, batch_size), repeats)
        decode = None
        if has_cache(model):
            decode = timed(decode_call(model, prompt_tokens, new_tokens, batch_size), repeats)
            decode = Latency(decode.median / new_tokens, decode.spread / new_tokens)
    setting = {
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
    }
    return replace(
        cost_of(model), peak_memory=peak.bytes, prefill=prefill, decode=decode, timed=setting
    )


def within_context(model: PreTrainedModel, prompt_tokens: int, new_tokens: int) -> tuple[int, int]:
    """Prompt and new tokens, cut to what the model has positions for; an encoder decodes none."""
    context = getattr(model.config, "max_position_embeddings", None) or prompt_tokens + new_tokens
    if not has_cache(model):
        return max(1, min(prompt_tokens, context)), new_tokens
    new_tokens = max(1, min(new_tokens, context - 1))
    return max(1, min(prompt_tokens, context - new_tokens)), new_tokens


def prefill_call(
    model: PreTrainedModel, prompt_tokens: int, batch_size: int = 1
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
            _synchronise(model)
            start = time.perf_counter()
            model(**inputs)
            _synchronise(model)
        return (time.perf_counter() - start) * 1e3

    return call


def decode_call(
    model: PreTrainedModel, prompt_tokens: int, new_tokens: int, batch_size: int = 1
) -> Callable[[], float]:
    """A call that fills the cache untimed, then decodes greedily and returns the milliseconds of
    all new tokens.
    """
    ids = torch.ones((batch_size, prompt_tokens), dtype=torch.long, device=model.device)

    @torch.no_grad()
    def call() -> float:
        with evaluation_mode(model):
            out = model(input_ids=ids, use_cache=True)
            _synchronise(model)
            start = time.perf_counter()
            for _ in range(new_tokens):
                token = out.logits[:, -1:].argmax(-1)
                out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
            _synchronise(model)
        return (time.perf_counter() - start) * 1e3

    return call


def timed(call: Callable[[], float], repeats: int) -> Latency:
    """Median and interquartile range of a call that returns its own milliseconds, after one
    warm-up.
    """
    call()
    return summarise([call() for _ in range(repeats)])


def summarise(times: list[float]) -> Latency:
    """Median and interquartile range of timings in milliseconds."""
    if len(times) < 2:
        return Latency(times[0], 0.0)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(statistics.median(times), high - low)


def _synchronise(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


# ---------------------------------------------------------------------------------------- budgets

_COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_BYTES = {"b": 1.0, "": 1.0} | {
    f"{p}{b}": base**n
    for n, p in enumerate("kmg", 1)
    for b, base in (("b", 1000.0), ("ib", 1024.0))
}
_TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3}

#: currency -> (what it bounds, its units)
CURRENCIES: dict[str, tuple[str, dict[str, float]]] = {
    "params": ("parameters", _COUNT),
    "bytes": ("bytes of weights", _BYTES),
    "kv_bytes": ("bytes of key/value cache per token", _BYTES),
    "macs": ("multiply-accumulates per token", _COUNT),
    "latency": ("milliseconds per generated token", _TIME),
    "prefill": ("milliseconds for the prompt", _TIME),
}
_FORM = re.compile(
    r"(?P<key>[a-z_]+)\s*<=\s*(?P<value>\d+\.?\d*(?:e\d+)?)\s*(?P<unit>%|[a-z]*)\s*(?:of\s+(?P<of>blocks|total))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Constraint:
    """One upper bound. `limit` is a fraction of the parent when `relative`, else an absolute figure
    in base units.

    `of` matters for `params` only: `blocks` (parameters inside the layers) or `total`.
    """

    key: str
    limit: float
    relative: bool = False
    of: str = "total"

    def value(self, cost: Cost) -> float:
        """This constraint's currency, read from a cost.

        Raises:
            BudgetError: a latency is bounded but the cost was not measured.
        """
        if self.key == "params":
            return cost.block_params if self.of == "blocks" else cost.params
        if self.key in ("latency", "prefill"):
            found = cost.decode if self.key == "latency" else cost.prefill
            if found is None:
                raise BudgetError(
                    f"a budget on {self.key} needs a measured cost; this one was only counted"
                )
            return found.median
        return getattr(cost, self.key)

    @property
    def name(self) -> str:
        """The currency, with what a number of parameters counts."""
        return f"{self.key} of {self.of}" if self.key == "params" else self.key

    def __str__(self) -> str:
        if self.relative:
            return f"{self.name}<={self.limit:.4g} of the parent's"
        return f"{self.name}<={self.limit:.10g}"


@dataclass(frozen=True)
class Budget:
    """Upper bounds that must all hold. Build one with `Budget.parse`."""

    constraints: tuple[Constraint, ...]
    text: str = ""

    @classmethod
    def parse(cls, text: "str | Budget") -> "Budget":
        """Read ``"params<=50%, bytes<=3MB, kv_bytes<=2KB, macs<=1M, latency<=20ms,
        prefill<=100ms"``.

        A percentage is of the parent's figure. `params` may say of what: ``params<=50% of blocks``
        (the default for a percentage) or ``params<=50% of total`` (the default for an absolute
        number).

        Raises:
            BudgetError: the text is not of this form.
        """
        if isinstance(text, Budget):
            return text
        parts = [part.strip() for part in text.split(",")]
        found = tuple(_parse_one(part, text) for part in parts)
        keys = [c.key for c in found]
        if doubled := {k for k in keys if keys.count(k) > 1}:
            raise BudgetError(
                f"budget {text!r} bounds {', '.join(sorted(doubled))} twice; give each currency "
                f"once"
            )
        return cls(found, text)

    def resolve(self, parent: Cost) -> "Budget":
        """The same budget with percentages turned into absolute limits of this parent's cost."""
        fixed = tuple(
            replace(c, limit=c.limit * c.value(parent), relative=False) if c.relative else c
            for c in self.constraints
        )
        return replace(self, constraints=fixed)

    @property
    def timed(self) -> bool:
        """True when a latency is bounded, so that costs must be measured."""
        return any(c.key in ("latency", "prefill") for c in self.constraints)

    def excess(self, cost: Cost) -> dict[str, float]:
        """By how much each limit is overrun, as a share of the limit; zero or less means that it is
        met.
        """
        return {c.name: c.value(cost) / c.limit - 1 for c in self._absolute()}

    def admits(self, cost: Cost) -> bool:
        """True when every limit is met."""
        return all(over <= 1e-9 for over in self.excess(cost).values())

    def verdict(self, cost: Cost) -> list[dict[str, Any]]:
        """One row a constraint for the record: key, limit, achieved, met."""
        return [
            {
                "key": c.name,
                "limit": c.limit,
                "achieved": c.value(cost),
                "met": c.value(cost) <= c.limit * (1 + 1e-9),
            }
            for c in self._absolute()
        ]

    def _absolute(self) -> tuple[Constraint, ...]:
        if any(c.relative for c in self.constraints):
            raise BudgetError("this budget holds percentages; call resolve(parent_cost) first")
        return self.constraints


def _parse_one(part: str, whole: str) -> Constraint:
    match = _FORM.fullmatch(part)
    if not match:
        raise BudgetError(
            f"expected a budget such as 'params<=50%, kv_bytes<=2KB'; found {part!r} in {whole!r}; "
            f"write CURRENCY<=VALUE with one of {', '.join(CURRENCIES)}"
        )
    key, unit, of = match["key"].lower(), match["unit"].lower(), match["of"]
    if key not in CURRENCIES:
        raise BudgetError(
            f"unknown currency {key!r} in budget {whole!r}; use one of {', '.join(CURRENCIES)}"
        )
    units = CURRENCIES[key][1]
    value = float(match["value"])
    if value <= 0:
        raise BudgetError(f"the limit in {part!r} must be above zero")
    if of and key != "params":
        raise BudgetError(f"'of {of}' fits params only; found it in {part!r}")
    if unit == "%":
        if value > 100:
            raise BudgetError(
                f"{part!r} allows more than the model has; a percentage says how much to keep, at "
                f"most 100%"
            )
        of = (of or "blocks").lower() if key == "params" else "total"
        return Constraint(key, value / 100, relative=True, of=of)
    if units is _TIME and not unit:
        raise BudgetError(f"{part!r} needs a unit: {', '.join(u for u in units if u)}, or %")
    if unit not in units:
        raise BudgetError(
            f"unknown unit {match['unit']!r} in {part!r}; {key} ({CURRENCIES[key][0]}) takes %, "
            f"{', '.join(u for u in units if u)}"
        )
    return Constraint(key, value * units[unit], of=(of or "total").lower())
