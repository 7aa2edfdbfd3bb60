"""What proposes the next tokens of a text: a small model, the first layers of the target itself,
the text so far, or other texts.

All speak one protocol, for a batch of rows at once. Whatever they propose, the text keeps the
target's distribution; how much of it is accepted decides what is gained.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.decode.cache import CachedModel
from attar.decode.distributions import Prefix, Uniforms, Warp, draw, of_size
from attar.decode.ngrams import NGramStore
from attar.decode.static import Passes, reader_of
from attar.decode.vocabularies import Translation
from attar.errors import ConfigError
from attar.families import Body
from attar.models import keep_layers, positions_of, to_computing_dtype
from attar.runtime import place

Rows = Sequence[Sequence[int]]
KeepDrafting = Callable[[int, int, float], bool]
"""(row, tokens drafted so far, the last one's probability) -> whether to draft another."""


@dataclass(frozen=True)
class Proposal:
    """Drafted tokens.

    Attributes:
        tokens: of each row, up to the number that the policy allows.
        q: the distribution that each was drawn from, (B, G, V) with G the longest draft, float32;
            None where each token was certain to be proposed.
        passes: forward passes of a draft model that it took.
    """

    tokens: list[list[int]]
    q: Tensor | None
    passes: int


class Drafter(Protocol):
    """Proposes tokens for the rows of a batch."""

    def start(self, padding: Sequence[Sequence[int]], **extra: Any) -> None:
        """Begin a batch: what stands before each row in the input of `generate`, and what every
        pass of a draft model is given besides tokens."""
        ...

    def propose(
        self, rows: Rows, counts: Sequence[int], *, uniforms: Uniforms, keep_drafting: KeepDrafting
    ) -> Proposal:
        """Up to so many tokens for each row, which is given from its beginning."""
        ...

    def keep(self, lengths: Sequence[int]) -> None:
        """All tokens of row r from `lengths[r]` on were rejected, or are not known yet."""
        ...

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch only, in this order."""
        ...


class ModelDrafter:
    """A small model that drafts token by token.

    Args:
        model: in evaluation mode.
        warp: what its tokens are drawn from; need not be the target's.
        size: of the target's vocabulary.
        stops: tokens after which nothing is drafted.
        translation: where its tokenizer is another.
        passes: of the model on fixed shapes; None: its own forward passes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        warp: Warp,
        size: int,
        stops: Sequence[int] = (),
        translation: Translation | None = None,
        passes: Passes | None = None,
    ) -> None:
        self.model, self._warp, self._size = model, warp, size
        self._passes = passes
        self._stops, self._translation = frozenset(stops), translation
        self._own = model.config.get_text_config(decoder=True).vocab_size
        self._positions = positions_of(model) or 2**31
        self._reader: CachedModel
        self._padding: list[list[int]]
        self._numbers: list[int]
        #: where tokenizers differ: how many of its own tokens end each of the target's, by row
        self._ends: list[list[int]]

    def start(self, padding: Sequence[Sequence[int]], **extra: Any) -> None:
        """Begin with an empty cache."""
        self._reader = reader_of(self.model, len(padding), passes=self._passes, **extra)
        self._padding = [list(tokens) for tokens in padding]
        self._numbers = list(range(len(padding)))
        self._ends = [[] for _ in padding]

    def propose(
        self, rows: Rows, counts: Sequence[int], *, uniforms: Uniforms, keep_drafting: KeepDrafting
    ) -> Proposal:
        """As the protocol says; greedy drafts are certain."""
        texts = [list(row) for row in rows]
        own = [self._read(r, row) for r, row in enumerate(rows)]
        room = [self._positions - len(text) for text in own]
        counts = [min(count, left) for count, left in zip(counts, room, strict=True)]
        for r, left in enumerate(room):
            if left <= 0:  # nor is more read than there are positions for
                own[r] = own[r][: self._reader.fed[r]]
        drafted: list[list[int]] = [[] for _ in rows]
        qs: list[Tensor] = []
        active = [count > 0 for count in counts]
        passes = 0
        while any(active):
            ones = [int(on) for on in active]
            logits = self._logits(self._reader.score(own, counts=ones))
            passes += 1
            first = [len(pad) + len(text) for pad, text in zip(self._padding, texts, strict=True)]
            prefix = self._prefix(texts)
            scores = self._warp(logits, prefix, first=first, numbers=self._numbers)[:, 0]
            able = scores.isfinite().any(-1)  # the target's bans may leave a draft no token
            q = scores.masked_fill(~able[:, None], 0.0).softmax(-1)
            if self._warp.greedy:
                picked = scores.argmax(-1)
            else:
                qs.append(q)
                picked = draw(q, uniforms.take(ones)[:, 0].to(q.device))
            chances = q.gather(1, picked[:, None])[:, 0].tolist()
            active = [on and one for on, one in zip(active, able.tolist(), strict=True)]
            for r, token in enumerate(picked.tolist()):
                if not active[r]:
                    continue
                drafted[r].append(token)
                texts[r].append(token)
                own[r] = self._read(r, texts[r])
                more = len(drafted[r]) < counts[r] and token not in self._stops
                active[r] = more and keep_drafting(r, len(drafted[r]), chances[r])
        return Proposal(drafted, torch.stack(qs, 1) if qs else None, passes)

    def keep(self, lengths: Sequence[int]) -> None:
        """Take the rejected tokens out of the cache."""
        if self._translation is not None:
            for ends, length in zip(self._ends, lengths, strict=True):
                del ends[length:]
            lengths = [ends[-1] if ends else 0 for ends in self._ends]
        self._reader.keep(lengths)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the cache."""
        self._reader.select(rows)
        self._padding = [self._padding[row] for row in rows]
        self._numbers = [self._numbers[row] for row in rows]
        self._ends = [self._ends[row] for row in rows]

    def _read(self, row: int, tokens: Sequence[int]) -> list[int]:
        """A text in the draft's tokens."""
        if self._translation is None:
            if self._own >= self._size:
                return list(tokens)
            # A token that only the target has is read as another: the text keeps its distribution.
            return [min(token, self._own - 1) for token in tokens]
        own: list[int] = []
        ends = []
        for token in tokens:
            own += self._translation.pieces(token)
            ends.append(len(own))
        self._ends[row] = ends
        return own

    def _logits(self, logits: Tensor) -> Tensor:
        """The draft's as of the target's tokens, -inf where it has none."""
        if self._translation is not None:
            return self._translation.logits(logits, size=self._size)
        return of_size(logits, self._size)

    def _prefix(self, texts: Rows) -> Prefix:
        return lambda row, position: [*self._padding[row], *texts[row]][:position]


