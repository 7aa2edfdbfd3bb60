"""A browser for tests of pages: Debian's chromium, through playwright."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
_ARGS += ["--disable-component-update", "--disable-sync"]


@contextmanager
def browser() -> Iterator[Any]:
    """It runs until the end of the context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        where = shutil.which("chromium")
        started = playwright.chromium.launch(executable_path=where, args=_ARGS)
        yield started
        started.close()


@dataclass(frozen=True)
class Coloured:
    """Words of a page, and the colours they are written in."""

    words: str
    ink: Sequence[float]
    paper: Sequence[float]

    @property
    def contrast(self) -> float:
        """As WCAG 2 has it, from 1 to 21."""
        light, dark = sorted((luminance(self.ink), luminance(self.paper)), reverse=True)
        return (light + 0.05) / (dark + 0.05)


def luminance(colour: Sequence[float]) -> float:
    """Of red, green and blue up to 255; from 0 to 1."""
    parts = [one / 255 for one in colour[:3]]
    r, g, b = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


_COLOURS = r"""() => {
    const numbers = colour => colour.match(/[\d.]+/g).map(Number);
    const solid = colour => (numbers(colour)[3] ?? 1) === 1;
    const behind = one => {
        const { backgroundColor } = getComputedStyle(one);
        return solid(backgroundColor) ? numbers(backgroundColor) : behind(one.parentElement);
    };
    const found = [...document.querySelectorAll("[placeholder]")].map(one =>
        ["placeholder", numbers(getComputedStyle(one, "::placeholder").color), behind(one)]);
    const tree = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (tree.nextNode()) {
        const words = tree.currentNode.data, one = tree.currentNode.parentElement;
        const { color } = getComputedStyle(one);
        if (words.trim() && one.checkVisibility() && solid(color))
            found.push([words, numbers(color), behind(one)]);
    }
    return found;
}"""


class Visit:
    """A page, and all that it asked for and said on its console."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.asked: list[Any] = []
        self.failed: list[Any] = []
        self.said: list[str] = []
        page.on("request", lambda request: self.asked.append(request))
        page.on("requestfailed", lambda request: self.failed.append(request))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def open(self, mode: str | None = "known") -> "Visit":
        self.page.goto(self.url)
        if mode is not None:
            self.page.check(f"input[value={mode}]")
            self.page.focus("#text")
        return self

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def until(self, script: str) -> None:
        self.page.wait_for_function(f"() => {script}", timeout=20_000)

    def shows(self, ghost: str) -> None:
        """Wait until this draft is shown behind the text."""
        self.page.wait_for_function(
            "ghost => document.querySelector('#ghost').textContent === ghost",
            arg=ghost,
            timeout=20_000,
        )

    @property
    def text(self) -> str:
        return self.page.input_value("#text")

    @property
    def drafts(self) -> list[list[str]]:
        """Text and score of each draft of the first panel."""
        lines = self.page.locator("#panels section").first.locator("button").all()
        return [line.locator("span").all_text_contents() for line in lines]

    def colours(self) -> list[Coloured]:
        """Of all words that can be seen."""
        return [Coloured(*one) for one in self.page.evaluate(_COLOURS)]

    @property
    def prompts(self) -> list[str]:
        posts = [one for one in self.asked if one.method == "POST"]
        return [one.post_data_json["prompt"] for one in posts]
