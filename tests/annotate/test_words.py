"""What the interface says: the same sentences in both languages, all of them used."""

import re
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest

import annotation_site
from attar.annotate.words import LANGUAGES, Words, pick, texts
from attar.methods.active_segmentation.effects import Action, Change
from attar.methods.active_segmentation.events import Policy
from attar.methods.active_segmentation.monitors import Monitor
from attar.methods.active_segmentation.rules import RuleKind

ROOM = annotation_site.STATIC.parent
#: keys that are put together where they are used
BUILT = ("agreement", "axis", "dashboard", "guideline", "keys", "policy", "role", "rule", "status")


def names_in(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_say_the_same() -> None:
    assert texts("en").keys() == texts("th").keys()
    for key, text in texts("en").items():
        assert names_in(text) == names_in(texts("th")[key]), key
        assert text
        assert texts("th")[key]
        # only the names of figures are written the same
        assert text != texts("th")[key], key


def test_every_sentence_that_is_asked_for_is_there_and_every_one_is_used() -> None:
    used: set[str] = set()
    places = [*ROOM.glob("*.py"), *(ROOM / "static").glob("*.js"), *(ROOM / "templates").glob("*")]
    whole = "".join(file.read_text(encoding="utf-8") for file in places)
    for file in places:
        text = file.read_text(encoding="utf-8")
        used |= set(re.findall(r"""\b(?:t|say)\(["']([a-z_.]+)["'],?\s*[^~]?""", text))
        used |= set(re.findall(r"""data-said="([a-z_.]+)\"""", text))
    assert {key for key in used if not key.endswith(".")} <= texts("en").keys()
    rest = texts("en").keys() - used
    assert [key for key in sorted(rest) if f'"{key}"' not in whole and not built(key, whole)] == []


def built(key: str, whole: str) -> bool:
    """Whether a key is put together of its area and a word that stands somewhere."""
    area, _, name = key.partition(".")
    if name in (*get_args(RuleKind), *get_args(Policy)):
        return area in ("policy", "rule")
    if area == "monitor":
        return name.rpartition("_")[0] in get_args(Monitor)
    if area in ("effect", "action"):
        return name in get_args(Change if area == "effect" else Action)
    return area in BUILT and re.search(rf"""["'`]{name}["'`]""", whole) is not None


def test_every_effect_and_every_advice_has_its_sentence() -> None:
    for area, names in (("effect", get_args(Change)), ("action", get_args(Action))):
        assert {key for key in texts("en") if key.startswith(f"{area}.")} == {
            f"{area}.{name}" for name in names
        }
    assert {key.rpartition("_")[0] for key in texts("en") if key.startswith("monitor.")} == {
        f"monitor.{name}" for name in get_args(Monitor)
    }


@pytest.mark.parametrize(
    ("wishes", "accepted", "language"),
    [
        ((), "", "en"),
        ((None, "th"), "en", "th"),
        (("xx", None), "th-TH,th;q=0.9,en;q=0.8", "th"),
        ((), "en;q=0.5, th;q=0.7", "th"),
        ((), "de, fr;q=0.9", "en"),
        ((), "th;q=0", "en"),
        ((), "th;q=x, ;;,", "en"),
        (("en",), "th", "en"),
    ],
)
def test_a_language_is_picked(wishes: tuple[str | None, ...], accepted: str, language: str) -> None:
    assert pick(wishes, accepted=accepted) == language


def test_sentences_are_filled_in() -> None:
    assert Words("en")("editor.done", count=3) == "Answers: 3."
    assert set(Words("th").under("editor")) == {k for k in texts("en") if k.startswith("editor.")}
    with pytest.raises(KeyError):
        Words("en")("editor.none")


def test_languages_are_those_of_the_accounts() -> None:
    from attar.annotate import accounts

    assert tuple(LANGUAGES) == accounts.LANGUAGES
    assert {file.stem for file in (ROOM / "locales").iterdir()} == {*LANGUAGES}
    assert isinstance(ROOM, Path)
