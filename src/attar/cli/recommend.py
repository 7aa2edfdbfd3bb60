"""`attar recommend`: which pipelines to try first."""

import math
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from attar.cli.app import ExitCode, require_folder_option
from attar.cli.labelled import ColumnOptions, Columns
from attar.cli.output import show, show_pairs
from attar.data.labelled.load import load_labelled
from attar.errors import ConfigError, DataError
from attar.methods.distiller.autodistiller import (
    PICKS,
    AutoDistiller,
    HeldOut,
    Model,
    Recommendation,
    known_trials,
)
from attar.methods.distiller.config import options_of
from attar.methods.distiller.pipelines import (
    differences,
    enumerate_all,
    narrow,
)
from attar.methods.distiller.search import possible
from attar.recipes import write_recipe
from attar.report.tables import NONE, Table
from attar.train.students import StudentInit


def recommend(
    *,
    data: str | None = None,
    student_init: StudentInit = "cut",
    study: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    model: Model = "ridge",
    count: Annotated[int, Parameter(alias="-n")] = 5,
    mlm: str | None = None,
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    columns: ColumnOptions = Columns(),
) -> int:
    """Recommend distillation pipelines for new data from studies of other data (AutoDistiller).

    Example: `attar recommend --data reviews.csv -n 3 -o recipes`

    Prints the pipelines, and how well such recommendations did on each data set of the studies when
    it was left out. `attar distill search` tries them beside random ones.

    Parameters
    ----------
    data
        Your labelled examples, as for attar distill: only what their task leaves open is
        recommended.
    student_init
        How the student starts: cut from its teacher (or trained before), or random.
    study
        Studies to learn from, beside those that come with Attar: folders of attar distill search or
        .jsonl files.
    model
        ridge, a line; or extra_trees, a forest.
    count
        How many pipelines.
    mlm
        Folder or Hub name of a masked language model; without one the augmenter mlm is left out.
    output_dir
        Write each pipeline as a recipe for attar distill into this folder: 1.yaml, 2.yaml, ...;
        must be new or empty.
    """
    folder = None if output_dir is None else _new_folder(output_dir)
    rows = known_trials(study or ())
    task, pair = columns.task, False
    if data is not None:
        given = asdict(columns)
        _, found = load_labelled(data, config=given.pop("data_config"), **given)
        task, pair = found.kind, found.pair
    learned = AutoDistiller.fit(rows, model=model)
    space = narrow(possible(task, pair=pair, mlm=mlm is not None))
    best = learned.recommend(count, init=student_init, candidates=enumerate_all(space=space))
    names = list(dict.fromkeys(row.dataset for row in learned.rows))
    show(f"Learned from {len(learned.rows)} trials on {', '.join(names)}.")
    if task is not None:
        show(f"Limited to what {task}{' of pairs' if pair else ''} leaves open.")
    _show_pipelines(best)
    _show_evaluation(learned)
    if folder is None:
        return ExitCode.DONE
    for number, one in enumerate(best, 1):
        options = options_of(one.pipeline)
        if "mlm" in one.pipeline.augment:
            options["mlm"] = mlm
        comment = f"Pipeline {number} of {len(best)} that attar recommend names, to try first."
        write_recipe(folder / f"{number}.yaml", options, comment=comment)
    show(f"\nWritten to {folder}: {', '.join(f'{n}.yaml' for n in range(1, len(best) + 1))}.")
    first, source = shlex.quote(str(folder / "1.yaml")), shlex.quote(data or "DATA")
    student = "--student STUDENT" if student_init == "cut" else "--student-layers N"
    more = "" if student_init == "cut" else " --student-init random"
    show(
        f"Next: attar distill --config {first} --data {source} --teacher TEACHER {student}{more} "
        "-o FOLDER"
    )
    return ExitCode.DONE


def _new_folder(output_dir: Path) -> Path:
    folder = require_folder_option(output_dir)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"the output folder {folder} must be new or empty; give another")
    return folder


def _show_pipelines(best: list[Recommendation]) -> None:
    rows = [
        [
            f"{number}  {differences(one.pipeline)}",
            f"{one.predicted:+.2f}",
            f"{one.interval[0]:+.2f} to {one.interval[1]:+.2f}",
            f"{one.ran_on} data set{'s' * (one.ran_on != 1)}",
        ]
        for number, one in enumerate(best, 1)
    ]
    head = ["differs from the default in", "predicted z", "8 of 10 trials within", "ran on"]
    show(f"\n{Table(head, rows).text()}\n")
    show(
        "z is the distance from the median pipeline on the same data, in standard deviations. What "
        "adds most to it:"
    )
    show_pairs(
        (f"  {number}", ", ".join(f"{choice} {by:+.2f}" for choice, by in one.reasons) or "nothing")
        for number, one in enumerate(best, 1)
    )


def _show_evaluation(learned: AutoDistiller) -> None:
    """How well such recommendations did where the answer is known."""
    try:
        table = learned.evaluate()
    except DataError as error:
        show(f"\nHow good such recommendations are on new data cannot be told: {error}.")
        return
    own = [row for row in table if row.target == learned.target]
    if not own:
        show(
            "\nHow good such recommendations are on new data cannot be told: no data set has three "
            "pipelines or more."
        )
        return
    rows = [_judged(row.dataset, row) for row in own]
    rows += [
        _judged("mean, with the paper's target", row)
        for row in table
        if row.target != learned.target and row.dataset == "mean"
    ]
    head = ["left out", "pipelines", "Spearman", "percentile", f"regret of {PICKS}", "of random"]
    head += ["above labels"]
    show(f"\n{Table(head, rows).text()}\n\n{_reading(own[-1])}")


def _judged(name: str, row: HeldOut) -> list[str]:
    return [
        name,
        f"{row.pipelines:.0f}",
        f"{row.spearman:+.2f}",
        f"{row.percentile:.2f}",
        f"{row.regret:.4f}",
        f"{row.random_regret:.4f}",
        NONE if math.isnan(row.above_labels) else f"{100 * row.above_labels:.0f}%",
    ]


def _reading(mean: HeldOut) -> str:
    """One sentence on the table, whatever it says."""
    below = mean.regret < mean.random_regret
    return (
        f"Each data set was ranked without having been seen; running the {PICKS} best by that "
        f"ranking instead of all pipelines loses {mean.regret:.4f} of the teacher's score on "
        f"average and {PICKS} random ones lose {mean.random_regret:.4f}, so on these studies the "
        f"recommendation is {'better' if below else 'NOT better'} than chance."
    )
