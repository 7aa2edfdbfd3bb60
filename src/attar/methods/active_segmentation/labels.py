"""Annotations as a study sees them, and how those of a sentence become one segmentation."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError

Status = Literal["submitted", "adjudicated", "migrated", "skipped", "flagged", "void"]
#: what says how a sentence is segmented; a skip, a flag and an undo do not
_ANSWERS = ("submitted", "adjudicated", "migrated")


@dataclass(frozen=True, kw_only=True)
class Label:
    """One entry of the append-only list of annotations."""

    uid: str
    """The sentence."""
    cuts: tuple[int, ...] = ()
    """Offsets in code points at which a word begins, rising."""
    decided: tuple[int, ...] | None = None
    """The offsets that the annotator judged; None: all of them."""
    guideline: str = "g1"
    """The version of the guideline that it follows."""
    annotator: str = ""
    sequence: int = 0
    """Its place in the list; later is larger."""
    seconds: float | None = None
    """Time that the annotator worked on it, without idle gaps."""
    corrections: int | None = None
    """Offsets that differ from the segmentation that was shown at first, or None if unknown."""
    status: Status = "submitted"
    parent: int | None = None
    """The `sequence` of the label that this one undoes (void) or rewrites (migrated)."""
    by_reviewer: bool = False
    """Whether this rewrites the decision of a reviewer, and so is one."""

    @property
    def origin(self) -> int:
        """When a person gave this answer: a rewrite by a rule does not make it newer."""
        fresh = self.status != "migrated" or self.parent is None
        return self.sequence if fresh else self.parent or 0


@dataclass(frozen=True)
class Resolved:
    """What the labels of a sentence say together."""

    cuts: tuple[int, ...]
    decided: tuple[int, ...] | None
    """None: every offset."""
    ties: tuple[int, ...] = ()
    """Offsets at which as many annotators say yes as no; the latest holds until a reviewer says."""
    guideline: str = "g1"
    """The newest that a label follows."""


def answers(labels: Iterable[Label]) -> list[Label]:
    """The labels that say how a sentence is segmented and were not undone, by `sequence`."""
    rows = sorted(labels, key=lambda label: label.sequence)
    undone = {label.parent for label in rows if label.status == "void"}
    return [
        label
        for label in rows
        if label.status in _ANSWERS
        and label.sequence not in undone
        and not (label.status == "migrated" and label.parent in undone)
    ]


def resolve(labels: Iterable[Label], *, length: int, guidelines: Sequence[str] = ()) -> Resolved:
    """One segmentation out of the labels of one sentence, offset by offset.

    Of several guidelines the newest that decides an offset holds. Within one: adjudicated, else
    the majority of the annotators, each by the latest answer, else the latest answer of all.

    Args:
        labels: of the sentence, see `answers`.
        length: code points in it, n.
        guidelines: oldest first; one that is not named counts as older than all.

    Raises:
        DataError: a label has an offset outside 1..n-1.
    """
    said = np.full(length - 1 if length else 0, -1, np.int8)  # of offset b at b - 1: -1 is unknown
    tied = np.zeros(len(said), bool)
    rank = {name: place for place, name in enumerate(guidelines)}
    rows = sorted(labels, key=lambda label: label.origin)
    for of_one in _groups(rows, key=lambda label: rank.get(label.guideline, -1)):
        found, ties = _under_one_guideline(of_one, length=length)
        said = np.where(found >= 0, found, said)
        tied = np.where(found >= 0, ties, tied)
    newest = max(rows, key=lambda label: rank.get(label.guideline, -1), default=None)
    return Resolved(
        cuts=_offsets(said == 1),
        decided=None if (said >= 0).all() else _offsets(said >= 0),
        ties=_offsets(tied),
        guideline=newest.guideline if newest else "g1",
    )


def votes(label: Label, *, length: int) -> NDArray[np.int8]:
    """(n-1,): 1 where a label says that a word begins, 0 where none does, -1 where it says nothing.

    Raises:
        DataError: an offset lies outside 1..n-1.
    """
    said = np.full(max(length - 1, 0), -1 if label.decided is not None else 0, np.int8)
    for offsets, value in ((label.decided or (), 0), (label.cuts, 1)):
        for offset in offsets:
            if not 0 < offset < length:
                raise DataError(
                    f"a label of sentence {label.uid} has the offset {offset}, expected one from 1 "
                    f"to {length - 1}; the label belongs to another text"
                )
            if value == 0 or label.decided is None or offset in label.decided:
                said[offset - 1] = value
    return said


def _under_one_guideline(
    labels: Sequence[Label], *, length: int
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """What the labels say, (n-1,), and where their annotators tie, (n-1,); oldest label first."""
    unknown = np.full(max(length - 1, 0), -1, np.int8)
    of_each: dict[str, NDArray[np.int8]] = {}
    latest, ruled = unknown, unknown
    for label in labels:
        said = votes(label, length=length)
        if label.status == "adjudicated" or label.by_reviewer:
            ruled = np.where(said >= 0, said, ruled)
        else:
            before = of_each.get(label.annotator, unknown)
            of_each[label.annotator] = np.where(said >= 0, said, before)
            latest = np.where(said >= 0, said, latest)
    yes = sum(((said == 1).astype(int) for said in of_each.values()), np.zeros(len(unknown), int))
    no = sum(((said == 0).astype(int) for said in of_each.values()), np.zeros(len(unknown), int))
    found = np.where(yes > no, 1, np.where(no > yes, 0, latest)).astype(np.int8)
    tied = (yes == no) & (yes > 0) & (ruled < 0)
    return np.where(ruled >= 0, ruled, found), tied


def _groups(rows: Sequence[Label], *, key: Callable[[Label], int]) -> list[list[Label]]:
    """The rows by rising key, those of the same key together and in their order."""
    found: dict[int, list[Label]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return [found[value] for value in sorted(found)]


def _offsets(where: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple((np.flatnonzero(where) + 1).tolist())
