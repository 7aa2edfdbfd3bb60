"""The pages for people, made on the server."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool

from attar.annotate import guidelines, logins
from attar.annotate.api import past
from attar.annotate.refusals import Throttled, Unauthenticated
from attar.annotate.sessions import COOKIE, Visitor, admit, remember, visitor_of
from attar.annotate.store import Project, state_of
from attar.annotate.words import LANGUAGES, Words, pick
from attar.data.segments.cuts import tokens_of
from attar.web.errors import ApiError
from attar.web.pages import policy

LANGUAGE_COOKIE = "attar_language"
_YEAR = 365 * 24 * 3600
#: page -> name in the menu, and who sees it
_MENU = {
    "annotate": ("nav.annotate", "annotator"),
    "history": ("nav.history", "annotator"),
    "guideline": ("guideline.short", "annotator"),
    "dashboard": ("nav.dashboard", "admin"),
    "users": ("nav.users", "admin"),
}
_KEYS = (
    (("Space",), "keys.toggle"),
    (("←", "→"), "keys.move"),
    (("Alt ←", "Alt →"), "keys.all"),
    (("Ctrl ←", "Ctrl →"), "keys.cuts"),
    (("Home", "End"), "keys.ends"),
    (("Y", "N"), "keys.yes"),
    (("Ctrl Z",), "keys.local"),
    (("Enter",), "editor.submit"),
    (("U",), "editor.undo"),
    (("S",), "editor.skip"),
    (("F",), "editor.flag"),
    (("G",), "guideline.short"),
)


class Pages:
    """Fills the templates of one project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        with project.read() as session:
            state = state_of(session)
        self.name, self.language = state.name, state.settings.language
        self._templates = Environment(
            loader=PackageLoader("attar.annotate", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["utc"] = _utc

    def words(self, request: Request, visitor: Visitor | None = None) -> Words:
        """In the language of the switch, else of the account, else of the browser."""
        wishes = (request.cookies.get(LANGUAGE_COOKIE), visitor and visitor.language)
        return Words(pick(wishes, accepted=request.headers.get("accept-language", "")))

    def page(
        self,
        request: Request,
        template: str,
        *,
        visitor: Visitor | None = None,
        http_status: int = 200,
        scripted: Sequence[str] = (),
        **values: Any,
    ) -> HTMLResponse:
        """One page.

        Args:
            request: what was asked.
            template: its name, without `.html`.
            visitor: who asks.
            http_status: of the response.
            scripted: areas of the sentences that its scripts need.
            values: what the template shows.
        """
        words = self.words(request, visitor)
        menu = [
            (path, name) for path, (name, role) in _MENU.items() if visitor and visitor.may(role)
        ]
        html = self._templates.get_template(f"{template}.html").render(
            t=words,
            language=words.language,
            languages=list(LANGUAGES.items()),
            text_language=self.language,
            project=self.name,
            pages=menu,
            here=template,
            user=visitor.name if visitor else None,
            csrf=(visitor.csrf if visitor else None) or "",
            scripted=words.under("error", *scripted) if scripted else {},
            **values,
        )
        headers = policy(forms=True) | {"Vary": "Accept-Language, Cookie"}
        headers["Cache-Control"] = "no-store" if visitor else "no-cache"
        return HTMLResponse(html, http_status, headers)

    def error(self, request: Request, *, status: int, message: str) -> HTMLResponse:
        """A page that says what went wrong."""
        message = message[:1].upper() + message[1:] + ("" if message.endswith(".") else ".")
        try:
            visitor = visitor_of(request)
        except Unauthenticated:
            visitor = None
        return self.page(
            request, "error", visitor=visitor, http_status=status, code=status, message=message
        )


def router(pages: Pages) -> APIRouter:
    """The routes of the pages that everybody sees."""
    project = pages.project
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @routes.get("/")
    def home(request: Request) -> RedirectResponse:
        visitor = admit(request, role="annotator")
        return _to("dashboard" if visitor.role == "admin" else "annotate")

    @routes.get("/annotate")
    def annotate(request: Request) -> HTMLResponse:
        visitor = admit(request, role="annotator")
        return pages.page(
            request,
            "annotate",
            visitor=visitor,
            scripted=("editor", "guideline"),
            keys=_KEYS,
            source="api/review/next" if visitor.may("reviewer") else "api/next",
        )

    @routes.get("/history")
    def history(request: Request) -> HTMLResponse:
        visitor = admit(request, role="annotator")
        items = past(project, annotator=visitor.name, limit=200)["items"]
        for item in items:
            item["words"] = tokens_of(item["text"], item["cuts"] or ())
        return pages.page(request, "history", visitor=visitor, scripted=("editor",), items=items)

    @routes.get("/guideline")
    def guideline(request: Request) -> HTMLResponse:
        visitor = admit(request, role="annotator")
        found = guidelines.reading(project, user=visitor.name)
        return pages.page(request, "guideline", visitor=visitor, guideline=found)

    @routes.get("/login")
    def login_page(request: Request, next: str = "") -> HTMLResponse:
        return pages.page(request, "login", error=None, name="", next=next)

    @routes.post("/login", response_model=None)
    async def login(request: Request) -> HTMLResponse | RedirectResponse:
        form = await _form(request)
        name, next = form.get("name", ""), form.get("next", "")
        address = request.client.host if request.client else ""
        sent = {"name": name, "password": form.get("password", ""), "address": address}
        try:
            opened = await run_in_threadpool(logins.log_in, project, **sent)
        except (Unauthenticated, Throttled) as refusal:
            page = pages.page(
                request,
                "login",
                http_status=refusal.status,
                error=str(refusal),
                name=name,
                next=next,
            )
            if isinstance(refusal, Throttled):
                page.headers["Retry-After"] = str(round(refusal.retry_after))
            return page
        response = _to(next if next in _MENU else "./")
        seconds = opened.expires - project.clock()
        remember(request, response, secret=opened.secret, seconds=seconds)
        return response

    @routes.post("/logout")
    async def logout(request: Request) -> RedirectResponse:
        form = await _form(request)
        await run_in_threadpool(admit, request, role="annotator", csrf=form.get("csrf", ""))
        secret = request.cookies.get(COOKIE, "")
        await run_in_threadpool(logins.log_out, project, secret=secret)
        response = _to("login")
        response.delete_cookie(COOKIE, path="/")
        return response

    @routes.post("/language")
    async def language(request: Request) -> RedirectResponse:
        form = await _form(request)
        code, next = form.get("language", ""), form.get("next", "")
        response = _to(next if next in _MENU else "login" if next == "login" else "./")
        if code in LANGUAGES:
            response.set_cookie(LANGUAGE_COOKIE, code, max_age=_YEAR, samesite="lax", path="/")
        return response

    return routes


def _utc(seconds: float) -> str:
    """A time for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def to_login(request: Request) -> RedirectResponse:
    """Where somebody goes who has not logged in."""
    return _to(f"login?next={quote(request.url.path.strip('/'))}")


def _to(page: str) -> RedirectResponse:
    """To another page of this service, whatever is in front of its address."""
    return RedirectResponse(page, 303, headers=policy(forms=True))


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a form of a page; of several of one name the last."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        fields = parse_qsl(body, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise ApiError(400, "the form has too many fields; reload the page") from None
    return {name: value.replace("\0", "") for name, value in fields}
