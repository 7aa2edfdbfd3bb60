"""From logits to the probabilities that a token is drawn from, and the draws.

What plain decoding would draw from at a position depends on the tokens before it: penalties and
bans look at them. Speculative decoding scores many positions at once, so that each of them needs a
prefix of its own, which holds the drafted tokens before it.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.generation import logits_process as lib
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList

from attar.errors import CompatibilityError, DataError
from attar.models import damage_of

Prefix = Callable[[int, int], Sequence[int]]
"""(row, position) -> the tokens before that position."""


class Nucleus(lib.TopPLogitsWarper):
    """The same as its parent, and several times as fast: the likeliest tokens of most rows have the
    probability together, so that the vocabulary need not be sorted."""

    MOST = 1024
    """Tokens that are looked at first."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `(B, V)`, -inf outside the nucleus."""
        best, index = scores.topk(min(self.MOST, scores.shape[-1]))
        shares = (best - scores.logsumexp(-1, keepdim=True)).exp()
        summed = shares.cumsum(-1)
        outside = summed - shares >= self.top_p
        outside[:, : self.min_tokens_to_keep] = False
        removed = torch.ones_like(scores, dtype=torch.bool).scatter(-1, index, outside)
        kept = scores.masked_fill(removed, self.filter_value)
        wide = summed[:, -1] < self.top_p
        if bool(wide.any()):
            kept[wide] = super().__call__(input_ids, scores[wide])  # pyright: ignore[reportArgumentType]
        return kept


#: they look at no token before, so that they take all positions of all rows at once
_WITHOUT_PREFIX = (
    Nucleus,
    lib.TemperatureLogitsWarper,
    lib.TopPLogitsWarper,
    lib.TopKLogitsWarper,
    lib.TopHLogitsWarper,
    lib.MinPLogitsWarper,
    lib.TypicalLogitsWarper,
    lib.EpsilonLogitsWarper,
    lib.EtaLogitsWarper,
    lib.InfNanRemoveLogitsProcessor,
    lib.LogitNormalization,
    lib.SuppressTokensLogitsProcessor,
)
#: they remember what they were called with, or want rows that are not texts
_WITH_STATE = (
    lib.ClassifierFreeGuidanceLogitsProcessor,
    lib.UnbatchedClassifierFreeGuidanceLogitsProcessor,
    lib.SynthIDTextWatermarkLogitsProcessor,
    lib.AlternatingCodebooksLogitsProcessor,
    lib.WhisperNoSpeechDetection,
    lib.DiaClassifierFreeGuidanceLogitsProcessor,
    lib.DiaEOSChannelFilterLogitsProcessor,
    lib.DiaEOSDelayPatternLogitsProcessor,
)


@dataclass(frozen=True)
class Warp:
    """What is done to logits before a token is drawn, as `generate` does it.

    Attributes:
        greedy: the likeliest token is taken, and nothing drawn.
        processors: in the order of `generate`.
    """

    greedy: bool
    processors: tuple[LogitsProcessor, ...] = ()

    @classmethod
    def of(cls, processors: Sequence[LogitsProcessor], *, do_sample: bool) -> "Warp":
        """The processors that `generate` prepared.

        Raises:
            CompatibilityError: one of them cannot look at several positions of a text at once.
        """
        if one := cls.keeps_state(processors):
            raise CompatibilityError(
                f"{one} keeps a state from token to token, which speculative decoding cannot take "
                "back where a draft is rejected; leave that option out, or use plain generation"
            )
        return cls(greedy=not do_sample, processors=tuple(processors))

    @staticmethod
    def keeps_state(processors: Sequence[LogitsProcessor]) -> str | None:
        """The first that keeps a state from token to token, by name."""
        return next(
            (type(one).__name__ for one in processors if isinstance(one, _WITH_STATE)), None
        )

    def __call__(
        self, logits: Tensor, prefix: Prefix, *, first: Sequence[int], numbers: Sequence[int]
    ) -> Tensor:
        """Processed logits in float32.

        Args:
            logits: `(B, L, V)`.
            prefix: gives the tokens before a position of a row.
            numbers: which text of the call each row is.
            first: for each row the position, counted in tokens, that `logits[:, 0]` predicts.
                Where it is negative there is nothing to predict yet, up to position 0.

        Returns:
            `(B, L, V)`.
        """
        scores = logits.float()
        ahead = self._prefixed()
        if ahead:
            # A processor may write into what it is given, and the logits belong to the caller.
            scores = scores.clone() if scores is logits else scores
            for row, position in enumerate(first):
                own = [_of_text(one, numbers[row]) for one in self.processors[:ahead]]
                for i in range(max(0, 1 - position), scores.shape[1]):
                    now = LogitsProcessorList(own)
                    tokens = torch.tensor([prefix(row, position + i)], device=scores.device)
                    scores[row, i] = now(tokens, scores[row, i][None])[0]  # pyright: ignore[reportArgumentType]
        flat = scores.flatten(0, 1)
        for one in self.processors[ahead:]:
            flat = one(None, flat)  # pyright: ignore[reportArgumentType]
        return flat.view_as(scores)

    def at(self, temperature: float | None) -> "Warp":
        """The same at another temperature; at 0 the likeliest token; None changes nothing."""
        if temperature is None or (self.greedy and not temperature):
            return self
        if not temperature:
            return Warp(greedy=True)
        others = [p for p in self.processors if not isinstance(p, lib.TemperatureLogitsWarper)]
        return Warp(False, (*others, lib.TemperatureLogitsWarper(temperature)))

    def _prefixed(self) -> int:
        """How many processors, from the first on, are called position by position."""
        marks = [i for i, p in enumerate(self.processors) if type(p) not in _WITHOUT_PREFIX]
        return marks[-1] + 1 if marks else 0


