"""One training loop for every verb: transformers' Trainer, token-exact, resumed without a trace.

Each part of the loss of a step is a sum over the global batch divided by the number of what it is
summed over (target tokens, examples), so that a batch of 8, 4 batches of 2 accumulated, and 2
processes with half a batch each take the same step. The rows of every step are fixed beforehand by
the seed alone. What compares the rows of one forward pass with each other cannot be split like
this: it says so where it is defined (mixup, the plan of the earth mover's distance, mutual
information under accumulation).
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.trainer_callback import PrinterCallback

from attar.data.sources import Batch, Order, Source, Windows, inputs_of, on_targets
from attar.divergences import mean_over
from attar.errors import ConfigError, TrainingDivergedError, check_types, require
from attar.models import autocast
from attar.runtime import processes
from attar.train.callbacks import Interrupt, LastStep, Progress, Watch
from attar.train.optimizers import OptimizerName, optimizer_class
from attar.train.resume import (
    check_data,
    load_weights,
    mark_complete,
    newest_checkpoint,
    save_weights,
    tidy,
)
from attar.train.schedules import ObservesLoss

FLOAT = torch.float32  # of weights in training: smaller types swallow small updates
_POLYNOMIAL_END = 1e-7  # learning rate at the end of transformers' polynomial schedule


@dataclass(frozen=True)
class Term:
    """A part of a loss: the sum of `values`, of any shape, over the number of `per` in the whole
    step (see `Source.counts`), times `weight`."""

    values: Tensor
    weight: float = 1.0
    per: str = "tokens"


Compute = Callable[[nn.Module, Batch], dict[str, Term]]
"""A loss: (model, batch) -> its parts by name. All are logged, but for one called "loss"."""

Schedule = Callable[[Optimizer], LRScheduler]
"""What changes the learning rate of an optimizer, whose rate is the peak."""

Prepare = Callable[[PreTrainedModel, Batch, int], Batch]
"""(model, batch, steps done) -> the batch to train on, such as with texts that the model writes. It
must not depend on the state of a random generator, so that a resumed run sees the same."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of the training loop, named as in transformers' `TrainingArguments`.

    A step sees `per_device_train_batch_size * gradient_accumulation_steps * (number of processes)`
    rows. Keep that product to keep the result: how it is split makes no difference but rounding,
    except to a loss that compares the rows of one forward pass with each other.
    """

    max_steps: int = 500
    """Optimizer steps."""
    per_device_train_batch_size: int = 8
    """Batch size per device: rows (windows of text, or examples) in one forward pass."""
    gradient_accumulation_steps: int = 1
    """Forward and backward passes before one optimizer step."""
    optim: OptimizerName = "adamw"
    """Optimizer; adafactor is T5's: with a learning rate of 0.01 and lr_scheduler_type constant,
    its step is RMS(weights) / sqrt(max(step, 10,000)). adamw_rms is AdamW with steps in proportion
    to RMS(weights), too."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup_steps: float = 0
    """Steps of linear warm-up; below 1, a share of all steps."""
    weight_decay: float = 0.0
    """Decoupled weight decay; biases and norms are left out."""
    lr_scheduler_type: Literal[
        "linear", "cosine", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
    ] = "cosine"
    """Learning-rate schedule after warm-up."""
    adam_beta2: float = 0.999
    """Decay of AdamW's second moment."""
    max_grad_norm: float = 1.0
    """Norm to which gradients are clipped; 0: no clipping."""
    bf16: bool | None = None
    """Forward passes in bfloat16; unset: on a GPU that can, and on a processor where it is
    faster."""
    save_steps: int = 200
    """Steps between two checkpoints to resume from."""
    logging_steps: int = 50
    """Steps between two lines of the training log."""
    seed: int = 0
    """Seed of the weights, the order of the data and dropout."""
    report_to: str = "none"
    """Experiment trackers, as in transformers: none, tensorboard, wandb, trackio, all."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in (
            "max_steps",
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "save_steps",
            "logging_steps",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("learning_rate", "warmup_steps", "weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            require(value >= 0, name, value, "zero or more")
        beta, polynomial = self.adam_beta2, self.lr_scheduler_type == "polynomial"
        require(0 <= beta < 1, "adam_beta2", beta, "at least 0 and below 1")
        fine = not polynomial or self.learning_rate > _POLYNOMIAL_END
        expected = f"above {_POLYNOMIAL_END:g}, where lr_scheduler_type polynomial ends"
        require(fine, "learning_rate", self.learning_rate, expected)
        if self.report_to not in ("none", "all"):
            trackers = get_available_reporting_integrations()
            expected = (
                f"none, all, or a tracker that is installed: {', '.join(trackers) or 'none is'}"
            )
            require(self.report_to in trackers, "report_to", self.report_to, expected)

    @property
    def rows_per_step(self) -> int:
        """Rows that one optimizer step sees, in all processes of this launch together."""
        own = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return own * processes().num_processes

    @property
    def rows_seen(self) -> int:
        """Rows that all steps see; one that comes again counts again."""
        return self.max_steps * self.rows_per_step


def next_token_loss(model: nn.Module, batch: Batch) -> dict[str, Term]:
    """Cross-entropy of every token but the first of each window, (B, T - 1), nats; 0 where it is no
    target."""
    logits = model(**inputs_of(batch), use_cache=False).logits[:, :-1]
    return {"loss": Term(on_targets(cross_entropy(logits, batch["input_ids"][:, 1:]), batch))}


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood in float32: (B, T, V) and (B, T) -> (B, T), nats."""
    # Flat, for on a CPU the kernel for (B, V, T) takes eight times as long.
    flat = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return flat.view_as(targets)


