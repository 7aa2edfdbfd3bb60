"""`attar annotate`: what is read from a project, its people, its log, and what keeps it safe."""

import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from attar import annotate
from attar.annotate import printing
from attar.annotate.charts import Axis
from attar.cli.output import (
    ExitCode,
    Json,
    Overwrite,
    note,
    parse_list,
    require_target,
    show,
    show_or_write,
)
from attar.data.segments.streams import OnPipe
from attar.errors import ConfigError
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.events import Kind, Policy

File = Annotated[Path | None, Parameter(alias="-o")]
Role = Literal["admin", "reviewer", "annotator"]
_SEGMENTER = Group("Segmenter options", sort_key=2)


def curve(
    project: str,
    *,
    x: Axis = "characters",
    metric: str = "word_f1",
    output_file: File = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
) -> int:
    """Print the learning curve of each sample, with both intervals, and what the difference is.

    Example: `attar annotate curve thai --x corrections --output-file curve.png`

    Parameters
    ----------
    project
        Folder of a project, or a .jsonl file that `attar annotate export --history` wrote.
    x
        What labels cost.
    metric
        Whose curve, such as word_f1, boundary_f1 or exact.
    output_file
        Draw it into this new file, .png or .svg, or write the points as .csv.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.curve(project, x=x, metric=metric, output_file=output_file)
    show_or_write(run.to_dict(), printing.curve_text(run), target=json_to)
    return ExitCode.DONE


def agree(
    project: str,
    *,
    by: str = "guideline",
    json_to: Json = None,
    overwrite: Overwrite = False,
) -> int:
    """How far people agree on where words begin, over places where one can begin.

    Parameters
    ----------
    project
        Folder of a project.
    by
        What to tell apart, separated by commas: arm, guideline, document, prefill, week.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.agree(project, by=parse_list(by))
    show_or_write(run.to_dict(), printing.agree_text(run), target=json_to)
    return ExitCode.DONE


def transfer(
    project: str,
    *,
    segmenter: Annotated[SegmenterConfig, Parameter(name="*", group=_SEGMENTER)] = SegmenterConfig(),
    json_to: Json = None,
    overwrite: Overwrite = False,
) -> int:
    """Train another segmenter on each sample, and see what the labels are worth to it.

    Example: `attar annotate transfer thai --kind character-cnn`

    Parameters
    ----------
    project
        Folder of a project. It is not changed.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.transfer(project, segmenter=segmenter)
    show_or_write(run.to_dict(), printing.transfer_text(run), target=json_to)
    return ExitCode.DONE


def export(
    project: str,
    *,
    format: str | None = None,
    arm: str | None = None,
    guideline: str | None = None,
    history: Annotated[bool, Parameter(negative="")] = False,
    on_pipe: OnPipe = "error",
    output_file: File = None,
) -> int:
    """Write the labels of a project, one answer for each sentence.

    Example: `attar annotate export thai --format conllu -o labels.conllu`

    Parameters
    ----------
    project
        Folder of a project.
    format
        Such as jsonl, best or conllu. Default: told by the name of the file.
    arm
        Of one sample alone. Default: of both.
    guideline
        Labels of this version alone. Default: all, as events leave them.
    history
        With every revision, and all that curves are made of; jsonl alone.
    on_pipe
        What is done about bars in a text, in formats with bars between words.
    output_file
        Where they go; must not exist.
    """
    if output_file is None:
        raise ConfigError("say where the labels go: -o FILE")
    run = annotate.export(
        project,
        output_file=output_file,
        format=format,
        arm=arm,
        guideline=guideline,
        history=history,
        on_pipe=on_pipe,
    )
    show(f"{run.details['sentences']:,} sentences written to {output_file}")
    return ExitCode.DONE


def event_add(
    project: str,
    *,
    kind: Kind,
    after: str | None = None,
    guideline: Path | None = None,
    change: Annotated[list[str] | None, Parameter(negative="")] = None,
    policy: Policy = "keep",
    rule: str | None = None,
    query: str | None = None,
    scope: str = "",
    author: str = "",
    note: str = "",
) -> int:
    """Log that something changes, and change it where a project can.

    Example: `attar annotate event add thai --kind guideline.change --after g2 --guideline g2.md
    --policy migrate --rule join_prefix:การ,ความ`

    Parameters
    ----------
    project
        Folder of a project.
    kind
        What changes.
    after
        The name of what holds from now on: of a guideline, such as g2.
    guideline
        A text file with the new guideline.
    change
        A setting and its new value, such as strategy=margin; may be given several times.
    policy
        What becomes of labels under the old guideline: kept as they are, dropped, rewritten by the
        rule (migrate), asked again where the query matches (relabel), or trained on with a mark
        (tag).
    rule
        Of migrate: join_prefix, split_prefix or replace, a colon, and words separated by commas.
    query
        Of relabel: a regular expression over the words, with bars between and around them.
    scope
        Whom it concerns, where that is not all: an annotator, an arm.
    author
        Who logs it.
    note
        Why.
    """
    run = annotate.event.add(
        project,
        kind=kind,
        after=after,
        guideline=guideline,
        change=change,
        policy=policy,
        rule=rule,
        query=query,
        scope=scope,
        author=author,
        note=note,
    )
    show(printing.event_added_text(run))
    return ExitCode.DONE


def event_list(project: str, *, json_to: Json = None, overwrite: Overwrite = False) -> int:
    """List what has changed since the project began.

    Parameters
    ----------
    project
        Folder of a project.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.event.list(project)
    show_or_write(run.to_dict(), printing.events_text(run), target=json_to)
    return ExitCode.DONE


