"""The playground in a browser, over a real socket."""

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

import browsing
import served
from attar.decode.texts import Delta, Request
from attar.server.config import ServeConfig
from attar.server.engine import Work
from attar.server.jobs import News
from attar.server.serving import Served, build_server

pytestmark = pytest.mark.browser

WRITTEN = (" moon rises", " moon sets", " <b id=planted>sea</b><img src=x>")
KEY = "sessionStorage.setItem('attar-api-key', 'secret')"


class Known:
    """A mode that writes the same three drafts behind every text, when the gate is open."""

    name = "known"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def works(self, request: Request, *, count: int, options: Mapping[str, Any]) -> Sequence[Work]:
        return [Writing(self.gate, count)]

    def suits(self, request: Request) -> bool:
        return False


class Writing:
    """Drafts of one request."""

    deadline = None

    def __init__(self, gate: threading.Event, count: int) -> None:
        self.gate, self.count, self.passes = gate, count, 0

    def step(self) -> News:
        if not self.gate.is_set():
            time.sleep(0.005)
            return []
        self.passes += 4
        return [
            (i, Delta(text=WRITTEN[i], tokens=4, finish_reason="stop", score=-i / 4))
            for i in range(self.count)
        ]

    def end(self, *, late: bool) -> News:
        return []

    def cancel(self) -> None:
        pass


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@pytest.fixture(scope="module")
def made(known: Known) -> Served:
    config = ServeConfig(context=served.CONTEXT, rows=3)
    generator = served.generator(draft=True, endless=True)
    return build_server(generator, name="tiny", config=config, keys=["secret"], modes=[known])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(made: Served, browser: Any) -> Iterator[str]:
    with served.listening(made) as server:
        yield server.url


@pytest.fixture
def visit(browser: Any, url: str, request: pytest.FixtureRequest) -> Iterator[browsing.Visit]:
    """A page with the key; options of the browser's context are the test's parameter."""
    context = browser.new_context(**getattr(request, "param", {}))
    context.add_init_script(KEY)
    visit = browsing.Visit(context.new_page(), url)
    yield visit
    context.close()
    assert {one.url for one in visit.asked if not one.url.startswith(f"{url}/")} == set()
    assert visit.said == []


def test_drafts_are_shown_behind_the_text_and_in_a_list(
    visit: browsing.Visit, made: Served
) -> None:
    visit.open()
    modes = visit.page.locator("#modes input").evaluate_all("all => all.map(one => one.value)")
    assert modes == list(made.service.modes)
    visit.type("red")
    visit.shows(WRITTEN[0])
    scores = ["0.00", "\u22120.25", "\u22120.50"]
    assert visit.drafts == [list(pair) for pair in zip(WRITTEN, scores, strict=True)]
    assert visit.page.locator("#planted, main img").count() == 0  # text, whatever it says
    figures = visit.page.inner_text("#panels section > p")
    assert re.fullmatch(r"\d+ ms · 4 passes · 12 tokens", figures)
    assert visit.page.get_by_role("status").text_content() == f"3 drafts. 1 of 3: {WRITTEN[0]}"
    visit.press("ArrowLeft")  # a draft belongs to the end of the text
    visit.shows("")
    visit.press("End")
    visit.shows(WRITTEN[0])
    visit.page.locator("#panels button").nth(1).click()
    assert visit.text == "red moon sets"


def test_keys_accept_cycle_and_dismiss(visit: browsing.Visit) -> None:
    visit.open()
    visit.type("red")
    visit.shows(WRITTEN[0])
    news = visit.page.get_by_role("status")
    for key, shown in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowDown", 0), ("ArrowUp", 2)):
        visit.press(key)
        visit.shows(WRITTEN[shown])
        assert news.text_content() == f"{shown + 1} of 3: {WRITTEN[shown]}"
        marked = visit.page.locator("#panels [aria-current=true] span").first
        assert marked.text_content() == WRITTEN[shown]
    visit.press("ArrowUp", "Tab")
    assert visit.text == "red" + WRITTEN[1]
    visit.shows(WRITTEN[0])  # the next ones
    visit.press("Escape")
    visit.shows("")
    assert (visit.drafts, visit.text) == ([], "red" + WRITTEN[1])
    visit.press("Control+z")
    assert visit.text == "red"
    visit.shows(WRITTEN[0])
    visit.press("Escape", "Tab")  # leaves the text, as everywhere
    assert visit.page.evaluate("document.activeElement.name") == "mode"


