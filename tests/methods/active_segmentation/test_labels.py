import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import DataError
from attar.methods.active_segmentation.labels import Label, answers, resolve


def label(cuts, *, sequence=1, **more):
    return Label(uid="u", cuts=tuple(cuts), sequence=sequence, **more)


offsets = st.sets(st.integers(1, 7)).map(lambda found: tuple(sorted(found)))


@given(cuts=offsets)
def test_a_single_label_is_what_it_resolves_to(cuts):
    found = resolve([label(cuts)], length=8)
    assert (found.cuts, found.decided, found.ties) == (cuts, None, ())


@given(cuts=offsets, decided=offsets)
def test_offsets_that_nobody_judged_stay_unknown(cuts, decided):
    cuts = tuple(cut for cut in cuts if cut in decided)
    found = resolve([label(cuts, decided=decided)], length=8)
    assert found.cuts == cuts
    assert (tuple(range(1, 8)) if found.decided is None else found.decided) == decided


@given(votes=st.lists(offsets, min_size=3, max_size=3))
def test_three_annotators_decide_by_majority(votes):
    rows = [label(cuts, sequence=i, annotator=str(i)) for i, cuts in enumerate(votes)]
    wanted = tuple(b for b in range(1, 8) if sum(b in cuts for cuts in votes) >= 2)
    assert resolve(rows, length=8).cuts == wanted


def test_the_latest_answer_of_an_annotator_is_the_one_that_counts():
    rows = [label([1], sequence=1), label([2], sequence=2), label([3], sequence=3, annotator="b")]
    assert resolve([*rows, label([2], sequence=4, annotator="c")], length=5).cuts == (2,)


def test_an_adjudication_outvotes_everybody_later_ones_too():
    rows = [label([1], sequence=1, status="adjudicated", annotator="r")]
    rows += [label([2], sequence=i, annotator=str(i)) for i in range(2, 5)]
    assert resolve(rows, length=5).cuts == (1,)


def test_a_tie_is_reported_and_the_latest_holds_meanwhile():
    rows = [label([1, 2], sequence=1, annotator="a"), label([2, 3], sequence=2, annotator="b")]
    found = resolve(rows, length=5)
    assert found.ties == (1, 3)
    assert found.cuts == (2, 3)


def test_a_newer_guideline_holds_where_it_decides():
    old = [label([1, 2], sequence=i, annotator=str(i)) for i in range(1, 4)]
    new = label([3], sequence=4, annotator="9", guideline="g2", decided=(2, 3))
    found = resolve([*old, new], length=5, guidelines=["g1", "g2"])
    assert found.cuts == (1, 3)
    assert found.guideline == "g2"


def test_a_rewrite_of_an_old_answer_is_older_than_what_a_person_said_since():
    person = label([2], sequence=5, guideline="g2")
    machine = label([1], sequence=9, guideline="g2", status="migrated", parent=1)
    assert resolve([machine, person], length=4, guidelines=["g1", "g2"]).cuts == (2,)


def test_an_undo_takes_back_the_answer_and_what_was_made_of_it():
    rows = [
        label([1], sequence=1),
        label([2], sequence=2, status="migrated", parent=1),
        label([], sequence=3, status="skipped"),
        label([], sequence=4, status="flagged"),
        label([3], sequence=5),
    ]
    assert [row.sequence for row in answers(rows)] == [1, 2, 5]
    undone = [*rows, label([], sequence=6, status="void", parent=1)]
    assert [row.sequence for row in answers(undone)] == [5]


@pytest.mark.parametrize("cut", [0, 4, 9])
def test_a_label_of_another_text_is_refused(cut):
    with pytest.raises(DataError, match=f"offset {cut}, expected one from 1 to 3"):
        resolve([label([cut])], length=4)