class NoDrafter:
    """Proposes nothing: plain decoding."""

    def start(self, padding: Sequence[Sequence[int]], **extra: Any) -> None:
        """There is nothing to begin."""

    def propose(
        self, rows: Rows, counts: Sequence[int], *, uniforms: Uniforms, keep_drafting: KeepDrafting
    ) -> Proposal:
        """Nothing."""
        return Proposal([[] for _ in rows], None, 0)

    def keep(self, lengths: Sequence[int]) -> None:
        """Nothing is kept."""

    def select(self, rows: Sequence[int]) -> None:
        """Nothing is kept."""


class PromptLookupDrafter:
    """Proposes what followed the last tokens when they stood in the text before.

    Args:
        longest: tokens that are looked for, at most; fewer are tried when that many are new.
        shortest: at least so many must agree.
    """

    def __init__(self, *, longest: int = 3, shortest: int = 1, stops: Sequence[int] = ()) -> None:
        if not 1 <= shortest <= longest:
            raise ConfigError(
                f"expected 1 <= shortest <= longest, found {shortest} and {longest} tokens"
            )
        self._sizes = range(longest, shortest - 1, -1)
        self._stops = frozenset(stops)

    def start(self, padding: Sequence[Sequence[int]], **extra: Any) -> None:
        """There is nothing to begin."""

    def propose(
        self, rows: Rows, counts: Sequence[int], *, uniforms: Uniforms, keep_drafting: KeepDrafting
    ) -> Proposal:
        """The same text always has the same draft."""
        drafted = [self._after(row, count) for row, count in zip(rows, counts, strict=True)]
        return Proposal(drafted, None, 0)

    def _after(self, row: Sequence[int], count: int) -> list[int]:
        for size in self._sizes:
            last = tuple(row[-size:])
            for start in range(len(row) - size - 1, -1, -1):  # the latest place says most
                if tuple(row[start : start + size]) == last:
                    follows = list(row[start + size : start + size + count])
                    ends = [i for i, token in enumerate(follows) if token in self._stops]
                    return follows[: ends[0] + 1] if ends else follows
        return []

    def keep(self, lengths: Sequence[int]) -> None:
        """Nothing is kept."""

    def select(self, rows: Sequence[int]) -> None:
        """Nothing is kept."""


