"""The trials of a study wait in an Optuna storage, from which any number of workers take them: each
runs once.

Every worker holds the lock of a file of its own, which the system takes from a dead one at once. So
a running trial whose worker's lock is free was left behind, whatever became of process numbers and
of the machine's name, and it goes back into the queue. On a database that several machines share, a
worker sees the files of its own folder alone: what another machine left behind waits for a worker
there.
"""

import json
import logging
import statistics
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import FrozenTrial, TrialState

from attar.artefacts import make_folder
from attar.errors import AttarError, ConfigError
from attar.search.space import ChoiceSpace
from attar.search.storage import open_storage, study_lock, study_name

logger = logging.getLogger(__name__)

Origin = Literal["recommended", "random", "listed"]
"""Whether a trial was recommended, drawn, or is one of all that there are."""
_WORKERS = "workers"
#: a trial whose workers died so often is not tried again
MAX_RETRIES = 3
#: seconds in which another machine has listed the trials, or is taken for dead
LISTING_TIMEOUT = 60.0
#: a trial that may be pruned is looked at after these shares of its steps
LOOKS = (0.25, 0.5)
#: trials that must have come as far before one is pruned
_STARTUP = 5


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that is to be run.

    Attributes:
        payload: what it is, as JSON; two trials of a study have different ones.
        parameters: its choices as Optuna stores them.
        origin: who chose it.
    """

    payload: str
    parameters: Mapping[str, Any]
    origin: Origin

    def attributes(self) -> dict[str, Any]:
        """What the trial carries in the storage."""
        known = {"payload": self.payload, "parameters": dict(self.parameters)}
        return known | {"origin": self.origin}

    @classmethod
    def of(cls, trial: FrozenTrial) -> "PlannedTrial | None":
        """Read a trial of a study; None for one that was asked for when nothing waited.

        Studies that were begun with Attar 0.1 hold the payload as `pipeline`, and the parameters
        where Optuna keeps what was enqueued.
        """
        attrs = trial.user_attrs
        payload = attrs.get("payload", attrs.get("pipeline"))
        if payload is None:
            return None
        parameters = attrs.get("parameters", trial.system_attrs.get("fixed_params", {}))
        origin = attrs.get("origin", "random")
        return cls(payload, parameters, origin if origin in get_args(Origin) else "random")


class Queue:
    """The trials of one study, for one worker; `with` it, the worker is known to be alive."""

    def __init__(self, folder: Path, study: optuna.Study, *, shared: bool) -> None:
        self.folder, self.study, self._shared = folder, study, shared
        self._name = f"{uuid.uuid4().hex}.lock"
        self._life = FileLock(folder / _WORKERS / self._name)

    @classmethod
    def open(
        cls,
        folder: Path,
        url: str | None,
        *,
        settings: dict[str, Any],
        plan: Sequence[PlannedTrial],
        names: Collection[str] = (),
        renamed: Mapping[str, str] = MappingProxyType({}),
    ) -> "Queue":
        """The study of a folder, its trials listed by whoever comes first.

        Args:
            folder: is made if it is not there.
            url: of a database; None: a journal file in the folder.
            settings: what the study was made with, as JSON values.
            plan: the trials.
            names: settings that may differ, as others tell by content what they name.
            renamed: settings by the name that they had in an older version of Attar.

        Raises:
            ConfigError: the study was made with other settings, or the database cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = None if url is None else open_storage(folder, url)  # before there is a folder
        make_folder(folder)
        storage = storage or open_storage(folder, None)
        with study_lock(folder):
            name = study_name(folder)
            try:
                study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
                study.set_user_attr("settings", settings)
            except DuplicatedStudyError:
                study = optuna.load_study(study_name=name, storage=storage)
                if url is not None:  # another machine may be listing them
                    _wait(lambda: "listed" in study.user_attrs)
            stored = study.user_attrs.get("settings")
            if stored is None:  # whoever made the study died
                study.set_user_attr("settings", settings)
            else:
                _check_settings(_renamed(stored, renamed), settings, folder, names=names)
            if study.user_attrs.get("listed", -1) < len(plan):  # new, or more are asked for now
                _enqueue(study, plan)
                study.set_user_attr("listed", len(plan))
        return cls(folder, study, shared=url is not None)

    def __enter__(self) -> "Queue":
        Path(self._life.lock_file).parent.mkdir(exist_ok=True)
        self._life.acquire()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._life.release()
        if error is None:  # else the file tells the others that its trial was left behind
            Path(self._life.lock_file).unlink(missing_ok=True)

    def add(self, plan: Sequence[PlannedTrial]) -> None:
        """List further trials; those that are there already are not listed again."""
        with study_lock(self.folder):
            _enqueue(self.study, plan)

    def ended(self) -> dict[str, FrozenTrial]:
        """The trials that have ended, by their payloads."""
        trials = (trial for trial in counted(self._trials()) if trial.state.is_finished())
        return {planned.payload: t for t in trials if (planned := PlannedTrial.of(t))}

    def take(self) -> optuna.Trial | None:
        """The next waiting trial, which no other worker gets; None if there is none."""
        with study_lock(self.folder):  # so that a trial is never seen without its worker
            self._rescue()
            while self.count(TrialState.WAITING):
                trial = self.study.ask()
                if not {"payload", "pipeline"} & trial.user_attrs.keys():  # another was faster
                    self.study.tell(trial, state=TrialState.FAIL)
                    return None
                if any(trial.number == other.number for other in counted(self._trials())):
                    trial.set_user_attr("worker", self._name)
                    return trial
                self.study.tell(trial, state=TrialState.FAIL)  # another machine has listed it too
            return None

    def put_back(self, number: int, *, lives: int | None = None) -> None:
        """Let another worker run a trial from its beginning; it has that many lives left, or as
        many as before."""
        with study_lock(self.folder):  # so that nobody thinks that all is done
            trials = self._trials()
            trial = trials[number]
            planned = PlannedTrial.of(trial)
            assert planned is not None
            attrs = planned.attributes() | {"instead_of": number}
            attrs["lives"] = trial.user_attrs.get("lives", MAX_RETRIES) if lives is None else lives
            # First the new one: to die in between must not lose the trial.
            if not any(t.user_attrs.get("instead_of") == number for t in trials):
                self.study.enqueue_trial(dict(planned.parameters), user_attrs=attrs)
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def count(self, *states: TrialState) -> int:
        """Trials in these states."""
        return len(self._trials(*states))

    def done_here(self) -> bool:
        """Whether no other worker of this folder runs a trial, and none waits."""
        running = {t.user_attrs.get("worker") for t in self._trials(TrialState.RUNNING)}
        here = {file.name for file in (self.folder / _WORKERS).iterdir()} - {self._name}
        return not self.count(TrialState.WAITING) and not running & here

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _rescue(self) -> None:
        """Put the trials of dead workers back."""
        for trial in self._trials(TrialState.RUNNING):
            if self._alive(trial):
                continue
            left = trial.user_attrs.get("lives", MAX_RETRIES) - 1
            if PlannedTrial.of(trial) is None:  # asked for when another machine was faster
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            elif left:
                self.put_back(trial.number, lives=left)
            else:
                logger.warning("trial %d failed: it crashed %d workers", trial.number, MAX_RETRIES)
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            if worker := trial.user_attrs.get("worker"):
                (self.folder / _WORKERS / worker).unlink(missing_ok=True)

    def _alive(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker")
        if worker is None:  # it died while it took the trial; or takes it now, on another machine
            began = trial.datetime_start
            age = 0.0 if began is None else (datetime.now() - began).total_seconds()
            return self._shared and age < LISTING_TIMEOUT
        file = self.folder / _WORKERS / worker
        if not file.exists():
            return self._shared
        try:
            with FileLock(file, blocking=False):
                return False
        except Timeout:
            return True


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those trials of a study that count, every payload once: the one that was listed first, or
    what was run in its stead.

    Args:
        trials: all of the study, by number.
    """
    last: dict[str, FrozenTrial] = {}
    for trial in trials:
        if (planned := PlannedTrial.of(trial)) is None:
            continue
        before = last.get(planned.payload)
        if before is None or trial.user_attrs.get("instead_of") == before.number:
            last[planned.payload] = trial
    return sorted(last.values(), key=lambda trial: trial.number)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        score: the higher, the better.
        pruned: whether it was ended early.
        details: JSON values that are kept with the score.
    """

    score: float
    pruned: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunningTrial:
    """The trial that a worker runs."""

    study: optuna.Study
    trial: optuna.Trial

    def below_median(self, step: int, score: float) -> bool:
        """Report a score on the way; whether it is below the median of those that other trials had
        after as many steps. With fewer than five others it never is."""
        self.trial.report(score, step)
        others = [
            other.intermediate_values[step]
            for other in self.study.get_trials(
                deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)
            )
            if step in other.intermediate_values
        ]
        return len(others) >= _STARTUP and score < statistics.median(others)


