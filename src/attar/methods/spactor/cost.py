"""What SpacTor's training computes, with generator and heads in the first stage."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.data.sources import Batch
from attar.measure.flops import training_flops
from attar.methods.spactor.config import SpacTorConfig
from attar.methods.spactor.first_stage import FirstStage
from attar.methods.spactor.objective import joint_loss
from attar.train.span_rows import SpanRows, span_loss
from attar.train.trainer import Compute, TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainingFlops:
    """FLOPs of a training; a multiply-accumulate of a matrix product is 2.

    Attributes:
        span: of a step of span corruption.
        first_stage: of a step of the first stage.
        all_positions: the same with the generator's logits at all positions.
        tau: steps of the first stage.
        max_steps: steps of both.
    """

    span: int
    first_stage: int
    all_positions: int
    tau: int
    max_steps: int

    def until(self, step: int) -> int:
        """All up to the end of this step."""
        first = min(step, self.tau)
        return first * self.first_stage + (step - first) * self.span

    @property
    def overhead(self) -> float:
        """What a step of the first stage costs more than one of span corruption, as a share of
        it."""
        return self.first_stage / self.span - 1

    def to_dict(self) -> dict[str, float]:
        """Fields and derived figures, as stored in a `Run`."""
        total = {"total": self.until(self.max_steps), "overhead": self.overhead}
        return dict(vars(self)) | total


def training_cost(
    model: PreTrainedModel, rows: SpanRows, *, config: TrainConfig, spactor: SpacTorConfig
) -> TrainingFlops:
    """Count the FLOPs of a training of this model without running it.

    Args:
        model: the T5, which may lie on the meta device.
        rows: to train on, of which all are taken to be as long as the first.
        config: of the training.
        spactor: of the first stage.
    """
    batch = {name: value.to("meta") for name, value in rows.batch([0]).items()}
    with torch.device("meta"):
        empty = type(model)(model.config)
        plain = training_flops(_sum_of(empty, span_loss), batch)
        stages = {"masked": plain, "all": plain}
        if "masked" in batch:
            text = torch.empty(empty.config.vocab_size, dtype=torch.bool)
            for where in ("masked", "all"):
                stage = FirstStage(empty, config=replace(spactor, logits_at=where), text=text)
                loss = _sum_of(empty, lambda m, b, s=stage: joint_loss(m, b, stage=s))
                stages[where] = training_flops(loss, batch)
                stage.end()
    per_step = config.rows_per_step
    return TrainingFlops(
        span=plain * per_step,
        first_stage=stages["masked"] * per_step,
        all_positions=stages["all"] * per_step,
        tau=spactor.switch(config.max_steps),
        max_steps=config.max_steps,
    )


def _sum_of(model: nn.Module, compute: Compute) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        terms = compute(model, batch).values()
        return torch.stack([term.weight * term.values.sum() for term in terms]).sum()

    return loss
