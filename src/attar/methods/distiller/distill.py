"""The public verb: train a student from a teacher with one pipeline, and say how good it is."""

import logging
import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.artefacts import shared_workspace
from attar.data.data import Data
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import TaskKind
from attar.errors import ConfigError
from attar.evaluation.metrics import primary
from attar.measure.cost import cost_of
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.job import Job
from attar.methods.distiller.study import dpr
from attar.report.pages import save_card
from attar.report.record import Paper, Run
from attar.runtime import broadcast, place, processes
from attar.train.students import StudentInit
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
        The record, also written to `attar.json`: cost and scores of the teacher (before) and of
        the student (after) on the test split, the ratio of the two (`details.dpr`), what the
        student scored untrained, and the training log.

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
        "student": checkpoint.name_of(student),
        "teacher": checkpoint.name_of(teacher),
        "data": Data.of(data).name,
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
            documents=documents,
            task=found,
            config=config,
            student_layers=student_layers,
            student_width=student_width,
            student_init=student_init,
            tokenizer=tokenizer,
        )
        if job.teacher is not None and (sizes := _sizes(job))[0] > sizes[1]:
            logger.warning("the student has %d parameters, more than its teacher's %d", *sizes)
        run = _run(job, settings, space.state, resume=space.resuming)
        if run is not None:
            form = checkpoint.save(job.student, space.path, tokenizer=job.tokenizer)
            run.details["form"] = form
            base = settings["student"] or settings["teacher"]
            save_card(space.path, run, made_from=base, pipeline_tag=_PIPELINES[found.kind])
            run.save(space.path)
        return broadcast(run)


def _sizes(job: Job) -> list[int]:
    """Parameters of student and teacher."""
    return [sum(p.numel() for p in m.parameters()) for m in (job.student, job.teacher) if m]


_PIPELINES = {
    "single_label": "text-classification",
    "multi_label": "text-classification",
    "regression": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
}


def _run(job: Job, settings: dict[str, Any], state: Path, *, resume: bool) -> Run | None:
    """Train; the record on the first process."""
    began, main = time.perf_counter(), processes().is_main_process
    before = job.score("test") if main else {}
    parent = {}
    if job.teacher is not None:
        place(job.teacher)
        parent = job.score("test", teacher=True) if main else {}
    try:
        training, rows = job.train(state, resume=resume)
    except ConfigError:
        if main:  # a diverged run leaves nothing to resume
            shutil.rmtree(state / "teacher", ignore_errors=True)
        raise
    if not main:
        return None
    return _record(job, settings, (before, parent), (training, rows), began)


def _record(
    job: Job,
    settings: dict[str, Any],
    scores: tuple[dict[str, float], dict[str, float]],
    done: tuple[Training, int],
    began: float,
) -> Run:
    untrained, parent = scores
    training, rows = done
    after = job.score("test")
    validation = job.score("validation")
    place(job.student, "cpu")
    main = primary(job.task)
    details: dict[str, Any] = {
        "task": job.task.to_dict(),
        "primary": main,
        "split": "test",
        "validation": validation,
        "rows": rows,
        "test_rows": len(job.documents["test"]),
        "intermediate": job.config.intermediate,
        **asdict(training),
    }
    cost = {"after": cost_of(job.student).to_dict()}
    if job.teacher is not None:
        cost["before"] = cost_of(job.teacher).to_dict()
        details["dpr"] = None if math.isnan(ratio := dpr(after[main], parent[main])) else ratio
    return Run(
        command="distill",
        method="distiller" if job.teacher is not None else None,
        paper=PAPER if job.teacher is not None else None,
        model=settings["teacher"] or settings["student"],
        data=settings["data"],
        settings=settings,
        cost=cost,
        quality={"before": parent, "after": after} if parent else {"after": after},
        baselines=[{"name": "untrained", "cost": cost["after"], "quality": untrained}],
        details=details,
        seed=job.config.seed,
        seconds=time.perf_counter() - began,
    )
