"""The losses of a supernet's networks on text, or pairs of texts, alone, without a teacher."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from attar.arch import Arch
from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.sequences import IGNORED
from attar.data.sources import Batch, inputs_of, on_targets
from attar.divergences import forward_kl
from attar.errors import require
from attar.evaluation.pairs import INPUTS
from attar.search.elastic_training import NetworkLoss
from attar.search.supernet import Supernet
from attar.train.trainer import Term, cross_entropy

Task = Literal["causal", "masked", "pairs"]


class LanguageModelling:
    """The loss of each network of a batch (`attar.search.elastic_training.Begin`): cross-entropy of
    the next token (`causal`, on packed text), of the masked tokens (`masked`, on
    `attar.data.sequences`) or of the targets of an encoder-decoder (`pairs`, on
    `attar.data.pairs`), in nats.

    With `distill` w above 0 the largest network learns from the text, and every other one from
    (1 - w) times its cross-entropy plus w times the divergence from what the largest says of the
    same tokens in the same step, which gets no gradient from it: in-place distillation (Yu and
    Huang 2019, arXiv 1903.05134, section 3.2, where w is 1). Networks are then logged apart, as
    `largest`, `task` and `distillation`.

    Args:
        supernet: whose parent has the head that the task needs.
        task: what is predicted.
        distill: w, from 0 to 1.
        label_smoothing: of `pairs`, the share of the target that all tokens have alike.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        *,
        distill: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        require(task in Task.__args__, "task", task, f"one of {', '.join(Task.__args__)}")
        require(0 <= distill <= 1, "distill", distill, "from 0 to 1")
        fine = label_smoothing == 0 or (task == "pairs" and 0 < label_smoothing < 1)
        require(fine, "label_smoothing", label_smoothing, "0, or with pairs a share below 1")
        self._supernet, self._task, self._distill = supernet, task, distill
        self._label_smoothing = label_smoothing
        self._per = "tokens" if task == "causal" else "labels"

    def __call__(self, batch: Batch) -> NetworkLoss:
        """What gives the loss of a network on this batch. It remembers what the largest one says,
        and runs it where another comes first."""
        largest, weight = self._supernet.space.largest, self._distill
        said: list[Tensor] = []

        def loss(arch: Arch) -> dict[str, Term]:
            if arch == largest or not weight:
                logits = self._logits(arch, batch)
                if weight:
                    said[:] = [logits.detach()]
                name = "largest" if weight else "loss"
                return {name: Term(self._cross_entropy(logits, batch), per=self._per)}
            if not said:
                with torch.no_grad():
                    said.append(self._logits(largest, batch))
            logits = self._logits(arch, batch)
            apart = self._targets(forward_kl(logits, said[0]), batch)
            terms = {"distillation": Term(apart, weight, per=self._per)}
            if weight < 1:
                hard = self._cross_entropy(logits, batch)
                terms["task"] = Term(hard, 1 - weight, per=self._per)
            return terms

        return loss

    def _logits(self, arch: Arch, batch: Batch) -> Tensor:
        """Of the tokens that may be predicted: (B, T - 1, V), or (labels, V)."""
        if self._task == "causal":
            return self._supernet(arch, **inputs_of(batch), use_cache=False).logits[:, :-1]
        if self._task == "pairs":
            inputs: dict[str, Any] = {name: batch[name] for name in INPUTS} | {"use_cache": False}
        else:
            inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        return self._supernet(arch, **inputs).logits[batch["labels"] != IGNORED]

    def _cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        if self._task == "causal":
            return on_targets(cross_entropy(logits, batch["input_ids"][:, 1:]), batch)
        labels = batch["labels"]
        return F.cross_entropy(
            logits.float(),
            labels[labels != IGNORED],
            reduction="none",
            label_smoothing=self._label_smoothing,
        )

    def _targets(self, values: Tensor, batch: Batch) -> Tensor:
        return on_targets(values, batch) if self._task == "causal" else values
