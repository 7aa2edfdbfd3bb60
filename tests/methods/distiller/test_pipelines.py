"""The space of pipelines: every one listed once, stored and drawn as it is."""

import math
import random
from dataclasses import fields
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import ConfigError
from attar.methods.distiller.autodistiller import shipped
from attar.methods.distiller.pipelines import (
    SPACE,
    Pipeline,
    contains,
    enumerate_all,
    label,
    narrow,
    sample,
    space_id,
    suggest,
)
from attar.methods.distiller.study import read_study

pipelines = st.builds(
    Pipeline,
    intermediate=st.sampled_from(["none", "mse", "ce"]),
    features=st.sampled_from(SPACE["features"]),
    alpha=st.sampled_from(SPACE["alpha"]),
    pool=st.sampled_from(SPACE["pool"]),
    layer_map=st.sampled_from(SPACE["layer_map"]),
    pred_loss=st.sampled_from(["mse", "ce", "kl"]),
    temperature=st.sampled_from(SPACE["temperature"]),
    mixup=st.booleans(),
    augment=st.sampled_from(SPACE["augment"]),
    augment_p=st.sampled_from(SPACE["augment_p"]),
    copies=st.sampled_from(SPACE["copies"]),
) | st.builds(
    Pipeline,
    intermediate=st.sampled_from(["cos", "pkd", "mi"]),
    alpha=st.floats(0, 1),
    pool=st.sampled_from(SPACE["pool"]),
    layer_map=st.sampled_from(SPACE["layer_map"]),
)


@pytest.fixture(scope="module")
def everything() -> list[Pipeline]:
    """The whole space."""
    return enumerate_all()


@given(pipelines)
def test_a_pipeline_survives_json_and_its_canonical_form_is_a_fixed_point(
    pipeline: Pipeline,
) -> None:
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    canonical = pipeline.canonical()
    assert canonical.canonical() == canonical
    assert canonical.active() == pipeline.active()


@pytest.mark.parametrize(
    ("base", "change", "same"),
    [
        ({"intermediate": "mse"}, {"alpha": 0.1}, True),
        ({"intermediate": "mi"}, {"alpha": 0.1}, False),
        ({"intermediate": "none"}, {"layer_map": "emd"}, True),
        ({"intermediate": "cos"}, {"layer_map": "emd"}, False),
        ({"intermediate": "none"}, {"features": "attention"}, True),
        ({"intermediate": "ce"}, {"features": "attention"}, False),
        ({"intermediate": "cos"}, {"pool": "mean"}, True),
        ({"intermediate": "pkd"}, {"pool": "mean"}, False),
        ({"augment": ()}, {"augment_p": 0.1}, True),
        ({"augment": ()}, {"copies": 4}, True),
        ({"augment": ("swap",)}, {"augment_p": 0.1}, False),
        ({"augment": ("swap",)}, {"copies": 4}, False),
        ({"augment": ("swap", "mlm")}, {"augment": ("mlm", "swap")}, False),
        ({"pred_loss": "mse"}, {"temperature": 4.0}, True),
        ({"pred_loss": "ce"}, {"temperature": 4.0}, False),
        ({"pred_loss": "ce"}, {"pred_loss": "kl"}, True),
        ({"hard_weight": 1.0}, {"hard_weight": 1}, True),
        ({"augment": ("swap",)}, {"augment": ["swap"]}, True),
    ],
)
def test_only_choices_with_an_effect_tell_pipelines_apart(
    base: dict[str, Any], change: dict[str, Any], same: bool
) -> None:
    one, other = Pipeline(**base).canonical(), Pipeline(**{**base, **change}).canonical()
    assert (one == other) is same
    assert (one.to_json() == other.to_json()) is same


def test_the_whole_space_is_listed_once_and_holds_every_draw(everything: list[Pipeline]) -> None:
    listed = set(everything)
    intermediate = 1 + 2 * 2 * 3 + 3 + 2 * 3 + 6 * 2 * 3
    augmentation = 1 + (4 + 4 * 3) * 3 * 2
    assert len(everything) == len(listed) == intermediate * (1 + 3) * 2 * 2 * augmentation
    for pipeline in everything[::97]:
        assert pipeline.canonical() == pipeline
        assert contains(pipeline)
    rng = random.Random(0)
    drawn = [sample(rng) for _ in range(3000)]
    assert listed.issuperset(drawn)
    # Uniform over the choice, although most listed pipelines are of mi.
    share = sum(p.intermediate == "none" for p in drawn) / len(drawn)
    assert abs(share - 1 / 6) < 4 * math.sqrt(1 / 6 * 5 / 6 / len(drawn))


def test_a_trial_is_asked_for_what_has_an_effect_and_replays_the_pipeline(
    everything: list[Pipeline],
) -> None:
    for pipeline in everything[::911]:
        stored = SPACE.stored(pipeline.active())
        chain = pipeline.active()["augment"]
        assert stored == pipeline.active() | {"augment": label("augment", chain)}
        fixed = optuna.trial.FixedTrial(stored)
        assert suggest(fixed) == pipeline
        assert fixed.params == stored


def test_the_id_of_the_space_is_that_of_the_shipped_studies() -> None:
    """Rules, choices and values have not changed since they were made."""
    assert list(SPACE) == [field.name for field in fields(Pipeline)]
    assert space_id() == narrow({}).space_id()
    for file in shipped():
        assert {row.space for row in read_study(file)} == {space_id()}
    assert narrow({"pred_loss": ["mse"]}).space_id() != space_id()


def test_a_narrower_space_lists_its_part_of_the_whole(everything: list[Pipeline]) -> None:
    space = narrow(
        {"pred_loss": ["mse"], "augment": [[], ["swap"]], "intermediate": ["none", "mi"]}
    )
    part = enumerate_all(space=space)
    assert part == [
        p
        for p in everything
        if p.pred_loss == "mse"
        and p.augment in ((), ("swap",))
        and p.intermediate in ("none", "mi")
    ]
    for wrong in (
        {"loss": ["mse"]},
        {"pred_loss": []},
        {"pred_loss": "mse"},
        {"pred_loss": ["kl"]},
        {"mixup": [1]},
        {"augment": ["swap"]},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            narrow(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"intermediate": "l2"},
        {"intermediate": "mi", "features": "attention"},
        {"alpha": 1.1},
        {"alpha": math.nan},
        {"temperature": 0},
        {"hard_weight": -1},
        {"augment": ("swap", "swap")},
        {"augment": "swap"},
        {"augment_p": 0},
        {"copies": 0},
        {"copies": 1.5},
        {"mixup": 1},
        {"optimizer": "adam"},
    ],
)
def test_a_wrong_choice_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=list(wrong)[-1]):
        Pipeline.from_dict(wrong)
