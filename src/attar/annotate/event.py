"""`attar annotate event` in Python: what changed, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from attar.annotate import corpus
from attar.annotate.changes import parse_changes, parse_rule
from attar.annotate.events import (
    change_guideline,
    change_settings,
    events_of,
    log_event,
    numbered,
)
from attar.annotate.opening import open_project
from attar.annotate.records import recorded
from attar.annotate.settings import ARMS, AnnotateConfig
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Arm, Snapshot
from attar.annotate.wordlists import keep_word_list
from attar.errors import ConfigError, DataError, did_you_mean
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import DrawConfig
from attar.methods.active_segmentation.events import Event, Kind, Policy
from attar.methods.active_segmentation.study import StudyConfig
from attar.report.record import Run

__all__ = ["add", "list"]

#: what holds settings, as the options of `init` have them
_HOLDERS: Mapping[str, type] = {"draw": DrawConfig, "segmenter": SegmenterConfig}


def add(
    project: str | Path,
    *,
    kind: Kind,
    after: str | None = None,
    guideline: str | Path | None = None,
    change: Sequence[str] | Mapping[str, Any] | None = None,
    policy: Policy = "keep",
    rule: str | None = None,
    query: str | None = None,
    scope: str = "",
    author: str = "",
    note: str = "",
) -> Run:
    """Log that something changes, and change it where the project can: a new guideline, settings,
    sentences that go, a pause.

    Args:
        project: its folder.
        kind: what changes.
        after: the name of what holds from now on, such as the version of a guideline.
        guideline: a text file with the new guideline, of `guideline.change`.
        change: settings and their new values, `{"strategy": "margin"}` or `["strategy=margin"]`.
        policy: what becomes of labels under the old guideline.
        rule: of the policy migrate, such as `join_prefix:การ,ความ`.
        query: of the policy relabel: a regular expression over the words, with bars between them
            and around them.
        scope: whom or what it concerns where that is not all: an annotator, an arm; of
            `corpus.remove`, the document or the snapshot whose sentences go.
        author: who logs it.
        note: why.

    Returns:
        The record: `details` has the event.

    Raises:
        ConfigError: there is no project, or something is missing or cannot be used.
        DataError: no sentence fits what is to be removed.
        Conflict: somebody else has changed the project in between.
    """
    named = None if rule is None else parse_rule(rule)
    changes = parse_changes(change or ())
    with (
        recorded("event add", project=project, kind=kind, after=after, policy=policy) as run,
        open_project(project) as opened,
    ):
        if kind == "guideline.change":
            if after is None or guideline is None:
                raise ConfigError(
                    "guideline.change needs the name of the new version and its text: --after g2 "
                    "--guideline FILE"
                )
            with opened.read() as session:
                expected = state_of(session).revision
            change_guideline(
                opened,
                version=after,
                text=read_text(guideline),
                expected=expected,
                policy=policy,
                rule=named,
                query=query,
                author=author,
                note=note,
            )
        elif kind == "corpus.remove":
            _remove(opened, scope, author=author, note=note)
        else:
            if "dictionary" in changes:  # so that the log names the list that is kept
                changes = {**changes, **_kept(opened, changes["dictionary"])}
            event = Event(
                kind=kind,
                after=after or ", ".join(f"{name}={value}" for name, value in changes.items()),
                policy=policy,
                rule=named,
                query=query,
                scope=scope,
                author=author,
                note=note,
            )
            if changes:
                _change(opened, changes, event=event)
            else:
                log_event(opened, event)
        with opened.read() as session:
            run.details = {"event": events_of(session)[-1].to_dict()}
    return run


def list(project: str | Path) -> Run:
    """What has changed since the project began.

    Args:
        project: its folder.

    Returns:
        The record: `details["events"]` has a row for each, oldest first; `mark` is its number on
        the charts, which show the last of them.

    Raises:
        ConfigError: there is no project.
    """
    with (
        recorded("event list", project=project) as run,
        open_project(project) as opened,
        opened.read() as session,
    ):
        log = events_of(session, accounts=True)
        marks = numbered(log)
        run.details = {"events": [one.to_dict() | {"mark": marks.get(one.id)} for one in log]}
    return run


def read_text(file: str | Path) -> str:
    """The text of a small file.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read {str(file)!r}: {error.strerror}; give a text file"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"expected UTF-8 text in {str(file)!r}, found something else; convert it"
        ) from None


def changed(settings: AnnotateConfig, changes: Mapping[str, Any]) -> AnnotateConfig:
    """Settings with some new values, wherever each has its place. Whether the options of drawing
    and of the segmenter can have them is for `check_fit`.

    Raises:
        ConfigError: there is no such setting, or one of the project's own cannot have the value.
    """
    own = {one.name for one in fields(AnnotateConfig)} - {*_HOLDERS}
    holders = {
        name: key for key, kind in _HOLDERS.items() for name in (f.name for f in fields(kind))
    }
    made = settings
    for name, value in changes.items():
        if name in own:
            # earlier versions kept a limit of length among the options of drawing, too
            draw = {key: kept for key, kept in made.draw.items() if key != name}
            made = replace(made, **{name: value, "draw": draw})
        elif name in holders:
            key = holders[name]
            stored = {**getattr(made, key), name: value}
            made = replace(made, **{key: stored})
        else:
            known = sorted(own | {*holders})
            raise ConfigError(
                f"there is no setting {name!r}{did_you_mean(name, known) or ';'} the options of "
                "attar annotate init --help are settings"
            )
    return made


def check_fit(settings: AnnotateConfig, *, strategy: str) -> None:
    """Refuse options that cannot be so, and a segmenter that cannot learn from what the active arm
    asks.

    Raises:
        ConfigError: so it is.
    """
    options = {"longest": settings.longest, **settings.draw, "strategy": strategy}
    drawing = DrawConfig(**options)
    StudyConfig(arms={ARMS[1]: drawing}, segmenter=SegmenterConfig(**settings.segmenter))


def _kept(project: Project, dictionary: str | None) -> dict[str, Any]:
    return keep_word_list(project.folder, {"dictionary": dictionary})


def _change(project: Project, changes: Mapping[str, Any], *, event: Event) -> None:
    with project.read() as session:
        state = state_of(session)
        strategy = {"strategy": session.get_one(Arm, ARMS[1]).settings.get("strategy", "mnlp")}
    new = changed(state.settings, strategy | dict(changes))
    chosen = str(new.draw["strategy"])
    shared = {name: value for name, value in new.draw.items() if name != "strategy"}
    new = replace(new, draw=shared)
    check_fit(new, strategy=chosen)
    change_settings(project, expected=state.revision, settings=new, strategy=chosen, event=event)


def _remove(project: Project, scope: str, *, author: str, note: str) -> None:
    if not scope:
        raise ConfigError("corpus.remove needs what goes: --scope DOCUMENT, or --scope SNAPSHOT")
    try:
        corpus.remove(project, document=scope, author=author, note=note)
    except DataError:
        try:
            corpus.remove(project, snapshot=scope, author=author, note=note)
        except DataError:
            with project.read() as session:
                names = session.scalars(select(Snapshot.name).order_by(Snapshot.number)).all()
            raise DataError(
                f"expected a document or a snapshot of the corpus; there is none called {scope!r}: "
                f"the snapshots are {', '.join(names) or 'none yet'}"
            ) from None
