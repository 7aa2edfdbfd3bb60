"""What administrators ask of the service: its state, events, arms, jobs, users, curves, files."""

import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse
from pydantic import Field
from sqlalchemy import select
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from attar.annotate import accounts, corpus, drawing, events, exporting, jobs, tokens
from attar.annotate.agreeing import agreement
from attar.annotate.charts import points_csv
from attar.annotate.figures import SHOWN_AXES, load_curves
from attar.annotate.overview import overview
from attar.annotate.schemas import NO_NUL, Body
from attar.annotate.sessions import Admin, fresh
from attar.annotate.store import Project
from attar.annotate.tables import Arm
from attar.data.segments.formats import FORMATS
from attar.errors import ConfigError, DataError, require
from attar.methods.active_segmentation.events import Event, Kind, Policy
from attar.methods.active_segmentation.points import AXES
from attar.methods.active_segmentation.rules import Rule, RuleKind

WHOLE = "project"
"""The export that holds everything: history, events, batches, curves."""
_FRESH = {"Cache-Control": "no-store"}

Short = Annotated[str, Field(max_length=200, pattern=NO_NUL)]
Long = Annotated[str, Field(max_length=200_000, pattern=NO_NUL)]
Note = Annotated[str, Field(max_length=2000, pattern=NO_NUL)]
PathName = Annotated[str, PathParameter(pattern=r"^[\w.@+-]{1,64}$")]


class RuleBody(Body):
    """How a guideline rewrites old answers."""

    kind: RuleKind
    words: Annotated[list[Short], Field(min_length=1, max_length=2000)]


class EventBody(Body):
    """Something that changed. A change of the guideline needs its `text`, and the `revision` of the
    project that it was made from."""

    kind: Kind
    scope: Short = ""
    before: Short = ""
    after: Short = ""
    note: Note = ""
    policy: Policy | None = None
    rule: RuleBody | None = None
    query: Short | None = None
    text: Long | None = None
    revision: Annotated[int, Field(strict=True, ge=0)] | None = None


class JobBody(Body):
    """Work for the worker."""

    kind: Literal["train", "history"] = "train"


