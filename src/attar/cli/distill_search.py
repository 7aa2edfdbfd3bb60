"""`attar distill search` and `attar distill importance`."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from attar.cli.app import ExitCode, require_folder_option
from attar.cli.labelled import ColumnOptions, Columns, Student, StudentOptions
from attar.cli.output import note, show, show_pairs
from attar.errors import ConfigError
from attar.methods.distiller.config import DistillConfig, with_pipeline
from attar.methods.distiller.pipelines import SEARCHED, differences, parse_only
from attar.methods.distiller.search import SearchConfig
from attar.methods.distiller.search import search as search_pipelines
from attar.methods.distiller.study import STUDY_FILE, Row, gap_closed, read_study, silent
from attar.methods.distiller.study import importance as shares_of
from attar.recipes import write_recipe
from attar.report.tables import NONE, Table
from attar.report.units import digits
from attar.search.summary import Best, Summary, settings_of, summary

_TRAINING = Group("Training options, the same for all trials", sort_key=3)
_NOT_SEARCHED = re.compile(rf"^(?!({'|'.join(sorted(SEARCHED))})$)")
_SHOWN = 5


def search(
    *,
    data: str | None = None,
    teacher: str | None = None,
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    trials: int = 40,
    recommended: int | None = None,
    study: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    only: Annotated[list[str] | None, Parameter(negative="")] = None,
    prune: bool = True,
    storage: str | None = None,
    student: StudentOptions = Student(),
    columns: ColumnOptions = Columns(),
    options: Annotated[
        DistillConfig, Parameter(name="*", group=_TRAINING, parse=_NOT_SEARCHED)
    ] = DistillConfig(),
) -> int:
    """Try many distillation pipelines on your data, and keep the best as a recipe (Distiller).

    Example: `attar distill search --teacher my-teacher --student-layers 2 --data reviews.csv --only
    mixup=false -o study`

    The same command again goes on with the study where it stopped. Started several times at once,
    on one machine or with --storage on many, it shares the trials out. The folder gets study.jsonl,
    a line for each trial, and best.yaml, which trains the best pipeline again.

    Parameters
    ----------
    data
        Labelled examples, as for attar distill. Trials are chosen by the validation split.
    teacher
        Folder or Hub name of an encoder that was trained on this task.
    output_dir
        Folder of the study: a new one, or that of a study to go on with.
    trials
        Pipelines that are tried, all workers together.
    recommended
        That many of them are recommended from other studies, the others drawn; 5, but at most half
        of the trials, when not given, and as many as before where a study goes on.
    study
        Studies to recommend from, beside those that come with Attar: folders or .jsonl files.
    only
        A choice and the values that are tried, such as pred_loss=mse,ce or augment=none,swap+mlm;
        give it once for each choice.
    prune
        End a trial whose score at a quarter or half of its steps is below the median.
    storage
        URL of a database that several machines share, such as postgresql://...; a file in the
        folder when not given.
    """
    folder = require_folder_option(output_dir)
    config = SearchConfig(
        trials=trials,
        recommended=_recommended(folder, storage, trials) if recommended is None else recommended,
        studies=tuple(str(path) for path in study or ()),
        only=parse_only(only or ()) or None,
        prune=prune,
        storage=storage,
    )
    if data is None:
        raise ConfigError("say what to learn from: --data with a file, a folder or a Hub name")
    if teacher is None:
        raise ConfigError("say what to learn from: --teacher with an encoder trained on this task")
    rows = search_pipelines(
        data,
        teacher=teacher,
        output_dir=folder,
        config=config,
        training=options,
        **vars(student),
        **vars(columns),
    )
    if not any(row.state == "complete" for row in rows) and (left := trials - len(rows)) > 0:
        show(f"Other workers run the {left} trials that are left; there is nothing to show yet.")
        return ExitCode.DONE
    found = summary(folder, storage=storage)
    best = found.ranked[0][0]
    write_recipe(
        folder / "best.yaml",
        with_pipeline(options, best.pipeline),
        comment=f"The best of {_ended(found)} pipelines on {best.dataset}: {_score(best.score)} on "
        f"validation data, {_score(best.test_score)} on test data.",
    )
    show(_table(found).text())
    show("")
    show_pairs(_lines(found))
    show(f"\nWritten to {folder}: {STUDY_FILE} and best.yaml.")
    again = {
        "config": folder / "best.yaml",
        "data": data,
        "teacher": teacher,
        **vars(student),
        **vars(columns),
    }
    if student.student is not None or student.student_init == "cut":
        del again["student_init"]
    flags = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in again.items()
        if value is not None
    ]
    show(f"Next: attar distill {' '.join(flags)} -o {shlex.quote(f'{folder}-best')}")
    return ExitCode.DONE


def importance(
    studies: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    seed: int = 0,
) -> int:
    """Tell which choices of a pipeline matter: how much of the scores' variance each explains.

    Example: `attar distill importance study`

    Shares are averaged over contexts: trials of one data set, student, teacher and setting.

    Parameters
    ----------
    studies
        Folders of searches, or .jsonl files.
    seed
        Seed of the forests that estimate the shares.
    """
    rows = read_study(studies)
    shares = shares_of(rows, seed=seed)
    table = [[name.replace("_", " "), f"{100 * share:.1f}%"] for name, share in shares.items()]
    show(Table(["choice", "share of the variance"], table).text())
    contexts: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        contexts.setdefault(row.context, []).append(row)
    show("")
    for context, trials in contexts.items():
        reason = silent(trials)
        ended = sum(row.state == "complete" for row in trials)
        state = f"used, {ended} finished trials" if reason is None else f"left out: {reason}"
        show(f"{_context(context)} {state}")
    return ExitCode.DONE


def without_searched(options: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's options without those that are searched; a note names them."""
    kept = {name: v for name, v in options.items() if name.replace("-", "_") not in SEARCHED}
    if searched := [name for name in options if name not in kept]:
        note(
            f"The recipe's {', '.join(searched)} {'is' if len(searched) == 1 else 'are'} not used: "
            "the search chooses them, within --only."
        )
    return kept


