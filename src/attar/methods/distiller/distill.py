"""One distillation: a student learns from its teacher by one pipeline. And the verb around it."""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import check_teacher_size
from attar.data.data import Data, DataLike
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task, TaskKind
from attar.errors import ConfigError
from attar.evaluation.metrics import primary
from attar.measure.cost import cost_of
from attar.methods.distiller.config import (
    DistillConfig,
    check_config,
    check_mixup,
    check_models,
    settled,
)
from attar.methods.distiller.objective import AuxiliaryHeads, Objective, requested_features
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import Artefact, artefact
from attar.report.record import Paper, Run
from attar.runtime import place
from attar.train.callbacks import Watch
from attar.train.labelled import LabelledLoss, Sharing, augmenter_resources, train_labelled
from attar.train.labelled_task import LabelledTask, require_student
from attar.train.layer_map import LayerMap
from attar.train.outputs import TeacherOutputs
from attar.train.students import StudentInit, StudentShape, width
from attar.train.trainer import Training

logger = logging.getLogger(__name__)


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
_PIPELINE_TAGS = {
    "token_classification": "token-classification",
    "question_answering": "question-answering",
}


@dataclass(frozen=True)
class DistillTask:
    """One pipeline on one pair of models and their rows, which fit together.

    Attributes:
        job: models and rows.
        config: the pipeline, with the intermediate loss that `auto` stands for.
        layer_map: layers to match; None: no intermediate loss.
        sharing: what other runs with this teacher use too.
    """

    job: LabelledTask
    config: DistillConfig
    layer_map: LayerMap | None
    sharing: Sharing = Sharing()

    @classmethod
    def load(
        cls,
        student: str | Path | PreTrainedModel | None,
        teacher: str | Path | PreTrainedModel | None,
        *,
        documents: DatasetDict,
        task: Task,
        config: DistillConfig,
        shape: StudentShape = StudentShape(),
        tokenizer: PreTrainedTokenizerBase | None = None,
        sharing: Sharing = Sharing(),
    ) -> "DistillTask":
        """Load the models as `LabelledTask.load` does, and check that the pipeline suits them.

        Raises:
            ConfigError: the pipeline cannot learn this task.
            CompatibilityError: student and teacher do not fit together.
            DataError: a model cannot be read.
        """
        fresh = student is None and shape.init == "random"
        config = settled(config, has_teacher=teacher is not None, random_student=fresh)
        check_config(config, task=task, has_teacher=teacher is not None)
        job = LabelledTask.load(
            student,
            teacher,
            documents=documents,
            task=task,
            shape=shape,
            tokenizer=tokenizer,
            seed=config.seed,
        )
        if job.teacher is not None and not config.smaller_teacher:
            check_teacher_size(job.student, job.teacher)
        job.require_context(config.context)
        check_mixup(config, task=task, tokenizer=job.tokenizer)
        layer_map = check_models(job, config)
        resources = augmenter_resources(job, config, known=sharing.resources)
        return cls(job, config, layer_map, replace(sharing, resources=resources))

    def loss(self) -> LabelledLoss:
        """What the student minimises."""
        job, config, layer_map = self.job, self.config, self.layer_map
        ours, theirs = requested_features(config, layer_map)
        widths = (width(job.student), width(job.teacher or job.student))
        heads = AuxiliaryHeads(config, layer_map, widths=widths)

        def objective(teacher: TeacherOutputs | None) -> Objective:
            return Objective(
                config,
                task=job.task,
                layer_map=layer_map,
                heads=heads,
                teacher=teacher,
                teacher_model=job.teacher,
            )

        taught = job.teacher is not None and config.taught
        return LabelledLoss(
            make=objective, student=ours, teacher=theirs if taught else None, auxiliary=heads
        )

    def train(
        self, state: Path | None = None, *, resume: bool = False, watch: Watch | None = None
    ) -> tuple[Training, int]:
        """Train the student in place; what was done, and the rows there were. See
        `train_labelled`."""
        return train_labelled(
            self.job,
            self.loss(),
            config=self.config,
            state=state,
            resume=resume,
            watch=watch,
            sharing=self.sharing,
        )

    def score(self, split: str, *, teacher: bool = False) -> dict[str, float]:
        """The metrics of the student, or of its teacher, on a split; the primary one first."""
        return self.job.score(split, context=self.config.context, teacher=teacher)


