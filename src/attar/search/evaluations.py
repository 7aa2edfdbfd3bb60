"""Scores of individuals, each computed once: they lie in an Optuna storage that any number of
workers share, as the trials of a pipeline search do.

Whoever asks for scores lists what is not there yet, computes what waits, and waits for what others
compute; what a dead worker left behind is computed again. So after `kill -9` the same call goes on
where it was. What a machine with a folder of its own left behind on a shared database waits for a
worker there, and the others wait for that.
"""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from attar import artefacts
from attar.errors import AttarError, DataError
from attar.foreign import parse_json
from attar.runtime import Bar
from attar.search.individuals import Genes, Problem, as_genes
from attar.search.space import ChoiceSpace
from attar.search.storage import study_lock
from attar.search.trials import Outcome, PlannedTrial, Queue, RunningTrial, run_trials

logger = logging.getLogger(__name__)

#: every individual that was scored, a line each
HISTORY_FILE = "history.jsonl"
#: seconds between looks at what other workers compute
_PAUSE = 0.2
_NO_CHOICES = ChoiceSpace({})  # the genes are the payload; to Optuna they are nothing


@dataclass(frozen=True)
class Evaluation:
    """An individual that was scored.

    Attributes:
        genes: canonical ones.
        score: the higher, the better; None where it could not be computed.
        cost: its figures by name.
        iteration: in which it was first asked for.
        seed: of the search.
        error: why there is no score.
    """

    genes: Genes
    score: float | None
    cost: Mapping[str, float]
    iteration: int
    seed: int
    error: str | None = None

    def row(self) -> dict[str, float]:
        """Score and costs by name, as `pareto_front` reads them; a missing score is the worst."""
        return {**self.cost, "score": -math.inf if self.score is None else self.score}

    def to_dict(self) -> dict[str, Any]:
        """JSON values, one line of the history."""
        return {k: v for k, v in asdict(self).items() if k != "error" or v is not None}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Evaluation":
        """Read what `to_dict` gave."""
        return cls(**{**stored, "genes": as_genes(stored["genes"])})


class Evaluations:
    """The scores of one search, for one worker; see `open`."""

    def __init__(self, problem: Problem, queue: Queue, *, seed: int) -> None:
        self.problem, self._queue, self._seed = problem, queue, seed
        self.history: dict[Genes, Evaluation] = {}

    @classmethod
    @contextmanager
    def open(
        cls,
        problem: Problem,
        folder: Path,
        *,
        storage: str | None,
        settings: Mapping[str, Any],
        seed: int,
    ) -> Iterator["Evaluations"]:
        """Take part in the search of a folder.

        Args:
            problem: what is searched.
            folder: which `check_folder` allows; is made if it is not there.
            storage: URL of a database that many machines share; None: a file in the folder.
            settings: what scores and limits depend on, and the rest that must not change; to go on
                takes the same.
            seed: is kept with each score.

        Raises:
            ConfigError: the folder holds a search with other settings, or the storage cannot be
                opened.
        """
        known = {"choices": list(problem.choices), "seed": seed, **settings}
        stored = json.loads(json.dumps(known, default=str))
        with Queue.open(folder, storage, settings=stored, plan=[]) as queue:
            yield cls(problem, queue, seed=seed)

    def of(self, individuals: Sequence[Genes], *, iteration: int = 0) -> list[Evaluation]:
        """The evaluations of feasible individuals, given by canonical genes; in the same order.

        Raises:
            AttarError: none of them could be scored.
        """
        plan = {json.dumps(genes): genes for genes in individuals}
        self._queue.add([PlannedTrial(payload, {}, "listed") for payload in plan])
        told = False
        while True:
            known = len(plan.keys() & self._queue.ended().keys())
            with Bar(
                desc="scoring", unit="candidate", total=len(plan), initial=known, leave=False
            ) as bar:
                run_trials(
                    self._queue,
                    self._run,
                    space=_NO_CHOICES,
                    after_each=bar.update,
                    level=logging.DEBUG,  # a line of genes for each says little
                )
            ended = self._queue.ended()
            if not (missing := len(plan.keys() - ended.keys())):
                break
            if not told:
                logger.info("waiting for %d scores that other workers compute", missing)
                told = True
            time.sleep(_PAUSE)
        for payload, genes in plan.items():
            if genes not in self.history:
                self.history[genes] = self._evaluation(ended[payload], genes, iteration=iteration)
        self._write()
        found = [self.history[genes] for genes in individuals]
        if all(one.score is None for one in found):
            why = next((one.error for one in found if one.error), "their workers died")
            raise AttarError(f"none of {len(found)} candidates could be scored: {why}")
        return found

    def _run(self, values: Mapping[str, Any], running: RunningTrial) -> Outcome:
        genes = as_genes(json.loads(running.trial.user_attrs["payload"]))
        cost = {name: float(value) for name, value in self.problem.cost(genes).items()}
        score = float(self.problem.score(genes))
        if not math.isfinite(score):
            raise DataError(f"the score of {list(genes)} must be a finite number; found {score}")
        return Outcome(score, details={"cost": cost})

    def _evaluation(self, trial: FrozenTrial, genes: Genes, *, iteration: int) -> Evaluation:
        attrs = trial.user_attrs
        return Evaluation(
            genes,
            score=trial.value if trial.state.name == "COMPLETE" else None,
            cost=attrs.get("cost", {}),
            iteration=iteration,
            seed=self._seed,
            error=attrs.get("error"),
        )

    def _write(self) -> None:
        """The history so far, unless a faster worker has written more of it."""
        lines = [json.dumps(one.to_dict()) + "\n" for one in self.history.values()]
        file = self._queue.folder / HISTORY_FILE
        with study_lock(self._queue.folder):
            if not file.exists() or len(file.read_text().splitlines()) < len(lines):
                artefacts.write_text(file, "".join(lines))


def read_history(folder: str | Path) -> list[Evaluation]:
    """The individuals that the search in a folder has scored, in the order in which it asked.

    Raises:
        DataError: there is no history, or it cannot be read.
    """
    file = Path(folder) / HISTORY_FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"there is no history in {folder}; give the folder of a search") from error
    rows = [parse_json(line, "the history", origin=str(file)) for line in lines]
    try:
        return [Evaluation.from_dict(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} does not hold evaluations of a search, one a line") from error
