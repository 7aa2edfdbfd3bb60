"""Heal a compressed model: a short training on text with its parent as the teacher.

Per token the loss is `ce_weight` times the cross-entropy of the text plus `kl_weight` times the
divergence from the parent, so that a weight means the same whatever the window and the vocabulary.
In conversations only the assistant's tokens count.
"""

import logging
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import (
    check_teacher_size,
    require_same_tokenizer,
    require_same_vocabulary,
)
from attar.data.chats import is_chat, load_documents
from attar.data.data import STDLIB, Data, DataLike
from attar.data.packing import Conversations, keeps_apart
from attar.data.sources import Batch, Source, Windows, inputs_of, on_targets
from attar.data.tokens import pack
from attar.divergences import DIVERGENCES, DivergenceName
from attar.errors import ConfigError
from attar.evaluation.documents import score_documents
from attar.evaluation.harness import TaskOptions, figures
from attar.measure.cost import cost_of
from attar.models import computing, in_float32, positions_of, require_context, require_generator
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import Artefact, artefact
from attar.report.record import Run
from attar.runtime import place, processes
from attar.train.lora import adapters, require_rank
from attar.train.teachers import CachedTeacher, LiveTeacher, Teacher
from attar.train.trainer import Compute, Term, TrainConfig, Training, cross_entropy, fit

logger = logging.getLogger(__name__)


LONGEST = 512  # tokens of a window, unless `context` says otherwise


@dataclass(frozen=True, kw_only=True)
class HealConfig(TaskOptions, TrainConfig):
    """How a compressed model is trained against its parent.

    The defaults are Attar's own; `recipes/bonsai/paper-heal.yaml` has those of the Bonsai paper.
    """

    kl_weight: float = 1.0
    """Weight of the divergence from the parent, per target token; 0 trains on the text alone."""
    ce_weight: float = 1.0
    """Weight of the cross-entropy of the text, per target token."""
    divergence: DivergenceName = "forward_kl"
    """Divergence from the parent; all but forward_kl run the parent on every batch."""
    teacher_cache: str | None = None
    """`topk:K` runs the parent once and keeps its K likeliest tokens on disk; `none` runs it on
    every batch, which is exact, and no slower where no window is seen twice. Unset: topk:64 where
    the divergence is forward_kl, else none."""
    lora_r: int | None = None
    """Rank of LoRA adapters on all linear layers, merged at the end; unset: train all weights."""
    lora_alpha: float = 32.0
    """Scale of the adapters: they are multiplied by `lora_alpha / lora_r`."""
    lora_dropout: float = 0.0
    """Dropout before the adapters."""
    official_kl: bool = False
    """Multiply `kl_weight` by the window length, as Bonsai's code does by dividing by sequences."""
    context: int | None = None
    """Tokens in one window; unset: 512, or the model's longest text if that is shorter."""
    eval_tokens: int = 50_000
    """Tokens of the test split, in passages spread over it, that are scored before and after."""

    smaller_teacher: bool = False
    """Allow a teacher that is smaller than the model."""

    max_steps: int = 240
    learning_rate: float = 1e-4
    warmup_steps: float = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.kl_weight, self.ce_weight) < 0 or self.kl_weight + self.ce_weight == 0:
            raise ConfigError(
                "kl_weight and ce_weight must be zero or more and not both zero, but they are "
                f"{self.kl_weight:g} and {self.ce_weight:g}."
            )
        if self.top_k is not None and self.divergence != "forward_kl":
            raise ConfigError(
                f"teacher_cache holds only what forward_kl needs, but divergence is "
                f"{self.divergence}; set teacher_cache to none to run the parent on every batch."
            )
        for name in ("lora_r", "context", "eval_tokens"):
            value = getattr(self, name)
            if value is not None and value < (2 if name == "context" else 1):
                least = 2 if name == "context" else 1
                raise ConfigError(f"{name} must be at least {least}, but it is {value}.")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(
                f"lora_dropout must be at least 0 and below 1, but it is {self.lora_dropout}."
            )

    @property
    def top_k(self) -> int | None:
        """Tokens kept per position in the teacher cache; None: the parent runs live."""
        if self.teacher_cache is None:
            return 64 if self.divergence == "forward_kl" else None
        if self.teacher_cache in ("none", "live"):
            return None
        kind, _, k = str(self.teacher_cache).partition(":")
        if kind != "topk" or not k.isdecimal() or int(k) < 1:
            raise ConfigError(
                f"teacher_cache must be topk:K, such as topk:64, or none, but it is "
                f"{self.teacher_cache!r}."
            )
        return int(k)


