"""The public verb: train a student from a teacher with one pipeline, and say how good it is."""

import hashlib
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.budget import cost_of
from attar.data.labelled import Task, TaskKind, load_labelled
from attar.errors import ConfigError
from attar.methods.distiller.augment import (
    NO_RESOURCES,
    AugmentConfig,
    Resources,
    augment,
    check_augment,
)
from attar.methods.distiller.config import DistillConfig, StudentInit
from attar.methods.distiller.mixup import MixedExamples
from attar.methods.distiller.objective import Beside, Objective, wanted
from attar.methods.distiller.students import load_with_head, make_student, width
from attar.methods.distiller.validate import (
    check_config,
    check_mixup,
    check_models,
    check_teacher,
    same_tokens,
)
from attar.methods.distiller.words import MaskedLM, Neighbours
from attar.report import Paper, Run, model_card
from attar.train.callbacks import Watch
from attar.train.examples import Examples
from attar.train.metrics import primary
from attar.train.outputs import CachedOutputs, LiveOutputs, Wanted
from attar.train.processes import broadcast, place, processes, shared_workspace
from attar.train.scoring import score_on
from attar.train.tasks import encode
from attar.train.trainer import Training, fit, use_bf16
from attar.train.windows import source_name

PAPER = Paper(
    title="Distiller: A Systematic Study of Model Distillation Methods in Natural Language "
    "Processing",
    authors=(
        "Haoyu He",
        "Xingjian Shi",
        "Jonas Mueller",
        "Sheng Zha",
        "Mu Li",
        "George Karypis",
    ),
    year=2021,
    arxiv="2109.11105",
)


def distill(
    student: str | Path | PreTrainedModel | None,
    data: str | Path | Dataset | DatasetDict,
    *,
    teacher: str | Path | PreTrainedModel | None,
    output_dir: str | Path,
    config: DistillConfig = DistillConfig(),
    student_layers: int | None = None,
    student_width: int | None = None,
    student_init: StudentInit = "cut",
    tokenizer: PreTrainedTokenizerBase | None = None,
    task: TaskKind | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    data_config: str | None = None,
    resume: bool = False,
) -> Run:
    """Train an encoder on labelled examples from a teacher, and save it as a checkpoint.

    Under `torchrun` all processes train together and the first one writes.

    Args:
        student: folder or Hub name of an encoder, with or without a head; or a model with a head,
            which is then trained in place. None: `student_layers` makes one from the teacher.
        data: whatever `attar.data.labelled.load_labelled` takes.
        teacher: an encoder trained on this task. None: train on the labels alone, as a teacher is.
        output_dir: where the checkpoint goes; it appears when it is complete.
        config: the pipeline.
        student_layers: blocks of a student made from the teacher.
        student_width: width of its hidden states, if it starts at random; None: the teacher's.
        student_init: `cut` copies the teacher's weights into it, `random` does not.
        tokenizer: the student's; None: the one in its folder, or the teacher's.
        task: None: inferred from the labels.
        text_column: None: a usual name; so for the next two.
        pair_column: second text.
        label_column: labels.
        data_config: configuration of a data set on the Hub.
        resume: go on with an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: scores of the student before and after and of the
        teacher on the test split, the ratio of the two (`details.dpr`), the training log.

    Raises:
        ConfigError: the output folder is taken, or the pipeline cannot learn this task.
        CompatibilityError: student and teacher do not fit together.
        DataError: a model or the data cannot be read.
    """
    if student is None and (student_layers is None or teacher is None):
        raise ConfigError(
            "expected a student, or a teacher and student_layers to make one from it; name one"
        )
    if student is not None and student_layers is not None:
        raise ConfigError("student_layers makes a student from the teacher: leave the student out")
    settings = {
        "student": _name(student),
        "teacher": _name(teacher),
        "data": source_name(data),
        "student_layers": student_layers,
        "student_width": student_width,
        "student_init": student_init if student_layers else None,
        "task": task,
        "text_column": text_column,
        "pair_column": pair_column,
        "label_column": label_column,
        "data_config": data_config,
        "processes": processes().num_processes,
        **asdict(config),
    }
    with shared_workspace(Path(output_dir), settings=settings, resume=resume) as space:
        documents, found = load_labelled(
            data,
            task=task,
            config=data_config,
            text_column=text_column,
            pair_column=pair_column,
            label_column=label_column,
            limit_labels=config.limit_labels,
            seed=config.seed,
        )
        job = Job(
            student,
            teacher,
            documents,
            found,
            config,
            student_layers=student_layers,
            student_width=student_width,
            student_init=student_init,
            tokenizer=tokenizer,
        )
        run = job.run(settings, space.state, resume=space.resuming)
        if run is not None:
            form = checkpoint.save(job.student, space.path, tokenizer=job.tokenizer)
            run.details["form"] = form
            card = model_card(run, plain=True, pipeline_tag=_PIPELINES[found.kind])
            checkpoint.write_text(space.path / "README.md", card)
            run.save(space.path)
        return broadcast(run)


