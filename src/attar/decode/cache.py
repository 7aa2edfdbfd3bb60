"""A model with its cache, which reads rows of different lengths and takes rejected tokens back.

After a block of speculative decoding every row of a batch goes on from another place. Two layouts
of the cache bear that:

`Holes` never moves what is stored. Rejected slots stay as holes that nothing attends to, and each
key was written with its true position. Slots that all rows reject are dropped, and where holes make
up more than half the rest is gathered together.

`Steps` keeps all rows at the same length, that of the shortest, and reads the rest of the longer
rows again in the next pass. It serves layers for which the number of slots means something:
sliding windows, relative positions, encoder-decoders.

A batch of one is the same in both, and has neither holes nor anything to read again.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from attar.errors import CompatibilityError

FEW_SLOTS = 32
"""So many slots or fewer are not worth gathering."""

#: layers of a cache that hold keys and values, and nothing else
_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)
#: several tokens are not read as one by one: GIT widens masks once it has a cache, Moshi's window
#: is in its cache and not in the mask, ProphetNet takes one token at a time
_ONE_BY_ONE = ("git", "moshi", "prophetnet")


class CachedModel(ABC):
    """A model, and for each row of a batch how many of its tokens the cache holds.

    Args:
        model: in evaluation mode.
        rows: how many.
        extra: what every forward pass is given besides tokens, such as `encoder_outputs`; tensors
            in it have a row for each row of the batch.
    """

    def __init__(self, model: PreTrainedModel, rows: int, **extra: Any) -> None:
        self.model: Any = model
        self._extra = extra
        # once, as it reads a signature
        self._keeps_logits = bool(self.model._supports_logits_to_keep())
        self.fed = [0] * rows
        self.cache: Any = _new_cache(model)
        self._embeddings: Tensor | None = None  # in place of the ids of a pass

    @abstractmethod
    def score(self, rows: Sequence[Sequence[int]], *, counts: Sequence[int]) -> Tensor:
        """Read what is new in every row; the logits behind the last tokens.

        Args:
            rows: the tokens of each row from its beginning. A row may have nothing new.
            counts: behind how many of the last tokens logits are needed, all of them new.

        Returns:
            `(B, max(counts), V)`, aligned at the end: `[r, -1]` is behind the row's last token.
            Before `counts[r]` of them there may be anything.
        """

    def score_embeddings(self, rows: Sequence[Sequence[int]], embeddings: Tensor) -> Tensor:
        """The same where the one new token of each row only stands for an embedding.

        Args:
            rows: as of `score`.
            embeddings: what is read in the place of these tokens, `(B, 1, d)`.

        Returns:
            `(B, 1, V)`.
        """
        self._embeddings = embeddings
        try:
            return self.score(rows, counts=[1] * len(rows))
        finally:
            self._embeddings = None

    @abstractmethod
    def keep(self, lengths: Sequence[int]) -> None:
        """Take back all tokens of row r from `lengths[r]` on."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch only, in this order."""
        index = torch.tensor(rows, device=self.model.device)
        self.fed = [self.fed[row] for row in rows]
        self.cache.batch_select_indices(index)
        self._extra = {name: _rows_of(value, index) for name, value in self._extra.items()}

    def _forward(self, ids: Tensor, *, last: int, **inputs: Any) -> Tensor:
        device = self.model.device
        inputs = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in inputs.items()}
        if self.model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = ids.to(device)
        else:
            read = ids.to(device) if self._embeddings is None else self._embeddings
            inputs["input_ids" if self._embeddings is None else "inputs_embeds"] = read
            if self._keeps_logits:
                inputs["logits_to_keep"] = last
        output = self.model(**inputs, **self._extra, past_key_values=self.cache, use_cache=True)
        return output.logits[:, -last:]

    def _require_slots(self, count: int) -> None:
        """Refuse a model whose cache holds anything but the tokens that it was given.

        Raises:
            CompatibilityError: it is not as long as they are.
        """
        if (held := int(self.cache.get_seq_length())) != count:
            raise CompatibilityError(
                f"speculative decoding must take rejected tokens back, and the cache of "
                f"{self.model.config.model_type} should hold {count} tokens but holds {held}; use "
                "plain generation"
            )