RunOne = Callable[[dict[str, Any], RunningTrial], Outcome]
"""Runs a trial, given its choices and what it reports to."""


def looks(steps: int) -> list[int]:
    """After which of so many steps a trial is looked at."""
    return [step for step in (round(share * steps) for share in LOOKS) if step > 0]


def run_trials(
    queue: Queue,
    run_one: RunOne,
    *,
    space: ChoiceSpace,
    after_each: Callable[[], object] = lambda: None,
    level: int = logging.INFO,
) -> None:
    """Run trials until none waits.

    A trial that raises fails alone. An interruption or a failure of the machine, such as a full
    disk, puts the trial back and is raised again.

    Args:
        queue: entered, so that the worker counts as alive.
        run_one: gets the choices of a trial, and the trial to report to.
        space: of the choices.
        after_each: is called when a trial has ended.
        level: of the line that is logged for each.
    """
    while (trial := queue.take()) is not None:
        _run(queue, trial, run_one=run_one, space=space, level=level)
        after_each()


def _run(
    queue: Queue,
    trial: optuna.Trial,
    *,
    run_one: RunOne,
    space: ChoiceSpace,
    level: int,
) -> None:
    values, began = space.suggest(trial), time.perf_counter()
    try:
        outcome = run_one(values, RunningTrial(queue.study, trial))
    except (KeyboardInterrupt, OSError):  # not the trial's fault, such as a full disk
        queue.put_back(trial.number)
        raise
    except Exception as error:  # one trial must not end the search, such as one too large
        unexpected = not isinstance(error, AttarError)
        logger.warning("trial %d failed: %s", trial.number, error, exc_info=unexpected)
        trial.set_user_attr("error", str(error))
        queue.study.tell(trial, state=TrialState.FAIL)
        return
    seconds = time.perf_counter() - began
    for name, value in {"seconds": seconds, **outcome.details, "score": outcome.score}.items():
        trial.set_user_attr(name, value)
    state = TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE
    queue.study.tell(trial, None if outcome.pruned else outcome.score, state=state)
    logger.log(
        level,
        "trial %d: %.4f%s in %.0f s  %s",
        *(trial.number, outcome.score, " (pruned)" if outcome.pruned else "", seconds),
        json.dumps(space.stored(values)) if values else trial.user_attrs["payload"],
    )