class NGramDrafter:
    """Proposes the tokens that followed the last ones most often in a store of other texts.

    The longest context that is known there counts, up to one token less than the store's n-grams.

    Args:
        store: of the target's tokenizer.
        stops: tokens after which nothing is drafted.
    """

    def __init__(self, store: NGramStore, *, stops: Sequence[int] = ()) -> None:
        self.store, self._stops = store, frozenset(stops)

    def start(self, padding: Sequence[Sequence[int]], **extra: Any) -> None:
        """Compile what is compiled on first use, so that no draft is timed with it."""
        self.store.seen(())

    def propose(
        self, rows: Rows, counts: Sequence[int], *, uniforms: Uniforms, keep_drafting: KeepDrafting
    ) -> Proposal:
        """The same text always has the same draft, as long as the policy lets it grow."""
        drafted = []
        for r, (row, count) in enumerate(zip(rows, counts, strict=True)):
            tokens: list[int] = []
            while len(tokens) < count and (best := self._best([*row, *tokens])) is not None:
                tokens.append(best[0])
                if best[0] in self._stops or not keep_drafting(r, len(tokens), best[1]):
                    break
            drafted.append(tokens)
        return Proposal(drafted, None, 0)

    def _best(self, text: Sequence[int]) -> tuple[int, float] | None:
        """The likeliest next token and its probability; None where no context is known."""
        for n in range(self.store.order, 1, -1):
            tokens, counts = self.store.following(text, n)
            if len(tokens):
                return int(tokens[0]), float(counts[0] / counts.sum())
        return None

    def keep(self, lengths: Sequence[int]) -> None:
        """Nothing is kept."""

    def select(self, rows: Sequence[int]) -> None:
        """Nothing is kept."""


_NAMED = {"lookup": "lookup", "layers": "layers:N with a number of layers"}
_NAMED |= {"ngrams": "ngrams:FOLDER with a store"}


def drafter_of(
    model: PreTrainedModel,
    draft: str | Path | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[PreTrainedModel | Drafter, PreTrainedTokenizerBase | None]:
    """What a draft for a model stands for, and its tokenizer if it has one of its own.

    Args:
        model: that it is to serve.
        draft: folder or Hub name of a small model, or the model; `layers:N`; `lookup`;
            `ngrams:FOLDER`, a store of n-grams.
        tokenizer: the model's, which a store must be of.

    Raises:
        ConfigError: it is none of these.
        CompatibilityError: the model's family is not known, or the store is of another tokenizer.
        DataError: a checkpoint cannot be read.
    """
    if draft == "lookup":
        return PromptLookupDrafter(), None
    if isinstance(draft, str) and not Path(draft).exists():
        kind, _, rest = draft.partition(":")
        if kind == "layers" and rest.isdecimal():
            return first_layers(model, int(rest)), None
        if kind == "ngrams" and rest:
            return NGramDrafter(NGramStore.load(rest, tokenizer=tokenizer)), None
        if near := get_close_matches(kind, _NAMED, n=1, cutoff=0.7):
            raise ConfigError(
                "expected a draft (a folder, a Hub name, layers:N, lookup or ngrams:FOLDER), found "
                f"{draft!r}; do you mean {_NAMED[near[0]]}?"
            )
    loaded = checkpoint.model_of(draft)
    place(loaded)
    if loaded is not draft:
        to_computing_dtype(loaded)
    return loaded, None if loaded is draft else checkpoint.tokenizer_of(draft)


def first_layers(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """A model of the first so many layers of a decoder, which shares all its weights.

    Raises:
        CompatibilityError: a family whose layers are not known.
        ConfigError: not between 1 and one fewer than the model has.
    """
    whole = model.config.num_hidden_layers
    if not 1 <= count < whole:
        raise ConfigError(f"expected between 1 and {whole - 1} layers, found {count}")
    Body(model)  # an unknown family is refused before anything is copied
    shared = {id(weight): weight for weight in model.parameters()}
    twin = copy.deepcopy(model, shared)
    del Body(twin).layer_list[count:]
    keep_layers(twin.config, range(count))
    return twin
