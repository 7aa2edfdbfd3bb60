"""One run: the models, the rows, and the training of the one from the other."""

import hashlib
import math
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets
from filelock import FileLock
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import (
    check_encoder,
    check_length,
    check_outputs,
    check_trained,
    same_inputs,
)
from attar.data.augment.augment import (
    NO_RESOURCES,
    AugmentConfig,
    Resources,
    augment,
    check_augment,
)
from attar.data.augment.words import MaskedLM, Neighbours
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.data.labelled.task import Task
from attar.errors import ConfigError
from attar.evaluation.labelled import score_on
from attar.heads import load_with_head
from attar.methods.distiller.config import DistillConfig, check_config, check_mixup, check_models
from attar.methods.distiller.objective import Beside, Objective, wanted
from attar.runtime import place, processes
from attar.train.callbacks import Watch
from attar.train.mixup import MixedExamples
from attar.train.outputs import CachedOutputs, LiveOutputs, Wanted
from attar.train.students import StudentInit, make_student, width
from attar.train.trainer import Training, fit, use_bf16


class Job:
    """One run: its models, its rows, and what they give.

    Arguments as of `distill`; `watch` looks at the student while it trains, `cache` is a folder in
    which several runs share the teacher's outputs (None: each has its own), and `resources` is what
    an earlier run with this teacher made for its augmenters.
    """

    def __init__(
        self,
        student: str | Path | PreTrainedModel | None,
        teacher: str | Path | PreTrainedModel | None,
        *,
        documents: DatasetDict,
        task: Task,
        config: DistillConfig,
        student_layers: int | None,
        student_width: int | None,
        student_init: StudentInit,
        tokenizer: PreTrainedTokenizerBase | None = None,
        watch: Watch | None = None,
        cache: Path | None = None,
        resources: Resources = NO_RESOURCES,
    ) -> None:
        self.documents, self.task = documents, task
        self.watch, self.cache = watch, cache
        self._unshared: Path | None = None
        if config.intermediate == "auto":
            fresh = student_init == "random" and student_layers is not None
            choice = "none" if teacher is None else "mse" if fresh else "mi"
            if config.features == "attention" and choice == "mi":
                choice = "mse"
            config = replace(config, intermediate=choice)
        self.config = config
        check_config(config, task=task, has_teacher=teacher is not None)
        for side, given in (("teacher", teacher), ("student", student)):
            if given is not None:
                check_encoder(side, _config(given), name=checkpoint.name_of(given))
        self.teacher = None if teacher is None else _load(teacher)
        if self.teacher is not None:
            check_trained("teacher", self.teacher, task=task)
        if student is None:
            assert self.teacher is not None
            assert student_layers is not None
            self.student = make_student(
                self.teacher,
                layers=student_layers,
                width=student_width,
                init=student_init,
                seed=config.seed,
            )
        else:
            self.student = load_with_head(student, task, seed=config.seed)
            check_outputs("student", self.student, task=task)
        if not (tokenizer or checkpoint.name_of(teacher if student is None else student)):
            raise ConfigError(
                "a model in memory brings no tokenizer along; give one as `tokenizer`"
            )
        self.tokenizer = tokenizer or checkpoint.load_tokenizer(
            checkpoint.name_of(teacher if student is None else student)
        )
        check_length(self.student, config.context)
        check_mixup(config, task=task, tokenizer=self.tokenizer)
        self.teacher_tokenizer = self.tokenizer
        self.layer_map = None
        if self.teacher is not None:
            if name := checkpoint.name_of(
                teacher
            ):  # a model in memory without one shares the student's
                self.teacher_tokenizer = checkpoint.load_tokenizer(name)
            check_length(self.teacher, config.context)
            self.layer_map = check_models(
                self.student,
                self.teacher,
                config=config,
                task=task,
                tokenizers=(self.tokenizer, self.teacher_tokenizer),
            )
        self.resources = self._resources(resources)
        place(self.student)

    def _resources(self, given: Resources) -> Resources:
        """What the augmenters need beside what is given."""
        chain = self.config.augment
        if not chain:
            return given
        if self.teacher is None:
            raise ConfigError(
                "augmented texts have no labels but the teacher's; name a teacher, or leave the "
                "augmenters out"
            )
        mlm, near = given.mlm, given.neighbours
        if "mlm" in chain and self.config.mlm and mlm is None:
            mlm = MaskedLM.load(self.config.mlm)
        if "neighbour" in chain and near is None:
            table: Any = self.teacher.get_input_embeddings()
            near = Neighbours.of(table.weight.detach(), self.teacher_tokenizer)
        found = Resources(mlm=mlm, neighbours=near)
        columns = self.documents["train"].column_names
        check_augment(self._augmentation(), columns, resources=found)
        return found

    def _augmentation(self) -> AugmentConfig:
        c = self.config
        return AugmentConfig(chain=c.augment, p=c.augment_p, copies=c.copies, seed=c.seed)

    def train(self, state: Path | None, *, resume: bool = False) -> tuple[Training, int]:
        """Train the student in place; what was done, and the rows there were.

        Args:
            state: where checkpoints and the teacher's outputs go; None: no checkpoints, and the
                outputs go to `cache` or are not stored.
            resume: go on from the newest checkpoint.
        """
        rows = self._rows()
        copies = self.config.copies if self.config.repeated else 0
        source = self._examples(rows, self.tokenizer, copies=copies)
        if not self._taught:  # rows without a label would be empty steps
            known = [i for i in range(len(rows)) if source.counts(source.batch([i]))["labelled"]]
            rows = rows.select(known)
            source = self._examples(rows, self.tokenizer)
        config = replace(self.config, max_steps=self._steps(source))
        try:
            return self._train(source, rows, config, state, resume=resume), len(rows)
        finally:
            if self._unshared is not None:  # other runs hardly draw the same texts
                shutil.rmtree(self._unshared, ignore_errors=True)

    def _rows(self) -> Dataset:
        """The training rows, and after them their augmented copies, copy by copy."""
        train = self.documents["train"]
        if not self.config.augment:
            return train
        made = augment(train, config=self._augmentation(), resources=self.resources)
        count = self.config.copies  # they come text by text
        order = [row * count + k for k in range(count) for row in range(len(train))]
        return concatenate_datasets([train.cast(made.features), made.select(order)])

    def _examples(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, *, copies: int = 0
    ) -> Examples:
        encoded = encode(rows, tokenizer, task=self.task, context=self.config.context)
        return Examples(encoded, task=self.task, tokenizer=tokenizer, copies=copies)

    @property
    def _taught(self) -> bool:
        """Whether the teacher says anything in this pipeline."""
        config = self.config
        return self.teacher is not None and (
            config.pred_weight > 0 or config.intermediate != "none"
        )

    def _steps(self, source: Examples) -> int:
        epochs, c = self.config.num_train_epochs, self.config
        if epochs is None:
            return c.max_steps
        rows = c.per_device_train_batch_size * c.gradient_accumulation_steps
        return max(1, math.ceil(epochs * len(source) / (rows * processes().num_processes)))

    def _train(
        self,
        source: Examples,
        rows: Dataset,
        config: DistillConfig,
        state: Path | None,
        *,
        resume: bool,
    ) -> Training:
        layer_map, teacher = self.layer_map, None
        if self._taught:
            needed = wanted(config, layer_map)[1]
            teacher = self._teacher(source, rows, needed, state)
        widths = (width(self.student), width(self.teacher or self.student))
        beside = Beside(config, layer_map, widths=widths)
        place(beside)
        objective = Objective(
            config,
            task=self.task,
            layer_map=layer_map,
            beside=beside,
            teacher=teacher,
            teacher_model=self.teacher,
        )
        trained: Any = source
        if config.mixup_beta is not None:
            trained = MixedExamples(source, beta=config.mixup_beta, seed=config.seed)
        with _maps_of(self.student, self.teacher, given=bool(objective.wanted.attention)):
            return fit(
                self.student,
                trained,
                config=config,
                state_dir=None if state is None else state / "trainer",
                resume=resume,
                compute=objective,
                auxiliary=beside,
                watch=self.watch,
            )

    def _teacher(
        self, source: Examples, rows: Dataset, needed: Wanted, state: Path | None
    ) -> LiveOutputs | CachedOutputs:
        assert self.teacher is not None
        config, bf16 = self.config, use_bf16(self.teacher, self.config)
        place(self.teacher)
        unlike = not same_inputs(self.tokenizer, self.teacher_tokenizer, task=self.task)
        live = config.mixup_beta is not None or needed.attention
        if live or not (unlike or self._stored(source, len(rows), config, state)):
            return LiveOutputs(self.teacher, task=self.task, wanted=needed, bf16=bf16)
        if len(source) < len(rows) or unlike:
            # the cache has every row in its place, whatever rows share a batch
            source = self._examples(rows, self.teacher_tokenizer)
        if self.cache is not None:
            # Other workers share the outputs of plain texts; of augmented ones each has its own.
            own = uuid.uuid4().hex if config.augment else ""
            path = self.cache / _digest(source.fingerprint(), needed, bf16, own)
        elif state is not None:
            path = state / "teacher"
        else:
            raise ConfigError(
                "the tokenizers of student and teacher differ, so that the teacher's outputs are "
                "stored; say where, as `state` or `cache`"
            )
        if processes().is_main_process:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):  # other runs may want the same
                CachedOutputs.build(
                    self.teacher, source, path=path, task=self.task, wanted=needed, bf16=bf16
                )
        if config.augment and self.cache is not None:
            self._unshared = path
        place(self.teacher, "cpu")  # its memory is free for the student
        processes().wait_for_everyone()
        return CachedOutputs(path, task=self.task, wanted=needed)

    def _stored(
        self, source: Examples, rows: int, config: DistillConfig, state: Path | None
    ) -> bool:
        """Whether outputs for all rows pay: in a run that sees more rows than there are, and where
        other runs share those of the plain texts."""
        if not config.teacher_cache:
            return False
        if self.cache is not None and not config.augment:
            return True
        batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
        seen = config.max_steps * batch * processes().num_processes * (rows // len(source))
        return (state is not None or self.cache is not None) and seen > rows

    def score(self, split: str, *, teacher: bool = False) -> dict[str, float]:
        """The metrics of the student, or of its teacher, on a split; the primary one first.

        Raises:
            ConfigError: there is no teacher.
        """
        model, tokenizer = self.student, self.tokenizer
        if teacher:
            if self.teacher is None:
                raise ConfigError("there is no teacher to score; name one")
            model, tokenizer = self.teacher, self.teacher_tokenizer
        return score_on(
            model,
            self.documents[split],
            tokenizer=tokenizer,
            task=self.task,
            context=self.config.context,
        )


@contextmanager
def _maps_of(*models: PreTrainedModel | None, given: bool) -> Iterator[None]:
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


def _load(model: str | Path | PreTrainedModel) -> PreTrainedModel:
    return checkpoint.load(model) if isinstance(model, str | Path) else model


def _config(model: str | Path | PreTrainedModel) -> PreTrainedConfig:
    return checkpoint.read_config(model) if isinstance(model, str | Path) else model.config
