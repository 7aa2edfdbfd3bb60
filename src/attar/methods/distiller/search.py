"""Search: run many pipelines on one data set and write down how each did (section 2.6).

The trials are chosen before the first one runs, some by the recommender and the others at random,
and wait in an Optuna storage, from which any number of workers take them: each runs once. A worker
that dies leaves its trial behind, and another one on the same machine, running or started later,
runs it again.
"""

import hashlib
import json
import logging
import random
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from datasets import Dataset, DatasetDict
from optuna.trial import TrialState

from attar import checkpoint
from attar.compatibility import same_inputs
from attar.data.augment.augment import Resources
from attar.data.augment.words import MaskedLM
from attar.data.data import Data
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task, TaskKind
from attar.errors import AttarError, ConfigError, DataError
from attar.evaluation.labelled import score_on
from attar.evaluation.metrics import primary
from attar.methods.distiller.autodistiller import AutoDistiller, known_trials
from attar.methods.distiller.config import DistillConfig, with_pipeline
from attar.methods.distiller.distill import DistillTask
from attar.methods.distiller.pipelines import (
    SPACE,
    Choices,
    Pipeline,
    enumerate_all,
    label,
    narrow,
    sample,
    space_id,
    suggest,
)
from attar.methods.distiller.study import Row
from attar.runtime import place
from attar.search.summary import write_study
from attar.search.trials import Origin, Queue, check_folder, parameters, study_lock
from attar.train.callbacks import Watch
from attar.train.labelled import Sharing
from attar.train.students import StudentInit, StudentShape

logger = logging.getLogger(__name__)


#: a trial is looked at after these shares of its steps
_LOOKS = (0.25, 0.5)
#: trials that must have come as far before one is called hopeless
_STARTUP = 5


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is searched, and how."""

    trials: int = 40
    """Pipelines that are run, all workers together."""
    recommended: int = 0
    """That many of the trials are the first ones of the recommender; the others are drawn, and are
    the baseline with the same budget."""
    studies: tuple[str, ...] = ()
    """What the recommender learns from beside the studies that come with Attar."""
    only: Mapping[str, Sequence[Any]] | None = None
    """Choices with fewer values than the whole space, such as `{"pred_loss": ["mse"]}`."""
    prune: bool = True
    """End a trial whose validation score at a quarter or half of its steps is below the median of
    the others."""
    storage: str | None = None
    """URL of a database that many machines share, such as postgresql://...; unset: a journal file
    in the study's folder, for workers on one machine."""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError(f"trials must be at least 1; found {self.trials}")
        if not 0 <= self.recommended <= self.trials:
            raise ConfigError(
                f"recommended must be between 0 and the number of trials, {self.trials}; found "
                f"{self.recommended}"
            )
        narrow(self.only or {})


