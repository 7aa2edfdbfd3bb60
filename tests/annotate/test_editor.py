"""The editor in a browser, over a real socket."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

import annotation_site
import browsing
from attar.annotate import answers, events
from attar.annotate.tables import Draft, Lease
from attar.annotate.tasks import NewTask, ask
from attar.data.segments.cuts import tokens_of
from attar.data.segments.legal import clusters, legal
from attar.methods.active_segmentation.arms import uid

pytestmark = pytest.mark.browser

TEXT = annotation_site.TEXTS[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = annotation_site.make_project(tmp_path_factory.mktemp("projects") / "p")
    project.close()
    return project


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project that asks about three places of each text."""
    places = dict.fromkeys(annotation_site.TEXTS, (2, 3, 8))
    folder = tmp_path_factory.mktemp("projects") / "asked"
    project = annotation_site.make_project(folder, asked=places)
    project.close()
    return project


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project that wants two answers to each text."""
    folder = tmp_path_factory.mktemp("projects") / "shared"
    project = annotation_site.make_project(folder, needed=2)
    project.close()
    return project


@pytest.fixture
def project(made: Any, tmp_path: Path) -> Iterator[Any]:
    with annotation_site.copied(made, tmp_path / "p") as project:
        yield project


@pytest.fixture
def url(project: Any) -> Iterator[str]:
    with annotation_site.listening(annotation_site.application(project)) as url:
        yield url


class Editor(browsing.Visit):
    """A page of somebody who has logged in."""

    def log_in(self, name: str = "anna") -> "Editor":
        self.page.goto(self.url)
        self.page.fill("input[name=name]", name)
        self.page.fill("input[name=password]", annotation_site.PASSWORD)
        self.press("Enter")
        self.page.wait_for_url("**/dashboard" if name == "ada" else "**/annotate")
        if name != "ada":
            self.ready()
        return self

    def ready(self) -> None:
        self.until("document.querySelector('#work')?.hidden === false")  # once it is parsed

    @property
    def words(self) -> list[str]:
        return self.page.text_content("#spoken").split(" | ")

    @property
    def caret(self) -> int:
        return int(self.page.get_attribute("#sentence", "aria-activedescendant")[4:])

    @property
    def text(self) -> str:
        return "".join(self.words)

    def wait_text(self, text: str) -> None:
        self.page.wait_for_function(
            "text => document.querySelector('#spoken').textContent.replaceAll(' | ', '') === text",
            arg=text,
            timeout=20_000,
        )


@pytest.fixture
def editor(browser: Any, url: str, request: pytest.FixtureRequest) -> Iterator[Editor]:
    """A page after logging in; options of the browser's context are the test's parameter."""
    context = browser.new_context(**getattr(request, "param", {}))
    editor = Editor(context.new_page(), url).log_in()
    yield editor
    context.close()
    assert {one.url for one in editor.asked if not one.url.startswith(f"{url}/")} == set()
    assert editor.said == []


def stored(project: Any, name: str = "anna") -> list[Any]:
    return answers.history(project, annotator=name)


def test_a_text_is_cut_by_keys(editor: Editor, project: Any) -> None:
    text = editor.text
    assert editor.page.evaluate("document.activeElement.id") == "sentence"
    first = editor.caret
    editor.press("Space", "ArrowRight", "ArrowRight", "Space")
    second = editor.caret
    assert 0 < first < second
    assert [len(word) for word in editor.words] == [first, second - first, len(text) - second]
    editor.press("Control+z")
    assert editor.words == [text[:first], text[first:]]
    editor.press("Control+z")
    assert editor.words == [text]
    editor.press("ArrowLeft", "Space", "Enter")
    editor.until(f"document.querySelector('#spoken').textContent !== {json.dumps(text)}")
    editor.until("document.querySelector('#done').textContent.includes('1')")
    (done,) = stored(project)
    assert (done.text, done.status, len(done.cuts)) == (text, "submitted", 1)


def test_clicks_cut_at_the_nearest_place(editor: Editor) -> None:
    text = editor.text
    first = editor.caret
    after = clusters(text[:first])
    for number, share in ((len(after), 0.3), (len(after) - 1, 0.7)):  # on both sides of the place
        box = editor.page.locator(".cluster").nth(number).bounding_box()
        editor.page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        cut = number == len(after)
        assert editor.words == ([text[:first], text[first:]] if cut else [text])
    editor.page.locator(f"#gap-{first}").click(force=True)
    assert editor.words == [text[:first], text[first:]]
    assert editor.page.evaluate("document.activeElement.id") == "sentence"


def test_clusters_stay_whole_and_every_place_is_an_option(editor: Editor) -> None:
    text = editor.text
    assert editor.page.locator(".cluster").all_text_contents() == clusters(text)
    options = editor.page.get_by_role("option")
    assert options.count() == len(text) - 1
    assert set(options.evaluate_all("all => all.map(one => one.ariaSelected)")) == {"false"}
    usual = editor.page.locator(".gap:not(.unusual)").evaluate_all("all => all.map(one => one.id)")
    assert usual == [f"gap-{at}" for at in legal(text)]
    first = editor.caret
    label = editor.page.locator(f"#gap-{first}").get_attribute("aria-label")
    assert label == f"after {text[:first][-4:]}, before {text[first : first + 4]}"
    inner = next(at for at in range(1, len(text)) if at not in set(legal(text)))
    editor.press(*["Home", *["Alt+ArrowLeft"] * 30, *["Alt+ArrowRight"] * (inner - 1), "Space"])
    assert (editor.caret, editor.words) == (inner, [text[:inner], text[inner:]])
    assert editor.page.locator(f"#gap-{inner}").is_visible()
    assert editor.page.get_by_role("status").text_content() == "Cut"


def test_a_reload_brings_caret_and_cuts_back(editor: Editor, browser: Any) -> None:
    pattern = "**/api/drafts/*"
    editor.page.route(pattern, lambda route: route.abort())
    editor.press("ArrowRight", "Space", "ArrowRight", "Space", "ArrowLeft")
    words, caret = editor.words, editor.caret
    assert len(words) == 3
    kept = "Object.keys(localStorage).filter(name => name.startsWith('attar:anna:draft:'))"
    drafts = editor.page.evaluate(f"{kept}.map(name => JSON.parse(localStorage[name]))")
    assert [(len(one["cuts"]), one["caret"]) for one in drafts] == [(2, caret)]
    editor.page.reload()
    editor.ready()
    assert (editor.words, editor.caret) == (words, caret)
    editor.page.unroute(pattern)
    editor.said.clear()  # the browser notes failed requests
    editor.press("ArrowRight", "ArrowRight", "Space")
    words, caret = editor.words, editor.caret
    editor.until("document.querySelector('#saved').textContent === 'Draft saved.'")
    with browser.new_context() as context:  # another browser
        other = Editor(context.new_page(), editor.url).log_in()
        assert (other.words, other.caret) == (words, caret)


def test_an_answer_is_taken_back(editor: Editor, project: Any) -> None:
    editor.press("Space")
    text, words = editor.text, editor.words
    editor.press("Enter")
    editor.until("document.querySelector('#done').textContent.includes('1')")
    after = editor.text
    editor.page.reload()  # what was answered last is not forgotten
    editor.ready()
    editor.press("u")
    editor.wait_text(text)
    assert editor.words == words
    editor.press("Enter")
    editor.wait_text(after)
    assert [one.undone for one in stored(project)] == [False, True]
    editor.page.click("nav a[href=history]")
    editor.page.get_by_role("button", name="Undo").click()
    editor.page.wait_for_url("**/annotate")
    editor.wait_text(text)
    assert [one.undone for one in stored(project)] == [True, True]


def test_texts_are_skipped_and_flagged(editor: Editor, project: Any) -> None:
    text = editor.text
    editor.press("s")
    editor.until(f"document.querySelector('#spoken').textContent !== {json.dumps(text)}")
    text = editor.text
    editor.press("f")
    editor.page.get_by_role("dialog").wait_for()
    editor.press("Escape")
    assert editor.text == text
    editor.press("f")
    editor.type("half a sentence")
    editor.press("Tab", "Enter")
    editor.until(f"document.querySelector('#spoken').textContent !== {json.dumps(text)}")
    assert [one.status for one in stored(project)] == ["flagged", "skipped"]
    assert editor.page.evaluate("document.activeElement.id") == "sentence"


def test_a_changed_guideline_is_read_and_the_cuts_stay(editor: Editor, project: Any) -> None:
    editor.press("g")
    dialog = editor.page.get_by_role("dialog")
    assert "Keep names whole." in dialog.inner_text()
    editor.press("Escape", "Space")
    words = editor.words
    text = "Cut where a word begins.\nCut names apart.\n"
    events.change_guideline(project, version="g2", text=text, expected=1, author="ada")
    editor.press("Enter")
    dialog.wait_for()
    assert dialog.get_by_role("heading").inner_text() == "The guideline has changed: g1 is now g2"
    assert dialog.locator("p").all_inner_texts() == [
        "Cut where a word begins.",
        "Removed: Keep names whole.",
        "Added: Cut names apart.",
    ]
    editor.press("Escape", "Escape", "Escape")
    dialog.wait_for()
    dialog.get_by_role("button").click()
    dialog.wait_for(state="hidden")
    assert editor.words == words
    editor.page.focus("#sentence")
    editor.press("Enter")
    editor.until("document.querySelector('#done').textContent.includes('1')")
    (done,) = stored(project)
    assert done.guideline == "g2"
    editor.said.clear()  # the browser notes the refusal


def test_an_answer_survives_a_server_that_does_not_answer(editor: Editor, project: Any) -> None:
    editor.press("Space")
    editor.page.context.set_offline(True)
    editor.press("Enter")
    editor.until("document.querySelector('#error').textContent.includes('sent again')")
    editor.press("Space", "Enter")  # nothing can change while it is on its way
    assert stored(project) == []
    editor.page.close()
    editor.page.context.set_offline(False)
    other = Editor(editor.page.context.new_page(), editor.url)
    other.page.goto(f"{editor.url}/annotate")
    other.ready()
    other.until("document.querySelector('#done').textContent.includes('1')")
    (done,) = stored(project)
    assert len(done.cuts) == 1
    editor.said.clear()


def test_a_session_that_ended_loses_no_answer(editor: Editor, project: Any) -> None:
    editor.press("Space")
    editor.page.context.clear_cookies()
    editor.press("Enter")
    editor.page.wait_for_url("**/login?next=annotate")
    editor.page.fill("input[name=name]", "anna")
    editor.page.fill("input[name=password]", annotation_site.PASSWORD)
    editor.press("Enter")
    editor.page.wait_for_url("**/annotate")
    editor.ready()
    assert len(stored(project)) == 1
    editor.said.clear()


def test_cuts_survive_a_server_that_forgot_whom_it_gave_the_task(
    editor: Editor, project: Any
) -> None:
    """As it may after a power cut."""
    editor.press("Space")
    cut = editor.words
    with project.write() as session:
        session.execute(delete(Lease))
        session.execute(delete(Draft))
    editor.page.evaluate("document.querySelector('#sentence').firstElementChild.dataset.old = 1")
    editor.press("Enter")
    editor.until("document.querySelector('#error').textContent.includes('not given to you')")
    editor.until("!document.querySelector('#sentence [data-old]')")  # it was given again
    editor.press("Enter")
    editor.until("document.querySelector('#done').textContent.includes('1')")
    (done,) = stored(project)
    assert tokens_of(done.text, done.cuts) == cut
    editor.said.clear()


def test_single_places_are_answered_with_yes_and_no(
    browser: Any, asked: Any, tmp_path: Path
) -> None:
    with (
        annotation_site.copied(asked, tmp_path / "p") as project,
        annotation_site.listening(annotation_site.application(project)) as url,
        browser.new_context() as context,
    ):
        editor = Editor(context.new_page(), url).log_in()
        assert editor.page.evaluate("document.activeElement.id") == "questions"
        assert editor.page.locator(".question").count() == 3
        editor.press("y", "Enter")
        error = editor.page.get_by_role("alert")
        assert error.inner_text() == "Answer every question first."
        editor.page.reload()
        editor.ready()
        pressed = editor.page.locator("[aria-pressed=true]")
        assert pressed.all_inner_texts() == ["Yes"]
        thai = {"key": "ื", "code": "KeyN", "bubbles": True}  # N on a Thai keyboard
        editor.page.dispatch_event("#questions", "keydown", thai)
        assert sorted(pressed.all_inner_texts()) == ["No", "Yes"]
        editor.press("n", "Control+z", "y", "Enter")
        editor.until("document.querySelector('#done').textContent.includes('1')")
        (done,) = stored(project)
        assert done.decided == (2, 3, 8)
        assert len(done.cuts) == 2
        windows = editor.page.locator(".window").all_inner_texts()
        assert all(len(window.replace("\u2026", "")) <= 80 for window in windows)
        assert editor.said == []


def test_a_reviewer_decides_between_answers_without_names(
    browser: Any, shared: Any, tmp_path: Path
) -> None:
    with annotation_site.copied(shared, tmp_path / "p") as project:
        app = annotation_site.application(project)
        for name, cuts in (("anna", (2, 3)), ("boon", (2, 8))):
            with annotation_site.client(app, name) as client:
                assert annotation_site.answer_all(client, {TEXT: cuts}) == 6
        with project.write() as session:
            ask(session, [NewTask(uid(TEXT), "adjudicate")], seed=13, now=0.0)
        with annotation_site.listening(app) as url, browser.new_context() as context:
            editor = Editor(context.new_page(), url).log_in("rita")
            assert editor.text == TEXT
            lines = editor.page.locator("#proposals .words").all_inner_texts()
            assert sorted(lines) == ["กา|ร|เปลี่ยนแปลงครั้งใหญ่", "กา|รเปลี่|ยนแปลงครั้งใหญ่"]
            assert editor.page.locator("#proposals b").count() == 2  # where they differ
            editor.press("2", "1")
            assert editor.words == lines[0].split("|")
            assert not {"anna", "boon"} & set(editor.page.inner_text("main").split())
            editor.press("Enter")
            editor.until("document.querySelector('#done').textContent.includes('1')")
            assert stored(project, "rita")[0].text == TEXT


def test_a_reviewer_reads_what_is_wrong_with_a_text(
    browser: Any, shared: Any, tmp_path: Path
) -> None:
    with annotation_site.copied(shared, tmp_path / "p") as project:
        app = annotation_site.application(project)
        with annotation_site.client(app, "anna") as client:
            given = client.get("/api/next").json()
            body = {"id": str(uuid.uuid4()), "note": "<b>cut off</b>"}
            assert client.post(f"/api/tasks/{given['task']}/flag", json=body).status_code == 200
        with annotation_site.listening(app) as url, browser.new_context() as context:
            editor = Editor(context.new_page(), url).log_in("rita")
            assert editor.text == given["text"]
            assert editor.page.inner_text("#flags") == "Somebody flagged this text: <b>cut off</b>"
            editor.press("Enter")
            editor.until("document.querySelector('#flags').hidden")


@pytest.mark.parametrize("editor", [{"locale": "th-TH"}], indirect=True)
def test_the_interface_speaks_thai(editor: Editor) -> None:
    assert editor.page.get_attribute("html", "lang") == "th"
    assert editor.page.inner_text("#submit").startswith("ส่ง")
    editor.press("Space")
    assert editor.page.get_by_role("status").text_content() == "ตัดแล้ว"
    editor.page.get_by_role("button", name="English").click()
    editor.ready()
    assert editor.page.inner_text("#submit").startswith("Submit")
    editor.page.reload()
    editor.ready()
    assert editor.page.get_attribute("html", "lang") == "en"
    assert len(editor.words) == 2


def test_what_cannot_be_seen_is_shown(editor: Editor) -> None:
    for _ in annotation_site.TEXTS:
        if "\u200b" in editor.text or "ZWSP" in editor.text:
            break
        text = editor.text
        editor.press("s")
        editor.until(f"document.querySelector('#spoken').textContent !== {json.dumps(text)}")
    assert editor.page.inner_text("#unseen") == "Characters that cannot be seen: ZWSP \u00d7 1"
    assert editor.page.locator(".cluster i").all_text_contents() == ["ZWSP"]


def test_all_of_it_works_by_keyboard_and_has_a_name(editor: Editor) -> None:
    names = []
    while True:
        editor.press("Tab")
        focus = "document.activeElement"
        if editor.page.evaluate(f"{focus} === document.body") or len(names) > 30:
            break
        assert editor.page.evaluate(f"getComputedStyle({focus}).outlineStyle") == "solid"
        names.append(editor.page.evaluate(f"{focus}.textContent.trim()"))
    assert names[:6] == ["SubmitEnter", "UndoU", "SkipS", "FlagF", "GuidelineG", "Keys"]
    sentence = editor.page.get_by_role("listbox", name="Places where a word may begin")
    assert sentence.get_attribute("aria-describedby") == "spoken help"
    editor.page.focus("#skip")
    text = editor.text
    editor.press("Enter")  # the button, not the answer
    editor.until(f"document.querySelector('#spoken').textContent !== {json.dumps(text)}")
    assert editor.page.evaluate("document.activeElement.id") == "sentence"


@pytest.mark.parametrize(
    "editor",
    [{"viewport": {"width": 320, "height": 640}, "reduced_motion": "reduce"}],
    indirect=True,
)
def test_it_fits_the_narrowest_telephone(editor: Editor, project: Any) -> None:
    editor.press("Space")
    width = "document.documentElement.scrollWidth"
    assert editor.page.evaluate(width) == 320
    editor.press("f")
    box = editor.page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 320
    editor.press("Escape")
    for path in ("history", "guideline"):
        editor.page.goto(f"{editor.url}/{path}")
        assert editor.page.evaluate(width) == 320, path
    editor.page.context.clear_cookies()
    Editor(editor.page, editor.url).log_in("ada")
    for path in ("dashboard", "users"):
        editor.page.goto(f"{editor.url}/{path}")
        assert editor.page.evaluate(width) == 320, path


@pytest.mark.parametrize(
    "editor", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True
)
def test_everything_can_be_read_by_day_and_by_night(editor: Editor, project: Any) -> None:
    editor.press("Space")
    editor.page.evaluate("document.querySelector('#error').textContent = 'An error.'")
    editor.page.click("summary")
    seen = {one.words: one for one in editor.colours()}
    assert {"An error.", "Undo", "Ctrl Z"} <= seen.keys()
    text = "Cut where a word begins.\nCut names apart.\n"
    events.change_guideline(project, version="g2", text=text, expected=1, author="ada")
    editor.page.click("#read")
    editor.page.get_by_role("dialog").wait_for()
    seen |= {one.words: one for one in editor.colours()}
    assert "Cut names apart." in seen
    editor.page.context.clear_cookies()
    Editor(editor.page, editor.url).log_in("ada")
    for path in ("dashboard", "users"):
        editor.page.goto(f"{editor.url}/{path}")
        seen |= {one.words: one for one in editor.colours()}
    assert [one for one in seen.values() if one.contrast < 4.5] == []


def test_places_where_the_model_is_unsure_are_marked(browser: Any, url: str) -> None:
    doubts = [2]

    def unsure(route: Any) -> None:
        given = route.fetch()
        route.fulfill(response=given, json=given.json() | {"doubts": doubts})

    with browser.new_context() as context:
        page = context.new_page()
        editor = Editor(page, url).log_in("anna")
        assert page.locator(".gap.doubt").count() == 0
        assert page.locator("#doubts").is_hidden()
        page.route("**/api/next", unsure)
        page.reload()
        editor.ready()
        (marked,) = page.locator(".gap.doubt").all()
        assert marked.get_attribute("id") == "gap-2"
        assert marked.get_attribute("aria-label").endswith(", the model is unsure")
        assert page.locator("#doubts").is_visible()
        doubts.clear()
        page.reload()
        editor.ready()
        assert page.locator("#doubts").is_hidden()


def test_administrators_work_by_buttons_and_forms(browser: Any, url: str, project: Any) -> None:
    with browser.new_context() as context:
        page = Editor(context.new_page(), url).log_in("ada").page
        page.wait_for_url("**/dashboard")
        page.get_by_role("button", name="Train now").click()
        page.get_by_role("status").filter(has_text="Training was asked for.").wait_for()
        page.get_by_text("Log an event", exact=True).first.click()
        page.locator("#event select[name=kind]").select_option("evalset.change")
        told = page.locator("#event [data-explains] p:visible")
        assert [one.get_attribute("data-value") for one in told.all()] == ["evalset.change"]
        page.get_by_text("Change the guideline", exact=True).first.click()
        page.get_by_label("Name of the new version").fill("g2")
        page.locator("#newguideline textarea[name=text]").fill("Anew.")
        page.locator("#newguideline select[name=policy]").select_option("migrate")
        page.locator("#newguideline select[name='rule.kind']").select_option("join_prefix")
        page.get_by_label("Words of the rule").fill("การ, ความ")
        page.get_by_role("button", name="Change the guideline").click()
        page.get_by_role("status").filter(has_text="Logged.").wait_for()
        with project.read() as session:
            last = events.events_of(session)[-1]
        assert (last.after, last.policy) == ("g2", "migrate")
        assert last.rule is not None
        assert last.rule.words == ("การ", "ความ")
        file = {"name": "new.txt", "mimeType": "text/plain", "buffer": "ข้อความใหม่\n".encode()}
        page.get_by_label("File", exact=True).set_input_files(file)
        page.get_by_label("Format").first.select_option("lines")
        page.get_by_role("button", name="Import").click()
        page.get_by_role("status").filter(has_text="1 new, 0 already there").wait_for()
        page.goto(f"{url}/users")
        page.get_by_label("Name").first.fill("carl")
        page.get_by_label("Password").first.fill("a long password")
        page.get_by_role("button", name="Open an account").click()
        page.get_by_role("cell", name="carl", exact=True).wait_for()
        page.get_by_role("button", name="New token: carl").click()
        page.locator("#token").filter(has_text="attar_").wait_for()
        page.get_by_label("Name").first.fill("carl")
        page.get_by_label("Password").first.fill("a long password")
        page.get_by_role("button", name="Open an account").click()
        page.get_by_role("alert").filter(has_text="already").wait_for()
