"""The pages of administrators: the dashboard, and the accounts."""

from typing import Any, get_args

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from attar.annotate import accounts, events, tokens
from attar.annotate.admin import WHOLE
from attar.annotate.agreeing import agreement
from attar.annotate.figures import SHOWN_AXES, load_curves
from attar.annotate.overview import Overview, overview
from attar.annotate.pages import Pages
from attar.annotate.sessions import admit
from attar.annotate.words import Words
from attar.data.segments.formats import FORMATS
from attar.methods.active_segmentation.effects import EFFECTS
from attar.methods.active_segmentation.events import Kind
from attar.methods.active_segmentation.rules import RuleKind

_AGREED = ("kappa", "alpha", "boundary_similarity", "word_f1")
#: kinds that have a form of their own, a button, or happen by themselves
_ELSEWHERE = (
    "guideline.change",
    "corpus.add",
    "corpus.remove",
    "pause",
    "resume",
    "annotator.join",
    "account.change",
)


def router(pages: Pages) -> APIRouter:
    """The routes of these pages."""
    project = pages.project
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @routes.get("/dashboard")
    def dashboard(request: Request) -> HTMLResponse:
        visitor = admit(request, role="admin")
        words = pages.words(request, visitor)
        found, state = load_curves(project), overview(project, words)
        with project.read() as session:
            log = events.events_of(session, accounts=True)
            text = events.guideline_text(session, state.guideline)
        return pages.page(
            request,
            "dashboard",
            visitor=visitor,
            scripted=("dashboard",),
            state=state,
            tiles=_tiles(state),
            curves=found,
            gaps=found.verdicts(),
            axes=SHOWN_AXES,
            agreement=agreement(project),
            agreed=_AGREED,
            events=log,
            numbers=events.numbered(log),
            guideline=text,
            effects={kind: _effect(kind, words) for kind in get_args(Kind)},
            kinds=[kind for kind in get_args(Kind) if kind not in _ELSEWHERE],
            policies=EFFECTS["guideline.change"].policies,
            rules=get_args(RuleKind),
            formats=list(FORMATS),
            whole=WHOLE,
        )

    @routes.get("/users")
    def users(request: Request) -> HTMLResponse:
        visitor = admit(request, role="admin")
        return pages.page(
            request,
            "users",
            visitor=visitor,
            scripted=("users",),
            accounts=accounts.users(project),
            tokens=tokens.tokens(project),
            roles=accounts.ROLES,
        )

    return routes


def _effect(kind: Kind, words: Words) -> str:
    """What an event of a kind does to the arms, and what to do then."""
    effect = EFFECTS[kind]
    said = words(
        "dashboard.effect",
        active=words(f"effect.{effect.active}"),
        random=words(f"effect.{effect.random}"),
    )
    actions = "; ".join(words(f"action.{name}") for name in effect.actions)
    return " ".join([said, words("dashboard.then", actions=actions)]) if actions else said


def _tiles(state: Overview) -> list[tuple[str, Any]]:
    """The figures at the top of the dashboard."""
    return [
        ("annotations", state.annotations),
        ("staleness", state.staleness),
        ("run", "-" if state.run is None else str(state.run)),
        ("guideline", state.guideline),
        ("snapshot", state.snapshot or "-"),
        ("sentences", state.sentences),
        ("reserved", state.reserved),
        ("evaluated", state.evaluated),
        ("at_work", state.at_work),
    ]