def search(
    data: str | Path | Dataset | DatasetDict,
    *,
    teacher: str | Path,
    student: str | Path | None = None,
    student_layers: int | None = None,
    student_width: int | None = None,
    student_init: StudentInit = "cut",
    output_dir: str | Path,
    config: SearchConfig = SearchConfig(),
    training: DistillConfig = DistillConfig(),
    task: TaskKind | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    data_config: str | None = None,
) -> list[Row]:
    """Run pipelines until the study has as many as asked for, and write `study.jsonl`.

    Call it again, or from other processes at the same time, to go on with the same study.

    Args:
        data: whatever `load_labelled` takes; the validation split is what a trial is scored on.
        teacher: folder or Hub name of an encoder trained on this task.
        student: folder or Hub name of the student; None: `student_layers` of the teacher.
        student_layers: blocks of a student made from the teacher.
        student_width: of its hidden states, if it starts at random; None: the teacher's.
        student_init: `cut` or `random`.
        output_dir: folder of the study.
        config: what is searched.
        training: all that is not searched: steps, batch, learning rate, weights; its seed also
            draws the pipelines.
        task: None: inferred from the labels; so for the columns.
        text_column: None: a usual name.
        pair_column: second text.
        label_column: labels.
        data_config: configuration of a data set on the Hub.

    Returns:
        The trials that have ended, by number.

    Raises:
        ConfigError: the folder holds something else, or a study of other settings or of another
            space; the task leaves too few pipelines open; the storage cannot be opened; there is
            no study to recommend from.
        CompatibilityError: student and teacher do not fit together.
        DataError: models, data or studies cannot be read.
    """
    if (student is None) == (student_layers is None):
        raise ConfigError("expected either a student or student_layers; give one of the two")
    documents, found = load_labelled(
        data,
        task=task,
        config=data_config,
        text_column=text_column,
        pair_column=pair_column,
        label_column=label_column,
        limit_labels=training.limit_labels,
        seed=training.seed,
    )
    init: StudentInit = student_init if student is None else "cut"
    if training.num_train_epochs is not None:
        raise ConfigError(
            "a search counts in steps, so that all trials train alike, however many copies of the "
            "texts they make: give max_steps, and leave num_train_epochs out"
        )
    settings: dict[str, Any] = {
        "space": space_id(),
        "data": _place(data),
        "rows": _digest(documents),
        "examples": len(documents["validation"]),
        "task": found.kind,
        "columns": [text_column, pair_column, label_column],
        "data_config": data_config,
        "teacher": str(teacher),
        "student": None if student is None else str(student),
        "student_layers": student_layers,
        "student_width": student_width,
        "student_init": init,
        "search": {k: v for k, v in asdict(config).items() if k not in ("storage", "trials")},
        "training": asdict(training),
    }
    folder = Path(output_dir)
    check_folder(folder)
    alike = student is None or same_inputs(
        checkpoint.load_tokenizer(student), checkpoint.load_tokenizer(teacher), task=found
    )
    left = possible(found.kind, pair=found.pair, mlm=training.mlm is not None, alike=alike)
    space = _remaining(left, config.only or {})
    plan = _plan(space, config, init=init, seed=training.seed)
    made = {name: settings[name] for name in ("student_layers", "student_width", "student_init")}
    runner = _Runner(
        documents,
        found,
        teacher=teacher,
        student=student,
        made=made,
        training=training,
        folder=folder,
    )
    settings["weights"] = checkpoint.fingerprint(runner.teacher)
    settings = json.loads(json.dumps(settings, default=str))
    with Queue.open(folder, config.storage, settings=settings, plan=plan) as queue:
        runner.measure_references(queue.study)
        while (trial := queue.take()) is not None:
            _run(runner, queue, trial, space, config)
            write_study(folder, queue.study)
        with study_lock(folder):
            if queue.done_here():
                shutil.rmtree(folder / "teacher", ignore_errors=True)
        return write_study(folder, queue.study)


