from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.methods.active_segmentation.replays import QUICK, gold, options, sentence

from attar.data.segments.cuts import Segmented, cuts_of
from attar.data.segments.legal import legal
from attar.errors import ConfigError
from attar.evaluation.segmentation import count, total, word_f1
from attar.methods.active_segmentation.arms import random_order, uid
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import DrawConfig, Pick
from attar.methods.active_segmentation.events import Event
from attar.methods.active_segmentation.labels import Label
from attar.methods.active_segmentation.measuring import (
    changed_words_recall,
    costs,
    history,
    measure,
    poisson,
    refitted,
    transfer_check,
)
from attar.methods.active_segmentation.rules import join_prefix
from attar.methods.active_segmentation.segmenter import fit
from attar.methods.active_segmentation.study import (
    UNION,
    Study,
    begin,
    draw,
    fit_arms,
    resolved,
    samples,
    test_set,
)

GOLD = gold()
CUTS = {uid(row.text): row.cuts for row in GOLD}


def start(**changes):
    return begin([sentence(row) for row in GOLD], config=options(**changes), minimum=20)


def answered(study, uids, *, guideline="g1", **more):
    """The study after somebody labelled sentences correctly."""
    labels = [
        Label(
            uid=name, cuts=CUTS[name], guideline=guideline, sequence=study.sequence + 1 + i, **more
        )
        for i, name in enumerate(uids)
    ]
    return replace(study, labels=(*study.labels, *labels))


def served(study, *arms, models=None):
    """The study after each arm drew a batch and somebody labelled what was new."""
    for arm in arms or study.config.arms:
        drawn = draw(study, arm, models=models or {})
        study = replace(study, picks=(*study.picks, *drawn.picks))
    done = {label.uid for label in study.labels}
    new = dict.fromkeys(p.uid for p in study.picks if p.uid not in done)
    return answered(study, new, seconds=2.0, corrections=1)


def pick(name, arm, *, batch=0, positions=None):
    return Pick(name, arm, batch, 0, None, "x", None, "", 1, None, positions)


def test_the_seed_is_the_first_of_the_random_order_in_every_arm():
    study = served(start())
    free = [name for name in study.sentences if name not in study.reserved]
    assert study.served("random") == study.served("active") == random_order(free)[:8]
    assert len(study.labels) == 8  # a shared sentence is labelled once


def test_no_arm_is_ever_served_from_the_reserve():
    study = served(start())
    for _ in range(8):
        study = served(study, models=fit_arms(study))
    assert {pick.uid for pick in study.picks}.isdisjoint(study.reserved)


def test_active_draws_never_bend_the_random_arm():
    alone, beside = start(), start()
    for _ in range(3):
        alone = served(alone, "random")
        beside = served(beside, models=fit_arms(beside))
    assert alone.served("random") == beside.served("random")
    assert set(beside.served("active")) != set(beside.served("random"))


def test_a_shared_sentence_is_charged_to_both_arms_and_paid_once():
    study = served(served(start()), models=fit_arms(served(start())))
    found = costs(study)
    shared = set(study.served("random")) & set(study.served("active"))
    assert len(shared) >= 8
    both = found["random"].sentences + found["active"].sentences
    assert both == found[UNION].sentences + len(shared)
    assert found[UNION].seconds == 2 * len(study.labels)
    texts = [study.sentences[name].text for name in study.served("active")]
    assert found["active"].characters == sum(map(len, texts))
    assert found["active"].decisions == sum(len(legal(text)) for text in texts)


def test_overlap_makes_no_arm_dearer_and_relabelling_does():
    study = served(start())
    before = costs(study)["random"]
    again = answered(study, study.served("random"), annotator="b", seconds=4.0, corrections=3)
    assert costs(again)["random"].sentences == before.sentences
    assert costs(again)["random"].seconds == pytest.approx(before.seconds * 1.5)
    event = Event(kind="guideline.change", before="g1", after="g2", policy="drop", sequence=99)
    changed = replace(study, events=(event,))
    assert costs(changed)["random"] == before  # it was paid, used or not
    assert samples(changed)["random"] == []
    twice = answered(changed, study.served("random"), guideline="g2")
    assert costs(twice)["random"].characters == 2 * before.characters