def _check_settings(
    stored: Mapping[str, Any], settings: Mapping[str, Any], folder: Path, *, names: Collection[str]
) -> None:
    if differ := sorted(_differences(stored, settings, names)):
        raise ConfigError(
            f"the study in {folder} was made with other settings ({'; '.join(differ)}); give the "
            "same settings to continue it, or another folder"
        )


def _differences(
    stored: Mapping[str, Any], settings: Mapping[str, Any], names: Collection[str]
) -> Iterator[str]:
    """Where two settings differ, such as `max_steps 300, now 400`."""
    for name in stored.keys() | settings.keys():
        old, new = stored.get(name), settings.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, names)
        elif old != new and name not in names:
            yield f"{name} {old}, now {new}"


def _renamed(stored: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Settings of an older version by their names of today."""
    return {
        names.get(name, name): _renamed(value, names) if isinstance(value, Mapping) else value
        for name, value in stored.items()
    }


def _enqueue(study: optuna.Study, plan: Sequence[PlannedTrial]) -> None:
    listed = (PlannedTrial.of(trial) for trial in study.get_trials(deepcopy=False))
    there = {one.payload for one in listed if one is not None}
    for planned in plan:
        if planned.payload not in there:
            study.enqueue_trial(dict(planned.parameters), user_attrs=planned.attributes())


def _wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + LISTING_TIMEOUT
    while not ready() and time.monotonic() < end:
        time.sleep(0.2)