def possible(
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


def _remaining(open_: Mapping[str, Any], only: Mapping[str, Sequence[Any]]) -> Choices:
    """The space of what both the task and the user leave open."""
    task, wanted = narrow(open_), narrow(only)
    both = {name: [v for v in wanted[name] if v in task[name]] for name in SPACE}
    for name, values in both.items():
        if not values:
            raise ConfigError(
                f"{name} was narrowed to {', '.join(label(name, v) for v in wanted[name])}, but on "
                f"this task it must be {', '.join(label(name, v) for v in task[name])} (of the "
                "augmenters, mlm asks for a masked language model); leave one of those"
            )
    return narrow(both)


def _plan(
    space: Choices, config: SearchConfig, *, init: StudentInit, seed: int
) -> list[tuple[Pipeline, Origin]]:
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
        plan |= {found.pipeline: "recommended" for found in best}
    rng = random.Random(seed)
    while len(plan) < config.trials:
        plan.setdefault(sample(rng, space=space).canonical(), "random")
    return list(plan.items())


def _run(
    runner: "_Runner", queue: Queue, trial: optuna.Trial, space: Choices, config: SearchConfig
) -> None:
    study = queue.study
    pipeline = suggest(trial, space=space).canonical()
    began = time.perf_counter()
    try:
        watched = (study, trial) if config.prune else None
        score, test, pruned = runner.train(pipeline, watched)
    except (KeyboardInterrupt, OSError):  # not the pipeline's fault, such as a full disk
        queue.put_back(trial)
        raise
    except Exception as error:  # one pipeline must not end the search, such as one too large
        unexpected = not isinstance(error, AttarError)
        logger.warning("trial %d failed: %s", trial.number, error, exc_info=unexpected)
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        return
    trial.set_user_attr("seconds", time.perf_counter() - began)
    trial.set_user_attr("test_score", test)
    trial.set_user_attr("score", score)
    state = TrialState.PRUNED if pruned else TrialState.COMPLETE
    study.tell(trial, None if pruned else score, state=state)
    logger.info(
        "trial %d: %.4f%s in %.0f s  %s",
        *(trial.number, score, " (pruned)" if pruned else "", time.perf_counter() - began),
        json.dumps(parameters(pipeline)),
    )


class _Runner:
    """What all trials of a worker share."""

    def __init__(
        self,
        documents: DatasetDict,
        task: Task,
        *,
        teacher: str | Path,
        student: str | Path | None,
        made: dict[str, Any],
        training: DistillConfig,
        folder: Path,
    ) -> None:
        self.documents, self.task, self.training = documents, task, training
        self.teacher = checkpoint.load(teacher)
        self.tokenizer = checkpoint.load_tokenizer(teacher)
        self.student, self.shape = student, StudentShape(*made.values())
        resources = Resources(mlm=MaskedLM.load(training.mlm) if training.mlm else None)
        self.sharing = Sharing(folder / "teacher", resources)
        self._alone()  # what does not fit together is told before there is a study

    def _alone(self) -> DistillTask:
        """The student without a teacher."""
        return self._job(
            replace(
                self.training,
                intermediate="none",
                pred_weight=0.0,
                hard_weight=1.0,
                augment=(),
                repeated=False,
                mixup_beta=None,
            )
        )

    def measure_references(self, study: optuna.Study) -> None:
        """The scores of the teacher, and of the student without one, once for the study."""
        if "teacher_score" not in study.user_attrs:
            place(self.teacher)
            found = score_on(
                self.teacher,
                self.documents["validation"],
                tokenizer=self.tokenizer,
                task=self.task,
                context=self.training.context,
            )
            score = found[primary(self.task)]
            if not score > 0:
                raise DataError(
                    f"the teacher scores {score:.3f} ({primary(self.task)}) on the validation "
                    "split, so that students cannot be compared with it; train it on this task"
                )
            study.set_user_attr("teacher_score", score)
        if "hard_score" not in study.user_attrs:
            job = self._alone()
            job.train()
            study.set_user_attr("hard_score", self._score(job, "validation"))

    def train(
        self, pipeline: Pipeline, watched: tuple[optuna.Study, optuna.Trial] | None
    ) -> tuple[float, float | None, bool]:
        """Validation score, test score, and whether the training was ended early, as may happen to
        a trial that is `watched` beside the others of its study."""
        config = with_pipeline(self.training, pipeline)
        given_up = False
        job: DistillTask

        def hopeless(step: int) -> bool:
            nonlocal given_up
            assert watched is not None
            study, trial = watched
            score = self._score(job, "validation")
            trial.report(score, step)
            given_up = _below_median(study, step, score)
            return given_up

        watch = None
        if watched is not None:
            steps = [round(share * config.max_steps) for share in _LOOKS]
            watch = Watch(hopeless, steps=[step for step in steps if step > 0])
        job = self._job(config)
        job.train(watch=watch)
        score = self._score(job, "validation")
        return score, None if given_up else self._score(job, "test"), given_up

    def _job(self, config: DistillConfig) -> DistillTask:
        job = DistillTask.load(
            self.student,
            self.teacher,
            documents=self.documents,
            task=self.task,
            config=config,
            shape=self.shape,
            tokenizer=self.tokenizer if self.student is None else None,
            sharing=self.sharing,
        )
        self.sharing = job.sharing
        return job

    def _score(self, job: DistillTask, split: str) -> float:
        return job.score(split)[primary(self.task)]


def _place(data: str | Path | Dataset | DatasetDict) -> str:
    """How data is named in a study: a path in full, from wherever it was typed."""
    name = Data.of(data).name
    return (
        str(Path(name).resolve()) if isinstance(data, str | Path) and Path(data).exists() else name
    )


def _digest(documents: DatasetDict) -> str:
    """Of all rows: data sets of one name are not always the same."""
    digest = hashlib.sha256()
    for split, rows in sorted(documents.items()):
        for name in sorted(rows.column_names):
            digest.update(f"{split} {name}".encode())
            digest.update(json.dumps(rows[name][:], default=str).encode())
    return digest.hexdigest()[:16]


def _below_median(study: optuna.Study, step: int, score: float) -> bool:
    others = [
        trial.intermediate_values[step]
        for trial in study.get_trials(
            deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)
        )
        if step in trial.intermediate_values
    ]
    return len(others) >= _STARTUP and score < statistics.median(others)
