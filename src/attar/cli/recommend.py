"""`attar recommend`: which pipelines to try first."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.data import Labelled, LabelledOptions
from attar.cli.output import ExitCode, Output, Recipe, command, show, show_pairs
from attar.data.labelled.task import TaskKind
from attar.methods.distiller.recommend import RecommendConfig
from attar.methods.distiller.recommend import recommend as recommend_pipelines

_OPTIONS = Group("Recommendation options", sort_key=3)


def recommend(
    *,
    data: Labelled = LabelledOptions(),
    task: TaskKind | None = None,
    studies: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    output_dir: Output = None,
    recipe: Recipe = None,
    config: Annotated[
        RecommendConfig, Parameter(name="*", group=_OPTIONS, parse=re.compile(r"^(?!studies$)"))
    ] = RecommendConfig(),
) -> int:
    """Recommend distillation pipelines for new data from studies of other data (AutoDistiller).

    Example: `attar recommend --data reviews.csv --count 3 -o recipes`

    Prints the pipelines, and how well such recommendations did on each data set of the studies when
    it was left out. `attar pipeline search` tries them next to random ones.

    Parameters
    ----------
    task
        What is predicted; inferred from the labels when not given.
    studies
        Studies to learn from, besides those that come with Attar: folders of attar pipeline search
        or .jsonl files.
    output_dir
        Write each pipeline as a recipe for attar distill into this folder: 1.yaml, 2.yaml, ...;
        must be new or empty.
    """
    run = recommend_pipelines(
        data.whole() if data.data else None,
        task=task,
        config=replace(config, studies=tuple(str(path) for path in studies or ())),
        output_dir=output_dir,
        recipe=recipe,
    )
    details = run.details
    show(f"Learned from {details['trials']} trials on {', '.join(details['datasets'])}.")
    if details["task"] is not None:
        show(f"Only pipelines for {details['task']}{' of pairs' * details['pair']} are listed.")
    show(f"\n{details['table']}\n")
    show(
        "z is the distance from the median pipeline on the same data, in standard deviations. The "
        "choices that contribute most to it:"
    )
    show_pairs(
        (
            f"  {number}",
            ", ".join(f"{choice} {by:+.2f}" for choice, by in one["reasons"]) or "nothing",
        )
        for number, one in enumerate(details["pipelines"], 1)
    )
    show(f"\n{details['evaluation']}")
    if output_dir is None:
        return ExitCode.DONE
    written = ", ".join(f"{number}.yaml" for number in range(1, len(details["pipelines"]) + 1))
    show(f"\nWritten to {output_dir}: {written}.")
    student = ["STUDENT"]
    if config.student_init == "random":
        student = ["--student-layers", "N", "--student-init", "random"]
    source = data.words() if data.data else ["--data", "DATA"]
    after = [*student, *source, "--teacher", "TEACHER", "-o", "FOLDER"]
    show(f"Next: {command('run', output_dir / '1.yaml', *after)}")
    return ExitCode.DONE
