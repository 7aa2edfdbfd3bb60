"""What the editor asks of the service; scripts may do the same with a token."""

import random
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import bindparam, func, select

from attar.annotate import accounts, answers, guidelines, queue
from attar.annotate.refusals import GuidelineChanged
from attar.annotate.schemas import (
    ActBody,
    AnswerBody,
    BeatOut,
    DraftBody,
    FlagBody,
    GuidelineNow,
    GuidelineOut,
    HistoryOut,
    NextOut,
    PathId,
    PathVersion,
    ReceiptOut,
    ReviewOut,
    SavedOut,
)
from attar.annotate.sessions import AnyVisitor, Reviewer, fresh
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Annotation
from attar.annotate.tasks import SUBMITTED
from attar.web.errors import ApiError

#: acts on one page of a history, at most
_PAGE = 200
_DONE = (
    select(func.count())
    .select_from(Annotation)
    .where(Annotation.annotator == bindparam("me"), Annotation.status == SUBMITTED)
)


def router(project: Project) -> APIRouter:
    """The routes of one project."""
    routes = APIRouter(prefix="/api", dependencies=[Depends(fresh)])

    @routes.get("/next", summary="The next text to cut", response_model=NextOut)
    def next_text(visitor: AnyVisitor) -> dict[str, Any]:
        return _next(project, visitor.name)

    @routes.get("/review/next", summary="The same for reviewers", response_model=ReviewOut)
    def next_review(visitor: Reviewer) -> dict[str, Any]:
        return _next(project, visitor.name)

    @routes.put("/drafts/{task}", summary="Save unfinished work", response_model=SavedOut)
    def save_draft(task: PathId, body: DraftBody, visitor: AnyVisitor) -> dict[str, Any]:
        saved = queue.save_draft(
            project,
            annotator=visitor.name,
            task=task,
            cuts=tuple(body.cuts),
            decided=None if body.decided is None else tuple(body.decided),
            caret=body.caret,
            active_ms=body.active_ms,
        )
        return {"saved": saved}

    @routes.post("/annotations", summary="Submit an answer", response_model=ReceiptOut)
    def submit(body: AnswerBody, visitor: AnyVisitor, response: Response) -> Any:
        answer = answers.Answer(
            id=body.id,
            task=body.task,
            text_sha=body.text_sha,
            cuts=tuple(body.cuts),
            decided=None if body.decided is None else tuple(body.decided),
            guideline=body.guideline,
            active_ms=body.active_ms,
            trace=[step.model_dump() for step in body.events],
        )
        try:
            receipt = answers.submit(project, annotator=visitor.name, answer=answer)
        except GuidelineChanged as refusal:
            raise ApiError(409, str(refusal), code="guideline_changed") from refusal
        response.status_code = 201 if receipt.created else 200
        return receipt

    @routes.post("/annotations/{id}/void", summary="Undo an answer", response_model=ReceiptOut)
    def void(id: PathId, body: ActBody, visitor: AnyVisitor) -> Any:
        return answers.void(project, annotator=visitor.name, annotation=id, id=body.id)

    @routes.post("/tasks/{task}/skip", summary="Leave a text to others", response_model=ReceiptOut)
    def skip(task: PathId, body: ActBody, visitor: AnyVisitor) -> Any:
        act = {"task": task, "id": body.id, "active_ms": body.active_ms}
        return answers.skip(project, annotator=visitor.name, **act)

    @routes.post("/tasks/{task}/flag", summary="Report a text", response_model=ReceiptOut)
    def flag(task: PathId, body: FlagBody, visitor: AnyVisitor) -> Any:
        act = {"task": task, "id": body.id, "active_ms": body.active_ms, "note": body.note}
        return answers.flag(project, annotator=visitor.name, **act)

    @routes.post("/leases/{id}/beat", summary="A sign of life", response_model=BeatOut)
    def beat(id: PathId, visitor: AnyVisitor) -> dict[str, Any]:
        lease = queue.beat(project, annotator=visitor.name, lease=id)
        return {"seconds": lease.expires - project.clock(), "guideline": _guideline(project)}

    @routes.get("/history", summary="One's own answers", response_model=HistoryOut)
    def history(
        visitor: AnyVisitor,
        limit: int = Query(50, ge=1, le=_PAGE),
        before: int | None = Query(None, ge=0, le=2**31 - 1),
    ) -> dict[str, Any]:
        return past(project, annotator=visitor.name, limit=limit, before=before)

    @routes.get("/guideline", summary="The guideline in force", response_model=GuidelineOut)
    def guideline(visitor: AnyVisitor) -> Any:
        return guidelines.reading(project, user=visitor.name)

    @routes.post(
        "/guideline/{version}/acknowledge",
        summary="Say that it was read",
        response_model=GuidelineNow,
    )
    def acknowledge(version: PathVersion, visitor: AnyVisitor) -> dict[str, Any]:
        accounts.acknowledge(project, annotator=visitor.name, guideline=version)
        return {"version": version, "acknowledged": True}

    return routes


def past(
    project: Project, *, annotator: str, limit: int, before: int | None = None
) -> dict[str, Any]:
    """One's own acts, the latest first, as they are sent and shown."""
    found = answers.history(project, annotator=annotator, limit=limit, before=before)
    items = [
        {
            "id": one.id,
            "task": one.task,
            "number": one.seq,
            "created": datetime.fromtimestamp(one.created, UTC).isoformat(timespec="seconds"),
            "text": one.text,
            "cuts": one.cuts,
            "decided": one.decided,
            "guideline": one.guideline,
            "status": "void" if one.undone else one.status,
            "undoable": not one.undone,
        }
        for one in found
    ]
    return {"items": items, "before": found[-1].seq if len(found) == limit else None}


def _next(project: Project, annotator: str) -> dict[str, Any]:
    given = queue.next_task(project, annotator=annotator)
    with project.read() as session:
        done = session.scalar(_DONE, {"me": annotator})
    if given is None:
        read = guidelines.reading(project, user=annotator)
        now = {"version": read.version, "acknowledged": read.acknowledged}
        nothing = dict.fromkeys(("task", "candidates", "cuts", "doubts", "draft", "lease"))
        return {**nothing, "text": "", "guideline": now, "done": done, "answers": [], "flags": []}
    candidates = None if given.positions is None else list(given.positions)
    if candidates is not None:  # neither by score nor by place
        random.Random(f"{given.task}/{annotator}").shuffle(candidates)
    lease = given.lease
    return {
        "task": given.task,
        "text": given.text,
        "candidates": candidates,
        "cuts": given.cuts,
        "doubts": given.doubts,
        "draft": given.draft,
        "guideline": {"version": given.guideline, "acknowledged": given.acknowledged},
        "lease": {
            "id": lease.id,
            "seconds": lease.expires - project.clock(),
            "beat_seconds": lease.beat_seconds,
            "idle_seconds": lease.idle_seconds,
        },
        "done": done,
        "answers": given.answers,
        "flags": given.flags,
    }


def _guideline(project: Project) -> str:
    with project.read() as session:
        return state_of(session).guideline
