"""Search: run many pipelines on one data set and write down how each did (section 2.6).

The trials are drawn before the first one runs and wait in an Optuna storage, from which any number
of workers take them: each runs once. A worker that dies leaves its trial behind, and another one on
the same machine, running or started later, runs it again.
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
from statistics import mean
from typing import Any

import optuna
from datasets import Dataset, DatasetDict
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from transformers import PreTrainedModel

from attar import checkpoint
from attar.data.labelled import Task, TaskKind, load_labelled
from attar.errors import AttarError, ConfigError
from attar.methods.distiller.config import DistillConfig, StudentInit
from attar.methods.distiller.mixup import BETA
from attar.methods.distiller.pipeline import Job
from attar.methods.distiller.space import (
    SPACE,
    Choices,
    Pipeline,
    label,
    narrow,
    sample,
    space_id,
    suggest,
)
from attar.methods.distiller.study import SCHEMA, Row
from attar.train.callbacks import Watch
from attar.train.metrics import primary
from attar.train.scoring import score_on
from attar.train.windows import source_name

logger = logging.getLogger(__name__)

STUDY_FILE = "study.jsonl"
#: a trial is looked at after these shares of its steps
_LOOKS = (0.25, 0.5)
#: trials that must have come as far before one is called hopeless
_STARTUP = 5


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is searched, and how."""

    trials: int = 40
    """Pipelines that are run, all workers together."""
    only: Mapping[str, Sequence[Any]] | None = None
    """Choices with fewer values than the whole space, such as `{"pred_loss": ["mse"]}`."""
    prune: bool = True
    """End a trial whose validation score at a quarter or half of its steps is below the median of
    the others."""
    storage: str | None = None
    """URL of a database that many machines share, such as postgresql://...; unset: a journal file
    in the study's folder, for workers on one machine."""
    seed: int = 0
    """Draws the pipelines."""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError(f"trials must be at least 1; found {self.trials}")


def search(
    data: str | Path | Dataset | DatasetDict,
    *,
    teacher: str | Path,
    student: str | Path | None = None,
    student_layers: int | None = None,
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
        student_init: `cut` or `random`.
        output_dir: folder of the study.
        config: what is searched.
        training: all that is not searched: steps, batch, learning rate, weights.
        task: None: inferred from the labels; so for the columns.
        text_column: None: a usual name.
        pair_column: second text.
        label_column: labels.
        data_config: configuration of a data set on the Hub.

    Returns:
        The trials that have ended, by number.

    Raises:
        ConfigError: the folder holds a study of other settings or of another space.
        DataError: models or data cannot be read.
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
    settings = {
        "space": space_id(),
        "data": source_name(data),
        "teacher": str(teacher),
        "student": None if student is None else str(student),
        "student_layers": student_layers,
        "student_init": student_init,
        "search": asdict(replace(config, storage=None)),
        "training": asdict(training),
    }
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    space = narrow({**_possible(found, documents, training), **(config.only or {})})
    study = _open(folder, config, settings, space)
    runner = _Runner(
        documents, found, teacher, student, student_layers, student_init, training, folder, study
    )
    runner.measure_references()
    while (trial := _take(study, folder)) is not None:
        _run(runner, study, trial, space, config)
        write_study(folder, study)
    return write_study(folder, study)


def _possible(task: Task, documents: DatasetDict, training: DistillConfig) -> dict[str, Any]:
    """The choices that this task leaves open."""
    only: dict[str, Any] = {}
    if task.kind == "regression":
        only["pred_loss"] = ["mse"]
    if task.pair or task.kind in ("token_classification", "question_answering"):
        only["mixup"] = [False]
    usable = ["swap", "delete", "neighbour"] + (["mlm"] if training.mlm else [])
    if task.kind == "token_classification":
        usable = [name for name in usable if name in ("neighbour", "mlm")]
    if task.kind == "question_answering":
        usable = []
    only["augment"] = [chain for chain in SPACE["augment"] if set(chain) <= set(usable)]
    return only


def _open(
    folder: Path, config: SearchConfig, settings: dict[str, Any], space: Choices
) -> optuna.Study:
    """The study in this folder, filled with waiting trials by whoever comes first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = json.loads(json.dumps(settings, default=str))
    storage: Any = config.storage
    if storage is None:
        journal = folder / "journal.log"
        lock: Any = _JournalLock(journal)
        file = JournalFileBackend(str(journal), lock_obj=lock)
        storage = optuna.storages.JournalStorage(file)
    name = f"attar-{folder.absolute().name}"
    with _lock(folder):
        study = optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )
        stored = study.user_attrs.get("settings")
        if stored is None:
            study.set_user_attr("settings", settings)
            rng, seen = random.Random(config.seed), set()
            while len(seen) < config.trials:
                pipeline = sample(rng, space=space).canonical()
                if pipeline not in seen:
                    seen.add(pipeline)
                    study.enqueue_trial(
                        _params(pipeline), user_attrs={"pipeline": pipeline.to_json()}
                    )
        elif stored != settings:
            differ = [key for key in settings if stored.get(key) != settings[key]]
            raise ConfigError(
                f"the study in {folder} was made with another {' and another '.join(differ)}; "
                "give the same settings to go on with it, or another folder"
            )
    return study


class _JournalLock:
    """What Optuna asks of a lock: one that the system takes from a dead worker at once; Optuna's own waits 30 seconds."""

    def __init__(self, journal: Path) -> None:
        self._lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "study.lock")


def _params(pipeline: Pipeline) -> dict[str, Any]:
    return {
        name: label(name, value) if name == "augment" else value
        for name, value in pipeline.active().items()
    }


