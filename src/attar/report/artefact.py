"""The context that every verb runs in: one folder, one record, one way to end."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attar import artefacts
from attar.errors import ConfigError, TrainingDivergedError, require
from attar.report.pages import save_card
from attar.report.record import Paper, Run, now, recorded_data
from attar.runtime import broadcast, processes

logger = logging.getLogger(__name__)

#: in the state of a run that was interrupted: how long it took so far
_SECONDS_FILE = "seconds"
SEEDS = 2**32  # what every generator that a run seeds takes: NumPy's older ones have 32 bits


@dataclass
class Artefact:
    """What a verb works in.

    Attributes:
        run: the record; the verb fills in `cost`, `quality`, `baselines`, `budget` and `details`.
        path: the folder that becomes the output; None where nothing is written.
        state: what a resumed run needs; deleted at the end. None where nothing is written.
        resuming: whether an interrupted run goes on.
        card: options of the model card (see `model_card`), of a verb that writes a model; None
            writes none.
        began: on the clock of `time.perf_counter`.
        before: seconds that earlier parts of a resumed run took.
    """

    run: Run
    path: Path | None = None
    state: Path | None = None
    resuming: bool = False
    card: dict[str, Any] | None = None
    began: float = field(default_factory=time.perf_counter)
    before: float = 0.0

    @property
    def main(self) -> bool:
        """Whether this process scores, saves and records for all."""
        return processes().is_main_process

    @property
    def folder(self) -> Path:
        """`path`, of a verb that always writes."""
        assert self.path is not None
        return self.path

    def sub_state(self, name: str) -> Path | None:
        """A folder inside `state`; None where nothing is written."""
        return None if self.state is None else self.state / name

    def save(self) -> None:
        """Write record and model card as they stand, which the end of `artefact` does.

        A folder that is shared gets a record only here, while the verb holds that folder's lock.
        """
        self.run.seconds = self.before + time.perf_counter() - self.began
        self.run.date = now()
        if self.path is not None:
            if self.card is not None:
                save_card(self.path, self.run, **self.card)
            self.run.name_from(self.path)
            self.run.save(self.path)


@contextmanager
def artefact(
    output_dir: str | Path | None,
    *,
    command: str,
    settings: Mapping[str, Any],
    method: str | None = None,
    paper: Paper | None = None,
    recipe: str | None = None,
    seed: int | None = None,
    resume: bool = False,
    shared: bool = False,
) -> Iterator[Artefact]:
    """Open or resume the output folder, time the block, and write record and model card at its end.

    Under `torchrun` the first process writes; after the block every process has the same record in
    `run`. `settings["model"]` and `settings["data"]` name what the run started from.

    Args:
        output_dir: where the result goes; None keeps everything in memory.
        command: the verb, as in `draft train`.
        settings: every option that determines the result; a resumed run must come with the same.
        method: the method's name.
        paper: the publication behind it.
        recipe: the recipe that options came from.
        seed: of all randomness, 32 bits.
        resume: continue an unfinished run of the same settings.
        shared: several runs fill the folder together, as the workers of a search do, and each
            writes the record with `Artefact.save`.

    Raises:
        ConfigError: the seed is out of range, the folder is taken, the settings differ from those
            of the run to resume, or several processes were launched where runs share the folder.
    """
    in_range = seed is None or (isinstance(seed, int) and 0 <= seed < SEEDS)
    require(in_range, "seed", seed, f"a whole number from 0 to {SEEDS - 1}")
    settings = {**settings, "processes": processes().num_processes}
    run = Run(
        command=command,
        method=method,
        paper=paper,
        model=settings.get("model") or None,
        data=settings.get("data"),
        settings=settings | {"recipe": recipe},
        seed=seed,
    )
    _warn_of_other_data(command, settings)
    folder = isinstance(output_dir, str | Path) and bool(str(output_dir))
    require(output_dir is None or folder, "output_dir", output_dir, "a folder")
    if output_dir is None:
        work = Artefact(run)
        yield work
        work.save()
        return
    if shared:
        _require_one_process()
        yield Artefact(run, artefacts.expanded(output_dir))
        return
    with artefacts.shared_workspace(
        artefacts.expanded(output_dir), settings=settings, resume=resume
    ) as space:
        work = Artefact(run, space.path, space.state, space.resuming)
        spent = space.state / _SECONDS_FILE
        with contextlib.suppress(OSError, ValueError):
            work.before = float(spent.read_text(encoding="utf-8"))
        try:
            yield work
        except TrainingDivergedError:
            if work.main:  # going on would repeat it: nothing is left to resume from
                artefacts.clear(space.path)
            raise
        except BaseException:
            marks = {artefacts.SETTINGS_FILE, artefacts.LOCK_FILE}
            kept = {left.name for left in space.state.iterdir()} - marks
            if work.main and kept:  # there is something to go on from
                with contextlib.suppress(OSError):  # such as a full disk
                    artefacts.write_text(spent, str(work.before + time.perf_counter() - work.began))
            raise
        if work.main:
            work.save()
        work.run = broadcast(run)


def _warn_of_other_data(command: str, settings: Mapping[str, Any]) -> None:
    """Say so where a model was made with other data than it is given: the scores would mislead."""
    given = settings.get("data")
    # a tokenizer and a codec are made once for much data, and n-grams are those of other texts
    if not given or command.startswith(("codec", "tokenizer", "ngrams")):
        return
    labelled = "task" in settings  # a student may well come from plain text
    for role in ("teacher",) if labelled else ("model", "target", "teacher"):
        name = settings.get(role)
        before = recorded_data(name).get("data") if name else None
        same = not before or Path(before).name in {Path(given).name, _encoded_from(given)}
        if not same and processes().is_main_process:
            logger.warning(
                "Warning: the %s %s was made with the data %s, but this command reads %s; "
                "scores on different data cannot be compared.",
                *(role, name, before, given),
            )


def _encoded_from(data: str) -> str:
    """The name of what a folder was encoded from, if data is one that a tokenizer encoded."""
    return Path(recorded_data(data).get("data", "")).name


def _require_one_process() -> None:
    """Refuse a launch of several processes, of which each would be a run of its own."""
    count = processes().num_processes
    if count > 1:
        raise ConfigError(
            f"a search runs in one process, found {count}; start it without torchrun, once for "
            "each worker that you want, and train the best with as many processes as you like"
        )