@takes_recipe("distill")
def distill(
    model: str | Path | PreTrainedModel | None = None,
    data: DataLike | None = None,
    *,
    teacher: str | Path | PreTrainedModel | None = None,
    student_layers: int | None = None,
    student_width: int | None = None,
    student_init: StudentInit = "cut",
    task: TaskKind | None = None,
    config: DistillConfig | str = DistillConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train an encoder on labelled examples from a teacher, and save it as a checkpoint.

    Under `torchrun` all processes train together and the first one writes.

    Args:
        model: the student: folder or Hub name of an encoder, with or without a head; or a model
            with a head, which is then trained in place. None: `student_layers` makes one from the
            teacher.
        data: whatever `attar.data.labelled.load_labelled` takes. The training split trains, the
            test split is scored.
        teacher: an encoder trained on this task. None: train on the labels alone, as a teacher is.
        student_layers: blocks of a student made from the teacher.
        student_width: width of its hidden states, if it starts at random; None: the teacher's.
        student_init: `cut` copies the teacher's weights into it, `random` does not.
        task: None: inferred from the labels.
        config: the pipeline; or the name or path of a recipe.
        tokenizer: the student's; None: the one in its folder, or the teacher's.
        output_dir: where the checkpoint goes; it appears when it is complete.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: cost and scores of the teacher (before) and of
        the student (after) on the test split, the ratio of the two (`details.teacher_ratio`), what
        the student scored untrained, and the training log.

    Raises:
        ConfigError: the output folder is taken, the pipeline cannot learn this task, or training
            diverged.
        CompatibilityError: student and teacher do not fit together.
        DataError: a model or the data cannot be read.
    """
    config, recipe = configured(config, DistillConfig, recipe=recipe)
    require_student(model, teacher, layers=student_layers)
    if model is not None and student_layers is not None:
        raise ConfigError("student_layers makes a student from the teacher: leave the student out")
    data = Data.of(data)
    settings: dict[str, Any] = {
        "model": checkpoint.name_of(model),
        "teacher": checkpoint.name_of(teacher),
        **data.settings(),
        "student_layers": student_layers,
        "student_width": student_width,
        "student_init": student_init if student_layers else None,
        "task": task,
        **asdict(config),
    }
    with artefact(
        output_dir,
        command="distill",
        method="distiller" if teacher is not None else None,
        paper=PAPER if teacher is not None else None,
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        work.run.model = settings["teacher"] or settings["model"] or None
        documents, described = load_labelled(
            data, task=task, limit_labels=config.limit_labels, seed=config.seed
        )
        distillation = DistillTask.load(
            model,
            teacher,
            documents=documents,
            task=described,
            config=config,
            shape=StudentShape(student_layers, student_width, student_init),
            tokenizer=tokenizer,
        )
        work.card = {
            "made_from": settings["model"] or settings["teacher"],
            "pipeline_tag": _PIPELINE_TAGS.get(described.kind, "text-classification"),
        }
        _distill_in(work, distillation)
    return work.run


def _distill_in(work: Artefact, distillation: DistillTask) -> None:
    """Everything between opening and closing the work folder."""
    run, job, split = work.run, distillation.job, "test"
    student, parent = job.student, job.teacher
    if parent is not None and student.num_parameters() > parent.num_parameters():
        logger.warning(
            "the student has %d parameters, more than its teacher's %d",
            *(student.num_parameters(), parent.num_parameters()),
        )
    place(student)
    untrained = distillation.score(split) if work.main else {}
    if parent is not None:
        place(parent)
        if work.main:
            run.quality["before"] = distillation.score(split, teacher=True)
    training, rows = distillation.train(work.state, resume=work.resuming)
    if not work.main:
        return
    run.quality["after"] = distillation.score(split)
    validation = distillation.score("validation")
    place(student, "cpu")
    run.cost["after"] = cost_of(student).to_dict()
    run.baselines = [{"name": "untrained", "cost": run.cost["after"], "quality": untrained}]
    measure = primary(job.task)
    run.details = {
        "task": job.task.to_dict(),
        "primary": measure,
        "split": split,
        "validation": validation,
        "rows": rows,
        "test_rows": len(job.documents[split]),
        "intermediate": distillation.config.intermediate,
        **asdict(training),
    }
    if parent is not None:
        run.cost["before"] = cost_of(parent).to_dict()
        score, best = run.quality["after"][measure], run.quality["before"][measure]
        run.details["teacher_ratio"] = score / best if best > 0 else None
    run.details["form"] = checkpoint.save(student, work.folder, tokenizer=job.tokenizer)
