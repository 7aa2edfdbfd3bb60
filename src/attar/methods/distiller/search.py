"""Search: run many pipelines on one data set and write down how each did.

The trials are chosen before the first one runs, some by the recommender and the others at random,
and wait in an Optuna storage, from which any number of workers take them: each runs once. A worker
that dies leaves its trial behind, and another one on the same machine, running or started later,
runs it again.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datasets import DatasetDict

from attar import checkpoint
from attar.compatibility import same_inputs
from attar.data.data import Data, DataLike
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task, TaskKind
from attar.errors import ConfigError, check_types, require
from attar.evaluation.metrics import primary
from attar.methods.distiller.autodistiller import AutoDistiller, known_trials
from attar.methods.distiller.config import DistillConfig, with_pipeline
from attar.methods.distiller.distill import PAPER
from attar.methods.distiller.pipelines import (
    SPACE,
    Pipeline,
    enumerate_all,
    label,
    narrow,
    sample,
    space_id,
)
from attar.methods.distiller.runner import TrialRunner
from attar.methods.distiller.study import Trial, trial_of
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.search.search import Search, run_search
from attar.search.space import ChoiceSpace
from attar.search.storage import check_folder, settings_of
from attar.search.summary import Summary, score_text
from attar.search.trials import Origin, PlannedTrial
from attar.train.students import StudentInit, StudentShape

#: settings by the name that they had in studies begun with Attar 0.1
_RENAMED = MappingProxyType({"max_length": "context"})


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is searched, and how."""

    trials: int = 40
    """Number of pipelines to train, over all workers."""
    recommended: int | None = None
    """Number of trials that the recommender chooses; the others are drawn at random and are the
    baseline. Unset: 5, but at most half of the trials; as before in a study that is continued."""
    studies: tuple[str, ...] = ()
    """What the recommender learns from besides the studies that come with Attar."""
    only: Mapping[str, Sequence[Any]] | None = None
    """Choices with fewer values than the whole space, such as `{"pred_loss": ["mse"]}`."""
    prune: bool = True
    """End a trial whose validation score at a quarter or half of its steps is below the median of
    the others."""
    storage: str | None = None
    """URL of a database that many machines share, such as postgresql://...; unset: a journal file
    in the study's folder, for workers on one machine."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.trials >= 1, "trials", self.trials, "at least 1")
        fine = self.recommended is None or 0 <= self.recommended <= self.trials
        expected = f"between 0 and the number of trials, {self.trials}"
        require(fine, "recommended", self.recommended, expected)
        narrow(self.only or {})


@takes_recipe("pipeline search")
def search(
    model: str | Path | None = None,
    data: DataLike | None = None,
    *,
    teacher: str | Path | None = None,
    student_layers: int | None = None,
    student_width: int | None = None,
    student_init: StudentInit = "cut",
    task: TaskKind | None = None,
    config: SearchConfig | str = SearchConfig(),
    training: DistillConfig = DistillConfig(),
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Try distillation pipelines on data, and write the best as a recipe.

    Call it again, or from other processes at the same time, to continue the same study. The
    folder gets `study.jsonl`, a line for each trial that has ended (read it with `read_study`),
    `best.yaml`, options of `distill` that train the best pipeline again, and `attar.json`.

    Args:
        model: folder or Hub name of the student; None: `student_layers` of the teacher.
        data: whatever `load_labelled` takes; the validation split is what a trial is scored on.
        teacher: folder or Hub name of an encoder trained on this task.
        student_layers: blocks of a student made from the teacher.
        student_width: of its hidden states, if it starts at random; None: the teacher's.
        student_init: `cut` or `random`.
        task: None: inferred from the labels.
        config: what is searched; or the name or path of a recipe, of `distill` too.
        training: all that is not searched: steps, batch, learning rate, weights; its seed also
            draws the pipelines.
        output_dir: folder of the study.
        recipe: name of the recipe that the options came from, for the record.
        resume: not needed: a study is continued with or without it.

    Returns:
        The record: the validation scores of the teacher (before), of the best trial (after) and of
        the student taught by labels alone (baseline); `details` has the best trial and what it is
        compared with. While other workers run all trials that are left, there may be no best yet.

    Raises:
        ConfigError: the folder holds something else, or a study of other settings or of another
            space; the task leaves too few pipelines open; the storage cannot be opened; there is
            no study to recommend from.
        CompatibilityError: student and teacher do not fit together.
        DataError: models, data or studies cannot be read.
        AttarError: no trial was trained to its end.
    """
    config, recipe = configured(config, SearchConfig, recipe=recipe)
    if teacher is None:
        raise ConfigError("say what to learn from: a teacher (--teacher), trained on this task")
    if (model is None) == (student_layers is None):
        raise ConfigError("expected either a student or student_layers; give one of the two")
    if training.num_train_epochs is not None:
        raise ConfigError(
            "a search counts in steps, so that all trials train alike, however many copies of the "
            "texts they make: give max_steps, and leave num_train_epochs out"
        )
    data = Data.of(data)
    settings = {
        "model": checkpoint.name_of(model),
        "teacher": checkpoint.name_of(teacher),
        **data.settings(),
        "trials": config.trials,
    }
    with artefact(
        output_dir,
        command="pipeline search",
        method="distiller",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        seed=training.seed,
        shared=True,
    ) as work:
        check_folder(work.folder)
        work.run.model = settings["teacher"]
        documents, kind = load_labelled(
            data, task=task, limit_labels=training.limit_labels, seed=training.seed
        )
        config = _with_recommended(config, work.folder)
        init: StudentInit = student_init if model is None else "cut"
        space = _open_space(model, teacher, task=kind, config=config, mlm=training.mlm is not None)
        plan = _plan(space, config, init=init, seed=training.seed)
        runner = TrialRunner(
            documents,
            kind,
            teacher=teacher,
            student=model,
            shape=StudentShape(student_layers, student_width, init),
            training=training,
            folder=work.folder,
        )
        searched = Search(
            settings={
                "space": space_id(),
                "data": _place(data),
                "rows": _digest(documents),
                "examples": len(documents["validation"]),
                "task": kind.kind,
                "columns": [data.text_column, data.pair_column, data.label_column],
                "data_config": data.config,
                "teacher": str(teacher),
                "student": None if model is None else str(model),
                "student_layers": student_layers,
                "student_width": student_width,
                "student_init": init,
                "search": _lasting(config),
                "training": asdict(training),
                "weights": checkpoint.fingerprint(runner.teacher),
            },
            names=("data", "teacher"),
            renamed=_RENAMED,
            space=space,
            plan=plan,
            prepare=runner.measure_references,
            run_one=lambda values, trial: runner.train(
                Pipeline(**values).canonical(), trial if config.prune else None
            ),
            convert=trial_of,
            scratch="teacher",
            record=partial(_record, task=kind),
            recipe=partial(_recipe, training=training),
        )
        run_search(searched, work, storage=config.storage)
    return work.run


