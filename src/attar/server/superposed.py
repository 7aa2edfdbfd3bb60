"""Several drafts of a text for the passes of one, by Superposed Decoding."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.decode.ngrams import StoredNGrams
from attar.decode.texts import Delta, Request
from attar.errors import ConfigError, did_you_mean
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder, tuned_for
from attar.methods.superposed.reader import Reader
from attar.server.engine import Work
from attar.server.jobs import News
from attar.server.modes import obstacle

KEPT = 4
"""Prompts whose cache is kept for those that begin like them."""
#: options of the method that are the request's own, or the server's
_OTHERS = {"k", "max_new_tokens", "stop", "seed", "reset_every", "tuned"}


class Superposed:
    """All texts of a request at once, ranked and not sampled: `n` of them cost about as much as
    one. Each is short, and none is what the model alone would sample.

    Args:
        model: a decoder that reads mixtures of embeddings.
        tokenizer: the model's.
        config: the options that requests do not give, and that were not tuned for the store.
        store: n-grams that tell the drafts apart; None: the model alone.

    Raises:
        CompatibilityError: the model cannot, or the store is of another tokenizer.
    """

    name = "superposed"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        config: SuperposedConfig = SuperposedConfig(),
        store: StoredNGrams | None = None,
    ) -> None:
        config = tuned_for(model, store, config=config)
        self._decoder = SuperposedDecoder(model, tokenizer, config=config, store=store)
        self._readers = Readers(self._decoder)

    def works(self, request: Request, *, count: int, options: Mapping[str, Any]) -> Sequence[Work]:
        """One job for all texts."""
        if (reason := obstacle(request)) is not None:
            raise ConfigError(f"drafts.mode superposed gives no {reason}; leave one of them out")
        known = {name for name in vars(SuperposedConfig()) if name not in _OTHERS}
        if wrong := sorted(set(options) - known):
            near = did_you_mean(wrong[0], known) or f"; known are {', '.join(sorted(known))}"
            raise ConfigError(f"drafts.{wrong[0]} is no option of superposed decoding{near}")
        config = replace(
            self._decoder.config,
            k=count,
            max_new_tokens=request.max_tokens,
            stop=request.stop,
            **{name: tuple(v) if isinstance(v, list) else v for name, v in options.items()},
        )
        return [Drafting(self._decoder.with_config(config), request, self._readers)]

    def suits(self, request: Request) -> bool:
        """Wherever it can: the server was told to."""
        return obstacle(request) is None


class Readers:
    """The caches of the latest prompts. The engine's thread alone asks, for one job at a time.

    Args:
        decoder: whose model reads.
    """

    def __init__(self, decoder: SuperposedDecoder) -> None:
        self._decoder = decoder
        self._idle: list[Reader] = []  # the latest last

    def take(self, ids: Sequence[int]) -> Reader:
        """The one that has read most of a prompt, if that is half of it; else a new one."""
        best = max(self._idle, key=lambda one: one.known(ids), default=None)
        if best is None or 2 * best.known(ids) < len(ids):
            del self._idle[: len(self._idle) + 1 - KEPT]  # memory for the new one
            return self._decoder.reader(1)
        self._idle.remove(best)
        return best

    def give_back(self, reader: Reader) -> None:
        """Keep it for the next prompt."""
        self._idle.append(reader)


class Drafting:
    """The drafts of a request, a token of each a step."""

    def __init__(self, decoder: SuperposedDecoder, request: Request, readers: Readers) -> None:
        self.count, self.deadline = decoder.config.k, request.deadline
        self.passes = 0  # one for a token of all drafts
        self._decoder, self._request, self._readers = decoder, request, readers
        words = decoder.words
        heal = decoder.config.heal
        self._prompt = words.of_text(request.prompt) if heal else words.of_ids(request.prompt)
        self._began = time.perf_counter()
        self._rate = decoder.hit_rate(self._prompt)
        self._reader: Any = None
        self._steps: Any = None
        self._rows: Any = None

    def step(self) -> News:
        """One pass of the model."""
        if self._steps is None:  # in the engine's thread, when it is its turn
            self._reader = self._readers.take(self._prompt.ids)
            self._steps = self._decoder.steps(
                self._reader, [self._prompt], rates=[self._rate], config=self._decoder.config
            )
        try:
            rows = next(self._steps, None)
        except Exception:  # whatever its cache holds now
            self._reader = self._rows = None
            raise
        if rows is None:
            return self._told(late=False)
        self._rows = rows
        return []

    def end(self, *, late: bool) -> News:
        """The drafts as far as they are."""
        return self._told(late=late)

    def cancel(self) -> None:
        """The cache is kept: who types on asks again with a longer text."""
        self._give_back()

    def _give_back(self) -> None:
        if self._reader is not None:
            self.passes = self._reader.forwards
            self._readers.give_back(self._reader)
            self._reader = self._rows = None

    def _told(self, *, late: bool) -> News:
        drafts: Sequence[Any] = ()
        cached = 0
        if self._rows is not None:
            (found,) = self._decoder.chosen(
                self._reader,
                [self._prompt],
                rows=self._rows,
                rates=[self._rate],
                began=self._began,
            )
            drafts, cached = found.drafts, self._reader.reused[0]
        self._give_back()
        news = [
            (
                i,
                Delta(
                    text=draft.text,
                    tokens=len(draft.token_ids),
                    finish_reason="stop" if draft.finish_reason == "stop" else "length",
                    late=late,
                    cached=cached,
                    score=draft.score,
                ),
            )
            for i, draft in enumerate(drafts)
        ]
        rest = Delta(finish_reason="length" if late else "stop", late=late)
        return [*news, *((i, rest) for i in range(len(news), self.count))]
