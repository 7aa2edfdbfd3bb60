"""The editor in a browser, over a real socket."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import annotation_site
import browsing
from attar.annotate import answers, events

pytestmark = pytest.mark.browser

TEXT = "การเปลี่ยนแปลงครั้งใหญ่"
LEGAL = (2, 3, 8, 9, 10, 13, 14, 16, 19, 22)  # where the caret stops


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = annotation_site.make_project(tmp_path_factory.mktemp("projects") / "p")
    project.close()
    return project


@pytest.fixture
def project(made: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A copy of the project; or one of its own, with a mark `project`."""
    mark = request.node.get_closest_marker("project")
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
        self.page.wait_for_url("**/annotate")
        self.ready()
        return self

    def ready(self) -> None:
        self.until("!document.querySelector('#work').hidden")

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