def test_an_arm_never_learns_what_another_one_asked():
    a, b = list(CUTS)[:2]
    study = replace(
        start(), picks=(pick(a, "random"), pick(a, "active", positions=(1, 2)), pick(b, "active"))
    )
    partial = Label(uid=a, cuts=(), decided=(1, 2), sequence=1)
    study = replace(study, labels=(partial,))
    assert samples(study)["random"] == []
    (row,) = samples(study)["active"]
    assert row.decided == (1, 2)
    whole = answered(study, [a, b])
    assert [row.decided for row in samples(whole)["random"]] == [None]
    assert [row.decided for row in samples(whole)["active"]] == [(1, 2), None]
    assert samples(whole)["active"][0].cuts == tuple(c for c in CUTS[a] if c <= 2)
    assert [row.decided for row in samples(whole)[UNION]] == [None, None]
    assert costs(whole)["active"].decisions == 2 + len(legal(study.sentences[b].text))


@given(order=st.permutations(range(8)), undo=st.sets(st.integers(0, 7)))
@settings(max_examples=25, deadline=None)
def test_samples_depend_on_what_was_said_and_not_on_when(order, undo):
    study = served(start())
    labels = [study.labels[place] for place in order]
    voids = [
        Label(
            uid=study.labels[i].uid, status="void", parent=study.labels[i].sequence, sequence=99 + i
        )
        for i in undo
    ]
    found = samples(replace(study, labels=(*voids, *labels)))["random"]
    gone = {study.labels[i].uid for i in undo}
    assert [row.meta["id"] for row in found] == [n for n in study.served("random") if n not in gone]


def test_a_guideline_change_migrates_what_the_models_learn_from():
    study = served(start())
    rule = join_prefix(["การ", "ความ"])
    event = Event(
        kind="guideline.change", before="g1", after="g2", policy="migrate", rule=rule, sequence=9
    )
    changed = replace(study, events=(event,))
    for old, new in zip(samples(study)["random"], samples(changed)["random"], strict=True):
        assert list(new.tokens) == rule.rewrite(old.tokens)
        assert new.meta["guideline"] == "g2"
    assert changed.guidelines == ["g1", "g2"]
    assert (study.epoch, changed.epoch) == (0, 1)


def test_the_test_set_is_the_labelled_reserve_and_tells_stale_labels():
    study = start()
    study = answered(study, sorted(study.reserved)[:5], status="adjudicated")
    assert len(test_set(study)) == 5
    event = Event(kind="guideline.change", before="g1", after="g2", sequence=study.sequence)
    changed = replace(study, events=(event,))
    changed = answered(changed, sorted(study.reserved)[:2], guideline="g2")
    assert sorted(row.meta["guideline"] for row in test_set(changed)) == ["g1"] * 3 + ["g2"] * 2
    assert costs(study)["random"].sentences == 0


def test_models_are_measured_on_what_they_cost_and_scored():
    study = served(start())
    reserved = [row for row in GOLD if uid(row.text) in study.reserved]
    rule = join_prefix(["การ"])  # what the models have never seen
    test = [Segmented.of([*rule.rewrite(r.tokens), " ", "มา"], meta=r.meta) for r in reserved]
    models = fit_arms(study)
    points = measure(study, models, test=test, refits=2, by="genre")
    assert [p.arm for p in points] == ["random", "active", UNION]
    first = points[0]
    assert first.scores == points[1].scores  # the same seed
    assert first.counts is not None
    right, predicted, true = first.counts.sum(0)
    assert first.word_f1 == pytest.approx(2 * right / (predicted + true))
    more = {"word_f1[a]", "word_f1[b]", "oov_recall", "word_f1_without_spaces"}
    assert more <= first.scores.keys()
    dense = [
        count(row, cuts, whitespace=False)
        for row, cuts in zip(test, models["random"].segment([r.text for r in test]), strict=True)
    ]
    assert first.scores["word_f1_without_spaces"] == word_f1(total(dense)) != first.word_f1
    assert len(first.refits) == 2
    assert points[2].refits == ()