def _record(
    run: Run, attrs: Mapping[str, Any], summary: Summary[Trial] | None, *, task: Task
) -> None:
    """What the search has found so far."""
    metric = primary(task)
    teacher, hard = attrs["teacher_score"], attrs["hard_score"]
    run.quality = {"before": {metric: teacher}}
    run.baselines = [{"name": "hard labels", "cost": {}, "quality": {metric: hard}}]
    run.details = {"task": task.to_dict(), "primary": metric, "split": "validation"}
    run.details |= {"teacher_score": teacher, "hard_score": hard, "best": None}
    if summary is not None:
        run.quality["after"] = {metric: summary.best.score}
        run.details["best"] = summary.best.to_dict()


def _recipe(
    _attrs: Mapping[str, Any], summary: Summary[Trial], *, training: DistillConfig
) -> tuple[dict[str, Any], str]:
    """The best pipeline, as options of `attar distill`."""
    best = summary.best
    comment = (
        f"The best of {summary.ended} pipelines on {best.dataset}: {score_text(best.score)} on "
        f"validation data, {score_text(best.test_score)} on test data."
    )
    return {"verb": "distill", **asdict(with_pipeline(training, best.pipeline))}, comment


def _open_space(
    student: str | Path | None,
    teacher: str | Path,
    *,
    task: Task,
    config: SearchConfig,
    mlm: bool,
) -> ChoiceSpace:
    """What task, models and user leave open."""
    alike = student is None or same_inputs(
        checkpoint.load_tokenizer(student), checkpoint.load_tokenizer(teacher), task=task
    )
    allowed = allowed_choices(task.kind, pair=task.pair, mlm=mlm, alike=alike)
    return _remaining(allowed, config.only or {})