def test_what_is_typed_cancels_what_runs_and_narrows_what_is_there(
    visit: browsing.Visit, known: Known, made: Served
) -> None:
    visit.open()
    visit.type("red")
    visit.shows(WRITTEN[0])
    before = made.service.meters.totals()["cancelled_requests"]
    known.gate.clear()
    try:
        visit.type(" moon")
        visit.shows(" rises")  # before any answer
        assert [text for text, _ in visit.drafts] == [" rises", " sets"]
        visit.type(" s")
        visit.shows("ets")
        while len(visit.prompts) < 2:
            visit.page.wait_for_timeout(20)
        visit.type("t")
        visit.shows("")
        until = time.monotonic() + 10
        while made.service.meters.totals()["cancelled_requests"] == before:
            assert time.monotonic() < until
            visit.page.wait_for_timeout(20)
    finally:
        known.gate.set()
    visit.shows(WRITTEN[0])
    assert visit.prompts == ["red", "red moon s", "red moon st"]  # none for the keys between
    assert [one.failure for one in visit.failed] == ["net::ERR_ABORTED"]


def test_modes_stand_side_by_side(visit: browsing.Visit, made: Served) -> None:
    visit.open("superposed")
    visit.page.check("#compare")
    visit.page.fill("#tokens", "4")
    visit.page.focus("#text")
    visit.type("red moon")
    count = len(made.service.modes)
    visit.until(f"document.querySelectorAll('section[aria-busy=false]').length === {count}")
    titles = visit.page.locator("#panels h2").all_text_contents()
    assert titles == ["Superposed", "Plain", "known", "Speculative"]
    figures = visit.page.locator("#panels section > p").all_text_contents()
    passes = [int(re.findall(r"(\d+) pass", one)[0]) for one in figures]
    assert passes[0] == 4
    assert passes[1] < passes[3] <= 12  # in a batch, and one after the other
    assert visit.page.text_content("#ghost") == visit.drafts[0][0]


def test_errors_are_sentences_and_a_busy_server_is_asked_again(visit: browsing.Visit) -> None:
    visit.open()
    error = visit.page.get_by_role("alert")
    visit.page.fill("#text", "red " * 300)
    visit.until("document.querySelector('#error').textContent")
    assert re.fullmatch(r"Prompt and max_tokens must fit into 200 tokens; .+\.", error.inner_text())
    visit.page.fill("#count", "99")
    visit.until("document.querySelector('#error').textContent.startsWith('Drafts: ')")
    visit.page.fill("#count", "3")
    busy = {"status": 429, "headers": {"Retry-After": "1"}, "json": {"error": {"message": "busy"}}}
    pattern = "**/v1/completions"
    visit.page.route(pattern, lambda route: route.fulfill(**busy), times=1)
    visit.page.fill("#text", "red")
    visit.until("document.querySelector('#error').textContent.includes('busy')")
    assert error.inner_text() == "The server is busy; it will be asked again in 1 s."
    visit.shows(WRITTEN[0])
    visit.until("!document.querySelector('#error').textContent")
    visit.page.route(pattern, lambda route: route.abort(), times=1)
    visit.page.fill("#text", "blue")
    visit.until("document.querySelector('#error').textContent")
    assert error.inner_text() == "The server does not answer; check that it is still running."
    assert len(visit.said) == 3
    visit.said.clear()  # the browser notes failed requests


