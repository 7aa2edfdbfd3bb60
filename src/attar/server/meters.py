"""What the completion server counts."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from attar.decode.texts import Delta
from attar.web.metrics import SECONDS

REASONS = ("stop", "length", "time")
"""Why texts end; `time` is the end of a budget."""


class Meters:
    """Counters of tokens, texts and passes.

    Args:
        registry: where they are read.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.tokens = Counter("attar_completion_tokens", "Tokens written.", registry=registry)
        self.cached = Counter(
            "attar_prompt_tokens_cached",
            "Prompt tokens that were not read again.",
            registry=registry,
        )
        self.prompt = Counter("attar_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.texts = Counter(
            "attar_texts", "Texts that ended, by reason.", ["reason"], registry=registry
        )
        self.cancelled = Counter(
            "attar_cancelled_requests",
            "Requests that were cancelled, as their client left or the model failed.",
            registry=registry,
        )
        self.remembered = Counter(
            "attar_type_ahead_hits",
            "Requests answered from the cache of results.",
            registry=registry,
        )
        self.steps = Histogram(
            "attar_step_seconds", "Steps of the batch.", registry=registry, buckets=SECONDS
        )

    def watch(self, *, live: Callable[[], int], rows: Callable[[], int]) -> None:
        """Show how full the server is."""
        texts = Gauge(
            "attar_texts_live", "Texts taken in and not finished.", registry=self._registry
        )
        texts.set_function(live)
        used = Gauge("attar_rows_used", "Rows of the batch in use.", registry=self._registry)
        used.set_function(rows)

    def count(self, delta: Delta) -> None:
        """Count what was added to a text."""
        self.tokens.inc(delta.tokens)
        if delta.finish_reason is not None:
            self.cached.inc(delta.cached)
            self.texts.labels("time" if delta.late else delta.finish_reason).inc()

    def totals(self) -> dict[str, int]:
        """What was done in all, for the record."""
        ended = [self._value("attar_texts", reason=reason) for reason in REASONS]
        names = ("completion_tokens", "prompt_tokens", "prompt_tokens_cached", "cancelled_requests")
        return {"texts": sum(ended)} | {name: self._value(f"attar_{name}") for name in names}

    def _value(self, name: str, **labels: str) -> int:
        return int(self._registry.get_sample_value(f"{name}_total", labels) or 0)
