"""What annotators and reviewers send, and what they get.

Nothing that an annotator gets says which arm a text is of, how it was scored or ranked, or what
others answered.
"""

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from attar.annotate.answers import LONGEST_MS

#: offsets of one answer, at most
_OFFSETS = 20_000

Offset = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
Offsets = Annotated[list[Offset], Field(max_length=_OFFSETS)]
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=LONGEST_MS)]
_ID = r"^[0-9a-zA-Z-]{1,64}$"
Id = Annotated[str, Field(pattern=_ID)]
PathId = Annotated[str, Path(pattern=_ID)]
#: PostgreSQL stores no text with U+0000
NO_NUL = r"^[^\x00]*$"
Version = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
PathVersion = Annotated[str, Path(max_length=200, pattern=NO_NUL)]


class Body(BaseModel):
    """Of a request: no other fields, so that a misspelt one is not lost in silence."""

    model_config = ConfigDict(extra="forbid")


class DraftBody(Body):
    """Unfinished work: cuts, the offsets decided on (None: all), the caret, the time spent."""

    cuts: Offsets
    decided: Offsets | None = None
    caret: Offset | None = None
    active_ms: Milliseconds = 0


class Step(Body):
    """Something done in the editor: when, in milliseconds of work, and at which offset."""

    ms: Milliseconds
    kind: Annotated[str, Field(pattern=r"^[a-z_]{1,20}$")]
    at: Offset


class AnswerBody(Body):
    """An answer. `id` is a UUID that the client makes, so that it may send the same twice;
    `text_sha` is the SHA-256 of the UTF-8 of the text that was seen."""

    id: Id
    task: Id
    text_sha: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    guideline: Version
    cuts: Offsets
    decided: Offsets | None = None
    active_ms: Milliseconds = 0
    events: Annotated[list[Step], Field(max_length=2000)] = []


class ActBody(Body):
    """An act that needs no more than an id of its own, such as skipping or undoing."""

    id: Id
    active_ms: Milliseconds = 0


class FlagBody(ActBody):
    """What is wrong with a text."""

    note: Annotated[str, Field(max_length=2000, pattern=NO_NUL)] = ""


class GuidelineNow(BaseModel):
    """The version in force, and whether this person has read it."""

    version: str
    acknowledged: bool


class LeaseOut(BaseModel):
    """How long the task is kept for this person, how often to give a sign of life, and the longest
    pause that counts as work; seconds."""

    id: str
    seconds: float
    beat_seconds: float
    idle_seconds: float


class DraftOut(BaseModel):
    """What this person saved before."""

    cuts: list[int]
    decided: list[int] | None
    caret: int | None
    active_ms: int


class NextOut(BaseModel):
    """A text to cut. `task` is None where there is nothing to do for now; `candidates` are the only
    offsets that are asked about, in the order to ask in, or None for all; `doubts` where the model
    is unsure of the cuts, or None where the project does not show it."""

    task: str | None
    text: str
    candidates: list[int] | None
    cuts: list[int] | None
    doubts: list[int] | None
    draft: DraftOut | None
    guideline: GuidelineNow
    lease: LeaseOut | None
    done: int


class Proposal(BaseModel):
    """One answer that a reviewer decides about, without its author."""

    cuts: list[int]
    decided: list[int] | None


class ReviewOut(NextOut):
    """The same for a reviewer, with the answers to decide between, and what those who flagged the
    text say is wrong."""

    answers: list[Proposal]
    flags: list[str]


class ReceiptOut(BaseModel):
    """What was stored."""

    id: str
    task: str
    status: str


class BeatOut(BaseModel):
    """The lease goes on; the version of the guideline that is in force by now."""

    seconds: float
    guideline: str


class SavedOut(BaseModel):
    """Whether a draft was kept; one that comes after its answer is not."""

    saved: bool


class PastOut(BaseModel):
    """One answer of this person."""

    id: str
    task: str
    number: int
    created: str
    text: str
    cuts: list[int] | None
    decided: list[int] | None
    guideline: str
    status: str
    undoable: bool


class HistoryOut(BaseModel):
    """Answers of this person, the latest first; `before` gives the next page, None the end."""

    items: list[PastOut]
    before: int | None


class Line(BaseModel):
    """A line of a comparison."""

    kind: Literal["same", "added", "removed"]
    text: str


class GuidelineOut(GuidelineNow):
    """The guideline, and what changed since this person last read one: None if they never did."""

    text: str
    previous: str | None
    diff: list[Line]