def heal_loss(teacher: Teacher | None, config: HealConfig) -> Compute:
    """The loss of healing, for `fit`: the parts `ce` and `kl`."""

    def compute(model: nn.Module, batch: Batch) -> dict[str, Term]:
        ids = batch["input_ids"]
        logits = model(**inputs_of(batch), use_cache=False).logits[:, :-1]
        losses = cross_entropy(logits, ids[:, 1:])
        parts = {"ce": Term(on_targets(losses, batch), config.ce_weight)}
        if teacher is not None and config.kl_weight > 0:
            weight = config.kl_weight * (ids.shape[1] if config.official_kl else 1)
            parts["kl"] = Term(on_targets(teacher.distance(logits, batch), batch), weight)
        return parts

    return compute


def heal_model(
    model: PreTrainedModel,
    windows: Source | Dataset | Tensor,
    *,
    teacher: Teacher | PreTrainedModel | None,
    config: HealConfig,
    state_dir: Path | None = None,
    resume: bool = False,
) -> Training:
    """Heal a model in memory, in place; with LoRA the adapters are merged into it at the end.

    Args:
        model: the student.
        windows: packed data set (column `input_ids`), tensor (N, T), or another source of rows,
            such as `attar.data.packing.Conversations`.
        teacher: the parent; a model is run on every batch. None: train on the text alone.
        config: training options. `teacher_cache`, `context` and `eval_tokens` are not read.
        state_dir: where checkpoints go; None: none are written.
        resume: go on from the newest checkpoint in `state_dir`.

    Raises:
        ConfigError: training diverged, or `resume` meets other windows.
        CompatibilityError: the student and its teacher differ in their vocabulary.
    """
    with ExitStack() as stack:
        if isinstance(teacher, PreTrainedModel):
            place(teacher)
            stack.enter_context(computing(teacher))
            teacher = LiveTeacher(teacher, divergence=DIVERGENCES[config.divergence])
        stack.enter_context(in_float32(model))
        trained = stack.enter_context(_trained(model, config))
        return fit(
            trained,
            windows,
            config=config,
            state_dir=state_dir,
            resume=resume,
            compute=heal_loss(teacher, config),
        )


def _trained(model: PreTrainedModel, config: HealConfig) -> AbstractContextManager[PreTrainedModel]:
    if config.lora_r is None:
        return nullcontext(model)
    return adapters(
        model,
        r=config.lora_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        seed=config.seed,
    )


