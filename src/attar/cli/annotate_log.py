"""`attar annotate event` and `user`: what changes around the labels, and who makes them."""

import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from attar import annotate
from attar.annotate import printing
from attar.cli.output import ExitCode, Json, Overwrite, require_target, show, show_or_write
from attar.errors import ConfigError
from attar.methods.active_segmentation.events import Kind, Policy

Role = Literal["admin", "reviewer", "annotator"]


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