_PIPELINES = {
    "single_label": "text-classification",
    "multi_label": "text-classification",
    "regression": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
}


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
        documents: DatasetDict,
        task: Task,
        config: DistillConfig,
        *,
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
        check_config(config, task=task, has_teacher=teacher is not None)
        self.teacher = None if teacher is None else _load(teacher)
        if self.teacher is not None:
            check_teacher(task, self.teacher)
        fresh = student_init == "random" and student_layers is not None
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
        if config.intermediate == "auto":
            choice = "none" if self.teacher is None else "mse" if fresh else "mi"
            if config.features == "attention" and choice == "mi":
                choice = "mse"
            config = replace(config, intermediate=choice)
        self.config = config
        self.tokenizer = tokenizer or checkpoint.load_tokenizer(
            _name(teacher if student is None else student)
        )
        check_mixup(config, task=task, tokenizer=self.tokenizer)
        self.teacher_tokenizer = self.tokenizer
        self.layer_map = None
        if self.teacher is not None:
            if name := _name(teacher):  # a model in memory without one shares the student's
                self.teacher_tokenizer = checkpoint.load_tokenizer(name)
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

    def run(self, settings: dict[str, Any], state: Path, *, resume: bool) -> Run | None:
        """Train; the record on the first process."""
        began, main = time.perf_counter(), processes().is_main_process
        before = self.score(self.student, self.tokenizer, "test") if main else {}
        parent = {}
        if self.teacher is not None:
            place(self.teacher)
            parent = self.score(self.teacher, self.teacher_tokenizer, "test") if main else {}
        try:
            training, rows = self.train(state, resume=resume)
        except ConfigError:
            if main:  # a diverged run leaves nothing to resume
                shutil.rmtree(state / "teacher", ignore_errors=True)
            raise
        if not main:
            return None
        return self._record(settings, before, parent, training, rows, began)

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
        return self._train(source, rows, config, state, resume=resume), len(rows)

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
        encoded = encode(rows, tokenizer, task=self.task, max_length=self.config.max_length)
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
        live = not config.teacher_cache or config.mixup_beta is not None or needed.attention
        if live or not self._stored(source, len(rows), config, state):
            return LiveOutputs(self.teacher, task=self.task, wanted=needed, bf16=bf16)
        if len(source) < len(rows) or not same_tokens(self.tokenizer, self.teacher_tokenizer):
            # the cache has every row in its place, whatever rows share a batch
            source = self._examples(rows, self.teacher_tokenizer)
        if self.cache is not None:
            path = self.cache / _digest(source.fingerprint(), needed, bf16)
        else:
            assert state is not None
            path = state / "teacher"
        if processes().is_main_process:
            CachedOutputs.build(
                self.teacher, source, path=path, task=self.task, wanted=needed, bf16=bf16
            )
        place(self.teacher, "cpu")  # its memory is free for the student
        processes().wait_for_everyone()
        return CachedOutputs(path, task=self.task, wanted=needed)

    def _stored(
        self, source: Examples, rows: int, config: DistillConfig, state: Path | None
    ) -> bool:
        """Whether outputs for all rows pay: in a run that sees more rows than there are, and where
        other runs share those of the plain texts."""
        if self.cache is not None and not config.augment:
            return True
        batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
        seen = config.max_steps * batch * processes().num_processes * (rows // len(source))
        return (state is not None or self.cache is not None) and seen > rows

    def score(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str
    ) -> dict[str, float]:
        """The task's metrics on a split; the primary one first."""
        return score_on(
            model, tokenizer, self.documents[split], self.task, max_length=self.config.max_length
        )

    def _record(
        self,
        settings: dict[str, Any],
        before: dict[str, float],
        parent: dict[str, float],
        training: Training,
        rows: int,
        began: float,
    ) -> Run:
        after = self.score(self.student, self.tokenizer, "test")
        validation = self.score(self.student, self.tokenizer, "validation")
        place(self.student, "cpu")
        main = primary(self.task)
        details: dict[str, Any] = {
            "task": self.task.to_dict(),
            "primary": main,
            "split": "test",
            "validation": validation,
            "rows": rows,
            "intermediate": self.config.intermediate,
            **asdict(training),
        }
        baselines = []
        if self.teacher is not None:
            cost = cost_of(self.teacher).to_dict()
            baselines = [{"name": "teacher", "cost": cost, "quality": parent}]
            details["dpr"] = after[main] / parent[main] if parent[main] else None
        return Run(
            command="distill",
            method="distiller" if self.teacher is not None else None,
            paper=PAPER if self.teacher is not None else None,
            model=settings["student"] or settings["teacher"],
            data=settings["data"],
            settings=settings,
            cost={"after": cost_of(self.student).to_dict()},
            quality={"before": before, "after": after},
            baselines=baselines,
            details=details,
            seed=self.config.seed,
            seconds=time.perf_counter() - began,
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


def _name(model: str | Path | PreTrainedModel | None) -> str:
    if model is None:
        return ""
    return model.name_or_path or "" if isinstance(model, PreTrainedModel) else str(model)
