"""What a test reads off an HTML page."""

from html.parser import HTMLParser

_EMPTY = ("meta", "br", "img", "image", "path", "rect", "use")


class Page(HTMLParser):
    """Tags left open, all tags seen with their attributes, and the addresses that a browser would
    fetch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.seen.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "xlink:href") or (name == "href" and tag != "a"):
                self.fetched.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in _EMPTY:
            assert self.open.pop() == tag
