"""The loop around the step: where it begins, where a draft ends, and which drafts are chosen."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.compatibility import vocabulary_size
from attar.decode.ngrams import StoredNGrams, require_tokenizer
from attar.decode.pair import stops_of
from attar.errors import ConfigError, require
from attar.evaluation.likelihood import require_fit
from attar.methods.superposed.completions import Completion, Completions
from attar.methods.superposed.config import SuperposedConfig
from attar.methods.superposed.core import TELLING, Draft, Row, mixing_weights, step
from attar.methods.superposed.prompts import Prompt, Words
from attar.methods.superposed.reader import Reader, require_mixable, require_still_rotation
from attar.models import evaluation_mode, inference, require_positions

logger = logging.getLogger(__name__)

#: tokens at the end of a prompt that tell whether a store knows its domain
_LOOKED_AT = 64


class DraftWriter:
    """A model, its tokenizer and perhaps a store, which write drafts for prompts that are read.

    Args:
        model: a decoder.
        tokenizer: the model's.
        config: how.
        store: n-grams of the same tokenizer; None: the model alone.

    Raises:
        CompatibilityError: the model cannot read mixtures of embeddings, or the store is of another
            tokenizer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        config: SuperposedConfig = SuperposedConfig(),
        store: StoredNGrams | None = None,
    ) -> None:
        require_mixable(model)
        if store is not None:
            require_tokenizer(store, tokenizer, name="the store")
        self.model, self.config, self.store = model, config, store
        self.words = Words(tokenizer, size=vocabulary_size(model))
        self._stops = frozenset(stops_of(model, tokenizer))
        self._told: set[str] = set()  # shared with copies

    def with_config(self, config: SuperposedConfig) -> Self:
        """The same with other options; nothing is checked or loaded again."""
        other = copy(self)
        other.config = config
        return other

    def prompt(self, given: str | Sequence[int], *, suffix: str | None = None) -> Prompt:
        """What is read of a text, or of token ids."""
        if isinstance(given, str):
            prompt = self.words.prompt(given, suffix=suffix, heal=self.config.heal)
        elif suffix is None:
            prompt = self.words.of_ids([int(one) for one in given])
        else:
            raise ConfigError("suffix needs a prompt of text, but found token ids; give its text")
        require(bool(prompt.ids), "a prompt", given, "text of at least one token")
        return prompt

    def reader(self, rows: int) -> Reader:
        """The model with an empty cache."""
        return Reader(self.model, rows)

    def complete(
        self,
        reader: Reader,
        prompts: Sequence[Prompt],
        *,
        until: Callable[[], bool] | None = None,
    ) -> list[Completions]:
        """The drafts of prompts that were read already, or in part."""
        began = time.perf_counter()
        rows, rates = self.search(reader, prompts, config=self.config, until=until)
        return self.chosen(reader, prompts, rows=rows, rates=rates, began=began)

    def chosen(
        self,
        reader: Reader,
        prompts: Sequence[Prompt],
        *,
        rows: Sequence[Row],
        rates: Sequence[float | None],
        began: float,
    ) -> list[Completions]:
        """The completions of the rows behind a step.

        Args:
            reader: of these rows.
            prompts: of each.
            rows: with drafts of one token at least.
            rates: what the store knows of each prompt.
            began: on the clock of `time.perf_counter`.
        """
        chosen = [self._chosen(*pair) for pair in zip(rows, prompts, strict=True)]
        log_probs: list[list[float]] | None = None
        if self.config.rescore == "exact":
            with inference(self.model):
                log_probs = reader.log_probs([[one.tokens for one in row] for row in chosen])
        seconds = time.perf_counter() - began
        found = []
        for n, (row, prompt, rate) in enumerate(zip(rows, prompts, rates, strict=True)):
            sums = [None] * len(chosen[n]) if log_probs is None else log_probs[n]
            drafts = [
                self._completion(draft, row, prompt, log_prob=one)
                for draft, one in zip(chosen[n], sums, strict=True)
            ]
            if log_probs is not None:
                drafts.sort(key=lambda one: -(one.logprob or 0) / len(one.token_ids))
            used = row.store is not None
            found.append(
                Completions(tuple(drafts), rate, used, reader.forwards, reader.longest, seconds)
            )
        return found

    def search(
        self,
        reader: Reader,
        prompts: Sequence[Prompt],
        *,
        config: SuperposedConfig,
        until: Callable[[], bool] | None = None,
        watch: Callable[[Sequence[Row]], object] | None = None,
    ) -> tuple[list[Row], list[float | None]]:
        """The rows behind the last step, and what the store knows of their prompts.

        Args:
            reader: with as many rows.
            prompts: what is continued.
            config: how.
            until: see `generate_all`.
            watch: is given the rows before each step.
        """
        rates = [self.hit_rate(prompt) for prompt in prompts]
        rows: list[Row] = []
        with evaluation_mode(self.model):
            for after in self.steps(reader, prompts, rates=rates, config=config, watch=watch):
                rows = after
                if until is not None and until():
                    break
        return rows, rates

    def steps(
        self,
        reader: Reader,
        prompts: Sequence[Prompt],
        *,
        rates: Sequence[float | None],
        config: SuperposedConfig,
        watch: Callable[[Sequence[Row]], object] | None = None,
    ) -> Iterator[list[Row]]:
        """The rows behind each step, of a model in evaluation mode; see `search`."""
        lengths = [len(prompt.ids) for prompt in prompts]
        ids = torch.tensor([[one for prompt in prompts for one in prompt.ids]])
        require_fit(self.model, self.words.tokenizer, ids=ids)
        require_positions(self.model, prompt=max(lengths), new=config.max_new_tokens)
        longest = max(lengths) + config.max_new_tokens
        require_still_rotation(self.model, min(lengths), longest=longest)
        reader.begin(
            [prompt.ids for prompt in prompts], weight_temperature=config.weight_temperature
        )
        rows = [self._row(*pair, config=config) for pair in zip(prompts, rates, strict=True)]
        chance = [np.random.default_rng(config.seed) for _ in rows]
        for n in range(config.max_new_tokens):
            if n and config.reset_every and n % config.reset_every == 0:
                rows = [_reset(*pair) for pair in zip(rows, chance, strict=True)]
            if watch is not None:
                watch(rows)
            with torch.no_grad():  # not around `yield`: others compute in between
                rows = step(rows, read=reader.read, config=config)
            yield rows
            if not any(row.alive for row in rows):
                break

    def hit_rate(self, prompt: Prompt) -> float | None:
        """The share of a prompt's longer contexts that the store has seen; None without a store,
        and of a prompt that is too short to tell."""
        store, context = self.store, prompt.context
        if store is None or store.order < TELLING:
            return None
        first = max(TELLING - 1, len(context) - _LOOKED_AT)
        parts = [context[max(0, t - store.order + 1) : t] for t in range(first, len(context) + 1)]
        seen = [bool(store.seen(part)[TELLING - 2 :].any()) for part in parts]
        return sum(seen) / len(seen) if seen else None

    def _row(self, prompt: Prompt, rate: float | None, *, config: SuperposedConfig) -> Row:
        ends = self._stops | prompt.ends

        def ended(tokens: tuple[int, ...]) -> bool:
            if tokens[-1] in ends:
                return True
            if not config.stop:
                return False
            text = self.words.text_of(prompt, tokens)
            return any(stop in text for stop in config.stop)

        store = self.store
        if rate is not None and rate < config.min_hit_rate:
            self._tell(rate, config.min_hit_rate)
            store = None
        return Row(
            context=prompt.context,
            width=config.k,
            ends=ended,
            store=store,
            allowed=self.words.allowed(prompt),
        )

    def _tell(self, rate: float, least: float) -> None:
        if "domain" not in self._told:
            logger.warning(
                "the store knows %.0f%% of the 4-grams of a prompt, less than the %.0f%% of "
                "min_hit_rate: such prompts are continued without it",
                100 * rate,
                100 * least,
            )
            self._told.add("domain")

    def _chosen(self, row: Row, prompt: Prompt) -> list[Draft]:
        """The k best drafts of different texts."""
        found: dict[str, Draft] = {}
        for draft in sorted(row.finished + row.alive, key=lambda one: -one.mean_score):
            found.setdefault(self._text(draft, prompt).strip(), draft)
        return list(found.values())[: self.config.k]

    def _text(self, draft: Draft, prompt: Prompt) -> str:
        text = self.words.text_of(prompt, self.without_end(draft.tokens, prompt))
        starts = [text.index(stop) for stop in self.config.stop if stop in text]
        return text[: min(starts)] if starts else text

    def without_end(self, tokens: tuple[int, ...], prompt: Prompt) -> tuple[int, ...]:
        """Tokens of a draft without one that is there to end it."""
        return tokens[:-1] if tokens[-1] in self._stops | prompt.ends else tokens

    def _completion(
        self, draft: Draft, row: Row, prompt: Prompt, *, log_prob: float | None
    ) -> Completion:
        known = row.store is not None and row.store.order >= TELLING
        return Completion(
            text=self._text(draft, prompt),
            token_ids=draft.tokens,
            score=draft.mean_score,
            logprob=log_prob,
            finish_reason="stop" if draft.ended else "length",
            ngram_hit_rate=draft.hits / len(draft.tokens) if known else None,
        )


def _reset(row: Row, chance: np.random.Generator) -> Row:
    """Go on from one draft alone, drawn by its weight (section 5.3)."""
    if not row.alive:
        return row
    weights = mixing_weights([draft.score for draft in row.alive])
    drawn = row.alive[int(chance.choice(len(weights), p=weights))]
    return replace(row, alive=(drawn,), exact=True)