def test_who_types_before_the_server_has_answered_loses_nothing(visit: browsing.Visit) -> None:
    held: list[Any] = []
    visit.page.route("**/v1/models", lambda route: held.append(route))
    visit.open(mode=None)
    visit.type("red")
    while len(held) < 2:  # once at the start, and once more for the text
        visit.page.wait_for_timeout(20)
    for route in held:
        route.continue_()
    visit.until("document.querySelector('#panels section[aria-busy=false] button')")
    assert visit.page.locator("#modes input").count() == 4


def test_a_key_is_asked_for_and_kept_for_the_session(browser: Any, url: str) -> None:
    with browser.new_context() as context:
        visit = browsing.Visit(context.new_page(), url).open(mode=None)
        visit.until("!document.querySelector('#entry').hidden")
        error = visit.page.get_by_role("alert")
        assert error.inner_text() == "This server needs an API key."
        for key, said in (
            ("guess", "This key is not valid here; enter another."),
            ("secret", ""),
        ):
            visit.page.get_by_label("API key").fill(key)
            visit.press("Enter")
            visit.page.wait_for_function(
                "said => document.querySelector('#error').textContent === said", arg=said
            )
        assert visit.page.locator("#entry").is_hidden()
        assert visit.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        visit.page.reload()
        visit.until("document.querySelector('#model').textContent === 'tiny'")


def test_all_of_it_works_by_keyboard_and_has_a_name(visit: browsing.Visit) -> None:
    visit.open(mode=None)
    visit.until("document.querySelector('#modes input')")
    names = []
    while True:
        visit.press("Tab")
        focus = "document.activeElement"
        if visit.page.evaluate(f"{focus} === document.body"):
            break
        assert visit.page.evaluate(f"getComputedStyle({focus}).outlineStyle") == "solid"
        names.append(visit.page.evaluate(f"{focus}.labels[0].textContent.trim()"))
    assert names == ["Speculative", "Side by side", "Drafts", "Tokens", "Temperature"]
    text = visit.page.get_by_role("textbox", name="Text")
    assert text.get_attribute("aria-describedby") == "help"
    visit.press(*["Shift+Tab"] * 5)
    visit.press("ArrowRight")  # another mode
    assert visit.page.is_checked("input[value=superposed]")


@pytest.mark.parametrize(
    "visit",
    [{"viewport": {"width": 360, "height": 640}, "reduced_motion": "reduce"}],
    indirect=True,
)
def test_it_fits_a_telephone_and_keeps_still(visit: browsing.Visit) -> None:
    visit.open()
    visit.page.check("#compare")
    visit.page.fill("#text", f"red {'x' * 90}")
    visit.shows(WRITTEN[0])
    visit.until("document.querySelectorAll('section[aria-busy=false]').length > 1")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
    boxes = [one.bounding_box() for one in visit.page.locator("#settings input, button").all()]
    assert all(box is None or box["x"] + box["width"] <= 360 for box in boxes)
    moving = """[...document.querySelectorAll("*")].filter(one => {
        const { animationName, transitionDuration } = getComputedStyle(one);
        return animationName !== "none" || transitionDuration !== "0s";
    }).length"""
    assert visit.page.evaluate(moving) == 0


@pytest.mark.parametrize(
    "visit", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True
)
def test_everything_can_be_read_by_day_and_by_night(
    visit: browsing.Visit, request: pytest.FixtureRequest
) -> None:
    visit.open()
    visit.type("red")
    visit.shows(WRITTEN[0])
    visit.page.evaluate("document.querySelector('#error').textContent = 'An error.'")
    seen = {one.words: one for one in visit.colours()}
    assert {"An error.", WRITTEN[0], "placeholder", "Attar"} <= seen.keys()
    assert [one for one in seen.values() if one.contrast < 4.5] == []
    paper = browsing.luminance(seen["Attar"].paper)
    dark = request.node.callspec.params["visit"]["color_scheme"] == "dark"
    assert paper < 0.05 if dark else paper > 0.8
