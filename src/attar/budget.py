"""What a model costs, and what a user is willing to pay: values only.

`Budget` is a set of upper bounds that carry their units:
``Budget.parse("blocks<=50%, kv_bytes<=2KB, latency<=20ms")``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from attar.errors import BudgetError, did_you_mean


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
        peak_memory: most bytes that tensors hold on the device that computes, while it reads a
            prompt and writes a token: weights, activations, cache; None when not
            measured.
        prefill: one forward pass over the prompt; None when not measured.
        decode: one token with a filled cache; of an encoder-decoder one of those that it writes,
            the reading shared out among them; None when not measured or not a decoder.
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


# ---------------------------------------------------------------------------------------- budgets

_COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_BYTES = {"b": 1.0, "": 1.0} | {
    f"{p}{b}": base**n
    for n, p in enumerate("kmg", 1)
    for b, base in (("b", 1000.0), ("ib", 1024.0))
}
_TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3}

#: constraint -> (what it bounds, its units)
CONSTRAINTS: dict[str, tuple[str, dict[str, float]]] = {
    "params": ("all parameters", _COUNT),
    "blocks": ("parameters of the layers", _COUNT),
    "bytes": ("bytes of weights", _BYTES),
    "kv_bytes": ("bytes of key/value cache per token", _BYTES),
    "macs": ("multiply-accumulates per token", _COUNT),
    "latency": ("milliseconds per generated token, or of one text", _TIME),
    "prefill": ("milliseconds for the prompt", _TIME),
}
_OF_MODELS = ("params", "blocks", "bytes", "macs")  # thousands at least: a bare 50 means 50%
_FORM = re.compile(
    r"(?P<key>[a-z_]+)\s*<=\s*(?P<value>\d+\.?\d*(?:e\d+)?)\s*(?P<unit>%|[a-z]*)\s*(?P<of>of\s+\w+)?",
    re.IGNORECASE,
)
_OTHER_SIGN = re.compile(r"([a-z_ ]+)(?!<=)[<=:]+([^<=:]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Constraint:
    """One upper bound. `limit` is a fraction of the parent when `relative`, else an absolute figure
    in base units.
    """

    key: str
    limit: float
    relative: bool = False

    def value(self, cost: Cost) -> float:
        """The figure that this constraint bounds, read from a cost.

        Raises:
            BudgetError: a latency is bounded but the cost was not measured.
        """
        if self.key == "blocks":
            return cost.block_params
        if self.key in ("latency", "prefill"):
            # what generates nothing has one time, of a text that it reads
            timing = (cost.decode or cost.prefill) if self.key == "latency" else cost.prefill
            if timing is None:
                raise BudgetError(
                    f"a budget on {self.key} needs a measured cost; this one was only counted"
                )
            return timing.median
        return getattr(cost, self.key)

    def __str__(self) -> str:
        if self.relative:
            return f"{self.key}<={self.limit:.4g} of the parent's"
        return f"{self.key}<={self.limit:.10g}"


@dataclass(frozen=True)
class Budget:
    """Upper bounds that must all hold. Build one with `Budget.parse`."""

    constraints: tuple[Constraint, ...]
    text: str = ""

    @classmethod
    def parse(cls, text: "str | Budget") -> "Budget":
        """Read ``"blocks<=50%, bytes<=3MB, kv_bytes<=2KB, macs<=1M, latency<=20ms,
        prefill<=100ms"``.

        A percentage is of the parent's figure. `params` counts all parameters, `blocks` those of
        the layers, without embeddings, head and final norm.

        Raises:
            BudgetError: the text is not of this form.
        """
        if isinstance(text, Budget):
            return text
        if not isinstance(text, str):
            raise BudgetError(f"a budget is text such as 'blocks<=50%'; found {text!r}")
        parts = [part.strip() for part in text.split(",")]
        constraints = tuple(_parse_one(part, text) for part in parts)
        keys = [c.key for c in constraints]
        if doubled := {k for k in keys if keys.count(k) > 1}:
            raise BudgetError(
                f"budget {text!r} bounds {', '.join(sorted(doubled))} twice; give each constraint "
                f"once"
            )
        return cls(constraints, text)

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
        return {c.key: c.value(cost) / c.limit - 1 for c in self._absolute()}

    def admits(self, cost: Cost) -> bool:
        """True when every limit is met."""
        return all(over <= 1e-9 for over in self.excess(cost).values())

    def verdict(self, cost: Cost) -> list[dict[str, Any]]:
        """One row a constraint for the record: key, limit, achieved, met."""
        return [
            {
                "key": c.key,
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
    if not match and (other := _OTHER_SIGN.fullmatch(part)):
        raise BudgetError(
            f"a budget is an upper bound that may be reached; found {part!r}: write "
            f"{other[1].strip()}<={other[2].strip()}"
        )
    if not match:
        where = f" in {whole!r}" if part != whole.strip() else ""
        raise BudgetError(
            f"expected a budget such as 'blocks<=50%, kv_bytes<=2KB'; found "
            f"{repr(part) if part else 'nothing'}{where}; "
            f"write CONSTRAINT<=VALUE with one of {', '.join(CONSTRAINTS)}"
        )
    key, unit = match["key"].lower(), match["unit"].lower()
    if key not in CONSTRAINTS:
        raise BudgetError(
            f"unknown constraint {key!r} in budget {whole!r}; use one of "
            f"{', '.join(CONSTRAINTS)}{did_you_mean(key, CONSTRAINTS)}"
        )
    if match["of"]:
        raise BudgetError(
            f"expected no {match['of']!r} in a budget; found it in {part!r}: write blocks<=50% for "
            "the layers, params<=50% for all parameters"
        )
    units = CONSTRAINTS[key][1]
    value = float(match["value"])
    if not 0 < value < math.inf:
        raise BudgetError(f"the limit in {part!r} must be above zero and finite")
    if unit == "%":
        if value > 100:
            raise BudgetError(
                f"{part!r} allows more than the model has; a percentage says how much to keep, at "
                f"most 100%"
            )
        return Constraint(key, value / 100, relative=True)
    if units is _TIME and not unit:
        raise BudgetError(f"{part!r} needs a unit: {', '.join(u for u in units if u)}, or %")
    if not unit and value <= 100 and key in _OF_MODELS:
        share = value if value >= 1 else 100 * value
        large = "M" if units is _COUNT else "MB"
        raise BudgetError(
            f"{part!r} is less than any model has ({CONSTRAINTS[key][0]}); did you mean "
            f"{key}<={share:g}%, or {key}<={value:g}{large}?"
        )
    if unit not in units:
        raise BudgetError(
            f"unknown unit {match['unit']!r} in {part!r}; {key} ({CONSTRAINTS[key][0]}) takes %, "
            f"{', '.join(u for u in units if u)}"
        )
    return Constraint(key, value * units[unit])
