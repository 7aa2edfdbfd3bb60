from dataclasses import replace

import numpy as np
import pytest
from tests.methods.active_segmentation.replays import gold, options, sentence

from attar.data.segments.cuts import Segmented
from attar.data.segments.legal import legal
from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.annotators import Annotator
from attar.methods.active_segmentation.arms import random_order, reserve, uid
from attar.methods.active_segmentation.curves import rows
from attar.methods.active_segmentation.drawing import DrawConfig
from attar.methods.active_segmentation.events import Event
from attar.methods.active_segmentation.labels import Label
from attar.methods.active_segmentation.made_up import frequent_words, make_up
from attar.methods.active_segmentation.measuring import costs, measure
from attar.methods.active_segmentation.points import comparable
from attar.methods.active_segmentation.rules import join_prefix
from attar.methods.active_segmentation.simulate import Happening, Replay, replay
from attar.methods.active_segmentation.study import begin, draw, fit_arms, samples

GOLD = gold()
CUTS = {uid(row.text): row.cuts for row in GOLD}
BUDGETS = {"random": 250, "active": 250}


def test_a_replay_draws_what_a_study_driven_by_hand_draws():
    simulated = replay(Replay.of(GOLD, config=options(), minimum=20), budgets=BUDGETS)

    study = begin([sentence(row) for row in GOLD], config=options(), minimum=20, snapshot="s1")
    models, points = {}, []
    test = [row for row in GOLD if uid(row.text) in study.reserved]
    while study.batches("active") < simulated.study.batches("active"):
        drawn = [draw(study, arm, models=models) for arm in ("random", "active")]
        study = replace(study, picks=(*study.picks, *(p for d in drawn for p in d.picks)))
        known = {label.uid for label in study.labels}
        new = dict.fromkeys(p.uid for p in study.picks if p.uid not in known)
        labels = [
            Label(uid=name, cuts=CUTS[name], sequence=study.sequence + 1 + place)
            for place, name in enumerate(new)
        ]
        study = replace(study, labels=(*study.labels, *labels))
        models = fit_arms(study)
        points += measure(study, models, test=test)
    assert study.picks == simulated.study.picks
    scores = [(p.arm, p.word_f1) for p in points]
    assert scores == [(p.arm, pytest.approx(p.word_f1)) for p in simulated.points]


def test_the_same_seed_gives_the_same_replay_and_another_salt_another_arm():
    made = [
        replay(Replay.of(GOLD, config=options(), minimum=20), budgets=BUDGETS) for _ in range(2)
    ]
    assert made[0].study == made[1].study
    assert made[0].points == made[1].points
    salted = options(
        arms={"random": DrawConfig(strategy="random", budget=150, salt="other")}, seed_sentences=0
    )
    other = replay(Replay.of(GOLD, config=salted, minimum=20), budgets={"random": 250})
    assert other.study.served("random") != made[0].study.served("random")


def test_boundary_queries_are_answered_and_nothing_else_is():
    arms = {
        "queries": DrawConfig(strategy="boundaries", unit="decisions", budget=20),
        "random": DrawConfig(strategy="random", unit="decisions", budget=100),
    }
    made = Replay.of(GOLD, config=options(arms=arms), minimum=20, union=False)
    replay(made, budgets={"queries": 40, "random": 100})
    partial = [label for label in made.study.labels if label.decided is not None]
    assert partial
    for label in partial:
        assert set(label.cuts) == set(label.decided or ()) & set(CUTS[label.uid])
    asked = {(p.uid, at) for p in made.study.picks for at in p.positions or ()}
    learned = {
        (row.meta["id"], at) for row in samples(made.study)["queries"] for at in row.decided or ()
    }
    assert learned == asked
    assert "union" not in made.models


