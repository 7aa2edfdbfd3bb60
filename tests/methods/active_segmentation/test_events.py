from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.data.segments.cuts import cuts_of, tokens_of
from attar.errors import ConfigError
from attar.methods.active_segmentation.effects import EFFECTS
from attar.methods.active_segmentation.events import (
    EPOCH_KINDS,
    Event,
    Kind,
    Policy,
    epochs,
    guidelines,
    relabelling,
    revisions,
    under_events,
)
from attar.methods.active_segmentation.fingerprints import Fingerprint, detect
from attar.methods.active_segmentation.labels import Label, resolve
from attar.methods.active_segmentation.rules import join_prefix

TEXTS = {"a": "การเมืองดี", "b": "รักดี"}
OLD = [
    Label(uid="a", cuts=cuts_of(["การ", "เมือง", "ดี"]), sequence=1),
    Label(uid="b", cuts=cuts_of(["รัก", "ดี"]), sequence=2),
]
NEW = Label(uid="b", cuts=(), sequence=3, guideline="g2")


def change(policy, **more):
    return Event(
        kind="guideline.change", before="g1", after="g2", sequence=2, policy=policy, **more
    )


def words(labels):
    return {(x.uid, x.guideline): tokens_of(TEXTS[x.uid], x.cuts) for x in labels}


def test_keep_mixes_and_drop_forgets():
    assert under_events([*OLD, NEW], events=[change("keep")], texts=TEXTS) == [*OLD, NEW]
    assert under_events([*OLD, NEW], events=[change("drop")], texts=TEXTS) == [NEW]


def test_migrate_rewrites_each_old_label_as_a_machine_revision():
    event = change("migrate", rule=join_prefix(["การ"]))
    found = under_events([*OLD, NEW], events=[event], texts=TEXTS)
    assert words(found)["a", "g2"] == ["การเมือง", "ดี"]
    machine = [x for x in found if x.status == "migrated"]
    assert [(x.parent, x.annotator, x.guideline) for x in machine] == [(1, "", "g2"), (2, "", "g2")]
    assert NEW in found


def test_revisions_that_were_logged_are_not_made_again():
    event = change("migrate", rule=join_prefix(["การ"]))
    made = revisions(OLD, events=[event], texts=TEXTS)
    logged = [replace(x, sequence=10 + place) for place, x in enumerate(made)]
    assert len(made) == 2
    assert revisions([*OLD, *logged], events=[event], texts=TEXTS) == []
    applied = under_events([*OLD, *logged], events=[event], texts=TEXTS)
    assert words(applied) == words(under_events(OLD, events=[event], texts=TEXTS))


def test_a_second_rule_rewrites_what_the_first_made():
    first = change("migrate", rule=join_prefix(["การ"]))
    second = Event(
        kind="guideline.change",
        before="g2",
        after="g3",
        sequence=2,
        policy="migrate",
        rule=join_prefix(["การเมือง"]),
    )
    made = revisions(OLD, events=[first], texts=TEXTS)
    log = [*OLD, *(replace(x, sequence=10 + place) for place, x in enumerate(made))]
    again = revisions(log, events=[first, second], texts=TEXTS)
    assert words(again) == {("a", "g3"): ["การเมืองดี"], ("b", "g3"): ["รัก", "ดี"]}
    assert [x.parent for x in again] == [1, 2]
    log += [replace(x, sequence=20 + place) for place, x in enumerate(again)]
    assert not revisions(log, events=[first, second], texts=TEXTS)
    assert len(under_events(log, events=[first, second], texts=TEXTS)) == 2


def test_the_decision_of_a_reviewer_outlives_a_rule():
    event = change("migrate", rule=join_prefix(["การ"]))
    people = [replace(OLD[1], annotator=name, sequence=s) for s, name in enumerate("xy", 1)]
    ruling = replace(OLD[1], cuts=(), annotator="z", sequence=3, status="adjudicated")
    found = under_events([*people, ruling], events=[replace(event, sequence=3)], texts=TEXTS)
    assert resolve(found, length=len(TEXTS["b"]), guidelines=["g1", "g2"]).cuts == ()


def test_relabel_asks_for_what_the_query_finds_until_it_is_answered():
    event = change("relabel", query=r"\|การ\|")
    assert under_events(OLD, events=[event], texts=TEXTS) == [OLD[1]]
    assert relabelling(OLD, events=[event], texts=TEXTS) == ["a"]
    again = Label(uid="a", cuts=(8,), sequence=3, guideline="g2")
    assert relabelling([*OLD, again], events=[event], texts=TEXTS) == []
    everything = change("relabel")
    assert relabelling(OLD, events=[everything], texts=TEXTS) == ["a", "b"]


