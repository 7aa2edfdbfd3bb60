"""A search from its plan to its record. A method says what is tried and how a trial is run.

The folder gets `study.jsonl`, a line for each trial that has ended, `best.yaml`, a recipe of the
best one, and `attar.json`. Any number of workers share it: each takes trials until none waits.
"""

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import optuna

from attar.recipes import write_recipe
from attar.report.artefact import Artefact
from attar.report.record import Run
from attar.search.space import ChoiceSpace
from attar.search.storage import STUDY_FILE, study_lock
from attar.search.summary import (
    Convert,
    Summary,
    T,
    ended_trials,
    summarise,
    unfinished,
    write_study,
)
from attar.search.trials import PlannedTrial, Queue, RunOne, run_trials

#: the best trial, as options of a verb
RECIPE = "best.yaml"


@dataclass(frozen=True, kw_only=True)
class Search(Generic[T]):
    """What is searched, and how.

    Attributes:
        settings: what the study is made with; to continue it takes the same.
        names: settings that may differ, as others tell by content what they name.
        renamed: settings by the name that they had in an older version of Attar.
        space: of the choices.
        plan: the trials.
        prepare: measures what trials are compared with, once for the study.
        run_one: runs a trial.
        convert: makes the method's own trial of a stored one.
        scratch: sub-folder of what trials share; it is deleted after the last one.
        record: fills in a record, from the attributes of the study and the summary, which is None
            while no trial is complete and other workers run the rest.
        recipe: the options of the best trial, with their verb, and a comment on them.
    """

    settings: Mapping[str, Any]
    names: Collection[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    space: ChoiceSpace
    plan: Sequence[PlannedTrial]
    prepare: Callable[[optuna.Study], object] = lambda study: None
    run_one: RunOne
    convert: Convert[T]
    scratch: str | None = None
    record: Callable[[Run, Mapping[str, Any], Summary[T] | None], None]
    recipe: Callable[[Mapping[str, Any], Summary[T]], tuple[dict[str, Any], str]]


def run_search(search: Search[T], work: Artefact, *, storage: str | None) -> None:
    """Run trials until none waits, and write the record.

    Args:
        search: what is searched.
        work: the shared folder of the study, which `check_folder` allows, and its record.
        storage: URL of a database that many machines share; None: a file in the folder.

    Raises:
        ConfigError: the folder holds a study of other settings, or the storage cannot be opened.
        AttarError: no trial was run to its end.
    """
    folder = work.folder
    with Queue.open(
        folder,
        storage,
        settings=json.loads(json.dumps(search.settings, default=str)),
        plan=search.plan,
        names=search.names,
        renamed=search.renamed,
    ) as queue:
        search.prepare(queue.study)
        try:
            run_trials(
                queue,
                search.run_one,
                space=search.space,
                after_each=lambda: write_study(folder, queue.study, convert=search.convert),
            )
        except KeyboardInterrupt as interrupt:
            ended = write_study(folder, queue.study, convert=search.convert)
            raise KeyboardInterrupt(
                f"{len(ended)} trials are in {str(folder / STUDY_FILE)!r}; the same command again "
                "continues the search"
            ) from interrupt
        with study_lock(folder):  # so that no older record overwrites a newer one
            if search.scratch is not None and queue.done_here():
                shutil.rmtree(folder / search.scratch, ignore_errors=True)
            write_study(folder, queue.study, convert=search.convert)
            _record(search, queue.study, work)
            work.save()


def _record(search: Search[T], study: optuna.Study, work: Artefact) -> None:
    """What the trials have shown so far; also writes the best one as a recipe."""
    trials, missing = ended_trials(study, search.convert), unfinished(study)
    elsewhere = missing > 0 and not any(trial.state == "complete" for trial, _ in trials)
    summary = None if elsewhere else summarise(trials, missing=missing)
    work.run.settings = {**study.user_attrs["settings"], **work.run.settings}
    search.record(work.run, study.user_attrs, summary)
    if summary is None:
        work.run.details |= {"trials": len(trials), "missing": missing}
    else:
        work.run.details |= summary.to_dict()
        options, comment = search.recipe(study.user_attrs, summary)
        write_recipe(work.folder / RECIPE, options, comment=comment)