def test_a_perfect_annotator_says_the_truth_and_another_errs_near_true_cuts():
    for row in GOLD[:30]:
        name = uid(row.text)
        assert Annotator().label(name, row.text, gold=row.cuts).cuts == row.cuts
        wrong = Annotator(flip=0.5).label(name, row.text, gold=row.cuts, seed=3)
        places = [int(b) for b in legal(row.text)]
        near = {b for i, b in enumerate(places) if {*places[max(i - 1, 0) : i + 2]} & {*row.cuts}}
        assert set(wrong.cuts) ^ set(row.cuts) <= near


def test_errors_come_as_often_as_asked_and_do_not_depend_on_what_else_is_asked():
    rows = [(uid(row.text), row) for row in GOLD]
    annotator = Annotator(flip=0.1)
    errors = judged = 0
    for name, row in rows:
        whole = annotator.label(name, row.text, gold=row.cuts)
        places = [int(b) for b in legal(row.text)]
        part = annotator.label(name, row.text, gold=row.cuts, positions=places[:3])
        assert part.decided == tuple(places[:3])
        assert set(part.cuts) == set(whole.cuts) & set(places[:3])
        errors += len(set(whole.cuts) ^ set(row.cuts))
        judged += sum(
            bool({*places[max(i - 1, 0) : i + 2]} & {*row.cuts}) for i in range(len(places))
        )
    assert errors / judged == pytest.approx(0.1, abs=0.03)


def test_work_takes_time_by_length_and_corrections():
    steady = Annotator(
        spread=0.0, seconds_per_task=1, seconds_per_character=2, seconds_per_correction=10
    )
    row = Segmented.of(["กา", "มา"])
    label = steady.label("0", row.text, gold=row.cuts, prefill=(3,))
    assert (label.corrections, label.seconds) == (2, 1 + 2 * 4 + 10 * 2)
    asked = replace(steady, seconds_per_position=3).label(
        "0", row.text, gold=row.cuts, prefill=(3,), positions=(2,)
    )
    assert (asked.corrections, asked.seconds, asked.cuts) == (1, 1 + 3, (2,))


def test_prefill_saves_corrections():
    made = [
        replay(Replay.of(GOLD, config=options(), minimum=20, prefill=shown), budgets=BUDGETS)
        for shown in (True, False)
    ]
    shown, empty = (m.points[-1].costs.corrections for m in made)
    assert shown < empty / 2
    assert made[0].study.picks == made[1].study.picks


def test_a_changed_guideline_changes_the_truth_and_begins_an_epoch():
    rule = join_prefix(["การ", "ความ"])
    event = Event(kind="guideline.change", after="g2", policy="migrate", rule=rule)
    made = Replay.of(GOLD, config=options(), minimum=20)
    replay(made, budgets=BUDGETS, happenings=[Happening(batch=2, event=event, rule=rule)])
    assert {p.epoch for p in made.points if p.batch < 2} == {0}
    assert {p.epoch for p in made.points if p.batch >= 2} == {1}
    truth = {tuple(rule.rewrite(row.tokens)) for row in GOLD}
    assert {tuple(row.tokens) for row in made.test()} <= truth
    assert all(tuple(row.tokens) in truth for row in samples(made.study)["active"])
    assert {label.guideline for label in made.study.labels} == {"g1", "g2"}


def test_a_stale_test_set_keeps_the_old_truth():
    rule = join_prefix(["การ", "ความ"])
    event = Event(kind="guideline.change", after="g2", policy="keep")
    made = Replay.of(GOLD, config=options(), minimum=20)
    before = made.test()
    made.happen(Happening(batch=0, event=event, rule=rule, relabel_test=False))
    assert made.test() == before
    made.label_test()
    assert made.test() != before


