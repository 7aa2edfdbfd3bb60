"""Search: run many pipelines on one data set and write down how each did (section 2.6).

The trials are chosen before the first one runs, some by the recommender and the others at random,
and wait in an Optuna storage, from which any number of workers take them: each runs once. A worker
that dies leaves its trial behind, and another one on the same machine, running or started later,
runs it again.
"""

import json
import logging
import os
import random
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from datasets import Dataset, DatasetDict
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from attar import checkpoint
from attar.data.labelled import Task, TaskKind, load_labelled
from attar.errors import AttarError, ConfigError
from attar.methods.distiller.augment import Resources
from attar.methods.distiller.config import DistillConfig, StudentInit
from attar.methods.distiller.mixup import BETA
from attar.methods.distiller.pipeline import Job
from attar.methods.distiller.recommender import AutoDistiller, known_trials
from attar.methods.distiller.results import (
    Origin,
    check_folder,
    open_storage,
    study_lock,
    study_name,
    write_study,
)
from attar.methods.distiller.space import (
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
from attar.methods.distiller.words import MaskedLM
from attar.train.callbacks import Watch
from attar.train.metrics import primary
from attar.train.scoring import score_on
from attar.train.windows import source_name

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
    settings = {
        "space": space_id(),
        "data": source_name(data),
        "task": found.kind,
        "columns": [text_column, pair_column, label_column],
        "data_config": data_config,
        "teacher": str(teacher),
        "student": None if student is None else str(student),
        "student_layers": student_layers,
        "student_width": student_width,
        "student_init": init,
        "search": asdict(replace(config, storage=None)),
        "training": asdict(training),
    }
    folder = Path(output_dir)
    check_folder(folder)
    space = _remaining(
        possible(found.kind, pair=found.pair, mlm=training.mlm is not None), config.only or {}
    )
    plan = _plan(space, config, init=init, seed=training.seed)
    made = {name: settings[name] for name in ("student_layers", "student_width", "student_init")}
    runner = _Runner(documents, found, teacher, student, made, training, folder)
    storage = None if config.storage is None else open_storage(folder, config.storage)
    folder.mkdir(parents=True, exist_ok=True)
    study = _open(folder, storage or open_storage(folder, None), settings, plan)
    runner.measure_references(study)
    while (trial := _take(study, folder, shared=storage is not None)) is not None:
        _run(runner, study, trial, space, config)
        write_study(folder, study)
    return write_study(folder, study)


def possible(kind: TaskKind | None, *, pair: bool = False, mlm: bool) -> dict[str, Any]:
    """The choices that a task leaves open, where it does not leave all.

    Args:
        kind: None: any.
        pair: whether the input is two texts.
        mlm: whether there is a masked language model, which one augmenter asks for.
    """
    only: dict[str, Any] = {}
    if kind == "regression":
        only["pred_loss"] = ["mse"]
    if pair or kind in ("token_classification", "question_answering"):
        only["mixup"] = [False]
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


def _open(
    folder: Path,
    storage: BaseStorage,
    settings: dict[str, Any],
    plan: Sequence[tuple[Pipeline, Origin]],
) -> optuna.Study:
    """The study in this folder, filled with waiting trials by whoever comes first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = json.loads(json.dumps(settings, default=str))
    with study_lock(folder):
        study = optuna.create_study(
            study_name=study_name(folder),
            storage=storage,
            direction="maximize",
            load_if_exists=True,
        )
        stored = study.user_attrs.get("settings")
        if stored is None:
            study.set_user_attr("settings", settings)
        elif stored != settings:
            differ = [key for key in settings if stored.get(key) != settings[key]]
            raise ConfigError(
                f"the study in {folder} was made with another {' and another '.join(differ)}; "
                "give the same settings to go on with it, or another folder"
            )
        there = {trial.user_attrs.get("pipeline") for trial in study.get_trials(deepcopy=False)}
        for pipeline, origin in plan:
            attrs = {"pipeline": pipeline.to_json(), "origin": origin}
            if len(there) < len(plan) and attrs["pipeline"] not in there:
                there.add(attrs["pipeline"])
                study.enqueue_trial(_params(pipeline), user_attrs=attrs)
    return study


def _params(pipeline: Pipeline) -> dict[str, Any]:
    return {
        name: label(name, value) if name == "augment" else value
        for name, value in pipeline.active().items()
    }


def _rescue(study: optuna.Study, *, shared: bool) -> None:
    """Put the trials of dead workers of this machine back into the queue."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, process = trial.user_attrs.get("worker", "").partition(":")
        # Without a name the worker died while it took the trial; or takes it, on another machine.
        died = not shared if not host else host == socket.gethostname() and not _alive(int(process))
        if died:
            _requeue(study, trial)


def _requeue(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> None:
    """Let another worker run a trial from its beginning."""
    attrs = {name: trial.user_attrs[name] for name in ("pipeline", "origin")}
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    study.enqueue_trial(
        _params(Pipeline.from_json(attrs["pipeline"])),
        user_attrs=attrs | {"instead_of": trial.number},
    )


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _take(study: optuna.Study, folder: Path, *, shared: bool) -> optuna.Trial | None:
    """The next waiting trial, which no other worker gets; None if there is none."""
    with study_lock(folder):  # so that a trial is never seen without the worker that runs it
        _rescue(study, shared=shared)
        if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return None
        trial = study.ask()
        if "pipeline" not in trial.user_attrs:  # on a shared database another machine was faster
            study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        return trial


def _run(
    runner: "_Runner",
    study: optuna.Study,
    trial: optuna.Trial,
    space: Choices,
    config: SearchConfig,
) -> None:
    pipeline = suggest(trial, space=space).canonical()
    began = time.perf_counter()
    try:
        watched = (study, trial) if config.prune else None
        score, test, pruned = runner.train(pipeline, watched)
    except KeyboardInterrupt:
        _requeue(study, trial)
        raise
    except AttarError as error:
        logger.warning("trial %d failed: %s", trial.number, error)
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
        json.dumps(_params(pipeline)),
    )


class _Runner:
    """What all trials of a worker share."""

    def __init__(
        self,
        documents: DatasetDict,
        task: Task,
        teacher: str | Path,
        student: str | Path | None,
        made: dict[str, Any],
        training: DistillConfig,
        folder: Path,
    ) -> None:
        self.documents, self.task, self.training = documents, task, training
        self.teacher = checkpoint.load(teacher)
        self.tokenizer = checkpoint.load_tokenizer(teacher)
        self.student, self.made, self.folder = student, made, folder
        self.resources = Resources(mlm=MaskedLM.load(training.mlm) if training.mlm else None)
        self._alone()  # what does not fit together is told before there is a study

    def _alone(self) -> Job:
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
            ),
            None,
        )

    def measure_references(self, study: optuna.Study) -> None:
        """The scores of the teacher, and of the student without one, once for the study."""
        if "teacher_score" not in study.user_attrs:
            found = score_on(
                self.teacher,
                self.tokenizer,
                self.documents["validation"],
                self.task,
                max_length=self.training.max_length,
            )
            study.set_user_attr("teacher_score", found[primary(self.task)])
        if "hard_score" not in study.user_attrs:
            job = self._alone()
            job.train(None)
            study.set_user_attr("hard_score", self._score(job, "validation"))

    def train(
        self, pipeline: Pipeline, watched: tuple[optuna.Study, optuna.Trial] | None
    ) -> tuple[float, float | None, bool]:
        """Validation score, test score, and whether the training was ended early, as may happen to
        a trial that is `watched` beside the others of its study."""
        config = configured(self.training, pipeline)
        given_up = False
        job: Job

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
        job = self._job(config, watch)
        job.train(None)
        score = self._score(job, "validation")
        return score, None if given_up else self._score(job, "test"), given_up

    def _job(self, config: DistillConfig, watch: Watch | None) -> Job:
        job = Job(
            self.student,
            self.teacher,
            self.documents,
            self.task,
            config,
            **self.made,
            tokenizer=self.tokenizer if self.student is None else None,
            watch=watch,
            cache=self.folder / "teacher",
            resources=self.resources,
        )
        self.resources = job.resources
        return job

    def _score(self, job: Job, split: str) -> float:
        return job.score(job.student, job.tokenizer, split)[primary(self.task)]


def configured(training: DistillConfig, pipeline: Pipeline) -> DistillConfig:
    """The options of a run of this pipeline; all that is not searched as in `training`, but for the
    batch: with mixup half as many texts, so that with their mixtures it has as many rows."""
    chosen = pipeline.to_dict()
    mixup = chosen.pop("mixup")
    if mixup:
        half = training.per_device_train_batch_size // 2
        chosen["per_device_train_batch_size"] = max(2, half)
    chosen["augment"] = tuple(chosen["augment"])
    chosen["repeated"] = training.repeated and bool(chosen["augment"])  # else there are no copies
    return replace(training, **chosen, mixup_beta=BETA if mixup else None)


def _below_median(study: optuna.Study, step: int, score: float) -> bool:
    others = [
        trial.intermediate_values[step]
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and step in trial.intermediate_values
    ]
    if len(others) < _STARTUP:
        return False
    middle = sorted(others)[len(others) // 2]
    return score < middle