def _of_text(processor: LogitsProcessor, number: int) -> LogitsProcessor:
    """The same for one text of a batch, where it holds something for each."""
    one: Any = copy.copy(processor)
    if isinstance(getattr(one, "prompt_ignore_length", None), Tensor):
        one.prompt_ignore_length = one.prompt_ignore_length[number : number + 1]
    if isinstance(processor, lib.PrefixConstrainedLogitsProcessor):
        allowed = one._prefix_allowed_tokens_fn
        one._prefix_allowed_tokens_fn = lambda _, ids: allowed(number, ids)
    if isinstance(processor, lib.EncoderRepetitionPenaltyLogitsProcessor):
        one.encoder_input_ids = one.encoder_input_ids[number : number + 1]
    if isinstance(processor, lib.EncoderNoRepeatNGramLogitsProcessor):
        one.generated_ngrams = one.generated_ngrams[number : number + 1]
        one.batch_size = 1
    return one


def require_numbers(logits: Tensor, model: PreTrainedModel) -> None:
    """Refuse logits that are not numbers, from which no token can be drawn.

    Raises:
        DataError: one is not.
    """
    if bool(logits.isnan().any()):
        raise DataError(
            f"the logits of {model.name_or_path or type(model).__name__} are not numbers: "
            f"{damage_of(model)}; take another checkpoint"
        )


class Numbers(LogitsProcessor):
    """The same for `generate` of transformers."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Changes nothing."""
        require_numbers(scores, self._model)
        return scores


def of_size(logits: Tensor, size: int) -> Tensor:
    """Logits `(..., V)` as of `size` tokens: cut, or -inf where there are none."""
    missing = max(0, size - logits.shape[-1])
    logits = logits[..., :size]
    return F.pad(logits, (0, missing), value=-torch.inf) if missing else logits


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens by the inverse of the cumulative distribution: `(..., V)` and `(...)` in [0, 1) ->
    `(...)`.

    The rows need not sum to one. A token of probability zero is never drawn.
    """
    cumulated = probabilities.double().cumsum(-1)
    points = uniforms.double()[..., None] * cumulated[..., -1:]
    return torch.searchsorted(cumulated, points, right=True)[..., 0]


class Uniforms:
    """Random numbers in [0, 1), each row from a generator of its own, so that what a text becomes
    does not depend on its neighbours in the batch."""

    #: numbers drawn from a generator at once; what a row gets does not depend on it
    CHUNK = 256

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = list(generators)
        self._stores = [torch.empty(0, device="cpu")] * len(self._generators)

    def take(self, counts: Sequence[int]) -> Tensor:
        """The next numbers of each row, `(B, max(counts))` in float32 on the processor, zeros
        behind the end."""
        taken = torch.zeros(len(counts), max(counts, default=0), device="cpu")
        for row, count in enumerate(counts):
            while len(self._stores[row]) < count:
                fresh = torch.rand(self.CHUNK, generator=self._generators[row], device="cpu")
                self._stores[row] = torch.cat([self._stores[row], fresh])
            taken[row, :count] = self._stores[row][:count]
            self._stores[row] = self._stores[row][count:]
        return taken

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows only, in this order."""
        self._generators = [self._generators[row] for row in rows]
        self._stores = [self._stores[row] for row in rows]
