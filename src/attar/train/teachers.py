"""Teachers: a live model, or the top of its distributions stored on disk."""

import logging
from pathlib import Path
from typing import Any, Protocol

import torch
from datasets import Dataset
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import require_same_vocabulary, vocabulary_size
from attar.data.sources import Batch, Source, Windows, inputs_of
from attar.divergences import Divergence, forward_kl, log_mass_outside, topk_forward_kl
from attar.models import autocast, evaluation_mode
from attar.runtime import Bar
from attar.train import shards

logger = logging.getLogger(__name__)


class Teacher(Protocol):
    """What a student is held to."""

    def distance(self, student_logits: Tensor, batch: Batch) -> Tensor:
        """Divergence of the student from the teacher at each target token.

        Args:
            student_logits: (B, T - 1, V), the student's predictions of every token but the first.
            batch: `input_ids` (B, T) and `rows` (B,), and `position_ids` (B, T) of packed rows.

        Returns:
            (B, T - 1), nats.

        Raises:
            CompatibilityError: the two vocabularies differ in size.
        """
        ...


class LiveTeacher:
    """A model that is run on every batch, without gradients; its own mode and weights stay as they
    are."""

    def __init__(self, model: PreTrainedModel, *, divergence: Divergence = forward_kl) -> None:
        self.model, self.divergence = model.eval(), divergence

    def distance(self, student_logits: Tensor, batch: Batch) -> Tensor:
        """See `Teacher.distance`."""
        logits = _predictions(self.model, batch).to(student_logits.device)
        require_same_vocabulary(student_logits.shape[-1], logits.shape[-1])
        return self.divergence(student_logits, logits)


class CachedTeacher:
    """The `k` likeliest tokens of a teacher at every position, and the probability of all others.

    On disk: `manifest.json`, and one safetensors file per `shard` windows with `ids` int32 and
    `log_probs` float16 (rows, T - 1, k) and `log_rest` float32 (rows, T - 1). Read by memory map,
    row by row. Only forward KL can be had from it.
    """

    def __init__(self, path: Path) -> None:
        """Open a finished cache.

        Raises:
            DataError: it is missing, of another format, or not finished.
        """
        self.path, self.manifest = path, shards.read_manifest(path)
        files = shards.files(path, _shards(self.manifest))
        self._open = [safe_open(file, "pt") for file in files]

    @classmethod
    def build(
        cls,
        model: PreTrainedModel,
        windows: Source | Dataset | Tensor,
        *,
        path: Path,
        tokenizer: PreTrainedTokenizerBase | None = None,
        k: int = 64,
        batch_size: int = 8,
        shard: int = 256,
    ) -> "CachedTeacher":
        """Run the teacher over all windows once and store the top of its distributions.

        Each shard appears when it is complete, so that a killed build continues where it stopped.

        Args:
            model: the teacher.
            windows: rows of one length, such as a packed data set (column `input_ids`) or a tensor
                (N, T).
            path: folder of the cache.
            tokenizer: the teacher's; None: the vocabulary is only compared by its size.
            k: tokens kept per position, at most the vocabulary.
            batch_size: windows in one forward pass.
            shard: windows per file.

        Raises:
            CompatibilityError: `path` holds a cache of another teacher, tokenizer, vocabulary, `k`
                or of other windows.
        """
        vocabulary = vocabulary_size(model)
        source = Windows(windows) if isinstance(windows, Dataset | Tensor) else windows
        manifest = {
            "teacher": checkpoint.fingerprint(model),
            "tokenizer": checkpoint.tokenizer_fingerprint(tokenizer) if tokenizer else None,
            "vocabulary": vocabulary,
            "windows": source.fingerprint(),
            "rows": len(source),
            "length": source.batch([0])["input_ids"].shape[1],
            "k": min(k, vocabulary),
            "shard": shard,
        }
        shards.open_manifest(path, manifest)
        todo = [i for i in range(_shards(manifest)) if not shards.file(path, i).is_file()]
        for i in Bar(todo, desc="teacher cache", unit="shard"):
            rows = range(i * shard, min((i + 1) * shard, len(source)))
            parts = [
                _top(model, source.batch(rows[j : j + batch_size]), manifest["k"])
                for j in range(0, len(rows), batch_size)
            ]
            shards.write(
                path, i, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            )
        return cls(path)

    def distance(self, student_logits: Tensor, batch: Batch) -> Tensor:
        """See `Teacher.distance`."""
        require_same_vocabulary(student_logits.shape[-1], self.manifest["vocabulary"])
        top = self.lookup(batch["rows"])
        return topk_forward_kl(
            student_logits, **{name: top[name].to(student_logits.device) for name in _NAMES}
        )

    def lookup(self, rows: Tensor) -> dict[str, Tensor]:
        """`ids` and `log_probs` (B, T - 1, k) and `log_rest` (B, T - 1) of some windows of the
        packed data set."""
        top: dict[str, list[Tensor]] = {name: [] for name in _NAMES}
        for row in rows.tolist():
            shard, at = divmod(row, self.manifest["shard"])
            for name in _NAMES:
                value = self._open[shard].get_slice(name)[at]
                # autocast stacks no float16
                top[name].append(value.float() if value.is_floating_point() else value)
        return {name: torch.stack(parts) for name, parts in top.items()}


_NAMES = ("ids", "log_probs", "log_rest")


@torch.no_grad()
def _predictions(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits (B, T - 1, V) for every token of (B, T) but the first."""
    inputs = {name: value.to(model.device) for name, value in inputs_of(batch).items()}
    with autocast(model):
        return model(**inputs, use_cache=False).logits[:, :-1]


def _top(model: PreTrainedModel, batch: Batch, k: int) -> dict[str, Tensor]:
    with evaluation_mode(model):
        log_probs = _predictions(model, batch).float().log_softmax(-1)
    values, top = log_probs.topk(k, -1)
    rest = log_mass_outside(log_probs, top)
    return {"ids": top.int().cpu(), "log_probs": values.half().cpu(), "log_rest": rest.cpu()}


def _shards(manifest: dict[str, Any]) -> int:
    return -(-manifest["rows"] // manifest["shard"])
