"""Pictures of the annotation service for the documentation, taken of a project as it is.

    python tests/annotation_pictures.py PROJECT docs/images

PROJECT is one that `attar annotate init --demo` made, or any other; it is copied, and stays as it
is.
"""

import io
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

import annotation_site
import browsing
from attar.annotate import accounts, drawing, events
from attar.annotate.settings import ARMS
from attar.annotate.store import state_of
from attar.annotate.tables import SentenceRow

PASSWORD = secrets.token_urlsafe(12)
WIDE, NARROW = {"width": 900, "height": 420}, {"width": 320, "height": 560}


def main(project: str, output: str) -> None:
    """Take all of them."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as temporary,
        annotation_site.opened(Path(project), Path(temporary) / "project") as copy,
    ):
        prepare(copy)
        app = annotation_site.application(copy)
        with browsing.browser() as browser, annotation_site.listening(app) as url:
            for name, page in pictures(browser, url, copy):
                whole = name == "dashboard"
                save(folder / f"annotate-{name}.png", page.screenshot(full_page=whole))


def prepare(project: Any) -> None:
    """People of our own, who have read the guideline, and something for them to do."""
    for arm in ARMS:
        drawing.draw(project, arm=arm)
    with project.read() as session:
        version = state_of(session).guideline
    for name, role in (("anna", "annotator"), ("ada", "admin")):
        accounts.add_user(project, name=name, role=role, password=PASSWORD)
        accounts.acknowledge(project, annotator=name, guideline=version)


def pictures(browser: Any, url: str, project: Any) -> Iterator[tuple[str, Any]]:
    """Each page when it is ready, with its name."""
    for name, viewport, locale in (
        ("editor", WIDE, "en"),
        ("editor-thai-narrow", NARROW, "th"),
    ):
        with visiting(browser, url, "anna", viewport=viewport, locale=locale) as page:
            for at in known_cuts(project, page.request.get(f"{url}/api/next").json()):
                if page.get_attribute(f"#gap-{at}", "aria-selected") == "false":
                    page.click(f"#gap-{at}")
            yield name, page
    with visiting(browser, url, "ada", viewport=WIDE | {"height": 900}, locale="en") as page:
        for image in page.locator("img").all():
            image.scroll_into_view_if_needed()
        page.wait_for_load_state("networkidle")
        page.wait_for_function("() => [...document.images].every(one => one.complete)")
        yield "dashboard", page
    with project.read() as session:
        state = state_of(session)
        text = events.guideline_text(session, state.guideline)
    changed = f"{text.rstrip()}\nA prefix such as การ or ความ belongs to the word that follows.\n"
    events.change_guideline(
        project, version="next", text=changed, expected=state.revision, author="ada"
    )
    with visiting(browser, url, "anna", viewport=WIDE, locale="en", ready="dialog[open]") as page:
        yield "guideline", page


def known_cuts(project: Any, given: Any) -> list[int]:
    """The right cuts of most of a text, as somebody would have made them half-way."""
    with project.read() as session:
        wanted = select(SentenceRow.gold).where(SentenceRow.text == given["text"])
        gold = session.scalars(wanted).one() or []
    return [at for at in gold if at <= 2 * len(given["text"]) // 3]


@contextmanager
def visiting(
    browser: Any,
    url: str,
    name: str,
    *,
    viewport: Any,
    locale: str,
    ready: str = "#work:not([hidden]), .tiles",
) -> Iterator[Any]:
    """A page of somebody who has logged in."""
    with browser.new_context(viewport=viewport, locale=locale, color_scheme="light") as context:
        page = context.new_page()
        page.goto(url)
        page.fill("input[name=name]", name)
        page.fill("input[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector(ready, timeout=120_000)
        yield page


def save(file: Path, picture: bytes) -> None:
    """With few colours: a page has no more, and the file is a third as large."""
    from PIL import Image

    Image.open(io.BytesIO(picture)).convert("RGB").quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