def user_add(
    project: str,
    name: str,
    *,
    role: Role = "annotator",
    token: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Let somebody in. The password is asked for, or read from the standard input.

    Parameters
    ----------
    project
        Folder of a project.
    name
        What they log in with.
    role
        What they may do: reviewers also decide where others differ, admins everything.
    token
        For a script: print a token in place of a password, once.
    """
    password = None if token else _password(name)
    run = annotate.user.add(project, name, role=role, password=password, token=token)
    show(run.details.pop("token") if token else f"{name} may log in as {role}")
    return ExitCode.DONE


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass(f"Password of {name}: ")
    if getpass("Once more: ") != first:
        raise ConfigError("the two passwords differ; try again")
    return first


def user_role(project: str, name: str, *, role: Role) -> int:
    """Give somebody another role.

    Parameters
    ----------
    project
        Folder of a project.
    name
        Who.
    role
        The new one.
    """
    annotate.user.role(project, name, role=role)
    show(f"{name} is {role} now")
    return ExitCode.DONE


def user_list(project: str, *, json_to: Json = None, overwrite: Overwrite = False) -> int:
    """List who may log in.

    Parameters
    ----------
    project
        Folder of a project.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.user.list(project)
    show_or_write(run.to_dict(), printing.users_text(run), target=json_to)
    return ExitCode.DONE


def backup(project: str, *, output_file: File = None) -> int:
    """Copy a project while people work on it, as it was at one moment.

    Parameters
    ----------
    project
        Folder of a project.
    output_file
        The copy; must not exist. Default: a name with the time, in the project's backups.
    """
    run = annotate.backup(project, output_file=output_file)
    show(f"Written to {run.settings['output_file']}")
    return ExitCode.DONE


def upgrade(project: str) -> int:
    """Bring the tables of a project to this version of Attar, after a copy of an SQLite database.

    Parameters
    ----------
    project
        Folder of a project.
    """
    run = annotate.upgrade(project)
    show(printing.upgrade_text(run))
    return ExitCode.DONE


def doctor(project: str, *, json_to: Json = None, overwrite: Overwrite = False) -> int:
    """Check a project: annotations, the random sample, the queue, the log. Nothing is changed.

    Ends with 1 where something is wrong.

    Parameters
    ----------
    project
        Folder of a project.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.doctor(project)
    show_or_write(run.to_dict(), printing.doctor_text(run), target=json_to)
    for problem in run.details["problems"]:
        note(problem)
    return ExitCode.FAILED if run.details["problems"] else ExitCode.DONE
