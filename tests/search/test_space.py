"""Spaces of choices of which some only exist beside others."""

import random
from collections import Counter

import optuna
import pytest

from attar.errors import ConfigError
from attar.search.space import ChoiceSpace
from bakery import CAKES


def test_every_combination_is_listed_once_and_holds_every_draw() -> None:
    every = CAKES.enumerate_all()
    # a short dough has neither layers nor cream; of one layer there is nothing to fill
    assert len(every) == (1 + 1 + 2 + 2) * 3
    assert all(CAKES.active(values) == values and CAKES.contains(values) for values in every)
    assert every == CAKES.enumerate_all()
    rng = random.Random(0)
    drawn = [CAKES.sample(rng) for _ in range(600)]
    assert all(values in every for values in drawn)
    # uniform over the choice, although most that are listed are sponge
    assert 0.4 < Counter(values["dough"] for values in drawn)["short"] / 600 < 0.6
    again = random.Random(0)
    assert [CAKES.sample(again) for _ in range(600)] == drawn


def test_a_trial_suggests_what_has_an_effect_and_replays_a_combination() -> None:
    for values in CAKES.enumerate_all():
        stored = CAKES.stored(values)
        fixed = optuna.trial.FixedTrial(stored)
        assert CAKES.suggest(fixed) == values
        assert fixed.params == stored
    assert CAKES.stored({"dough": "short", "fruit": ("plum", "nut")}) == {
        "dough": "short",
        "fruit": "plum+nut",
    }
    # the values of a study that Optuna draws itself
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert CAKES.suggest(study.ask()) in CAKES.enumerate_all()


def test_what_has_no_effect_is_left_out() -> None:
    full = {"dough": "short", "layers": 3, "cream": True, "fruit": ()}
    assert CAKES.active(full) == {"dough": "short", "fruit": ()}
    assert CAKES.words(full) == {"dough": "short", "fruit": "none"}
    assert CAKES.contains(full | {"layers": 99})
    assert not CAKES.contains(full | {"fruit": ("stone",)})


def test_a_narrower_space_lists_its_part_of_the_whole() -> None:
    part = CAKES.narrow({"layers": [3, 1], "fruit": [["plum", "nut"]], "cream": [False]})
    assert part["layers"] == (1, 3)
    assert part.enumerate_all() == [
        values
        for values in CAKES.enumerate_all()
        if values["fruit"] == ("plum", "nut")
        and values.get("layers", 1) != 2
        and not values.get("cream", False)
    ]
    for wrong, message in (
        ({"icing": [1]}, "a cake has no choice named icing; choose among dough, layers"),
        ({"layers": []}, "layers must be a list"),
        ({"dough": "short"}, "dough must be a list"),
        ({"layers": [4]}, "layers must be one of 1, 2, 3; found 4"),
        ({"layers": [True]}, "layers must be one of"),
        ({"cream": [1]}, "cream must be one of True, False; found 1"),
        ({"fruit": [["stone"]]}, r"fruit must be one of none, cherry, plum\+nut"),
    ):
        with pytest.raises(ConfigError, match=message):
            CAKES.narrow(wrong)


def test_the_id_changes_with_choices_values_and_rules() -> None:
    plain = {"a": (1, 2), "b": ("x",)}
    spaces = [
        ChoiceSpace(plain),
        ChoiceSpace(plain | {"a": (1, 3)}),
        ChoiceSpace({"b": ("x",), "a": (1, 2)}),
        ChoiceSpace(plain, version=2),
    ]
    ids = [space.space_id() for space in spaces]
    assert len({*ids}) == 4
    assert all(len(one) == 12 for one in ids)
    assert ChoiceSpace(dict(plain)).space_id() == ids[0]