def _table(found: Summary) -> Table:
    """The best trials."""
    rows = [
        [
            differences(row.pipeline),
            _score(row.score),
            _score(row.test_score),
            digits(row.seconds),
            origin,
        ]
        for row, origin in found.ranked[:_SHOWN]
    ]
    head = ["differs from the default in", "validation", "test", "seconds", "chosen"]
    return Table(head, rows)


def _lines(found: Summary) -> list[tuple[str, str]]:
    """What the best trial is measured by; all on validation data."""
    best = found.ranked[0][0]
    lines = [
        ("trials", f"{_ended(found)}, of which {found.pruned} pruned and {found.failed} failed"),
        ("teacher", _score(found.teacher)),
        ("hard labels", _score(found.hard)),
        (
            "best",
            f"{_score(best.score)}  (chosen by this score, so that the test score tells more)",
        ),
    ]
    if found.hard is not None and found.teacher > found.hard:
        share = gap_closed(best.score or 0.0, found.teacher, hard=found.hard)
        lines.append(("gap closed", f"{100 * share:.0f}% of the way from hard labels to teacher"))
    if found.missing:
        text = f"{found.missing}, which other workers run; the same command shows all in the end"
        lines.insert(1, ("not yet ended", text))
    if found.random is not None:
        text = f"{_score(found.random.score)} on average"
        lines.append((f"best of {found.random.trials} random", text))
    if found.recommended is not None:
        text = (
            f"{_score(found.recommended.score)}, {_verdict(found.recommended, found.same_budget)}"
        )
        lines.append((f"best of {found.recommended.trials} recommended", text))
    return lines


def _verdict(recommended: Best, drawn: Best | None) -> str:
    """What the recommendation was worth at its own budget."""
    if drawn is None:
        return "with fewer random ones that have ended there is nothing to compare it with"
    apart = round(recommended.score - drawn.score, 4)
    worth = "as good as" if apart == 0 else f"{abs(apart):.4f} {'above' if apart > 0 else 'BELOW'}"
    return f"{worth} the best of {drawn.trials} random, {_score(drawn.score)} on average"


def _recommended(folder: Path, storage: str | None, trials: int) -> int:
    """As many as the study in the folder began with."""
    made = settings_of(folder, storage=storage)
    return min(5, trials // 2) if made is None else int(made["search"]["recommended"])


def _ended(found: Summary) -> int:
    return len(found.ranked) + found.pruned + found.failed


def _score(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _context(context: tuple[str, ...]) -> str:
    dataset, student, teacher, init, setting = context
    return f"{dataset}: {student} ({init}) of {teacher}, {setting};"