def test_new_text_below_the_threshold_is_served_first():
    of = [replace(row, meta={"document": f"d{place // 4}"}) for place, row in enumerate(GOLD)]
    first, more = of[:60], of[60:]
    arms = {"random": options().arms["random"]}
    made = Replay.of(first, config=options(arms=arms), minimum=10, union=False)
    event = Event(kind="corpus.add", after="s2")
    happening = Happening(batch=2, event=event, add=more)
    replay(made, budgets={"random": 900}, happenings=[happening])
    study = made.study
    assert study.snapshot == "s2"
    served = study.served("random")
    free = [n for n in study.sentences if n not in study.reserved]
    assert set(served) == set(random_order(free)[: len(served)])
    assert len(study.sentences) == len(GOLD)
    assert study.reserved == reserve(list(study.sentences), threshold=study.threshold)
    assert len(study.reserved) > 10
    assert {uid(row.text) for row in made.test()} == study.reserved
    named = {sentence.uid: sentence.document for sentence in study.sentences.values()}
    for point in made.points:
        assert point.documents == tuple(named[name] for name in point.test)
    assert len({point.test for point in made.points}) == 2  # the test set has grown
    assert len({point.test for point in comparable(made.points)}) == 1
    assert all("low" in row for row in rows(comparable(made.points)))


def test_a_corpus_without_gold_is_refused():
    with pytest.raises(DataError, match="segmented as a whole, found none"):
        Replay.of([Segmented("กา", (), ())], config=options())
    with pytest.raises(ConfigError, match="a probability from 0"):
        Annotator(flip=0.9)


def test_made_up_text_is_cut_where_its_words_meet_and_partly_unknown():
    made = make_up(60, seed=1)
    known, unknown = set(made.dictionary), set(made.unknown)
    assert known.isdisjoint(unknown)
    frequent = frequent_words(4000)
    assert known | unknown == {word for word, _ in frequent}
    assert frequent == sorted(frequent, key=lambda pair: (-pair[1], pair[0]))
    assert frequent[0][1] > 100 * frequent[-1][1]
    assert frequent[:9] == frequent_words(9)
    tokens = [token for row in made.rows for token in row.tokens if token != " "]
    assert set(tokens) <= known | unknown
    assert 0.05 < np.mean([token in unknown for token in tokens]) < 0.3
    for row in made.rows:
        assert set(row.cuts) <= {int(b) for b in legal(row.text)}
    assert make_up(60, seed=1) == made
    assert make_up(60, seed=2) != made


def test_made_up_documents_have_words_of_their_own():
    made = make_up(40, seed=0, per_document=20)
    first, second = (
        {t for row in made.rows if row.meta["document"] == name for t in row.tokens}
        for name in ("d0000", "d0001")
    )
    assert len(first & second) < 0.6 * min(len(first), len(second))


def test_what_a_policy_asks_for_again_is_answered_and_paid_again():
    rule = join_prefix(["การ", "ความ"])
    event = Event(kind="guideline.change", after="g2", policy="relabel", query=r"\|(การ|ความ)\|")
    made = Replay.of(GOLD, config=options(), minimum=20)
    made.batch()
    before = costs(made.study)["random"]
    made.happen(Happening(batch=1, event=event, rule=rule))
    old = {row.meta["id"] for row in samples(made.study)["random"]}
    made.batch([])
    again = [label.uid for label in made.study.labels if label.guideline == "g2"]
    again = [name for name in again if name not in made.study.reserved]
    assert set(again) == set(made.study.served("random")) - old
    assert again
    after = costs(made.study)["random"]
    assert after.sentences == before.sentences + len(again)
    assert after.seconds > before.seconds
    truth = {tuple(rule.rewrite(row.tokens)) for row in GOLD}
    assert {tuple(row.tokens) for row in samples(made.study)["random"]} <= truth


def test_an_arm_that_ends_early_says_why() -> None:
    made = replay(
        Replay.of(GOLD, config=options(), minimum=20), budgets={**BUDGETS, "random": 10**6}
    )
    told = [line for line in made.warnings if "add text, or end here" in line]
    assert told
    assert all(line.startswith("random: nothing more of the pool") for line in told)
