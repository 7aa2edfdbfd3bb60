"""A static cache: its tensors never move, so that every forward pass is the same work on the same
memory, as CUDA graphs and compilers need.

The token at position p of a row is stored in slot p. A query at position p attends to the slots up
to p, so that rows of different lengths need no padding among their keys, and rejected tokens are
overwritten by their replacements before anything attends to them. Padding of a pass goes into the
last slot, which no query attends to. A pass may read some rows of the cache and leave the others as
they are, so that rows can begin and end independently.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from attar.decode.cache import CachedModel, cached

FIRST = 256
"""Slots of a new cache; they are doubled for longer texts."""
SLIDING = "sliding_attention"


@dataclass
class _Places:
    """Where a pass writes, and what it attends to.

    Attributes:
        slots: of each token, (B, W).
        seen: the pass attends to this many slots, from the first.
        rows: of the cache, (B,).
        first: they are the first ones, in order.
    """

    slots: Tensor
    seen: int
    rows: Tensor
    first: bool = True


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, `(B, H, S, D)`; layers may differ in H."""

    is_compileable, is_sliding = True, False

    def __init__(self, places: _Places, *, rows: int, size: int) -> None:
        super().__init__()
        self._places, self._rows, self._size = places, rows, size

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the tensors, once their shapes are known."""
        for name, states in (("keys", key_states), ("values", value_states)):
            shape = (self._rows, states.shape[1], self._size, states.shape[3])
            setattr(self, name, states.new_zeros(shape))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write into the slots of this pass; returns all keys and values that it attends to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._written(self.keys, key_states), self._written(self.values, value_states)

    def _written(self, stored: Tensor | None, states: Tensor) -> Tensor:
        assert stored is not None
        rows = self._places.rows
        # not by scatter_, which copies the whole tensor in bfloat16 on a processor
        stored[rows[:, None], :, self._places.slots] = states.transpose(1, 2)
        seen = stored[:, :, : self._places.seen]
        return seen[: len(states)] if self._places.first else seen[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The length and offset of a mask; a pass brings its own mask."""
        return self._places.seen, 0

    def get_seq_length(self) -> int:
        """0, as positions are given with each pass."""
        return 0

    def get_max_length(self) -> int:
        """The number of slots."""
        return self._size

    def select(self, index: Tensor) -> None:
        """Bring these rows to the front, in this order."""
        for stored in (self.keys, self.values) if self.is_initialized else ():
            stored[: len(index)] = stored[index]  # pyright: ignore[reportOptionalSubscript]

    def copy(self, source: int, target: int, *, count: int) -> None:
        """Copy the first slots of a row to another."""
        for stored in (self.keys, self.values) if self.is_initialized else ():
            assert stored is not None
            stored[target, :, :count] = stored[source, :, :count]

    def grow(self, size: int) -> None:
        """Make room for longer texts."""
        for name in ("keys", "values") if self.is_initialized else ():
            old = getattr(self, name)
            new = old.new_zeros(*old.shape[:2], size, old.shape[3])
            new[:, :, : self._size - 1] = old[:, :, :-1]
            setattr(self, name, new)
        self._size = size


