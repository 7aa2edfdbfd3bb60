"""What a teacher says of labelled examples: logits and features, live or stored on disk.

`Teacher` in `teachers.py` is the same for text, where only the likeliest tokens can be kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from attar import checkpoint
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.labelled.items import logits_of
from attar.data.labelled.task import Task
from attar.data.sources import Batch
from attar.errors import DataError
from attar.models import damage_of
from attar.runtime import Bar
from attar.train import shards
from attar.train.features import Pool, pool

SHARD = 512  # rows in a file


@dataclass(frozen=True)
class FeatureRequest:
    """Which features are needed besides the logits.

    Attributes:
        hidden: hidden states of all tokens, by index (0 is the embedding output).
        pooled: hidden states of which one vector per example is enough.
        pool: that vector: the first token's, or the mean over the tokens.
        attention: attention maps, by layer.
    """

    hidden: tuple[int, ...] = ()
    pooled: tuple[int, ...] = ()
    pool: Pool = "cls"
    attention: tuple[int, ...] = ()


@dataclass
class Outputs:
    """Of one batch: `logits` as `logits_of` has them; `hidden` `(B, T, d)`, `pooled` `(B, d)` and
    `attention` `(B, H, T, T)` by index."""

    logits: Tensor
    hidden: dict[int, Tensor] = field(default_factory=dict)
    pooled: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)


TeacherOutputs = Callable[[Batch], Outputs]
"""What a teacher says of a batch, live or stored."""


def outputs_of(
    model: Any, batch: Mapping[str, Tensor], *, task: Task, request: FeatureRequest
) -> Outputs:
    """Logits and the features of a request, of any model of the task, student or teacher.

    Args:
        model: with a head for the task.
        batch: `input_ids` (B, T) or `inputs_embeds` (B, T, d), and `attention_mask` (B, T).
        task: what the head predicts.
        request: the features.
    """
    names = (*MODEL_INPUTS, "inputs_embeds")
    inputs = {name: batch[name] for name in names if name in batch}
    said = model(
        **inputs,
        output_hidden_states=bool(request.hidden or request.pooled),
        output_attentions=bool(request.attention),
    )
    mask = batch["attention_mask"]
    return Outputs(
        logits=logits_of(said, task),
        hidden={i: said.hidden_states[i] for i in request.hidden},
        pooled={
            i: pool(said.hidden_states[i], how=request.pool, mask=mask) for i in request.pooled
        },
        attention={i: said.attentions[i] for i in request.attention},
    )


class LiveOutputs:
    """A teacher that is run on every batch, in evaluation mode and without gradients."""

    def __init__(
        self, model: PreTrainedModel, *, task: Task, request: FeatureRequest, bf16: bool = False
    ) -> None:
        self.model, self.task, self.request = model.eval(), task, request
        self._bf16 = bf16

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Outputs:
        """Run it, under bfloat16 autocast or in float32, whatever the student does."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bf16):
            return outputs_of(self.model, batch, task=self.task, request=self.request)