def allowed_choices(
    kind: TaskKind | None, *, pair: bool = False, mlm: bool, alike: bool = True
) -> dict[str, Any]:
    """The choices that a task and two models leave open, where they do not leave all.

    Args:
        kind: None: any.
        pair: whether the input is two texts.
        mlm: whether there is a masked language model, which one augmenter asks for.
        alike: whether student and teacher read the same batch.
    """
    only: dict[str, Any] = {}
    if kind == "regression":
        only["pred_loss"] = ["mse"]
    if pair or not alike or kind in ("token_classification", "question_answering"):
        only["mixup"] = [False]
    if not alike:
        only |= {"intermediate": ["none", "pkd", "mi"], "features": ["hidden"]}
    usable = ["swap", "delete", "neighbour"] + (["mlm"] if mlm else [])
    if kind == "token_classification":
        usable = [name for name in usable if name in ("neighbour", "mlm")]
    if kind == "question_answering":
        usable = []
    only["augment"] = [chain for chain in SPACE["augment"] if set(chain) <= set(usable)]
    return only


def _remaining(allowed: Mapping[str, Any], only: Mapping[str, Sequence[Any]]) -> ChoiceSpace:
    """The space of what both the task and the user leave open."""
    task, user = narrow(allowed), narrow(only)
    both = {name: [v for v in user[name] if v in task[name]] for name in SPACE}
    for name, values in both.items():
        if not values:
            raise ConfigError(
                f"{name} was narrowed to {', '.join(label(name, v) for v in user[name])}, but on "
                f"this task it must be {', '.join(label(name, v) for v in task[name])} (of the "
                "augmenters, mlm asks for a masked language model); leave one of those"
            )
    return narrow(both)


def _with_recommended(config: SearchConfig, folder: Path) -> SearchConfig:
    """The same with a number of recommended trials: that of the study in the folder, if any."""
    if config.recommended is not None:
        return config
    made = settings_of(folder, storage=config.storage)
    if made is None:
        return replace(config, recommended=min(5, config.trials // 2))
    number = int(made["search"]["recommended"])
    return replace(config, recommended=number, trials=max(number, config.trials))


def _lasting(config: SearchConfig) -> dict[str, Any]:
    """The options that a study keeps: it may be given more trials, or moved to another storage."""
    return {k: v for k, v in asdict(config).items() if k not in ("storage", "trials")}


def _plan(
    space: ChoiceSpace, config: SearchConfig, *, init: StudentInit, seed: int
) -> list[PlannedTrial]:
    """The trials: first those of the recommender, then others that are drawn."""
    every = enumerate_all(space=space)
    if len(every) < config.trials:
        raise ConfigError(
            f"expected at least {config.trials} pipelines for as many trials, found {len(every)} "
            "in what the task and the choices leave open; run fewer trials, or leave more open"
        )
    plan: dict[Pipeline, Origin] = {}
    if config.recommended:
        learned = AutoDistiller.fit(known_trials(config.studies))
        best = learned.recommend(config.recommended, init=init, candidates=every)
        plan |= {one.pipeline: "recommended" for one in best}
    rng = random.Random(seed)
    while len(plan) < config.trials:
        plan.setdefault(sample(rng, space=space).canonical(), "random")
    return [
        PlannedTrial(pipeline.to_json(), SPACE.stored(pipeline.active()), origin)
        for pipeline, origin in plan.items()
    ]


def _place(data: Data) -> str:
    """How data is named in a study: a path in full, from wherever it was typed."""
    local = isinstance(data.source, str | Path) and Path(data.source).exists()
    return str(Path(data.name).resolve()) if local else data.name


def _digest(documents: DatasetDict) -> str:
    """Of all rows: data sets of one name are not always the same."""
    digest = hashlib.sha256()
    for split, rows in sorted(documents.items()):
        for name in sorted(rows.column_names):
            digest.update(f"{split} {name}".encode())
            digest.update(json.dumps(rows[name][:], default=str).encode())
    return digest.hexdigest()[:16]
