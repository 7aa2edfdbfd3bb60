"""`attar supernet evaluate`: how far inherited networks are from those that were trained alone."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel

from attar import artefacts, checkpoint
from attar.arch import Arch, Space
from attar.data.data import STDLIB, Data, DataLike
from attar.data.sources import Source
from attar.errors import check_types, require
from attar.evaluation.correlations import rank_correlation
from attar.foreign import read_json
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import Artefact, artefact
from attar.report.record import Run
from attar.report.tables import NONE, Table
from attar.report.units import count, fixed
from attar.runtime import place
from attar.search.ranking import Row
from attar.search.supernet import Draws
from attar.supernet.methods import Method, Scorer
from attar.supernet.opening import PAPERS, Opened, row_of

_TRIES = 200  # for a network that is not there yet; small spaces run out of them


@dataclass(frozen=True, kw_only=True)
class EvaluateSupernetConfig:
    """Which networks are compared, and with what."""

    n_random: int = 8
    """Networks of each space besides its largest and its smallest, drawn at random, all
    different."""
    standalone_steps: int | None = None
    """Also train each of them alone for so many steps, from the same start and with the other
    options of the supernet's training; unset: do not."""
    split: Literal["train", "validation", "test"] = "test"
    """Split that losses are of. Searches compare networks on the validation split."""
    seed: int = 0
    """Of the random networks."""
    batch_size: int = 32
    """Rows in one forward pass; changes speed and memory, not the result."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.n_random >= 0, "n_random", self.n_random, "zero or more")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        steps = self.standalone_steps
        require(steps is None or steps >= 1, "standalone_steps", steps, "at least 1, or unset")


@dataclass(frozen=True)
class Alone(Draws):
    """The draws of a training of one network: in every step that one."""

    only: Arch | None = None

    def at(self, step: int) -> list[Arch]:
        """The network."""
        assert self.only is not None
        return [self.only]


@takes_recipe("supernet evaluate")
def evaluate(
    model: str | Path,
    data: DataLike = STDLIB,
    *,
    teacher: str | Path | PreTrainedModel | None = None,
    config: EvaluateSupernetConfig | str = EvaluateSupernetConfig(),
    output_dir: str | Path | None = None,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Report the gap: held-out losses of the largest, the smallest and random networks with the
    weights that they inherit, and side by side of the same networks trained alone.

    Args:
        model: folder that `attar supernet train` wrote.
        data: text, as for `attar.supernet.train`.
        teacher: what the supernet was made of; None: as its description says.
        config: which networks; or the name or path of a recipe.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings; networks that were trained alone
            are not trained again.

    Returns:
        The record: the networks in `details.networks`, and in `details.rank_correlation` how well
        sizes rank losses (-1: the larger, the better).

    Raises:
        CompatibilityError: the teacher's tokenizer is another.
        ConfigError: an option is out of range, the output folder is taken, or training diverged.
        DataError: the supernet, the teacher or the text cannot be read.
    """
    config, recipe = configured(config, EvaluateSupernetConfig, recipe=recipe)
    data = Data.of(data)
    settings = {
        "model": str(model),
        "teacher": checkpoint.name_of(teacher) or None,
        **data.settings(),
        **asdict(config),
    }
    with artefact(
        output_dir,
        command="supernet evaluate",
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        opened = Opened.load(model)
        run, method = work.run, opened.method(teacher)
        run.method, run.paper = method.name, PAPERS[method.name]
        held_out = method.rows(data, opened.tokenizer, split=config.split)
        scorer = method.scorer(held_out, batch_size=config.batch_size)
        opened.place()
        rows = list[Row]()
        for name, supernet in opened.supernets.items():
            archs = list(chosen(supernet.space, n_random=config.n_random, seed=config.seed))
            losses = scorer(supernet, archs)
            rows += [
                row_of(supernet, arch, method=method, name=name, loss=loss)
                for arch, loss in zip(archs, losses, strict=True)
            ]
        alone: list[float | None] = [None] * len(rows)
        if config.standalone_steps is not None:
            train_rows = method.rows(data, opened.tokenizer, split="train")
            job = _Standalone(work, method, train_rows, scorer, config.standalone_steps)
            for number, row in enumerate(rows):
                alone[number] = job.loss(number, row.arch, opened.supernets[row.space].space)
        _record(run, opened, rows=rows, alone=alone, unit=method.unit, split=config.split)
    return work.run


def chosen(space: Space, *, n_random: int, seed: int) -> Iterator[Arch]:
    """The largest and the smallest network, and random others, all different; as many as there
    are in a space that has no more."""
    seen = dict.fromkeys((space.largest, space.smallest))
    yield from seen
    rng = random.Random(seed)
    for _ in range(n_random):
        for _ in range(_TRIES):
            if (arch := space.sample(rng)) not in seen:
                seen[arch] = None
                yield arch
                break


@dataclass(frozen=True)
class _Standalone:
    """Trains networks alone."""

    work: Artefact
    method: Method
    rows: Source
    scorer: Scorer
    steps: int

    def loss(self, number: int, arch: Arch, space: Space) -> float:
        """Held-out loss of a network that is trained alone, unless it is known already."""
        name = f"alone-{number}"
        state = self.work.sub_state(name)
        marker = None if self.work.state is None else self.work.state / f"{name}.json"
        if marker is not None and marker.exists():
            return float(read_json(marker, "the state of a finished training")["loss"])
        net = self.method.start(space, self.rows, plain=True)
        self.method.train(
            net,
            Alone(space, only=arch),
            self.rows,
            max_steps=self.steps,
            state_dir=state,
            resume=self.work.resuming,
        )
        place(net)
        [loss] = self.scorer(net, [arch])
        if marker is not None and self.work.main:
            artefacts.write_text(marker, json.dumps({"loss": loss}))
        return loss


def _record(
    run: Run,
    opened: Opened,
    *,
    rows: Sequence[Row],
    alone: Sequence[float | None],
    unit: str,
    split: str,
) -> None:
    networks = []
    for row, loss in zip(rows, alone, strict=True):
        space = opened.description.spaces[row.space]
        ends = {space.smallest: "smallest", space.largest: "largest"}
        which = ends.get(row.arch, "random")
        networks.append({**row.to_dict(), "which": which, "loss_alone": loss})
    run.details = {"split": split, "unit": unit, "networks": networks}
    if len(rows) > 1:
        sizes, losses = ([r.cost.params for r in rows], [r.loss or 0.0 for r in rows])
        run.details["rank_correlation"] = rank_correlation(sizes, losses)


def gap_table(run: Run) -> Table:
    """The networks of a report: what they inherit, and what they reach alone."""
    unit, columns = run.details["unit"], ["network", "params", "MACs/token", "inherited"]
    rows, shows_alone = [], any(one["loss_alone"] is not None for one in run.details["networks"])
    for one in run.details["networks"]:
        cells: list[Any] = [f"{one['space']}, {one['which']}", count(one["params"])]
        cells += [count(one["macs"]), fixed(one["loss"])]
        if shows_alone:
            loss = one["loss_alone"]
            cells += [NONE, NONE] if loss is None else [fixed(loss), f"{one['loss'] - loss:+.3f}"]
        rows.append(cells)
    columns[-1] = f"inherited, {unit}"
    return Table(columns + (["alone", "gap"] if shows_alone else []), rows)