class CachedOutputs:
    """A teacher's outputs for every row of a source, read by memory map.

    On disk: `manifest.json` and one safetensors file per 512 rows, in which the rows lie one behind
    the other: features float16, logits float32. Attention maps are not stored: they grow with the
    square of the length. Rows are padded on the right.
    """

    def __init__(self, path: Path, *, task: Task, request: FeatureRequest) -> None:
        """Open a finished cache.

        Raises:
            DataError: it is missing, damaged, unfinished, or lacks features that are needed.
        """
        self.task, self.request = task, request
        manifest = shards.read_manifest(path)
        if request.attention or not _covers(manifest["features"], request):
            raise DataError(
                f"the teacher cache {path} lacks features that are needed; build it again"
            )
        files = shards.files(path, -(-manifest["rows"] // SHARD))
        self._shards = [_Shard(file) for file in files]

    @classmethod
    def build(
        cls,
        model: PreTrainedModel,
        source: Examples,
        *,
        path: Path,
        task: Task,
        request: FeatureRequest,
        batch_size: int = 32,
        bf16: bool = False,
    ) -> "CachedOutputs":
        """Run the teacher over all rows once; a killed build is continued where it stopped.

        Raises:
            CompatibilityError: `path` holds a cache of another teacher, other rows or features.
            DataError: the teacher's logits are not finite.
        """
        manifest = {
            "teacher": checkpoint.fingerprint(model),
            "source": source.fingerprint(),
            "rows": len(source),
            "bf16": bf16,
            "features": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in vars(request).items()
            },
        }
        shards.open_manifest(path, manifest)
        live = LiveOutputs(model, task=task, request=request, bf16=bf16)
        count = -(-len(source) // SHARD)
        todo = [i for i in range(count) if not shards.file(path, i).is_file()]
        for i in Bar(todo, desc="teacher outputs", unit="file", leave=False):
            rows = range(i * SHARD, min((i + 1) * SHARD, len(source)))
            by_length = sorted(rows, key=source.length)  # little padding is run through the model
            parts: dict[int, dict[str, Tensor]] = {}
            for start in range(0, len(rows), batch_size):
                some = by_length[start : start + batch_size]
                batch = source.batch(some)
                batch = {name: value.to(model.device) for name, value in batch.items()}
                outputs = live(batch)
                if not bool(torch.isfinite(outputs.logits).all()):
                    raise DataError(
                        f"the logits of the teacher {model.name_or_path or type(model).__name__} "
                        f"are not finite: {damage_of(model)}; give another checkpoint of it"
                    )
                parts.update(zip(some, _split(outputs, batch["attention_mask"], task), strict=True))
            names = parts[rows[0]]
            stored = {name: torch.cat([parts[row][name] for row in rows]) for name in names}
            shards.write(path, i, stored)
        return cls(path, task=task, request=request)

    def __call__(self, batch: Batch) -> Outputs:
        """Look the batch's rows up; padding is zero."""
        ids = batch["input_ids"]
        stored: dict[str, list[Tensor]] = {}
        for row in batch["rows"].tolist():
            shard, at = divmod(row, SHARD)
            for name, value in self._shards[shard].row(at).items():
                stored.setdefault(name, []).append(value.float())  # autocast stacks no float16
        whole = {n: _pad(rows, ids.shape[1], n).to(ids.device) for n, rows in stored.items()}
        if self.task.kind == "question_answering":
            logits = whole["token.logits"].transpose(1, 2)
        else:
            logits = whole["token.logits" if "token.logits" in whole else "row.logits"]
        return Outputs(
            logits=logits,
            hidden={i: whole[f"token.hidden.{i}"] for i in self.request.hidden},
            pooled={i: whole[f"row.pooled.{i}"] for i in self.request.pooled},
        )


class _Shard:
    """One file: tensors `row.*` have a line per example, `token.*` one per token."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self._tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self._ends = self._tensors.pop("row.length").cumsum(0).tolist()

    def row(self, at: int) -> dict[str, Tensor]:
        start, end = self._ends[at - 1] if at else 0, self._ends[at]
        return {
            name: value[start:end] if name.startswith("token.") else value[at]
            for name, value in self._tensors.items()
        }


def _split(outputs: Outputs, mask: Tensor, task: Task) -> list[dict[str, Tensor]]:
    """The outputs of a batch as one dictionary a row, without padding, ready to be joined."""
    logits = outputs.logits.float()
    if task.kind == "question_answering":
        logits = logits.transpose(1, 2)
    per_token = {f"token.hidden.{i}": value.half() for i, value in outputs.hidden.items()}
    per_row = {f"row.pooled.{i}": value.half() for i, value in outputs.pooled.items()}
    if logits.ndim == 3:
        per_token["token.logits"] = logits
    else:
        per_row["row.logits"] = logits
    lengths = mask.sum(1).tolist()
    return [
        {name: value[row, :length].cpu() for name, value in per_token.items()}
        | {name: value[row : row + 1].cpu() for name, value in per_row.items()}
        | {"row.length": torch.tensor([length])}
        for row, length in enumerate(lengths)
    ]


def _pad(rows: Sequence[Tensor], width: int, name: str) -> Tensor:
    if name.startswith("row."):
        return torch.stack(list(rows))
    whole = rows[0].new_zeros(len(rows), width, *rows[0].shape[1:])
    for line, row in zip(whole, rows, strict=True):
        line[: len(row)] = row
    return whole


def _covers(stored: dict[str, Any], request: FeatureRequest) -> bool:
    pooled = set(request.pooled)
    return set(request.hidden) <= set(stored["hidden"]) and (
        not pooled or (pooled <= set(stored["pooled"]) and stored["pool"] == request.pool)
    )