class Passes:
    """Forward passes of a decoder over a cache of fixed size, which is kept from batch to batch.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model
        self._keeps_logits = bool(self.model._supports_logits_to_keep())
        self._weights: list[int] = []
        self.rows = 0
        self.cache: Cache
        self.size: int

    def start(self, rows: int) -> None:
        """Begin a batch, in the old cache where it still fits."""
        if self.fits(rows):
            return
        self.rows, self.size, self._weights = rows, FIRST, _places_of(self.model)
        device = self.model.device
        self._masks = _Masks(self.model)
        nothing = torch.empty(rows, 0, dtype=torch.long, device=device)
        self._places = _Places(nothing, 0, rows=torch.arange(rows, device=device))
        count = self.model.config.get_text_config(decoder=True).num_hidden_layers
        layers: list[Any] = [_Layer(self._places, rows=rows, size=FIRST) for _ in range(count)]
        self.cache = Cache(layers=layers)

    def fits(self, rows: int) -> bool:
        """Whether the cache has room for the rows and was made for the present weights."""
        return rows <= self.rows and self._weights == _places_of(self.model)

    def __call__(self, read: Tensor, *, last: int, rows: Sequence[int] | None = None) -> Tensor:
        """Logits for the last tokens of each row, `(B, last, V)`.

        Args:
            read: ids and positions, `(2, B, W)`, on the CPU; position -1 marks padding.
            last: the number of tokens that logits are needed for.
            rows: of the cache that are read, each once; None: the first ones.
        """
        self.reserve(int(read[1].max()) + 1)
        device = self.model.device
        others = rows is not None and list(rows) != list(range(len(rows)))
        index = torch.tensor(rows, device=device) if others else None
        return self.forward(read.to(device), seen=int(read[1].max()) + 1, last=last, rows=index)

    def forward(self, read: Tensor, *, seen: int, last: int, rows: Tensor | None = None) -> Tensor:
        """The same with `read` and `rows` on the model's device, attending to the first `seen`
        slots."""
        ids, places = read[0], read[1]
        self._places.first = rows is None
        self._places.rows = torch.arange(len(ids), device=ids.device) if rows is None else rows
        self._places.slots = torch.where(places < 0, self.size - 1, places)
        self._places.seen = seen
        positions = places.clamp_min(0)
        kept: dict[str, Any] = {"logits_to_keep": last} if self._keeps_logits else {}
        output = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=self._masks(positions, seen=seen),
            past_key_values=self.cache,
            use_cache=True,
            **kept,
        )
        return output.logits[:, -last:]

    def select(self, rows: Sequence[int]) -> None:
        """Bring these rows to the front, in this order."""
        index = torch.tensor(rows, device=self.model.device)
        for layer in self.cache.layers:
            layer.select(index)  # pyright: ignore[reportAttributeAccessIssue]

    def copy(self, source: int, target: int, *, count: int) -> None:
        """Give a row the first tokens of another."""
        for layer in self.cache.layers:
            layer.copy(source, target, count=count)  # pyright: ignore[reportAttributeAccessIssue]

    def reserve(self, tokens: int) -> None:
        """Make room for texts of this many tokens."""
        while tokens >= self.size:  # the last slot is for padding
            self.size *= 2
        for layer in self.cache.layers:
            if layer.get_max_length() < self.size:
                layer.grow(self.size)  # pyright: ignore[reportAttributeAccessIssue]


class _Masks:
    """Attention masks in the form that the model's attention takes."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config(decoder=True)
        window = getattr(config, "sliding_window", None)
        usual = "full_attention" if window is None else SLIDING
        kinds = set(getattr(config, "layer_types", None) or [usual])
        #: kind of layer -> tokens it looks back, None for all
        self._windows = {kind: window if kind == SLIDING else None for kind in kinds}
        self._dtype = None if config._attn_implementation == "sdpa" else model.dtype

    def __call__(self, positions: Tensor, *, seen: int) -> Tensor | dict[str, Tensor]:
        """`(B, 1, W, seen)` for each kind of layer; one mask where there is one kind."""
        slots = torch.arange(seen, device=positions.device)
        queries = positions[:, None, :, None]
        masks = {}
        for kind, window in self._windows.items():
            mask = slots <= queries
            if window is not None:
                mask &= slots > queries - window
            masks[kind] = mask if self._dtype is None else self._added(mask)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _added(self, mask: Tensor) -> Tensor:
        """The mask as a term that is added to the attention scores."""
        assert self._dtype is not None
        hidden = torch.full((), torch.finfo(self._dtype).min, dtype=self._dtype, device=mask.device)
        return torch.where(mask, hidden.new_zeros(()), hidden)


class Static(CachedModel):
    """A model with a static cache: each token is in the slot of its position."""

    def __init__(self, passes: Passes, rows: int) -> None:
        super().__init__(passes.model, rows)
        passes.start(rows)
        self.cache, self._passes = passes.cache, passes

    def score(self, rows: Sequence[Sequence[int]], *, counts: Sequence[int]) -> Tensor:
        """Read the new tokens of every row, padded on the left."""
        width = max(len(row) - fed for row, fed in zip(rows, self.fed, strict=True))
        ids, places = [], []
        for row, fed in zip(rows, self.fed, strict=True):
            gap = width - len(row) + fed
            ids.append([*[0] * gap, *row[fed:]])
            places.append([*[-1] * gap, *range(fed, len(row))])
        self.fed = [len(row) for row in rows]
        return self._passes(torch.tensor([ids, places], device="cpu"), last=max(counts))

    def keep(self, lengths: Sequence[int]) -> None:
        """Forget the tokens from `lengths[r]` on; their slots are written again."""
        self.fed = [min(fed, length) for fed, length in zip(self.fed, lengths, strict=True)]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch only, in this order."""
        self.fed = [self.fed[row] for row in rows]
        self._passes.select(rows)


def reader_of(
    model: PreTrainedModel, rows: int, *, passes: Passes | None, **extra: Any
) -> CachedModel:
    """The model with an empty cache: a static one where it has passes for that.

    Raises:
        CompatibilityError: see `cached`.
    """
    return cached(model, rows, **extra) if passes is None else Static(passes, rows)


def _places_of(model: PreTrainedModel) -> list[int]:
    """The addresses of its weights, which change with their type or device."""
    return [weight.data_ptr() for weight in model.parameters()]
