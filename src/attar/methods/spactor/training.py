"""A T5 trained by SpacTor in both stages, and how well replaced tokens are found."""

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from scipy.stats import rankdata
from torch import Tensor
from transformers import PreTrainedModel

from attar.artefacts import write_text
from attar.errors import ConfigError
from attar.foreign import read_json
from attar.methods.spactor.config import SpacTorConfig
from attar.methods.spactor.first_stage import FirstStage, require_t5
from attar.methods.spactor.objective import detect_and_restore, joint_loss
from attar.models import autocast, evaluation_mode
from attar.runtime import processes
from attar.train.callbacks import Watch
from attar.train.resume import newest_checkpoint, step_of
from attar.train.span_rows import SpanRows, span_loss
from attar.train.trainer import TrainConfig, Training, fit


@dataclass(frozen=True, kw_only=True)
class DetectionQuality:
    """The first stage on held-out text, when it ends.

    Attributes:
        auc: chance that a replaced token looks more like one than another token does; 0.5: nothing
            is learned; None: nothing is replaced, or everything.
        recall: share of the replaced tokens that are found; None: there are none.
        precision: share of the flagged tokens that were replaced; None: none is flagged.
        replaced: share of scored tokens that are replaced; below 0.02, the generator is too strong.
        nats_mlm: the generator's loss for a masked token.
        nats: loss of the targets from clean inputs.
        nats_replaced: the same from inputs with replaced tokens.
    """

    auc: float | None
    recall: float | None
    precision: float | None
    replaced: float
    nats_mlm: float
    nats: float
    nats_replaced: float


@torch.no_grad()
def detection_quality(
    model: PreTrainedModel, rows: SpanRows, *, stage: FirstStage, batch_size: int = 32
) -> DetectionQuality:
    """How well replaced tokens are found; the model's mode is restored.

    Args:
        model: the T5.
        stage: generator and head.
        rows: held-out text, with places to mask.
        batch_size: rows in one forward pass.
    """
    sums = dict.fromkeys(("labels", "masked", "clean", "noisy", "mlm"), 0.0)
    logits: list[Tensor] = []
    truth: list[Tensor] = []
    with evaluation_mode(model), evaluation_mode(stage), autocast(model):
        for start in range(0, len(rows), batch_size):
            batch = rows.batch(range(start, min(start + batch_size, len(rows))))
            counts = rows.counts(batch)
            batch = {name: value.to(model.device) for name, value in batch.items()}
            parts = detect_and_restore(model, batch, stage=stage)
            sums["labels"] += counts["labels"]
            sums["masked"] += counts["masked"]
            sums["clean"] += float(span_loss(model, batch)["loss"].values.sum())
            sums["noisy"] += float(parts.loss_sc.sum())
            sums["mlm"] += float(parts.loss_mlm.sum())
            logits.append(parts.rtd_logits[parts.scored].cpu())
            truth.append(parts.is_replaced[parts.scored].cpu())
    scores, positive = torch.cat(logits), torch.cat(truth)
    taken, count = scores > 0, int(positive.sum())
    others = len(positive) - count
    ranks = rankdata(scores.numpy())[positive.numpy()].sum() - count * (count + 1) / 2
    return DetectionQuality(
        auc=float(ranks / (count * others)) if count and others else None,
        recall=float((taken & positive).sum() / count) if count else None,
        precision=float((taken & positive).sum() / taken.sum()) if taken.any() else None,
        replaced=count / max(1, len(positive)),
        nats_mlm=sums["mlm"] / max(1.0, sums["masked"]),
        nats=sums["clean"] / sums["labels"],
        nats_replaced=sums["noisy"] / sums["labels"],
    )


def train(
    model: PreTrainedModel,
    rows: SpanRows,
    *,
    held_out: SpanRows,
    config: TrainConfig,
    spactor: SpacTorConfig,
    state_dir: Path,
    resume: bool = False,
    watch: Watch | None = None,
) -> tuple[Training, DetectionQuality | None]:
    """Train a T5 in place, in both stages; it stays an ordinary T5.

    Args:
        model: a T5 with weights in float32.
        rows: to train on, with places to mask and the tokens that are text.
        held_out: rows on which replaced-token detection is scored when the first stage ends.
        config: of the training.
        spactor: of the first stage.
        state_dir: where checkpoints go; the one at tau is what the second stage begins with.
        resume: go on from the newest of them.
        watch: looks at the model after some steps, in either stage.

    Returns:
        What was done, and how well replaced tokens were found; None: there was no first stage.

    Raises:
        ConfigError: tau is not within the run, or training diverged.
        CompatibilityError: the model is no T5.
    """
    require_t5(model)
    tau = spactor.switch(config.max_steps)
    if tau == 0:
        return fit(
            model,
            rows,
            config=config,
            state_dir=state_dir,
            resume=resume,
            compute=span_loss,
            watch=watch,
        ), None
    if spactor.generator_embedding == "gdes" and config.optim != "adamw":
        raise ConfigError(
            "with generator_embedding gdes the model's own table begins at zero, and hardly moves "
            f"with the steps of optim {config.optim}, which are in proportion to the weights; take "
            "optim adamw, or generator_embedding tied or none"
        )
    report = state_dir / "first_stage.json"
    newest = newest_checkpoint(state_dir) if resume else None
    seconds = 0.0
    if newest is None or step_of(newest) < tau:
        assert rows.text is not None
        stage = FirstStage(model, config=spactor, text=rows.text, seed=config.seed)

        def finish() -> None:
            quality = detection_quality(model, held_out, stage=stage)
            if processes().is_main_process:
                write_text(report, json.dumps(asdict(quality)))
            stage.end()

        try:
            first = fit(
                model,
                rows,
                config=config,
                state_dir=state_dir,
                resume=resume,
                compute=partial(joint_loss, stage=stage),
                auxiliary=stage,
                last_step=tau,
                finish=finish,
                watch=watch,
            )
        finally:
            stage.end()  # also of a training that was interrupted
        seconds = first.seconds
    processes().wait_for_everyone()
    training = fit(
        model,
        rows,
        config=config,
        state_dir=state_dir,
        resume=True,
        compute=span_loss,
        watch=watch,
    )
    quality = DetectionQuality(**read_json(report, "the quality of the first stage"))
    return replace(training, seconds=training.seconds + seconds), quality