@takes_recipe("heal")
def heal(
    model: str | Path | PreTrainedModel,
    data: DataLike = STDLIB,
    *,
    teacher: str | Path | PreTrainedModel | None,
    config: HealConfig | str = HealConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train a compressed model on text with its parent as the teacher, and save it as a checkpoint.

    Under `torchrun` all processes train together and the first one writes.

    Args:
        model: folder or Hub name; or a model, which is then trained in place.
        data: whatever `attar.data.load_text` takes, or conversations (see
            `attar.data.chats.load_documents`), of which only the assistant's tokens are learnt and
            scored. The training split trains, the test split is scored before and after.
        teacher: the parent: folder, Hub name or a model. None: train on the text alone.
        config: training options; or the name or path of a recipe.
        tokenizer: None: the one in the model's folder.
        output_dir: where the checkpoint goes; it appears when it is complete.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: cost, perplexity and bits per byte of the model
        before and after and of the parent, and the training log.

    Raises:
        ConfigError: the output folder is taken, the settings differ from those of the run to
            resume, a weight needs a teacher and there is none, or training diverged.
        CompatibilityError: model and teacher have different tokenizers.
        DataError: a model or the text cannot be read, or the text is shorter than one window.
    """
    config, recipe = configured(config, HealConfig, recipe=recipe)
    if config.kl_weight > 0 and teacher is None:
        raise ConfigError("kl_weight needs a teacher, but none is given; name the parent model.")
    data = Data.of(data)
    settings = {
        "model": checkpoint.name_of(model),
        "teacher": checkpoint.name_of(teacher),
        **data.settings(),
        **asdict(config),
    }
    with artefact(
        output_dir,
        command="heal",
        method="heal",
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        student = checkpoint.model_of(model)
        parent = None if teacher is None else checkpoint.model_of(teacher)
        if parent is not None:
            require_generator("teacher", parent)
            require_same_vocabulary(student, parent)
            if not config.smaller_teacher:
                check_teacher_size(student, parent)
        tokenizer = checkpoint.tokenizer_of(model, tokenizer)
        if isinstance(teacher, str | Path):
            require_same_tokenizer(tokenizer, checkpoint.load_tokenizer(teacher))
        documents = load_documents(data, tokenizer)
        _heal_in(work, (student, parent), tokenizer=tokenizer, documents=documents, config=config)
    return work.run


def _heal_in(
    work: Artefact,
    models: tuple[PreTrainedModel, PreTrainedModel | None],
    *,
    tokenizer: PreTrainedTokenizerBase,
    documents: DatasetDict,
    config: HealConfig,
) -> None:
    """Everything between opening and closing the work folder."""
    (model, parent), run = models, work.run
    work.card = {"pipeline_tag": "text-generation"}
    if config.lora_r is not None:
        require_rank(model, config.lora_r)
    windows = _needed_windows(documents["train"], tokenizer, models=models, config=config)

    def assess(judged: PreTrainedModel) -> dict[str, Any]:
        place(judged)
        tasks = figures(config.scores(judged, tokenizer))  # first: a wrong name shows at once
        scored = score_documents(
            judged, tokenizer, documents=documents["test"], eval_tokens=config.eval_tokens
        )
        return scored.to_dict() | tasks

    run.cost["before"] = cost_of(model).to_dict()
    if work.main:
        run.quality["before"] = assess(model)
    if parent is not None and work.main:
        cost = cost_of(parent).to_dict()
        run.baselines = [{"name": "teacher", "cost": cost, "quality": assess(parent)}]
    training = heal_model(
        model,
        windows,
        teacher=_teacher(
            parent, windows, tokenizer=tokenizer, config=config, path=work.sub_state("teacher")
        ),
        config=config,
        state_dir=work.sub_state("trainer"),
        resume=work.resuming,
    )
    if not work.main:
        return
    run.quality["after"] = assess(model)
    before, after = (run.quality[when]["nll"] for when in ("before", "after"))
    if after > before:
        logger.warning(
            "healing made the model worse: from %.4f to %.4f nats per token; try a lower "
            "learning_rate, or more steps",
            before,
            after,
        )
    place(model, "cpu")
    run.cost["after"] = cost_of(model).to_dict()
    run.details = {"split": "test", "windows": len(windows)} | asdict(training)
    if isinstance(windows, Conversations):
        run.details["conversations"] = {split: len(rows) for split, rows in documents.items()}
    checkpoint.save(model, work.folder, tokenizer=tokenizer)


def _needed_windows(
    documents: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    models: tuple[PreTrainedModel, PreTrainedModel | None],
    config: HealConfig,
) -> Windows | Conversations:
    """Packed rows, no more than the run sees: the teacher need not read the others."""
    model, parent = models
    context = config.context or min(LONGEST, positions_of(model) or LONGEST)
    require_context(model, context)
    if is_chat(documents):
        packed = keeps_apart(model) and (parent is None or keeps_apart(parent))
        windows = Conversations(documents, context=context, packed=packed)
    else:
        windows = Windows(pack(documents, tokenizer, context=context))
    if config.rows_seen >= len(windows):
        return windows
    rows = np.random.default_rng(config.seed).choice(len(windows), config.rows_seen, replace=False)
    return windows.select(np.sort(rows).tolist())


def _teacher(
    parent: PreTrainedModel | None,
    windows: Windows | Conversations,
    *,
    tokenizer: PreTrainedTokenizerBase,
    config: HealConfig,
    path: Path | None,
) -> Teacher | PreTrainedModel | None:
    """The parent itself, or its cache, which the first process builds for all."""
    if parent is None or config.kl_weight == 0 or config.top_k is None:
        return None if config.kl_weight == 0 else parent
    assert path is not None
    if processes().is_main_process:
        place(parent)
        logger.info("caching teacher log-probabilities of %d windows", len(windows))
        with computing(parent):
            CachedTeacher.build(
                parent,
                windows,
                path=path,
                tokenizer=tokenizer,
                k=config.top_k,
                batch_size=config.per_device_train_batch_size,
            )
    place(parent, "cpu")  # its memory is free for the student
    processes().wait_for_everyone()
    return CachedTeacher(path)
