"""The figures of a model as records hold them: how each is read, and how it is shown."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol

from attar.report.units import count, fixed, size

NONE = "-"
NOT_MEASURED = "not measured"
Figures = tuple[Mapping[str, Any], Mapping[str, Any]]  # cost and quality


class Record(Protocol):
    """What tables read of a run (see `attar.report.record.Run`)."""

    command: str
    method: str | None
    paper: Any
    model: str | None
    data: str | None
    settings: dict[str, Any]
    budget: dict[str, Any] | None
    cost: dict[str, Any]
    quality: dict[str, Any]
    baselines: list[dict[str, Any]]
    details: dict[str, Any]
    seed: int | None
    versions: dict[str, str]
    hardware: dict[str, Any]
    seconds: float | None
    date: str


class Column(NamedTuple):
    """One figure of a model: its name and heading, how it is read and shown.

    `ratio` is the heading of its ratio to the parent, None leaves that out; `spread` reads how far
    the figure varies, as a share of it.
    """

    name: str
    heading: str
    read: Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]
    show: Callable[[float], str]
    ratio: str | None = None
    spread: Callable[[Mapping[str, Any]], float | None] | None = None

    def cell(self, cost: Mapping[str, Any], quality: Mapping[str, Any]) -> str:
        """The figure as text, a timing with its spread."""
        value = self.read(cost, quality)
        if value is None:
            return NOT_MEASURED if self.spread else NONE
        share = self.spread(cost) if self.spread else None
        return self.show(value) + (f" ±{100 * share:.2g}%" if share else "")


def _speed(phase: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]:
    def read(cost: Mapping[str, Any], quality: Mapping[str, Any]) -> float | None:
        return tokens_per_second(cost, phase) if _spread(phase)(cost) else None

    return read


def _spread(phase: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Half the interquartile range over the median; None of a single timing, which is no fact."""

    def read(cost: Mapping[str, Any]) -> float | None:
        latency = cost.get(phase) or {}
        if not latency.get("median") or not latency.get("spread"):
            return None
        return latency["spread"] / latency["median"] / 2

    return read


def tokens_per_second(cost: Mapping[str, Any], phase: str) -> float | None:
    """Tokens a second, all sequences together, of `prefill` or `decode` in `Cost.to_dict()`.

    None where it was not timed.
    """
    latency, timed = cost.get(phase), cost.get("timed") or {}
    if not latency or not latency.get("median"):
        return None
    tokens = timed.get("batch_size", 1) * (
        timed.get("prompt_tokens", 0) if phase == "prefill" else 1
    )
    return tokens * 1000 / latency["median"] or None


def _timing(phase: str) -> Column:
    read, spread = _speed(phase), _spread(phase)
    return Column(phase, f"{phase} tok/s", read, count, f"{phase} ratio", spread)


def _kv_bytes(cost: Mapping[str, Any], quality: Mapping[str, Any]) -> float | None:
    return cost.get("kv_bytes") or None  # an encoder stores nothing


COLUMNS = (
    Column("params", "params", lambda c, q: c.get("params"), count),
    Column("block_params", "block params", lambda c, q: c.get("block_params"), count),
    Column("bytes", "bytes", lambda c, q: c.get("bytes"), size, "bytes ratio"),
    Column("macs", "MACs/token", lambda c, q: c.get("macs"), count, "MACs ratio"),
    Column("kv_bytes", "KV bytes/token", _kv_bytes, size, "KV ratio"),
    Column("peak_memory", "peak memory", lambda c, q: c.get("peak_memory"), size),
    Column("bits_per_byte", "bits per byte", lambda c, q: q.get("bits_per_byte"), fixed),
    Column("perplexity", "perplexity", lambda c, q: q.get("perplexity"), fixed),
    _timing("prefill"),
    _timing("decode"),
)
_SCORE = {"nll", "tokens", "bytes", "perplexity", "bits_per_byte"}


def columns_for(qualities: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The known columns, and one for every other figure of quality, such as a task's accuracy."""
    numbers = [(k, v) for quality in qualities for k, v in quality.items() if k not in _SCORE]
    keys = {k: None for k, v in numbers if isinstance(v, int | float)}
    return [*COLUMNS, *(Column(key, key, _quality(key), fixed) for key in keys)]


def _quality(key: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]:
    return lambda cost, quality: quality.get(key)


def side(record: Mapping[str, Any] | None, which: str) -> dict[str, Any]:
    """`before` or `after` of a cost or quality; of a baseline's, which has neither, the whole."""
    record = record or {}
    if "before" in record or "after" in record:
        return dict(record.get(which) or {})
    return dict(record) if which == "after" else {}


def short(model: str | None) -> str:
    """The last part of a model's name or path."""
    return PurePath(model).name or model if model else "parent"


def scored_on(run: Record) -> str | None:
    """Which text or examples a run's scores are of; None where it scored nothing."""
    quality = side(run.quality, "after") or side(run.quality, "before")
    if not quality:
        return None
    data, split = short(run.data) if run.data else "some text", run.details.get("split", "test")
    data = data if split == "test" else f"the {split} split of {data}"
    prompts = run.details.get("prompts")
    counts = {
        "bytes": quality.get("bytes"),
        "examples": run.details.get("test_rows"),
        "prompts": prompts.get("test") if isinstance(prompts, dict) else None,
    }
    known = [f"{int(number):,} {kind}" for kind, number in counts.items() if number]
    return f"{known[0]} of {data}" if known else None
