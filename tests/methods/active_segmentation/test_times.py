import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.methods.active_segmentation.replays import gold

from attar.methods.active_segmentation.annotators import Annotator
from attar.methods.active_segmentation.arms import uid
from attar.methods.active_segmentation.labels import Label
from attar.methods.active_segmentation.times import paces, typical

GOLD = gold(80)
TEXTS = {uid(row.text): row.text for row in GOLD}


def work(person, *, positions=0, prefill=True):
    """Whole sentences, shown in words of one character, then answers to single positions."""
    labels = []
    for place, row in enumerate(GOLD):
        at = [*range(1, 2 + place % 4)] if place < positions else None
        shown = row.cuts[: place % 3] if prefill else row.cuts
        name = uid(row.text)
        options = {"gold": row.cuts, "prefill": shown, "positions": at, "sequence": place}
        labels.append(person.label(name, row.text, **options))
    return labels


seconds = st.floats(0, 5)


@settings(max_examples=20)
@given(each=seconds, character=seconds, correction=seconds, position=seconds)
def test_the_regression_finds_the_times_that_work_was_made_of(
    each, character, correction, position
):
    times = {
        "seconds_per_task": each + 0.1,
        "seconds_per_character": character,
        "seconds_per_correction": correction,
        "seconds_per_position": position,
    }
    labels = work(Annotator(name="a", spread=0.0, **times), positions=20)
    found = paces(labels, texts=TEXTS)["a"]
    assert found.answers == len(GOLD)
    assert (found.each, found.character, found.correction, found.position) == (
        pytest.approx(each + 0.1, abs=1e-4),
        pytest.approx(character, abs=1e-4),
        pytest.approx(correction, abs=1e-4),
        pytest.approx(position, abs=1e-4),
    )
    assert found.spread == pytest.approx(0, abs=1e-4)
    told = found.sentence(characters=10, corrections=2)
    assert told == pytest.approx(each + 0.1 + 10 * character + 2 * correction, abs=1e-2)


def test_people_are_told_apart_where_one_had_the_easy_sentences():
    quick = Annotator(name="quick", spread=0.2, seconds_per_character=0.05)
    slow = Annotator(name="slow", spread=0.2, seconds_per_character=0.2)
    easy = sorted(range(len(GOLD)), key=lambda place: len(GOLD[place].text))
    labels = [work(slow)[place] for place in easy[:40]]
    labels += [work(quick)[place] for place in easy[40:]]
    mean = {
        name: np.mean([row.seconds for row in labels if row.annotator == name])
        for name in ("quick", "slow")
    }
    found = paces(labels, texts=TEXTS)
    size = dict(zip(("characters", "corrections"), typical(labels, texts=TEXTS), strict=True))
    slower, quicker = (found[name].sentence(**size) or 0 for name in ("slow", "quick"))
    assert slower / quicker > 1.2 * mean["slow"] / mean["quick"]
    assert 0.1 < found["slow"].spread < 0.4


def test_errors_count_as_shares_of_the_time_that_was_to_be_expected():
    labels = work(Annotator(name="a", spread=0.3))
    (pace,) = paces(labels, texts=TEXTS).values()
    parts = np.array([pace.each, pace.character, pace.correction], float)
    assert (parts > 0).all()
    sizes = np.array([[1, len(TEXTS[row.uid]), row.corrections] for row in labels], float)
    fitted = sizes @ parts
    errors = np.array([row.seconds for row in labels], float) / fitted - 1
    slope = (errors / fitted) @ sizes  # of the weighted squares: 0 at their minimum
    assert np.abs(slope).max() < 1e-3 * np.abs(errors / fitted).sum()
    assert pace.spread == pytest.approx(np.sqrt(np.mean(errors**2)))


def test_what_the_answers_do_not_tell_is_not_told():
    (row,) = paces(work(Annotator(name="a"), prefill=False), texts=TEXTS).values()
    assert (row.correction, row.position) == (None, None)
    assert row.sentence(characters=10, corrections=0) is not None
    assert row.sentence(characters=10, corrections=1) is None
    assert paces(work(Annotator(name="a"))[:14], texts=TEXTS) == {}  # too few
    alike = [Label(uid=uid(GOLD[0].text), annotator="a", seconds=3.0, corrections=1)] * 40
    assert paces(alike, texts=TEXTS) == {}
    untimed = [Label(uid=row.uid, annotator="a", seconds=0.0) for row in work(Annotator())]
    assert paces(untimed, texts=TEXTS) == {}
    assert paces(work(Annotator()), texts={}) == {}


def test_the_typical_sentence_is_the_mean_of_whole_answers():
    rows = [
        Label(seconds=1.0, uid="a", corrections=2),
        Label(seconds=1.0, uid="b", corrections=None, cuts=(1, 2, 3)),
        Label(seconds=1.0, uid="b", decided=(1,), corrections=1),
        Label(uid="a", cuts=(1,)),  # imported, without a time
        Label(seconds=1.0, uid="gone", corrections=9),
    ]
    assert typical(rows, texts={"a": "กา", "b": "กามา"}) == (3.0, 2.5)
    assert typical([], texts={}) == (0.0, 0.0)