class UserBody(Body):
    """A new account."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: Literal["annotator", "reviewer", "admin"] = "annotator"
    password: Annotated[str, Field(max_length=1024)] | None = None
    language: Literal["en", "th"] | None = None


class UserChange(Body):
    """Changes of an account; what is None stays."""

    role: Literal["annotator", "reviewer", "admin"] | None = None
    password: Annotated[str, Field(max_length=1024)] | None = None
    language: Literal["en", "th"] | None = None
    active: bool | None = None


class TokenBody(Body):
    """A new token for scripts."""

    label: Short = ""
    days: Annotated[float, Field(gt=0, le=3650)] | None = None


def router(project: Project) -> APIRouter:
    """The routes of one project."""
    routes = APIRouter(prefix="/api/admin", dependencies=[Depends(fresh)])

    @routes.get("/status", summary="How the project stands")
    def status(visitor: Admin) -> dict[str, Any]:
        return asdict(overview(project))

    @routes.get("/events", summary="The log of what changed")
    def log(visitor: Admin) -> dict[str, Any]:
        with project.read() as session:
            return {
                "items": [event.to_dict() for event in events.events_of(session, accounts=True)]
            }

    @routes.post("/events", summary="Log a change", status_code=201)
    def add_event(body: EventBody, visitor: Admin) -> dict[str, Any]:
        return _log(project, body, author=visitor.name)

    @routes.post("/arms/{arm}/draw", summary="Draw the next batch of an arm")
    def draw(arm: PathName, visitor: Admin) -> Any:
        return asdict(drawing.draw(project, arm=arm))

    @routes.get("/jobs", summary="The last training runs")
    def list_jobs(visitor: Admin, limit: int = Query(20, ge=1, le=200)) -> dict[str, Any]:
        return {"items": [asdict(job) for job in jobs.jobs(project, limit=limit)]}

    @routes.post("/jobs", summary="Train the models", status_code=202)
    def add_job(body: JobBody, visitor: Admin) -> dict[str, Any]:
        return asdict(jobs.ask_for(project, kind=body.kind, reason=f"{visitor.name} asked for it"))

    @routes.get("/users", summary="All accounts")
    def users(visitor: Admin) -> dict[str, Any]:
        return {"items": [asdict(user) for user in accounts.users(project)]}

    @routes.post("/users", summary="Open an account", status_code=201)
    def add_user(body: UserBody, visitor: Admin) -> dict[str, Any]:
        made = accounts.add_user(project, author=visitor.name, **body.model_dump())
        return asdict(made)

    @routes.patch("/users/{name}", summary="Change an account")
    def change_user(name: PathName, body: UserChange, visitor: Admin) -> dict[str, Any]:
        sent = body.model_dump(exclude_unset=True)
        return asdict(accounts.change_user(project, name=name, author=visitor.name, **sent))

    @routes.post("/users/{name}/tokens", summary="A new token: shown this once", status_code=201)
    def add_token(name: PathName, body: TokenBody, visitor: Admin) -> dict[str, str]:
        return {
            "token": tokens.create_token(
                project, user=name, author=visitor.name, **body.model_dump()
            )
        }

    @routes.get("/tokens", summary="All tokens, without their secrets")
    def list_tokens(visitor: Admin) -> dict[str, Any]:
        return {"items": [asdict(token) for token in tokens.tokens(project)]}

    @routes.delete("/tokens/{id}", summary="End a token", status_code=204)
    def revoke(id: PathName, visitor: Admin) -> None:
        tokens.revoke_token(project, id=id, author=visitor.name)

    @routes.get("/curves", summary="The learning curves")
    def curves(visitor: Admin) -> dict[str, Any]:
        found = load_curves(project)
        return {"points": found.rows, "differences": found.verdicts(), "axes": AXES}

    @routes.get("/curves.csv", summary="Their points as CSV")
    def curves_csv(visitor: Admin) -> Response:
        return _file(
            points_csv(load_curves(project).rows).encode(), name="curves.csv", kind="text/csv"
        )

    @routes.get("/curves.png", summary="A chart of them")
    def curves_png(visitor: Admin, axis: str = SHOWN_AXES[0]) -> Response:
        picture = load_curves(project).picture(axis)
        return Response(picture, media_type="image/png", headers=_FRESH)

    @routes.get("/agreement", summary="How far people agree")
    def agree(
        visitor: Admin,
        by: Annotated[list[Short], Query(max_length=3)] = ["arm", "guideline"],  # noqa: B006
    ) -> dict[str, Any]:
        return {"items": [asdict(one) for one in agreement(project, by=by)]}

    @routes.get(
        "/export", summary="The labels in a format, or the whole project", response_model=None
    )
    def export_labels(
        visitor: Admin,
        *,
        format: Annotated[str, Query(max_length=40)] = "jsonl",
        arm: Annotated[str | None, Query(max_length=64)] = None,
        guideline: Annotated[str | None, Query(max_length=40, pattern=NO_NUL)] = None,
    ) -> Response:
        folder = Path(tempfile.mkdtemp(prefix="attar-export-"))
        try:
            file = _export(project, folder, format=format, arm=arm, guideline=guideline)
        except BaseException:
            shutil.rmtree(folder)
            raise
        gone = BackgroundTask(shutil.rmtree, folder)
        return FileResponse(file, filename=file.name, background=gone, headers=_FRESH)

    @routes.post("/import", summary="Add texts to the corpus", status_code=201)
    async def add_texts(
        request: Request,
        visitor: Admin,
        *,
        name: Annotated[str, Query(max_length=200)] = "upload",
        format: Annotated[str | None, Query(max_length=40)] = None,
        snapshot: Annotated[str | None, Query(max_length=100, pattern=NO_NUL)] = None,
    ) -> dict[str, Any]:
        body = await request.body()  # as much as the server takes, by `BodyLimit`
        sent = {"name": name, "format": format or None, "snapshot": snapshot or None}
        return await run_in_threadpool(_import, project, body, author=visitor.name, **sent)

    return routes


def _log(project: Project, body: EventBody, *, author: str) -> dict[str, Any]:
    rule = None if body.rule is None else Rule(body.rule.kind, tuple(body.rule.words))
    if body.kind == "guideline.change":
        if body.text is None or body.revision is None:
            raise ConfigError(
                "a change of the guideline needs its text, and the revision of the project that it "
                "was made from; send both"
            )
        state = events.change_guideline(
            project,
            version=body.after,
            text=body.text,
            expected=body.revision,
            policy=body.policy or "tag",
            rule=rule,
            query=body.query,
            author=author,
            note=body.note,
        )
        return {"guideline": state.guideline, "revision": state.revision}
    plain = body.model_dump(exclude={"text", "revision", "rule", "policy"})
    event = Event(**plain, rule=rule, policy=body.policy or "keep", author=author)
    return events.log_event(project, event).to_dict()


def _import(
    project: Project,
    body: bytes,
    *,
    name: str,
    format: str | None,
    snapshot: str | None,
    author: str,
) -> dict[str, Any]:
    """Read an upload as a file: its format is told by its suffix and contents, like any other's."""
    suffix = re.search(r"(\.\w{1,10}){0,2}$", name)
    with tempfile.TemporaryDirectory(prefix="attar-upload-") as folder:
        file = Path(folder) / f"upload{suffix[0] if suffix else ''}"
        file.write_bytes(body)
        try:
            report = corpus.add(project, file, format=format, snapshot=snapshot, author=author)
        except DataError as error:
            raise DataError(str(error).replace(f"{folder}/", "")) from error
    return asdict(report)


def _export(
    project: Project, folder: Path, *, format: str, arm: str | None, guideline: str | None
) -> Path:
    """Write an export below a folder; of several files, an archive of them."""
    name = re.sub(r"\W+", "-", f"labels-{arm or 'all'}").strip("-")
    made = folder / name
    if format == WHOLE:
        exporting.export_project(project, output=made)
    else:
        known = FORMATS.get(format)
        require(known is not None, "format", format, f"one of {', '.join((*FORMATS, WHOLE))}")
        with project.read() as session:
            arms = list(session.scalars(select(Arm.name)))
        require(not arm or arm in arms, "arm", arm, f"one of {', '.join(arms)}")
        made.mkdir()
        suffix = known.suffixes[0] if known and known.suffixes else ""
        options = {"format": format, "arm": arm or None, "guideline": guideline or None}
        exporting.export_labels(project, output=made / f"{name}{suffix}", **options)
    files = [file for file in made.rglob("*") if file.is_file()]
    if len(files) == 1 and format != WHOLE:
        return files[0]
    return Path(shutil.make_archive(str(folder / name), "zip", made))


def _file(content: bytes, *, name: str, kind: str) -> Response:
    headers = _FRESH | {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=kind, headers=headers)
