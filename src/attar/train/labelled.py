"""Train a model on labelled rows, from their labels and from what a teacher says of them.

The mechanism that papers share: it makes the rows and their augmented copies, encodes them, runs
the teacher, live or once for a cache on disk, trains, and scores. It knows no paper: what is
minimised comes as a `LabelledLoss`.
"""

import hashlib
import math
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets
from filelock import FileLock
from torch import nn
from transformers import PreTrainedModel

from attar.compatibility import require_tokens
from attar.data.augment.augment import (
    AUGMENTERS,
    NO_RESOURCES,
    AugmentConfig,
    Resources,
    augment,
    check_augment,
)
from attar.data.augment.words import MaskedLM, Neighbours
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.data.sources import Source
from attar.errors import ConfigError, require
from attar.models import computing, in_float32
from attar.runtime import broadcast, place, processes
from attar.train.callbacks import Watch
from attar.train.labelled_task import LabelledTask
from attar.train.mixup import MixedExamples
from attar.train.outputs import (
    CachedOutputs,
    FeatureRequest,
    LiveOutputs,
    TeacherOutputs,
)
from attar.train.trainer import Compute, TrainConfig, Training, fit, use_bf16


@dataclass(frozen=True, kw_only=True)
class LabelledConfig(TrainConfig):
    """Which rows a model trains on, and how its teacher is run; a paper adds its losses."""

    context: int = 128
    """Most tokens of a text, or of a pair of texts."""
    num_train_epochs: float | None = None
    """Passes over the training rows; unset: `max_steps` decides."""
    limit_labels: int | None = None
    """Use the labels of only this many rows; of the others, only the teacher's outputs."""
    teacher_cache: bool = True
    """Run the teacher over all rows once and store its outputs, where rows are seen more than once.
    Mixup and attention maps need the live teacher; a teacher with another tokenizer needs stored
    outputs."""
    mixup_beta: float | None = None
    """Mix the word embeddings of each batch with weights from Beta(b, b); unset: no mixup. Paper:
    0.4."""
    augment: tuple[str, ...] = ()
    """Augmenters in the order in which they are applied, such as swap,delete; choose from swap,
    delete, neighbour and mlm. The teacher labels the augmented texts."""
    augment_p: float = 0.3
    """Share of the words that each augmenter changes."""
    copies: int = 1
    """Augmented versions of every text."""
    repeated: bool = False
    """Put the copies of a text into the same batch (repeated augmentation), so that a batch holds
    `copies` + 1 times as many rows."""
    mlm: str | None = None
    """Folder or Hub name of the masked language model that the augmenter mlm uses."""

    def __post_init__(self) -> None:
        super().__post_init__()
        chain = [name for part in self.augment for name in re.split(r"[,+]", part) if name]
        object.__setattr__(self, "augment", tuple(chain))
        for name in chain:
            require(name in AUGMENTERS, "augment", name, f"of {', '.join(AUGMENTERS)}")
        beta, epochs, labels = self.mixup_beta, self.num_train_epochs, self.limit_labels
        require(beta is None or beta > 0, "mixup_beta", beta, "above 0, or unset for no mixup")
        for name in ("copies", "context"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(epochs is None or epochs > 0, "num_train_epochs", epochs, "above 0")
        require(labels is None or labels >= 2, "limit_labels", labels, "at least 2")

    @property
    def augmentation(self) -> AugmentConfig:
        """The options of `augment`."""
        return AugmentConfig(
            chain=self.augment, p=self.augment_p, copies=self.copies, seed=self.seed
        )


@dataclass(frozen=True, kw_only=True)
class LabelledLoss:
    """What a paper minimises, and what its loss reads.

    Attributes:
        make: the teacher's outputs for a batch, or None, -> the loss of `fit`.
        student: features of the student that the loss reads.
        teacher: features of the teacher. None: the teacher says nothing, so that rows without a
            label, which would be empty steps, are left out.
        auxiliary: what is trained with the student and thrown away.
    """

    make: Callable[[TeacherOutputs | None], Compute]
    student: FeatureRequest = FeatureRequest()
    teacher: FeatureRequest | None = None
    auxiliary: nn.Module | None = None


@dataclass(frozen=True)
class Sharing:
    """What several runs with one teacher share.

    Attributes:
        cache: folder of the teacher's outputs; None: each run has its own.
        resources: what the augmenters need; what is missing is made.
        augmented: whether they have the same augmented texts, so that the outputs of those are kept
            as well. Otherwise each run with augmented texts has its own, and deletes them.
    """

    cache: Path | None = None
    resources: Resources = NO_RESOURCES
    augmented: bool = False


def augmenter_resources(
    job: LabelledTask, config: LabelledConfig, *, known: Resources = NO_RESOURCES
) -> Resources:
    """What the augmenters of a run need, besides what is known already.

    Raises:
        ConfigError: there is no teacher to label augmented texts, a model cannot be loaded, or the
            chain does not suit the task.
    """
    chain, mlm, near = config.augment, known.mlm, known.neighbours
    if not chain:
        return known
    if job.teacher is None:
        raise ConfigError(
            "augmented texts have no labels but the teacher's; name a teacher, or leave the "
            "augmenters out"
        )
    if "mlm" in chain and config.mlm and mlm is None:
        mlm = MaskedLM.load(config.mlm)
    if "neighbour" in chain and near is None:
        table: Any = job.teacher.get_input_embeddings()
        near = Neighbours.of(table.weight.detach(), job.tokenizers[1])
    resources = Resources(mlm=mlm, neighbours=near)
    columns = job.documents["train"].column_names
    check_augment(config.augmentation, columns, resources=resources)
    return resources


def train_labelled(
    job: LabelledTask,
    loss: LabelledLoss,
    *,
    config: LabelledConfig,
    state: Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    sharing: Sharing = Sharing(),
) -> tuple[Training, int]:
    """Train the student in place; what was done, and the rows there were.

    Args:
        job: models and rows.
        loss: what is minimised.
        config: options.
        state: where checkpoints and the teacher's outputs go; None: no checkpoints, and the outputs
            go to the shared cache or are not stored.
        resume: go on from the newest checkpoint in `state`.
        watch: looks at the student after some steps and may end the training.
        sharing: what other runs use too.

    Raises:
        ConfigError: options that do not fit, or a training that diverged.
    """
    resources = augmenter_resources(job, config, known=sharing.resources)
    rows = _with_copies(job.documents["train"], config=config, resources=resources)
    copies = config.copies if config.repeated else 0
    source = _examples(job, rows, context=config.context, copies=copies)
    if loss.teacher is None:
        known = [i for i in range(len(rows)) if source.counts(source.batch([i]))["labelled"]]
        rows = rows.select(known)
        source = _examples(job, rows, context=config.context)
    config = replace(config, max_steps=_steps(source, config))
    trained: Source = source
    if config.mixup_beta is not None:
        trained = MixedExamples(source, beta=config.mixup_beta, seed=config.seed)
    taught_by = None if loss.teacher is None else job.teacher
    place(job.student)
    if taught_by is not None:
        place(taught_by)
    with (
        in_float32(job.student),
        nullcontext() if taught_by is None else computing(taught_by),
        _teacher_outputs(
            job,
            loss.teacher,
            config=config,
            source=source,
            rows=rows,
            state=state,
            sharing=sharing,
        ) as teacher,
        _attention_maps(job.student, job.teacher, given=bool(loss.student.attention)),
    ):
        if loss.auxiliary is not None:
            place(loss.auxiliary)
        training = fit(
            job.student,
            trained,
            config=config,
            state_dir=None if state is None else state / "trainer",
            resume=resume,
            compute=loss.make(teacher),
            auxiliary=loss.auxiliary,
            watch=watch,
        )
    return training, len(rows)


def _with_copies(train: Dataset, *, config: LabelledConfig, resources: Resources) -> Dataset:
    """The training rows, and after them their augmented copies, copy by copy."""
    if not config.augment:
        return train
    made = augment(train, config=config.augmentation, resources=resources)
    count = config.copies  # they come text by text
    order = [row * count + k for k in range(count) for row in range(len(train))]
    return concatenate_datasets([train.cast(made.features), made.select(order)])


def _examples(
    job: LabelledTask, rows: Dataset, *, context: int, copies: int = 0, teacher: bool = False
) -> Examples:
    """The rows as the student, or its teacher, reads them."""
    tokenizer = job.tokenizers[int(teacher)]
    encoded = encode(rows, tokenizer, task=job.task, context=context)
    source = Examples(encoded, task=job.task, tokenizer=tokenizer, copies=copies)
    model = job.teacher if teacher else job.student
    assert model is not None
    require_tokens(model, source.largest)
    return source


def _steps(source: Examples, config: LabelledConfig) -> int:
    if config.num_train_epochs is None:
        return config.max_steps
    # A group of a row and its copies counts as one row here.
    return max(1, math.ceil(config.num_train_epochs * len(source) / config.rows_per_step))


# ------------------------------------------------------------------------------- teacher's outputs


@contextmanager
def _teacher_outputs(
    job: LabelledTask,
    request: FeatureRequest | None,
    *,
    config: LabelledConfig,
    source: Examples,
    rows: Dataset,
    state: Path | None,
    sharing: Sharing,
) -> Iterator[TeacherOutputs | None]:
    """The teacher, live or from disk, while the student trains.

    Args:
        job: models and rows.
        request: its features; None: it is not used.
        config: options; `max_steps` is settled.
        source: the batches of the student.
        rows: all rows, copies among them.
        state: of this run alone.
        sharing: with other runs.
    """
    if request is None:
        yield None
        return
    assert job.teacher is not None
    bf16 = use_bf16(job.teacher, config)
    live = config.mixup_beta is not None or request.attention
    cache, own = sharing.cache, bool(config.augment) and not sharing.augmented
    anywhere = state is not None or cache is not None
    shared = cache is not None and not own
    seen = config.rows_seen * (len(rows) // len(source))
    pays = config.teacher_cache and (shared or (anywhere and seen > len(rows)))
    if live or (job.same_inputs and not pays):
        yield LiveOutputs(job.teacher, task=job.task, request=request, bf16=bf16)
        return
    if len(source) < len(rows) or not job.same_inputs:
        # the cache has every row in its place, whatever rows share a batch
        source = _examples(job, rows, context=config.context, teacher=True)
    if cache is not None:
        unique = broadcast(uuid.uuid4().hex) if own else ""
        path = cache / _digest(source.fingerprint(), request, bf16, unique)
    elif state is not None:
        path = state / "teacher"
    else:
        raise ConfigError(
            "the tokenizers of student and teacher differ, so that the teacher's outputs are "
            "stored; say where, as `state` or `cache`"
        )
    try:
        if processes().is_main_process:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):  # other runs may want the same
                CachedOutputs.build(
                    job.teacher, source, path=path, task=job.task, request=request, bf16=bf16
                )
        place(job.teacher, "cpu")  # its memory is free for the student
        processes().wait_for_everyone()
        yield CachedOutputs(path, task=job.task, request=request)
    finally:
        if cache is not None and own:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _attention_maps(*models: PreTrainedModel | None, given: bool) -> Iterator[None]:
    """Where attention maps are to be given, let the models compute attention in the way that does
    so; others are faster."""
    chosen = [model for model in models if model is not None and given]
    before = [model.config._attn_implementation or "sdpa" for model in chosen]
    for model in chosen:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for model, kind in zip(chosen, before, strict=True):
            model.set_attn_implementation(kind)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