class Holes(CachedModel):
    """Rejected slots stay where they are, masked."""

    def __init__(self, model: PreTrainedModel, rows: int, **extra: Any) -> None:
        super().__init__(model, rows, **extra)
        #: the position of the token in each slot, -1 for a hole
        self.slots = torch.empty(rows, 0, dtype=torch.long, device="cpu")

    def score(self, rows: Sequence[Sequence[int]], *, counts: Sequence[int]) -> Tensor:
        """Read what is new in every row, aligned at the end; slots before it become holes."""
        new = [len(row) - fed for row, fed in zip(rows, self.fed, strict=True)]
        read: list[list[int]] = []
        places: list[list[int]] = []
        for row, count in zip(rows, new, strict=True):
            gap, first = max(new) - count, len(row) - count
            read.append([*[0] * gap, *row[first:]])
            places.append([*[-1] * gap, *range(first, len(row))])
        ids, slots = torch.tensor([read, places], device="cpu")
        positions = slots.clamp_min(0)
        self.slots = torch.cat([self.slots, slots], 1)
        self.fed = [len(row) for row in rows]
        filled = self.slots >= 0
        mask = {} if bool(filled.all()) else {"attention_mask": filled.long()}
        logits = self._forward(ids, last=max(counts), position_ids=positions, **mask)
        self._require_slots(self.slots.shape[1])
        return logits

    def keep(self, lengths: Sequence[int]) -> None:
        """Make holes of the tokens from `lengths[r]` on, and drop what all rows have as holes."""
        if all(fed <= length for fed, length in zip(self.fed, lengths, strict=True)):
            return
        self.fed = [min(fed, length) for fed, length in zip(self.fed, lengths, strict=True)]
        self.slots[self.slots >= torch.tensor(self.fed, device="cpu")[:, None]] = -1
        used = (self.slots >= 0).any(0).nonzero()
        end = int(used[-1]) + 1 if len(used) else 0
        self._crop(self.slots.shape[1] - end)
        if (size := self.slots.shape[1]) > max(FEW_SLOTS, 2 * max(self.fed)):
            self._compact()
            assert self.slots.shape[1] < size

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch only, in this order."""
        super().select(rows)
        self.slots = self.slots[list(rows)]

    def _crop(self, count: int) -> None:
        if count:
            self.cache.crop(-count)
            self.slots = self.slots[:, :-count]

    def _compact(self) -> None:
        """Gather what is filled, in order, at the end."""
        order = (self.slots >= 0).long().argsort(dim=1, stable=True)[:, -max(self.fed) :]
        self.slots = self.slots.gather(1, order)
        index = order.to(self.model.device)[:, None, :, None]
        for layer in _filled(self.cache):
            for name in ("keys", "values"):
                stored = getattr(layer, name)
                take = index.expand(-1, stored.shape[1], -1, stored.shape[3])
                setattr(layer, name, stored.gather(2, take))


class Steps(CachedModel):
    """All rows as long as the shortest; what others have more is read again."""

    def __init__(self, model: PreTrainedModel, rows: int, **extra: Any) -> None:
        super().__init__(model, rows, **extra)
        self._takes_positions = takes_positions(model)
        self.cache.activate_past_recording()
        self._size = 0  # slots
        self._padding: list[int] | None = None  # of them before the first token of each row

    def score(self, rows: Sequence[Sequence[int]], *, counts: Sequence[int]) -> Tensor:
        """Read every row from where the shortest is."""
        lengths = [len(row) for row in rows]
        if self._padding is None:  # prompts end together
            self._padding = [max(lengths) - length for length in lengths]
        start = self._size
        ends = [length + pad for length, pad in zip(lengths, self._padding, strict=True)]
        read: list[list[int]] = []
        for row, pad, end in zip(rows, self._padding, ends, strict=True):
            before = max(pad - start, 0)
            read.append([*[0] * before, *row[max(start - pad, 0) :], *[0] * (max(ends) - end)])
        ids = torch.tensor(read, device="cpu")
        inputs: dict[str, Tensor] = {}
        if not self.model.config.is_encoder_decoder:
            slots = torch.arange(max(ends), device="cpu")
            padding = torch.tensor(self._padding, device="cpu")[:, None]
            if any(self._padding):
                inputs["attention_mask"] = (slots >= padding).long()
            if self._takes_positions:
                inputs["position_ids"] = (slots[start:] - padding).clamp_min(0)
        elif any(self._padding):
            raise CompatibilityError(
                "the texts of a batch must begin alike in an encoder-decoder; expected as many "
                f"tokens before the first one, found {lengths}"
            )
        last = max(max(ends) - end + count for end, count in zip(ends, counts, strict=True))
        logits = self._forward(ids, last=last, **inputs)
        self._size = max(ends)
        self._require_slots(self._size)
        self._shorten(max(ends) - min(ends))  # behind a shorter row there is nothing
        if any(end < max(ends) for end in ends):  # aligned at the end of each row
            behind = torch.tensor([[max(ends) - end] for end in ends], device=logits.device)
            index = torch.arange(last - max(counts), last, device=logits.device) - behind
            row = torch.arange(len(rows), device=logits.device)[:, None]
            logits = logits[row, index.clamp_min(0)]
        return logits[:, -max(counts) :]

    def keep(self, lengths: Sequence[int]) -> None:
        """Go back in all rows by as much as the row needs that loses most."""
        gone = max(fed - length for fed, length in zip(self.fed, lengths, strict=True))
        self._shorten(max(gone, 0))

    def _shorten(self, count: int) -> None:
        """Drop the last slots. Not by `crop`, after which a window cannot go back any further."""
        if self._padding is None:
            return
        self._size -= count
        self.fed = [max(self._size - pad, 0) for pad in self._padding]
        cache: Any = self.cache
        if isinstance(cache, EncoderDecoderCache):
            cache = cache.self_attention_cache
        for layer in _filled(cache) if count else ():
            layer.keys, layer.values = layer.keys[..., :-count, :], layer.values[..., :-count, :]
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length -= count

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch only, in this order."""
        super().select(rows)
        if self._padding is not None:
            self._padding = [self._padding[row] for row in rows]