@given(decided=st.sets(st.integers(1, 9), min_size=1))
def test_single_positions_survive_a_migration_only_where_the_rule_cannot_reach(decided):
    rule = join_prefix(["การ"])
    cuts = tuple(sorted(decided & {*OLD[0].cuts}))
    partial = replace(OLD[0], decided=tuple(sorted(decided)), cuts=cuts)
    (found,) = under_events([partial], events=[change("migrate", rule=rule)], texts=TEXTS)
    assert found.decided is not None
    assert set(found.decided) == decided - {3}  # the end of การ
    truth = set(cuts_of(["การเมือง", "ดี"]))
    assert all((offset in found.cuts) == (offset in truth) for offset in found.decided)


def test_policies_follow_each_other():
    second = Event(kind="guideline.change", before="g2", after="g3", sequence=3, policy="drop")
    newest = replace(NEW, guideline="g3", sequence=4)
    events = [change("keep"), second]
    assert under_events([*OLD, NEW, newest], events=events, texts=TEXTS) == [newest]
    assert guidelines(events) == ["g1", "g2", "g3"]
    back = replace(second, after="g1", before="g3", sequence=9)
    with pytest.raises(ConfigError, match="was in force before"):
        guidelines([*events, back])


def test_labels_of_removed_sentences_and_of_people_whose_work_is_dropped_go():
    assert under_events(OLD, events=[], texts={"b": TEXTS["b"]}) == [OLD[1]]
    leaves = Event(kind="annotator.leave", scope="x", policy="drop", sequence=9)
    mine = replace(OLD[0], annotator="x")
    assert under_events([mine, OLD[1]], events=[leaves], texts=TEXTS) == [OLD[1]]


def test_only_some_kinds_begin_an_epoch():
    events = [
        Event(kind=kind, sequence=10 + i, after="n", before="o") for i, kind in enumerate(EFFECTS)
    ]
    found = epochs(events)
    assert [e.event.kind for e in found if e.event] == [k for k in EFFECTS if k in EPOCH_KINDS]
    assert [e.number for e in found] == [*range(len(EPOCH_KINDS) + 1)]
    assert [e.first for e in found[1:]] == [e.event.sequence for e in found if e.event]


def test_every_kind_of_event_has_an_effect_and_every_policy_a_use():
    assert EFFECTS.keys() == {*get_args(Kind)}
    assert {*EFFECTS["guideline.change"].policies} == {*get_args(Policy)}
    for effect in EFFECTS.values():
        assert "keep" in effect.policies


def test_an_event_survives_its_log():
    event = change("migrate", rule=join_prefix(["การ"]), note="why")
    assert Event.from_dict(event.to_dict()) == event


def test_events_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="rule must be given with the policy migrate"):
        change("migrate")
    with pytest.raises(ConfigError, match=r"written \\\|"):
        change("relabel", query="(")
    with pytest.raises(ConfigError, match="one that not everything fits"):
        change("relabel", query="|การ|")
    with pytest.raises(ConfigError, match="name of the new guideline"):
        Event(kind="guideline.change", before="g1", after="g1")


def fingerprint(**changes):
    given = {
        "features": {"kind": "crf"},
        "guideline": "g1",
        "corpus": ["a", "b"],
        "annotators": ["x"],
        "dictionary": ["w"],
    }
    return Fingerprint.of(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"corpus": ["a", "b", "c"]}, "corpus.add"),
        ({"guideline": "g2"}, "guideline.change"),
        ({"features": {"kind": "pointwise"}}, "features.change"),
        ({"annotators": ["x", "y"]}, "annotator.join"),
        ({"dictionary": ["w", "v"]}, "features.change"),
        ({"normaliser": "nfc"}, "normaliser.change"),
    ],
)
def test_a_change_that_nobody_logged_is_detected(changes, kind):
    before, after = fingerprint(), fingerprint(**changes)
    (found,) = detect(before, after, logged=[], sequence=7)
    assert (found.kind, found.sequence, found.detected) == (kind, 7, True)
    known = Event(kind=kind, before="o", after="n")
    assert detect(before, after, logged=[known], sequence=7) == []
    assert detect(before, fingerprint(corpus=["b", "a"]), logged=[], sequence=7) == []
    assert Fingerprint.from_dict(after.to_dict()) == after