def _rescue(study: optuna.Study) -> None:
    """Put the trials of dead workers of this machine back into the queue."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, process = trial.user_attrs.get("worker", "").partition(":")
        if host == socket.gethostname() and not _alive(int(process)):
            _requeue(study, trial)


def _requeue(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> None:
    """Let another worker run a trial from its beginning."""
    stored = trial.user_attrs["pipeline"]
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    study.enqueue_trial(
        _params(Pipeline.from_json(stored)),
        user_attrs={"pipeline": stored, "instead_of": trial.number},
    )


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _take(study: optuna.Study, folder: Path) -> optuna.Trial | None:
    """The next waiting trial, which no other worker gets; None if there is none."""
    with _lock(folder):  # so that a trial is never seen without the worker that runs it
        _rescue(study)
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
        score, test, pruned = runner.train(pipeline, trial if config.prune else None)
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
        student_layers: int | None,
        student_init: StudentInit,
        training: DistillConfig,
        folder: Path,
        study: optuna.Study,
    ) -> None:
        self.documents, self.task, self.training, self.study = documents, task, training, study
        self.teacher = checkpoint.load(teacher)
        self.tokenizer = checkpoint.load_tokenizer(teacher)
        self.student, self.student_layers = student, student_layers
        self.student_init: StudentInit = student_init
        self.folder = folder

    def measure_references(self) -> None:
        """The scores of the teacher, and of the student without one, once for the study."""
        if "teacher_score" not in self.study.user_attrs:
            self.study.set_user_attr("teacher_score", self._score(self.teacher, "validation"))
        if "hard_score" not in self.study.user_attrs:
            alone = replace(
                self.training, intermediate="none", pred_weight=0.0, hard_weight=1.0, augment=()
            )
            job = self._job(alone, None)
            job.train(None)
            self.study.set_user_attr("hard_score", self._score(job.student, "validation"))

    def train(
        self, pipeline: Pipeline, trial: optuna.Trial | None
    ) -> tuple[float, float | None, bool]:
        """Validation score, test score, and whether the training was ended early."""
        config = configured(self.training, pipeline)
        given_up = False
        job: Job

        def hopeless(step: int) -> bool:
            nonlocal given_up
            assert trial is not None
            score = self._score(job.student, "validation")
            trial.report(score, step)
            given_up = _below_median(self.study, step, score)
            return given_up

        watch = None
        if trial is not None:
            steps = [round(share * config.max_steps) for share in _LOOKS]
            watch = Watch(hopeless, steps=[step for step in steps if step > 0])
        job = self._job(config, watch)
        job.train(None)
        score = self._score(job.student, "validation")
        return score, None if given_up else self._score(job.student, "test"), given_up

    def _job(self, config: DistillConfig, watch: Watch | None) -> Job:
        return Job(
            self.student,
            self.teacher,
            self.documents,
            self.task,
            config,
            self.student_layers,
            self.student_init,
            self.tokenizer if self.student is None else None,
            watch=watch,
            cache=self.folder / "teacher",
        )

    def _score(self, model: PreTrainedModel, split: str) -> float:
        found = score_on(
            model,
            self.tokenizer,
            self.documents[split],
            self.task,
            max_length=self.training.max_length,
        )
        return found[primary(self.task)]


def configured(training: DistillConfig, pipeline: Pipeline) -> DistillConfig:
    """The options of a run of this pipeline; all that is not searched as in `training`."""
    chosen = pipeline.to_dict()
    mixup = chosen.pop("mixup")
    chosen["augment"] = tuple(chosen["augment"])
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


def write_study(folder: Path, study: optuna.Study) -> list[Row]:
    """Write the trials that have ended to `study.jsonl`, and return them."""
    attrs = study.user_attrs
    rows = [
        _row(trial, attrs)
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
        and "pipeline" in trial.user_attrs
        and not _was_replaced(trial, study)
    ]
    text = "".join(json.dumps(row.to_dict()) + "\n" for row in rows)
    checkpoint.write_text(folder / STUDY_FILE, text)
    return rows


def _was_replaced(trial: FrozenTrial, study: optuna.Study) -> bool:
    return any(
        other.user_attrs.get("instead_of") == trial.number
        for other in study.get_trials(deepcopy=False)
    )


def _row(trial: FrozenTrial, attrs: Mapping[str, Any]) -> Row:
    settings = attrs["settings"]
    student = settings["student"] or f"{settings['student_layers']} layers"
    limit = settings["training"]["limit_labels"]
    state = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(
        trial.state, "failed"
    )
    return Row.from_dict(
        {
            "schema": SCHEMA,
            "space": settings["space"],
            "dataset": Path(settings["data"]).name,
            "student": student,
            "teacher": Path(settings["teacher"]).name,
            "init": settings["student_init"],
            "setting": "all labels" if limit is None else f"{limit} labels",
            "pipeline": json.loads(trial.user_attrs["pipeline"]),
            "seed": settings["training"]["seed"],
            "score": trial.user_attrs.get("score"),
            "test_score": trial.user_attrs.get("test_score"),
            "teacher_score": attrs["teacher_score"],
            "hard_score": attrs["hard_score"],
            "seconds": trial.user_attrs.get("seconds", 0.0),
            "state": state,
        }
    )


def compare_with_random(rows: Sequence[Row], picks: int = 5) -> dict[str, float]:
    """The best trial, and what the best of `picks` random trials would be on average."""
    from attar.methods.distiller.recommender import expected_best

    scores = [row.score for row in rows if row.state == "complete" and row.score is not None]
    return {
        "best": max(scores),
        "mean": mean(scores),
        "random_best": expected_best(scores, min(picks, len(scores))),
    }
