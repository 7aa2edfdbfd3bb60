"""Rows of text whose spans are corrupted, as a source to train on or to score."""

import hashlib
from collections.abc import Iterator, Sequence

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.data.pairs import shifted_right
from attar.data.sequences import IGNORED
from attar.data.sources import Batch, fingerprint, window
from attar.evaluation.pairs import INPUTS
from attar.train.corruption import T5SpanCorruptionCollator
from attar.train.trainer import Term, cross_entropy

_AT_A_TIME = 2**16  # places that are spelt out


class SpanRows:
    """A source of rows (see `attar.data.sources.Source`) that a collator corrupts.

    Place `i` holds row `places[i]`, corrupted by draw `i`: a row that comes again has other spans,
    and each place has the same spans in every run, whatever else is drawn.

    Args:
        data: a packed data set (column `input_ids`) or a tensor (N, T).
        collator: of the model's tokenizer.
        model: that reads the rows; it says what its decoder begins with.
        places: which row each place holds; None: each row once.
        text: `(V,)`, true for tokens of text (see `attar.train.corruption.text_tokens`): `scored`
            then counts them; None: it counts all that the encoder reads.
    """

    def __init__(
        self,
        data: Dataset | Tensor,
        collator: T5SpanCorruptionCollator,
        *,
        model: PreTrainedModel,
        places: Sequence[int] | None = None,
        text: Tensor | None = None,
    ) -> None:
        self.data, self.collator, self.text = data, collator, text
        self.places = range(len(data)) if places is None else places
        start = model.config.decoder_start_token_id
        self._start = collator.pad if start is None else int(start)
        self.tokens_per_row = float(len(window(data, 0)))

    def __len__(self) -> int:
        return len(self.places)

    def length(self, row: int) -> int:
        """Tokens of its text."""
        return len(window(self.data, self.places[row]))

    def batch(self, rows: Sequence[int]) -> Batch:
        """What the collator makes, with `decoder_input_ids` (B, U) and `rows` (B,)."""
        batch = self.collator(
            [{"input_ids": window(self.data, self.places[i]).numpy(), "draw": i} for i in rows]
        )
        read = shifted_right(batch["labels"].numpy(), start=self._start, pad=self.collator.pad)
        return batch | {"decoder_input_ids": torch.from_numpy(read), "rows": torch.tensor(rows)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """`labels`: tokens of the targets; `tokens`: these and what the encoder reads; `masked`:
        places that are masked; `scored`: those at which a token may be found replaced."""
        read = batch["attention_mask"].bool()
        labels = float((batch["labels"] != IGNORED).sum())
        counts = {"labels": labels, "tokens": labels + float(read.sum())}
        if "masked" in batch:
            ids = batch["input_ids"]
            scored = read if self.text is None else read & self.text.to(ids.device)[ids]
            counts["masked"] = float((batch["masked"] >= 0).sum())
            counts["scored"] = float(scored.sum())
        return counts

    def fingerprint(self) -> str:
        """Of all token ids, and of how they are corrupted."""
        parts = (fingerprint(self.data), self.collator.settings)
        digest = hashlib.sha256(f"{repr(parts)[:-1]}, ".encode())
        for part in _spelt(self.places):
            digest.update(part.encode())
        digest.update(b")")
        return digest.hexdigest()


def _spelt(numbers: Sequence[int]) -> Iterator[str]:
    """What `repr` makes of a list of them, in parts: a long run has a billion."""
    yield "["
    for start in range(0, len(numbers), _AT_A_TIME):
        some = numbers[start : start + _AT_A_TIME]
        yield (", " if start else "") + repr(list(some))[1:-1]
    yield "]"


def span_loss(model: nn.Module, batch: Batch) -> dict[str, Term]:
    """Cross-entropy of every token of the targets, (B, U), nats; 0 behind their ends."""
    logits = model(**{name: batch[name] for name in INPUTS}, use_cache=False).logits
    return {"loss": Term(cross_entropy(logits, batch["labels"]), per="labels")}
