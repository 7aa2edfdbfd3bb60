"""Span corruption as T5 is pre-trained with, as a data collator for any PyTorch training.

Some spans of a row are cut out, each leaves a sentinel behind, and the decoder restores them
(Raffel et al. 2020, arXiv 1910.10683, section 3.1.4):

    text:   Thank you for inviting me to your party last week
    input:  Thank you <extra_id_0> to your <extra_id_1> week </s>
    target: <extra_id_0> for inviting me <extra_id_1> party last </s>

Deviations: the published code ends every row with a span, so that its last token is always hidden;
`roll` turns the row around first, and never splits a span by it, so that shapes stay fixed. Rows
may be of any length up to the one that fills the input.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info
from transformers import PreTrainedTokenizerBase

from attar.errors import CompatibilityError, DataError, require

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: what `labels` hold where there is no target
IGNORED = -100
#: tokens of a row, more than any has
_LONGEST = 2**40
#: each kind of draw has a stream of its own, so that one more kind leaves the others as they are
_SPANS, _MASKED, _SAMPLED = range(3)
_SENTINEL = re.compile(r"<extra_id_(\d+)>")


@dataclass(frozen=True)
class SpanLengths:
    """How a row of `raw` tokens is cut up.

    Attributes:
        raw: tokens of text.
        noise: how many of them are cut out.
        spans: in how many spans.
    """

    raw: int
    noise: int
    spans: int

    @classmethod
    def of(cls, raw: int, *, noise_density: float, mean_span: float) -> "SpanLengths":
        """Of a row: at least one span, at least one token that is kept, and no two spans touch."""
        noise = min(max(round(raw * noise_density), 1), raw - 1)
        spans = min(max(round(noise / mean_span), 1), noise, raw - noise)
        return cls(raw, noise, spans)

    @property
    def inputs(self) -> int:
        """Tokens that the encoder reads: what is kept, a sentinel for each span, and the end."""
        return self.raw - self.noise + self.spans + 1

    @property
    def targets(self) -> int:
        """Tokens that the decoder writes: each span behind its sentinel, and the end."""
        return self.noise + self.spans + 1


def span_lengths(
    input_length: int, *, noise_density: float = 0.15, mean_span: float = 3.0
) -> SpanLengths:
    """The longest row that fits into an input when it is corrupted.

    512 tokens hold 568 of text, and their target has 114, as T5 was trained.
    """

    def row(raw: int) -> SpanLengths:
        return SpanLengths.of(raw, noise_density=noise_density, mean_span=mean_span)

    # inputs never get shorter as rows get longer
    fitting = bisect_right(range(2, _LONGEST), input_length, key=lambda raw: row(raw).inputs)
    return row(1 + fitting)


def noise_mask(lengths: SpanLengths, rng: np.random.Generator, *, roll: bool = True) -> Mask:
    """`(raw,)`, true where a token is cut out.

    Kept and cut out stretches take turns; the lengths of either are drawn uniformly from all ways
    to cut so many tokens into so many stretches.

    Args:
        lengths: of the row.
        rng: where the draws come from.
        roll: begin the row anywhere but within a span; otherwise it begins with kept tokens and
            ends with a span, as in the published code.
    """
    kept = _segments(lengths.raw - lengths.noise, lengths.spans, rng)
    cut = _segments(lengths.noise, lengths.spans, rng)
    stretches = np.stack([kept, cut], axis=1).ravel()
    mask = np.repeat(np.arange(len(stretches)) % 2 == 1, stretches)
    if roll:
        starts = np.flatnonzero(~(mask & np.roll(mask, 1)))  # not within a span
        mask = np.roll(mask, -rng.choice(starts))
    return mask


def _segments(total: int, parts: int, rng: np.random.Generator) -> Ids:
    """Lengths of parts, each 1 or more, that add up to a total."""
    ends = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(ends, prepend=0, append=total)


def corrupt(ids: Ids, mask: Mask, *, sentinels: Ids, end: int) -> tuple[Ids, Ids]:
    """The input, with a sentinel for each span, and the target, with each span behind its sentinel;
    both end with `end`."""
    first = mask & ~np.concatenate([[False], mask[:-1]])  # of each span
    number = np.cumsum(first) - 1
    marked = np.where(first, sentinels[np.maximum(number, 0)], ids)
    inputs = np.append(marked[~mask | first], end)
    target = np.insert(ids[mask], np.flatnonzero(first[mask]), sentinels[: first.sum()])
    return inputs, np.append(target, end)


def sentinel_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of `<extra_id_0>`, `<extra_id_1>`, ... as far as a tokenizer has them without a gap.

    They are looked up by their text, for ids descend in T5, and in others ascend.
    """
    numbered = {
        int(match[1]): i
        for token, i in tokenizer.get_vocab().items()
        if (match := _SENTINEL.fullmatch(token))
    }
    some: list[int] = []
    while len(some) in numbered:
        some.append(numbered[len(some)])
    return some