def cached(model: PreTrainedModel, rows: int, **extra: Any) -> CachedModel:
    """The model with an empty cache of the layout that it bears.

    Raises:
        CompatibilityError: its layers keep a state that cannot be taken back, or nothing.
    """
    kind = model.config.model_type
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise CompatibilityError(
            f"speculative decoding must take rejected tokens back from a key/value cache, and "
            f"{kind} has none; use plain generation"
        )
    cache = _new_cache(model)
    own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
    if model._is_stateful or any(type(layer) not in _LAYERS for layer in own.layers):
        raise CompatibilityError(
            f"speculative decoding must take rejected tokens back, and {kind} keeps more than keys "
            "and values, such as a running state, which cannot be; use plain generation"
        )
    if kind in _ONE_BY_ONE:
        raise CompatibilityError(
            f"speculative decoding reads several tokens in one pass, which gives other logits in "
            f"{kind} than one by one; use plain generation"
        )
    apart = not model.config.is_encoder_decoder and not (any(cache.is_sliding) or _is_local(model))
    return (Holes if apart and takes_positions(model) else Steps)(model, rows, **extra)


def _filled(cache: Any) -> list[Any]:
    """The layers that hold anything: where an encoder is deeper than a decoder, some never do."""
    return [layer for layer in cache.layers if layer.is_initialized]


def _is_local(model: PreTrainedModel) -> bool:
    """Whether layers attend to the last slots only without a cache that says so, as in GPT-Neo."""
    return "local" in (getattr(model.config, "attention_layers", None) or ())


def _new_cache(model: PreTrainedModel) -> Any:
    config = model.config.get_text_config(decoder=True)
    cache = DynamicCache(config=config)
    if not model.config.is_encoder_decoder:
        return cache
    return EncoderDecoderCache(cache, DynamicCache(config=config))


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether a forward pass is given the position of each token."""
    return "position_ids" in inspect.signature(model.forward).parameters


def _rows_of(value: Any, index: Tensor) -> Any:
    """The same with these rows only, of a tensor or of a model's output."""
    if isinstance(value, Tensor):
        return value[index]
    if hasattr(value, "keys") and hasattr(value, "to_tuple"):
        return type(value)(**{k: _rows_of(v, index) for k, v in value.items()})
    return value
