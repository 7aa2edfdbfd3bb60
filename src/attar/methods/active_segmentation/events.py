"""The log of what changed while people annotated, and what that does to labels, curves and arms.

The log is append-only. An event of a kind in `EPOCH_KINDS` begins a new epoch: scores before and
after it are not of the same thing, and no line joins them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from attar.data.segments.cuts import cuts_of, tokens_of
from attar.errors import ConfigError, check_types, require
from attar.methods.active_segmentation.labels import Label
from attar.methods.active_segmentation.rules import Rule

Kind = Literal[
    "corpus.add",
    "corpus.remove",
    "guideline.change",
    "normaliser.change",
    "features.change",
    "model.change",
    "hyper.change",
    "strategy.change",
    "prefill.change",
    "evalset.change",
    "annotator.join",
    "annotator.leave",
    "annotator.train",
    "account.change",
    "tool.upgrade",
    "pause",
    "resume",
]
Policy = Literal["keep", "drop", "migrate", "relabel", "tag"]
EPOCH_KINDS = ("guideline.change", "evalset.change", "normaliser.change", "model.change")
#: between two words of the sequence that a query is searched in, and at both its ends
SEPARATOR = "|"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One entry of the log.

    Raises:
        ConfigError: a policy without what it needs, or a query that is no regular expression.
    """

    kind: Kind
    sequence: int = 0
    """The last label that was made before it."""
    before: str = ""
    after: str = ""
    """What changed, as names: of guidelines, snapshots, models, ..."""
    policy: Policy = "keep"
    """What becomes of the labels that follow the guideline before."""
    rule: Rule | None = None
    """Of the policy migrate."""
    query: str | None = None
    """Of the policy relabel: a regular expression that is searched in the words with bars between
    them and around them, as in `|การ|เมือง|`; None: all sentences."""
    scope: str = ""
    """Whom or what it concerns where that is not all: an annotator, an arm."""
    id: str = ""
    time: str = ""
    """ISO 8601, UTC."""
    author: str = ""
    note: str = ""
    detected: bool = False
    """Written by the system, which noticed a change that nobody had logged."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.policy == "migrate":
            require(self.rule is not None, "rule", self.rule, "given with the policy migrate")
        if self.kind == "guideline.change":
            named = bool(self.after) and self.after != self.before
            require(named, "after", self.after, "the name of the new guideline")
        if self.query is not None:
            try:
                empty = re.search(self.query, "") is not None
            except re.error as error:
                raise ConfigError(
                    f"the query {self.query!r} is not a regular expression: {error}; a bar between "
                    r"words is written \|"
                ) from None
            require(not empty, "query", self.query, r"one that not everything fits (a bar is \|)")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `from_dict` reads it."""
        return asdict(self) | {"rule": None if self.rule is None else self.rule.to_dict()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Event":
        """An event out of a log."""
        rule = stored.get("rule")
        return cls(**{**stored, "rule": None if rule is None else Rule.from_dict(rule)})


@dataclass(frozen=True)
class Epoch:
    """A stretch of the study within which scores can be compared."""

    number: int
    first: int
    """Labels with a larger `sequence` fall into it."""
    event: Event | None
    """What began it; None: the beginning of the study."""


def epochs(events: Iterable[Event]) -> list[Epoch]:
    """All epochs, oldest first. Events after the same label begin one epoch together."""
    found = [Epoch(0, 0, None)]
    for event in _in_order(events):
        if event.kind not in EPOCH_KINDS:
            continue
        if len(found) > 1 and found[-1].first == event.sequence:
            continue
        found.append(Epoch(len(found), event.sequence, event))
    return found


def guidelines(events: Iterable[Event], *, first: str = "g1") -> list[str]:
    """All versions of the guideline, oldest first.

    Raises:
        ConfigError: a name comes back, so that its labels could be of either time.
    """
    names = [first]
    for event in _in_order(events):
        if event.kind == "guideline.change":
            if event.after in names:
                raise ConfigError(
                    f"the guideline {event.after!r} was in force before; give the new version a "
                    "name of its own"
                )
            names.append(event.after)
    return names


def under_events(
    labels: Iterable[Label],
    *,
    events: Iterable[Event],
    texts: Mapping[str, str],
    first: str = "g1",
) -> list[Label]:
    """The labels that train a model, as the policies of the events leave them.

    Args:
        labels: answers that stand (`labels.answers`).
        events: the log.
        texts: of the sentences by `uid`; labels of others, removed from the corpus, go.
        first: the guideline at the beginning.

    Returns:
        With migrate, machine revisions (status `migrated`) take the place of what they rewrite.
    """
    events = _in_order(events)
    order = guidelines(events, first=first)
    rows = [label for label in labels if label.uid in texts]
    # of a label that was rewritten more than once the last revision counts
    last = {label.origin: label.sequence for label in rows if label.status == "migrated"}
    rows = [label for label in rows if last.get(label.origin, label.sequence) == label.sequence]
    for event in events:
        if event.kind == "annotator.leave" and event.policy == "drop":
            rows = [row for row in rows if row.annotator != event.scope]
        if event.kind != "guideline.change":
            continue
        older = set(order[: order.index(event.after)])
        old = [row for row in rows if row.guideline in older or row.guideline not in order]
        new = [row for row in rows if not (row.guideline in older or row.guideline not in order)]
        rows = new + [kept for row in old if (kept := _kept(row, event, texts[row.uid]))]
    return sorted(rows, key=lambda row: row.sequence)


def revisions(
    labels: Iterable[Label], *, events: Iterable[Event], texts: Mapping[str, str], first: str = "g1"
) -> list[Label]:
    """The machine revisions that the log of labels lacks yet, in order: what is to be appended."""
    rows = list(labels)
    logged = {(row.sequence, row.guideline) for row in rows if row.status == "migrated"}
    made = under_events(rows, events=events, texts=texts, first=first)
    found = [row for row in made if row.status == "migrated"]
    return [row for row in found if (row.sequence, row.guideline) not in logged]


def relabelling(
    labels: Iterable[Label], *, events: Iterable[Event], texts: Mapping[str, str], first: str = "g1"
) -> list[str]:
    """The sentences whose labels a policy `relabel` asks for again, and that have no newer one."""
    events = _in_order(events)
    order = guidelines(events, first=first)
    rows = [label for label in labels if label.uid in texts]
    wanted: dict[str, None] = {}
    for event in events:
        if event.kind != "guideline.change" or event.policy != "relabel":
            continue
        older = set(order[: order.index(event.after)])
        done = {row.uid for row in rows if row.guideline in order and row.guideline not in older}
        for row in rows:
            if row.uid not in done and asked_again(row, event, texts[row.uid]):
                wanted[row.uid] = None
    return list(wanted)


def asked_again(label: Label, event: Event, text: str) -> bool:
    """Whether the query of a `relabel` finds this label. One that is not whole always is."""
    if event.query is None or label.decided is not None:
        return True
    words = SEPARATOR.join(["", *tokens_of(text, label.cuts), ""])
    return re.search(event.query, words) is not None


def migrated(label: Label, rule: Rule, *, guideline: str, text: str) -> Label:
    """The machine revision of a label. Of one that is not whole, what the rule touches goes, for
    the words around it are not known.
    """
    changed = replace(
        label,
        guideline=guideline,
        status="migrated",
        parent=label.origin,
        by_reviewer=label.by_reviewer or label.status == "adjudicated",
    )
    if label.decided is None:
        return replace(changed, cuts=cuts_of(rule.rewrite(tokens_of(text, label.cuts))))
    kept = tuple(sorted(set(label.decided) - rule.touched(text)))
    return replace(changed, decided=kept, cuts=tuple(c for c in label.cuts if c in kept))


def _kept(label: Label, event: Event, text: str) -> Label | None:
    """What a policy makes of an old label; None: it is not used."""
    if event.policy == "drop":
        return None
    if event.policy == "relabel":
        return None if asked_again(label, event, text) else label
    if event.policy == "migrate" and event.rule is not None:
        return migrated(label, event.rule, guideline=event.after, text=text)
    return label


def _in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.sequence)
