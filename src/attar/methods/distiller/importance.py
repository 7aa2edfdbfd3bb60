"""Which choices of a pipeline matter: the verb `pipeline evaluate`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from attar.methods.distiller.distill import PAPER
from attar.methods.distiller.pipelines import SPACE, label
from attar.methods.distiller.study import Trial, by_context, read_study
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.report.tables import Table
from attar.search import importance as shares


def importance(trials: Iterable[Trial], *, seed: int = 0) -> dict[str, float]:
    """Share of the variance of scores that each choice alone explains, largest first; sums to 1.

    See `attar.search.importance`; averaged over contexts.

    Args:
        trials: of `read_study`. Contexts that are `silent` are left out.
        seed: of forests and of random values.

    Raises:
        DataError: no context is left.
    """
    contexts = [_scored(context) for context in by_context(trials).values()]
    return shares.importance(contexts, choices=list(SPACE), seed=seed)


def silent(context: Iterable[Trial]) -> str | None:
    """Why the trials of one context say nothing about importance; None if they do."""
    return shares.silent(_scored(context))


def _scored(context: Iterable[Trial]) -> list[shares.ScoredChoices]:
    """The trials that were trained to their end."""
    return [
        shares.ScoredChoices(
            {name: label(name, value) for name, value in trial.pipeline.active().items()},
            trial.score,
        )
        for trial in context
        if trial.state == "complete" and trial.score is not None
    ]


def evaluate_studies(
    studies: str | Path | Sequence[str | Path],
    *,
    seed: int = 0,
    output_dir: str | Path | None = None,
) -> Run:
    """Show which choices of a pipeline matter in some studies.

    Args:
        studies: folders of searches, or JSONL files.
        seed: of the forests that estimate the shares.
        output_dir: where the record goes; None: it is only returned.

    Returns:
        The record: `details.shares` has the share of the variance of each choice, largest first,
        and `details.contexts` which trials were used.

    Raises:
        ConfigError: the output folder is taken.
        CompatibilityError: a study comes from a search in another space.
        DataError: a study cannot be read, or none says anything.
    """
    paths = [studies] if isinstance(studies, str | Path) else list(studies)
    settings = {"studies": [str(path) for path in paths], "seed": seed}
    with artefact(
        output_dir,
        command="pipeline evaluate",
        settings=settings,
        method="distiller",
        paper=PAPER,
        seed=seed,
    ) as work:
        trials = read_study(paths)
        contexts: dict[tuple[str, ...], list[Trial]] = {}
        for trial in trials:
            contexts.setdefault(trial.context, []).append(trial)
        work.run.details = {
            "shares": importance(trials, seed=seed),
            "contexts": [
                {
                    **dict(zip(_CONTEXT, context, strict=True)),
                    "finished": sum(trial.state == "complete" for trial in group),
                    "left_out": silent(group),
                }
                for context, group in contexts.items()
            ],
        }
    return work.run


_CONTEXT = ("dataset", "student", "teacher", "init", "setting")


def importance_lines(run: Run) -> list[str]:
    """What `evaluate_studies` found, as text."""
    table = [
        [name.replace("_", " "), f"{100 * share:.1f}%"]
        for name, share in run.details["shares"].items()
    ]
    lines = [Table(["choice", "share of the variance"], table).text(), ""]
    for one in run.details["contexts"]:
        used = f"used, {one['finished']} finished trials"
        state = used if one["left_out"] is None else f"left out: {one['left_out']}"
        trained = f"{one['student']} ({one['init']}) of {one['teacher']}, {one['setting']}"
        lines.append(f"{one['dataset']}: {trained}; {state}")
    return lines