class _Objective(nn.Module):
    """The model, what is trained with it, and the loss as the forward pass of both, which is how
    gradients are averaged over processes."""

    def __init__(self, model: nn.Module, auxiliary: nn.Module | None, compute: Compute) -> None:
        super().__init__()
        self.model, self.auxiliary, self._compute = model, auxiliary, compute

    def forward(self, batch: Batch) -> dict[str, Term]:
        return self._compute(self.model, batch)


class ExactTrainer(Trainer):
    """transformers' Trainer; each part of the loss is a mean over the whole step, whoever holds it.

    Args:
        source: where the batches come from; counts what they hold.
        prepare: what the batches of a step go through when the weights for it are known.
        bf16: run the forward pass under bfloat16 autocast.
        stamp: identifies the data; written into each checkpoint and compared on resume.
        last_step: the step after which this part of the training ends, if it is a part.
        finish: called then, before the checkpoint.
        schedule: makes the learning-rate scheduler, in place of the arguments'.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by the counts of all accumulated batches

    def __init__(
        self,
        *args: Any,
        source: Source,
        prepare: Prepare | None,
        bf16: bool,
        stamp: str,
        last_step: int | None,
        finish: Callable[[], None] | None,
        schedule: Schedule | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._finish, self._schedule = finish, schedule
        if last_step is not None:
            self.add_callback(LastStep(last_step, then=self._end_part))
        self._source, self._prepare, self._bf16, self._stamp = source, prepare, bf16, stamp
        self._counts: dict[str, Tensor] = {}  # of the present step, over all processes
        self._parts: dict[str, Tensor] = {}  # this process's share, summed since the last log line
        self._steps = 0

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        """The one that `schedule` makes, or that of the arguments."""
        if self._schedule is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            own: Any = optimizer or self.optimizer
            self.lr_scheduler = self._schedule(own)
        return self.lr_scheduler  # pyright: ignore[reportReturnType]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], None]:
        """The batches of one optimizer step; what they hold over all processes is kept."""
        batches = list(islice(epoch_iterator, num_batches))
        if self._prepare is not None:
            model: Any = self.model
            done = self.state.global_step
            batches = [self._prepare(model.model, batch, done) for batch in batches]
        counts: dict[str, float] = {}
        for batch in batches:
            for unit, count in self._source.counts(batch).items():
                counts[unit] = counts.get(unit, 0.0) + count
        totals = self._summed(torch.tensor(list(counts.values()), device=device))
        self._counts = dict(zip(counts, totals.unbind(), strict=True))
        self._steps += 1
        return batches, None

    def _summed(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.accelerator.num_processes > 1:
            dist.all_reduce(value)
        return value

    def compute_loss(self, model: nn.Module, inputs: Batch, **_: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """This process's share of the step's loss, times the number of processes.

        The factor undoes the averaging of gradients over the processes.
        """
        context = (
            torch.autocast(self.args.device.type, torch.bfloat16) if self._bf16 else nullcontext()
        )
        with context:
            terms: dict[str, Term] = model(inputs)
        shares = {
            # a unit that no row of the step has, such as labels, has no values either
            name: mean_over(term.values, None, count=self._counts[term.per].clamp_min(1))
            for name, term in terms.items()
        }
        loss = torch.stack([terms[name].weight * share for name, share in shares.items()]).sum()
        if not torch.isfinite(loss):
            raise TrainingDivergedError(
                f"the training loss became {loss.item()} at step {self.state.global_step + 1} with "
                f"a peak learning rate of {self.args.learning_rate:g}; lower learning_rate or "
                "raise warmup_steps"
            )
        if isinstance(self.lr_scheduler, ObservesLoss):
            self.lr_scheduler.observe(float(self._summed(loss.detach().clone())))
        shares.pop("loss", None)
        for name, value in shares.items():
            self._parts[name] = self._parts.get(name, torch.zeros_like(value)) + value.detach()
        return loss * self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss, averaged over the steps since the last line."""
        if "loss" in logs and self._steps:
            for name, value in self._parts.items():
                logs[name] = float(self._summed(value)) / self._steps
            self._parts, self._steps = {}, 0
        super().log(logs, start_time)

    def _end_part(self) -> None:
        """Let go of what is trained beside the model: the next part has none of it."""
        if self._finish is not None:
            self._finish()
        objective: Any = self.model
        objective.auxiliary = None
        kept = set(objective.model.parameters())
        optimizer: Any = self.optimizer
        for group in optimizer.param_groups:
            for gone in set(group["params"]) - kept:
                optimizer.state.pop(gone, None)
            group["params"] = [p for p in group["params"] if p in kept]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        assert self.model is not None
        save_weights(self.model, Path(output_dir or self.args.output_dir or ""))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        assert self.model is not None
        load_weights(self.model, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # every process has written its random state
        if self.args.should_save:
            step = self.state.global_step
            folder = Path(self.args.output_dir or "") / f"checkpoint-{step}"
            mark_complete(folder, step=step, data=self._stamp)


def _check_weights(model: nn.Module, config: TrainConfig) -> None:
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise TrainingDivergedError(
            "training ended with weights that are not finite, with a peak learning rate of "
            f"{config.learning_rate:g}; lower learning_rate or raise warmup_steps"
        )


def use_bf16(model: PreTrainedModel, config: TrainConfig) -> bool:
    """Whether forward passes run under bfloat16 autocast: as asked, or where this machine is faster
    that way."""
    if config.bf16 is not None:
        return config.bf16
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not isinstance(autocast(model), nullcontext)


def _arguments(config: TrainConfig, output_dir: Path, *, save: bool) -> TrainingArguments:
    fields = (
        "max_steps",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "warmup_steps",
        "weight_decay",
        "lr_scheduler_type",
        "adam_beta2",
        "max_grad_norm",
        "save_steps",
        "logging_steps",
        "seed",
        "report_to",
    )
    return TrainingArguments(
        output_dir=str(output_dir),
        **{name: getattr(config, name) for name in fields},
        use_cpu=not torch.cuda.is_available(),
        save_strategy="steps" if save else "no",
        train_sampling_strategy="sequential",  # `Windows` has the order already
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
    )


@dataclass(frozen=True)
class Training:
    """What one call of `fit` did: `log` holds a dictionary per log line, `seconds` is the time of
    this process only."""

    steps: int
    tokens: int
    seconds: float
    log: list[dict[str, float]]


def fit(
    model: PreTrainedModel,
    data: Source | Dataset | Tensor,
    *,
    config: TrainConfig,
    state_dir: Path | None = None,
    resume: bool = False,
    compute: Compute = next_token_loss,
    prepare: Prepare | None = None,
    auxiliary: nn.Module | None = None,
    watch: Watch | None = None,
    last_step: int | None = None,
    finish: Callable[[], None] | None = None,
    schedule: Schedule | None = None,
) -> Training:
    """Train `model` in place and leave it in evaluation mode.

    A training whose loss changes on the way has several parts, each a call with the same `config`
    and `state_dir`: all but the last have a `last_step`, and all but the first resume.

    Args:
        model: any model; under `torchrun` every process passes the same weights.
        data: what to train on; a packed data set (column `input_ids`) or a tensor (N, T) is text
            for a causal language model.
        state_dir: where checkpoints go; None: none are written.
        resume: go on from the newest complete checkpoint in `state_dir`, if any, to the same
            weights as an uninterrupted run.
        compute: the parts of the loss.
        prepare: what is made of each batch before its step, with the weights that step begins with.
        auxiliary: what is trained with the model, such as projections, and used by `compute`; it
            is in the checkpoints to resume from.
        watch: looks at the model after some steps and may end the training.
        last_step: the step after which this part ends, with a checkpoint; `auxiliary` is not in it,
            and the state of the optimizer is that of the model alone.
        finish: called then, before the checkpoint; it may change modules of the model, but not
            which tensors are its parameters.
        schedule: the learning rate's, in place of the one that `config` names.

    Raises:
        ConfigError: the weights are not float32, or `resume` meets other data.
        TrainingDivergedError: the loss or a weight became infinite or NaN (the checkpoints are
            deleted, as going on repeats it).
        KeyboardInterrupt: after SIGINT or SIGTERM, once a checkpoint is written.
    """
    source = Windows(data) if isinstance(data, Dataset | Tensor) else data
    if wrong := [n for n, p in model.named_parameters() if p.requires_grad and p.dtype != FLOAT]:
        raise ConfigError(
            f"training needs weights in float32, but {wrong[0]} is not; load the model with "
            "dtype=torch.float32 (bf16 then speeds up the forward pass alone)"
        )
    stamp = source.fingerprint()
    group = processes()
    if group.is_main_process and state_dir is not None:
        tidy(state_dir, keep=resume)
    group.wait_for_everyone()
    newest = newest_checkpoint(state_dir) if resume and state_dir is not None else None
    if newest:
        check_data(newest, stamp)

    bf16, use_cache = use_bf16(model, config), getattr(model.config, "use_cache", None)
    interrupt, progress = Interrupt(), Progress(round(config.rows_per_step * source.tokens_per_row))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = ExactTrainer(
            _Objective(model, auxiliary, compute),
            _arguments(config, state_dir or Path(scratch), save=state_dir is not None),
            train_dataset=Order(len(source), length=config.rows_seen, seed=config.seed),
            data_collator=source.batch,
            callbacks=[progress, interrupt, *([watch] if watch else [])],
            source=source,
            prepare=prepare,
            bf16=bf16,
            stamp=stamp,
            last_step=last_step,
            finish=finish,
            schedule=schedule,
            optimizer_cls_and_kwargs=optimizer_class(
                config.optim, learning_rate=config.learning_rate, adam_beta2=config.adam_beta2
            ),
        )
        trainer.remove_callback(PrinterCallback)
        began = time.perf_counter()
        try:
            with interrupt.listening():
                trainer.train(resume_from_checkpoint=str(newest) if newest else None)
            _check_weights(model, config)
        except ConfigError:  # such as a loss that diverged: going on would repeat it
            if state_dir is not None and group.is_main_process:
                shutil.rmtree(state_dir, ignore_errors=True)
            raise
        finally:
            if state_dir and group.is_main_process and newest_checkpoint(state_dir) is None:
                shutil.rmtree(state_dir, ignore_errors=True)  # nothing in it to resume from
            progress.close()
            if use_cache is not None:
                model.config.use_cache = use_cache
            model.eval()
    if interrupt.requested:
        raise KeyboardInterrupt
    return Training(
        steps=trainer.state.global_step,
        tokens=trainer.state.global_step * progress.tokens_per_step,
        seconds=time.perf_counter() - began,
        log=[line for line in trainer.state.log_history if "loss" in line],
    )