def text_tokens(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> Tensor:
    """`(V,)`, true for ids that stand for text: neither special, nor sentinels, nor beyond the
    tokenizer, where a model's table is longer."""
    text = torch.arange(vocab_size) < len(tokenizer)
    text[[i for i in tokenizer.all_special_ids if i < vocab_size]] = False
    text[[i for i in sentinel_ids(tokenizer) if i < vocab_size]] = False
    return text


class T5SpanCorruptionCollator:
    """A data collator that corrupts spans of rows of token ids.

    ```python
    collator = T5SpanCorruptionCollator(tokenizer, input_length=512)
    rows = attar.data.tokens.pack(texts, tokenizer, context=collator.lengths.raw)
    Trainer(model, args, train_dataset=rows, data_collator=collator)
    ```

    Every row has its own draws: those of its `draw`, a number, if it has one; otherwise those of
    the next number, counted apart in each worker of a `DataLoader`. Rows with the same numbers have
    the same spans, whatever else is drawn.

    Args:
        tokenizer: with sentinels `<extra_id_0>` and on, an end of text, and padding.
        input_length: tokens that the encoder reads, at most.
        noise_density: the share of tokens that is cut out.
        mean_span: tokens of a span, on average.
        mask_share: the share of the remaining tokens of text whose places are drawn for `masked`,
            by which SpacTor replaces tokens; 0: none, and no `masked`.
        roll: see `noise_mask`.
        seed: of all draws.

    Raises:
        CompatibilityError: the tokenizer has too few sentinels, no end of text or no padding.
        ConfigError: a value is out of its range.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        input_length: int = 512,
        noise_density: float = 0.15,
        mean_span: float = 3.0,
        mask_share: float = 0.0,
        roll: bool = True,
        seed: int = 0,
    ) -> None:
        require(input_length >= 4, "input_length", input_length, "4 or more")
        require(0 < noise_density < 1, "noise_density", noise_density, "above 0 and below 1")
        require(mean_span >= 1, "mean_span", mean_span, "1 or more")
        require(0 <= mask_share < 1, "mask_share", mask_share, "from 0 to below 1")
        require(seed >= 0, "seed", seed, "0 or more")
        self.noise_density, self.mean_span, self.roll = noise_density, mean_span, roll
        self.mask_share, self.seed = mask_share, seed
        self.lengths = span_lengths(input_length, noise_density=noise_density, mean_span=mean_span)
        self.sentinels = np.array(sentinel_ids(tokenizer), dtype=np.int64)
        if len(self.sentinels) < self.lengths.spans:
            raise CompatibilityError(
                f"an input of {input_length} tokens has {self.lengths.spans} spans, each of which "
                "needs a sentinel of its own (<extra_id_0>, <extra_id_1>, ...), but the tokenizer "
                f"{tokenizer.name_or_path!r} has {len(self.sentinels)}: add them with "
                "tokenizer.add_tokens(..., special_tokens=True) and resize the model's embeddings, "
                "or choose a shorter input or longer spans"
            )
        missing = [
            name
            for name, value in (
                ("eos_token", tokenizer.eos_token_id),
                ("pad_token", tokenizer.pad_token_id),
            )
            if value is None
        ]
        if missing:
            raise CompatibilityError(
                f"span corruption ends rows and pads them, but the tokenizer "
                f"{tokenizer.name_or_path!r} has no {' and no '.join(missing)}: set it"
            )
        self.end, self.pad = int(tokenizer.eos_token_id), int(tokenizer.pad_token_id)  # pyright: ignore[reportArgumentType]
        special = np.array(tokenizer.all_special_ids, dtype=np.int64)
        self._marks = np.concatenate([special, self.sentinels, [self.end]])
        # documents may end within a row, also where padding is the same token
        padding = [] if self.pad == self.end else [self.pad]
        self._foreign = np.append(self.sentinels, padding).astype(np.int64)
        self._drawn = 0

    @property
    def settings(self) -> dict[str, Any]:
        """All that the draws of a row depend on, but for its own ids."""
        names = ("noise_density", "mean_span", "mask_share", "roll", "seed", "end", "pad")
        return {name: getattr(self, name) for name in names} | {
            "longest": self.lengths.raw,
            "sentinels": self.sentinels.tolist(),
        }

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (B, T), `labels` (B, U), with -100 beyond the end.

        With a `mask_share` also `masked` (B, Q): places in `input_ids` that hold text, in ascending
        order, and -1 where a row has fewer than another; and `uniform` (B, Q), a number in (0, 1]
        for each, to sample what replaces it.

        Args:
            rows: each with `input_ids`: text only, without padding and without an end.

        Raises:
            DataError: a row is too short, too long, or holds a sentinel or padding.
        """
        made = [self._row(row) for row in rows]
        batch = {
            "input_ids": _padded([row[0] for row in made], self.pad),
            "labels": _padded([row[1] for row in made], IGNORED),
        }
        places = torch.arange(batch["input_ids"].shape[1])
        sizes = torch.tensor([len(row[0]) for row in made])
        batch["attention_mask"] = (places < sizes[:, None]).long()
        if self.mask_share:
            batch["masked"] = _padded([row[2] for row in made], -1)
            batch["uniform"] = _padded([row[3] for row in made], 1.0)
        return batch

    def _row(self, row: Mapping[str, Any]) -> tuple[Ids, Ids, Ids, NDArray[np.float32]]:
        ids = np.asarray(row["input_ids"], dtype=np.int64)
        self._check(ids)
        seeds = self._seeds(row.get("draw"))
        lengths = SpanLengths.of(
            len(ids), noise_density=self.noise_density, mean_span=self.mean_span
        )
        mask = noise_mask(lengths, np.random.default_rng([_SPANS, *seeds]), roll=self.roll)
        inputs, target = corrupt(ids, mask, sentinels=self.sentinels, end=self.end)
        masked = np.empty(0, dtype=np.int64)
        if self.mask_share:
            rng = np.random.default_rng([_MASKED, *seeds])
            text = np.flatnonzero(~np.isin(inputs, self._marks))
            count = round(self.mask_share * len(text))
            masked = np.sort(rng.choice(text, count, replace=False))
        draws = np.random.default_rng([_SAMPLED, *seeds]).random(len(masked))
        return inputs, target, masked, (1 - draws).astype(np.float32)

    def _seeds(self, draw: int | None) -> tuple[int, ...]:
        """Of the next row."""
        if draw is not None:
            return (self.seed, int(draw))
        worker = get_worker_info()
        self._drawn += 1
        # a worker is a copy of this one: its `seed` differs in every pass over the data
        return (self.seed, self._drawn) if worker is None else (self.seed, worker.seed, self._drawn)

    def _check(self, ids: Ids) -> None:
        if len(ids) < 2:
            raise DataError(
                "span corruption needs rows of 2 tokens or more, to hide some and keep some; found "
                f"one of {len(ids)}: leave it out, or pack texts into longer rows"
            )
        if len(ids) > self.lengths.raw:
            raise DataError(
                f"expected rows of at most {self.lengths.raw} tokens, which fill the input when "
                f"they are corrupted; found one of {len(ids)}: cut the text into rows of that "
                "length (lengths.raw), as attar.data.tokens.pack does"
            )
        odd = ids[np.isin(ids, self._foreign)]
        if len(odd):
            raise DataError(
                f"expected rows of text, found a sentinel or padding in one (id {odd[0]}); give "
                "rows without padding, and of text that is not corrupted yet"
            )


def _padded(rows: Sequence[NDArray[Any]], filler: float) -> Tensor:
    whole = np.full((len(rows), max(map(len, rows))), filler, dtype=rows[0].dtype)
    for place, row in zip(whole, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(whole)
