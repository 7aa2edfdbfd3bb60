"""What the interface says, in English and in Thai."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

LANGUAGES = MappingProxyType({"en": "English", "th": "ไทย"})
"""Code of a language -> its own name for itself."""


@dataclass(frozen=True)
class Words:
    """The sentences of one language: `words("editor.done", count=3)`."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        """The sentence for a key, with `{name}` replaced by values. KeyError: there is none."""
        return texts(self.language)[key].format(**values)

    def under(self, *areas: str) -> dict[str, str]:
        """The sentences of some areas, for scripts: those whose key begins with `area.`."""
        return {
            key: text
            for key, text in texts(self.language).items()
            if key.partition(".")[0] in areas
        }


@cache
def texts(language: str) -> Mapping[str, str]:
    """All sentences of a language by key."""
    file = files("attar.annotate") / "locales" / f"{language}.json"
    return MappingProxyType(json.loads(file.read_text(encoding="utf-8")))


def pick(wishes: Iterable[str | None], *, accepted: str = "") -> str:
    """The language to answer in.

    Args:
        wishes: codes that somebody chose, the most binding first; None and unknown ones are passed
            over.
        accepted: the header `Accept-Language` (RFC 9110, 12.5.4), which decides if there is none.
    """
    for wish in wishes:
        if wish in LANGUAGES:
            return str(wish)
    ranked: list[tuple[float, str]] = []
    for part in accepted.split(",")[:50]:
        name, _, quality = part.partition(";")
        code = name.strip().lower().partition("-")[0]
        try:
            weight = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            weight = 0.0
        if code in LANGUAGES and weight > 0:
            ranked.append((weight, code))
    return max(ranked, key=lambda one: one[0], default=(0.0, "en"))[1]
