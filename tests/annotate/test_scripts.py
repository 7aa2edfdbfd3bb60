"""The logic of the editor's scripts, in a browser and without a service."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

import annotation_site
import browsing
from attar.data.segments.legal import clusters as clusters_of
from attar.data.segments.legal import legal

pytestmark = pytest.mark.browser

TEXTS = (
    "",
    "ก",
    "การเปลี่ยนแปลง",
    "ไเลย ๆ ฯลฯ 2020",
    "น้ำแข็ง น้ำแข็ง",  # sara am, and the same in two code points
    "กู่ ฤๅษี ๏ ฿ ก็",
    "ดี😀👩‍👩‍👧‍👦มาก👍🏽ๆ 🇹🇭",
    "a\u200bb\ufeffc\u00a0d\r\ne\tf\u200d",
    "e\u0301tude \u0e48ก",
)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with (
        browsing.browser() as browser,
        annotation_site.listening(annotation_site.files_only()) as url,
    ):
        page = browser.new_page()
        page.goto(f"{url}/static/icon.svg")
        yield page


def call(page: Any, script: str, value: Any = None) -> Any:
    """Run a script with the modules at hand."""
    names = "points", "cuts", "boundaries", "digest", "clock", "server"
    loads = ", ".join(f'import("/static/{name}.js")' for name in names)
    return page.evaluate(
        f"""async value => {{
            const modules = await Promise.all([{loads}]);
            const {{ {", ".join(EXPORTS)} }} = Object.assign({{}}, ...modules);
            {script}
        }}""",
        value,
    )


EXPORTS = (
    "Boundaries",
    "Clock",
    "Cuts",
    "around",
    "clusters",
    "decomposed",
    "legal",
    "newId",
    "points",
    "sha256",
    "unseen",
    "words",
)


def test_offsets_clusters_and_legal_places_are_those_of_the_server(page: Any) -> None:
    found = call(page, "return value.map(t => [points(t).length, clusters(t), legal(t)]);", TEXTS)
    for text, (length, clusters, places) in zip(TEXTS, found, strict=True):
        assert length == len(text)
        assert [one["text"] for one in clusters] == clusters_of(text), text
        assert all(text[one["start"] : one["end"]] == one["text"] for one in clusters)
        assert places == legal(text).tolist(), text


def test_digests_are_those_of_the_server(page: Any) -> None:
    texts = [*TEXTS, "ก" * 18 + "a", "x" * 55, "x" * 56, "x" * 64, "😀" * 5000]
    for text, found in zip(texts, call(page, "return value.map(sha256);", texts), strict=True):
        assert found == hashlib.sha256(text.encode()).hexdigest(), len(text)


def test_ids_are_random_uuids(page: Any) -> None:
    import uuid

    made = call(page, "return Array.from({ length: 50 }, newId);")
    assert len({*made}) == 50
    assert all(uuid.UUID(one).version == 4 and str(uuid.UUID(one)) == one for one in made)


def test_the_caret_moves_over_legal_places_or_over_all(page: Any) -> None:
    script = """
        const cuts = new Cuts(value), seen = [cuts.caret];
        for (let i = 0; i < 12; i++) { cuts.move(1); seen.push(cuts.caret); }
        cuts.end(-1); cuts.move(-1); seen.push(cuts.caret);
        cuts.move(1, { all: true }); seen.push(cuts.caret);
        cuts.move(-1); seen.push(cuts.caret);
        cuts.end(1); seen.push(cuts.caret); cuts.move(1, { all: true }); seen.push(cuts.caret);
        return seen;
    """
    text = "การเปลี่ยน"  # ก า ร เ ป ล ี ่ ย น
    assert call(page, script, text) == [2, 3, 5, 8, 9, *[9] * 8, 2, 3, 2, 9, 9]


def test_a_change_is_its_own_undo(page: Any) -> None:
    script = """
        const cuts = new Cuts(value, { cuts: [3, 0, 99, 1.5], caret: 5 }), seen = [cuts.list];
        const keep = () => seen.push([cuts.list, cuts.caret]);
        cuts.toggle(); keep(); cuts.toggle(3); keep(); cuts.jump(1); keep(); cuts.jump(1); keep();
        cuts.undo(); keep(); cuts.undo(); keep(); seen.push(cuts.undo(), cuts.toggle(0), cuts.list);
        return seen;
    """
    assert call(page, script, "การเปลี่ยน") == [
        [3],
        [[3, 5], 5],
        [[5], 3],
        [[5], 5],
        [[5], 5],
        [[3, 5], 3],
        [[3], 5],
        *(False, False, [3]),
    ]


def test_texts_without_places(page: Any) -> None:
    script = """return value.map(text => {
        const cuts = new Cuts(text);
        cuts.move(1); cuts.end(1); cuts.jump(-1);
        return [cuts.caret, cuts.toggle(), cuts.list, words(text, cuts.list)];
    });"""
    assert call(page, script, ["", "ก", "กา"]) == [
        [0, False, [], []],
        [0, False, [], ["ก"]],
        [1, True, [1], ["ก", "า"]],  # no word begins there: the caret can still go
    ]


def test_words_are_between_cuts_in_code_points(page: Any) -> None:
    assert call(page, "return words(value, [2, 3]);", "ดี😀👍🏽ๆ") == ["ดี", "😀", "👍🏽ๆ"]


def test_what_cannot_be_seen_has_a_name(page: Any) -> None:
    script = "return clusters(value).map(one => unseen(one.text)).flat();"
    assert call(page, script, TEXTS[7]) == ["ZWSP", "BOM", "NBSP", "CR", "LF", "TAB", "ZWJ"]
    assert call(page, script, "👩‍👩‍👧 ก\u2066\ue000") == ["␣", "U+2066", "U+E000"]
    assert call(page, "return [1, 2, 3].map(at => decomposed(value, at));", "นํา") == [
        *(False, True, False)
    ]


def test_boundaries_are_answered_in_the_order_given(page: Any) -> None:
    script = """
        const asked = new Boundaries(value, { candidates: [9, 3, 5] }), seen = [];
        const keep = () => seen.push([asked.place, asked.decided, asked.list, asked.complete]);
        keep(); asked.answer(true); keep(); asked.move(1); asked.answer(false); keep();
        asked.undo(); keep(); asked.move(-9); asked.answer(false); keep();
        asked.answer(true); asked.answer(true); keep();
        return seen;
    """
    assert call(page, script, "การเปลี่ยนแปลง") == [
        [9, [], [], False],
        [3, [9], [9], False],
        [3, [5, 9], [9], False],
        [5, [9], [9], False],
        [3, [9], [], False],
        [5, [3, 5, 9], [3, 5], True],
    ]


def test_a_window_shows_twenty_characters_and_no_half_cluster(page: Any) -> None:
    text = "ก็" * 40
    script = """
        const asked = new Boundaries(value, { candidates: [1, 39, 79] });
        return asked.candidates.map(at => asked.window(at));
    """
    windows = call(page, script, text)
    for at, (before, after, more, less) in zip((1, 39, 79), windows, strict=True):
        start, end = at - len(before), at + len(after)
        assert text[start:end] == before + after
        assert start % 2 == end % 2 == 0
        assert (more, less) == (start > 0, end < 80)
        assert min(20, at) <= len(before) <= 21
        assert min(20, 80 - at) <= len(after) <= 21


def test_the_clock_leaves_long_pauses_out(page: Any) -> None:
    script = """
        let now = 0;
        const clock = new Clock({ now: () => now }), seen = [];
        clock.start(500);
        for (now of [1000, 61000, 200000, 201000]) { clock.touch(); seen.push(clock.ms); }
        now = 231000; seen.push(clock.ms); now = 999000; seen.push(clock.ms);
        clock.start(0, 5000);
        for (now of [1003000, 1010000, 1014000]) { clock.touch(); seen.push(clock.ms); }
        return seen;
    """
    paused = [4000, 4000, 8000]  # where no more than five seconds count
    assert call(page, script) == [1500, 61500, 61500, 62500, 92500, 62500, *paused]


def test_every_script_is_strict_about_what_it_needs() -> None:
    """No HTML is made of text, nothing is loaded from elsewhere, and no style stands in line."""
    for file in annotation_site.STATIC.glob("*.js"):
        script = file.read_text(encoding="utf-8")
        for forbidden in ("innerHTML", "http:", "https:", "eval(", ".style", "document.write"):
            assert forbidden not in script.replace("under https", "").replace(" https", ""), file
        assert json.dumps(script)