def test_history_scores_the_past_with_the_labels_of_today():
    study = served(start())
    study = served(study, models=fit_arms(study))
    test = [row for row in GOLD if uid(row.text) in study.reserved]
    found = history(study, test=test)
    assert [(p.arm, p.batch) for p in found if p.arm != UNION] == [
        (arm, batch) for batch in (0, 1) for arm in ("random", "active")
    ]
    last = measure(study, fit_arms(study), test=test)
    assert [p.scores for p in found[3:]] == [p.scores for p in last]
    other = transfer_check(study, replace(QUICK, kind="crf"), test=test)
    assert [p.arm for p in other] == [p.arm for p in last]


def test_a_resample_weighs_a_sentence_alike_in_every_sample():
    names = list(CUTS)
    assert poisson(names, salt="x")[:10] == poisson(names[:10], salt="x")
    many = poisson([f"{i:032x}" for i in range(4000)], salt="y")
    assert sum(many) / 4000 == pytest.approx(1, abs=0.05)
    assert sum(weight == 0 for weight in many) / 4000 == pytest.approx(0.3679, abs=0.03)
    rows = samples(served(start()))["random"]
    test = GOLD[:20]
    assert (
        refitted(rows, test=test, config=QUICK, count=2)[0]
        == (refitted(rows, test=test, config=QUICK, count=1)[0])
    )


def test_adjudicated_beats_majority_in_a_study():
    study = served(start())
    name = study.served("random")[0]
    ruled = replace(
        study, labels=(*study.labels, Label(uid=name, status="adjudicated", sequence=98))
    )
    more = answered(ruled, [name], annotator="z")
    assert resolved(more)[name].cuts == ()


def test_a_union_is_no_arm():
    with pytest.raises(ConfigError, match="none of them named union"):
        options(arms={UNION: DrawConfig()})
    with pytest.raises(ConfigError, match="one arm or more"):
        options(arms={})
    with pytest.raises(ConfigError, match="arm must be one of random, active"):
        draw(start(), "other", models={})
    assert Study().epoch == 0


@pytest.mark.parametrize("kind", ["crf", "pointwise"])
def test_with_tags_each_guideline_is_predicted_by_its_own(kind):
    rule = join_prefix(["การ", "ความ"])
    old = [replace(row, meta={"guideline": "g1"}) for row in GOLD[:40]]
    new = [
        replace(row, cuts=cuts_of(rule.rewrite(row.tokens)), meta={"guideline": "g2"})
        for row in GOLD[40:80]
    ]
    config = replace(QUICK, kind=kind, hash_bits=16, iterations=40)
    test = GOLD[80:]
    truth = {"g1": [r.cuts for r in test], "g2": [cuts_of(rule.rewrite(r.tokens)) for r in test]}

    def errors(guideline, tag):
        model = fit([*old, *new], config=replace(config, tag=tag))
        found = model.segment([row.text for row in test])
        return sum(len({*a} ^ {*b}) for a, b in zip(found, truth[guideline], strict=True))

    for guideline in truth:
        assert 3 * errors(guideline, guideline) < errors(guideline, None)


def test_a_change_with_the_policy_tag_tells_guidelines_apart():
    study = served(start())
    event = Event(kind="guideline.change", before="g1", after="g2", policy="tag", sequence=9)
    changed = answered(replace(study, events=(event,)), study.served("random")[:3], guideline="g2")
    assert [row.meta["guideline"] for row in samples(changed)["random"]] == ["g2"] * 3 + ["g1"] * 5
    assert {model.config.tag for model in fit_arms(changed).values()} == {"g2"}
    assert {model.config.tag for model in fit_arms(study).values()} == {None}
    with pytest.raises(ConfigError, match="tag must be None for a character CNN"):
        SegmenterConfig(kind="character-cnn", tag="g2")


def test_changed_words_are_those_that_the_rule_is_about():
    rule = join_prefix(["การ"])
    row = Segmented.of(["การเมือง", "ดี", "มา"])
    found = [cuts_of(["การเมือง", "ดี", "มา"]), cuts_of(["การ", "เมือง", "ดี", "มา"])]
    assert changed_words_recall([row], found[:1], rule=rule) == 1
    assert changed_words_recall([row], found[1:], rule=rule) == 0
    assert changed_words_recall([Segmented.of(["มา"])], [()], rule=rule) == 0
