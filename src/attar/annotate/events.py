"""The log of what changed around the annotators, and what is done about it at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from attar.annotate.refusals import Conflict
from attar.annotate.settings import ARMS, AnnotateConfig
from attar.annotate.store import Project, State, bump_revision, state_of
from attar.annotate.tables import Arm, EventRow, Guideline, Job, ProjectRow, User
from attar.annotate.wordlists import keep_word_list
from attar.errors import ConfigError, did_you_mean, require
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.effects import EFFECTS
from attar.methods.active_segmentation.engines import load_engine
from attar.methods.active_segmentation.events import Event, Kind, Policy
from attar.methods.active_segmentation.rules import Rule

_VERSION = 40
#: settings whose change is an event
_LOGGED: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "hyper.change": ("segmenter",),
        "strategy.change": ("draw", "longest"),
        "prefill.change": ("prefill", "prefill_none_share", "cold_start", "show_doubts"),
    }
)
#: state of a job that waits for the worker
QUEUED = "queued"
#: of what happens to accounts and tokens
ACCOUNT = "account.change"


def log_event(project: Project, event: Event) -> Event:
    """Add an event to the log; its id, time and place among the annotations are set here. A pause
    or a resumption takes effect at once.

    Raises:
        ConfigError: a guideline is changed by `change_guideline` alone; what happens to accounts is
            logged by itself; the policy means nothing for this kind of event; or there is no such
            annotator.
    """
    require(event.kind != ACCOUNT, "kind", event.kind, "another; this one is logged by itself")
    require(event.kind != "guideline.change", "kind", event.kind, "another; use change_guideline")
    fitting = EFFECTS[event.kind].policies
    what = f"{' or '.join(fitting)} for {event.kind}"
    require(event.policy in fitting, "policy", event.policy, what)
    with project.write() as session:
        if event.kind.startswith("annotator.") and event.scope:
            known = session.scalars(select(User.name)).all()
            if event.scope not in known:
                raise ConfigError(
                    f"there is no account {event.scope!r}"
                    f"{did_you_mean(event.scope, known) or ';'} look at the list of accounts"
                )
        if event.kind in ("pause", "resume"):
            session.execute(update(ProjectRow).values(paused=event.kind == "pause"))
        return add_event(session, event, now=project.clock())


def add_event(session: Session, event: Event, *, now: float) -> Event:
    """Add an event within a transaction."""
    row = EventRow(
        created=now,
        kind=event.kind,
        scope=event.scope,
        before=event.before,
        after=event.after,
        author=event.author,
        note=event.note,
        effective_seq=state_of(session).sequence,
        policy=event.policy,
        settings={
            "rule": None if event.rule is None else event.rule.to_dict(),
            "query": event.query,
        },
        detected=event.detected,
    )
    session.add(row)
    session.flush()
    return _event(row)


def events_of(session: Session, *, accounts: bool = False) -> tuple[Event, ...]:
    """What changed around the annotators, oldest first.

    Args:
        session: a transaction.
        accounts: also who opened or changed which account or token, which no label depends on.
    """
    rows = session.scalars(select(EventRow).order_by(EventRow.id))
    return tuple(_event(row) for row in rows if accounts or row.kind != ACCOUNT)


def change_settings(
    project: Project,
    *,
    expected: int,
    settings: AnnotateConfig,
    strategy: str | None = None,
    event: Event | None = None,
) -> State:
    """Replace the settings. Once there are labels, what changes for models, arms or annotators is
    logged.

    Args:
        project: the project.
        expected: revision of the project that the new settings were made from.
        settings: the new ones.
        strategy: how the active arm chooses from now on; None: as before.
        event: goes into the log in place of what would be noted by itself.

    Raises:
        ConfigError: they would tell annotators how a sentence was scored, or the engine for the
            cold start is not installed.
        DataError: the segmenter's word list cannot be read.
        Conflict: somebody else has changed settings or guideline since.
    """
    settings.require_sound()
    if settings.cold_start is not None:
        load_engine(settings.cold_start)
    with project.write() as session:
        before, now = state_of(session), project.clock()
        if settings.segmenter.get("dictionary") != before.settings.segmenter.get("dictionary"):
            words = keep_word_list(project.folder, settings.segmenter)
            settings = replace(settings, segmenter=words)
        bump_revision(session, expected=expected)
        session.execute(update(ProjectRow).values(settings=settings.to_json()))
        if strategy is not None:
            set_strategy(session, strategy)
        noted = _noted(before.settings, settings) if before.sequence else []
        for one in noted if event is None else [event]:
            add_event(session, one, now=now)
        return state_of(session)


def numbered(events: Sequence[Event]) -> dict[str, int]:
    """Id of an event -> its number on the charts, which do not mark what happens to accounts."""
    marked = (event.id for event in events if event.kind != ACCOUNT)
    return {id: number for number, id in enumerate(marked, 1)}


def set_strategy(session: Session, strategy: str) -> None:
    """Let the active arm choose so from now on; the random arm stays what it is."""
    row = session.get_one(Arm, ARMS[1])
    row.settings = {**row.settings, "strategy": strategy}


def change_guideline(
    project: Project,
    *,
    version: str,
    text: str,
    expected: int,
    policy: Policy = "tag",
    rule: Rule | None = None,
    query: str | None = None,
    author: str = "",
    note: str = "",
) -> State:
    """Put a new guideline in force.

    Open editors are told when they submit; their drafts stay. What becomes of the labels before is
    the policy's: the worker does it, or `policies.apply_policy` at once.

    Args:
        project: the project.
        version: a name that was never in force.
        text: of the guideline.
        expected: revision of the project that this change was made from.
        policy: what becomes of the labels so far.
        rule: of the policy `migrate`.
        query: of the policy `relabel`; None: all.
        author: who changes it.
        note: why.

    Raises:
        ConfigError: the version cannot be used, the policy lacks its rule, or the segmenter cannot
            tell guidelines apart.
        Conflict: somebody else has changed settings or guideline since, or the version is taken.
    """
    fine = version.strip(". ") and len(version) <= _VERSION and version.isprintable()
    fine = fine and "/" not in version  # it is part of an address
    require(bool(fine), "version", version, f"a name of at most {_VERSION} characters without /")
    require("\0" not in text, "text", text, "text without the character U+0000")
    with project.write() as session:
        before, now = state_of(session), project.clock()
        if policy == "tag":
            _require_tags(SegmenterConfig(**before.settings.segmenter))
        event = Event(
            kind="guideline.change",
            before=before.guideline,
            after=version,
            policy=policy,
            rule=rule,
            query=query,
            author=author,
            note=note,
        )
        bump_revision(session, expected=expected)
        if session.get(Guideline, version) is not None:
            raise Conflict(f"there is a guideline {version!r} already; give this one another name")
        number = session.scalar(select(func.max(Guideline.number))) or 0
        session.add(
            Guideline(
                version=version,
                number=number + 1,
                text=text,
                rules=None if rule is None else rule.to_dict(),
                author=author,
                created=now,
            )
        )
        session.flush()
        session.execute(update(ProjectRow).values(guideline=version))
        add_event(session, event, now=now)
        queue_job(session, "policy", reason=f"guideline {version}", now=now)
        return state_of(session)


def _require_tags(segmenter: SegmenterConfig) -> None:
    """Refuse labels of several guidelines side by side where training would fail on them.

    Raises:
        ConfigError: so it is.
    """
    if segmenter.kind == "character-cnn" or segmenter.solver != "own":
        raise ConfigError(
            "the policy tag needs a segmenter that tells guidelines apart, a crf or pointwise one "
            f"with the solver own; this project has {segmenter.kind} with {segmenter.solver}: take "
            "the policy migrate, relabel, drop or keep"
        )


def queue_job(session: Session, kind: str, *, reason: str, now: float) -> Job:
    """Add work for the worker, within a transaction."""
    job = Job(
        kind=kind,
        state=QUEUED,
        reason=reason,
        step="",
        sequence=None,
        result=None,
        error="",
        asked=now,
        started=None,
        ended=None,
    )
    session.add(job)
    session.flush()
    return job


def guideline_text(session: Session, version: str) -> str:
    """The text of a guideline; empty where there is no such version."""
    row = session.get(Guideline, version)
    return "" if row is None else row.text


def _noted(before: AnnotateConfig, after: AnnotateConfig) -> list[Event]:
    """An event for each kind of change."""
    found = []
    for kind, names in _LOGGED.items():
        old, new = (
            json.dumps({name: one.to_json()[name] for name in names}, sort_keys=True)
            for one in (before, after)
        )
        if old != new:
            found.append(Event(kind=kind, before=old, after=new))
    return found


def _event(row: EventRow) -> Event:
    stored = row.settings or {}
    rule = stored.get("rule")
    return Event(
        kind=row.kind,  # pyright: ignore[reportArgumentType] - checked when it was logged
        sequence=row.effective_seq,
        before=row.before,
        after=row.after,
        policy=row.policy,  # pyright: ignore[reportArgumentType]
        rule=None if rule is None else Rule.from_dict(rule),
        query=stored.get("query"),
        scope=row.scope,
        id=str(row.id),
        time=datetime.fromtimestamp(row.created, UTC).isoformat(),
        author=row.author,
        note=row.note,
        detected=row.detected,
    )
