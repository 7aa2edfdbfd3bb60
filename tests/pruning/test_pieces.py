"""Which pieces are removed: the cheapest, and hardly more than asked for."""

import numpy as np
import pytest
import torch

import tiny
from attar.families import UNITS, Body
from attar.methods.bonsai import BonsaiConfig
from attar.pruning.pieces import UnitGroup, removable_pool, select_removals

QUICK = BonsaiConfig(windows=8, context=16, ffn_block=8)


@pytest.mark.parametrize("uniform", [False, True])
def test_fill_overshoots_by_at_most_one_piece(uniform):
    rng = np.random.default_rng(0)
    pool = [UnitGroup(i % 3, "neurons", tuple(range(8))) for i in range(30)]
    values, costs = rng.random(30).tolist(), [8.0] * 30
    for amount in (1, 8, 30, 100):
        gone = select_removals(
            pool, values, costs=costs, amount=amount, config=QUICK, uniform=uniform, trim=False
        )
        saved = 8.0 * len(gone)
        assert amount <= saved < amount + (24 if uniform else 8)
        if uniform:
            counts = [sum(p.layer == i for p in gone) for i in range(3)]
            assert len(set(counts)) == 1


def test_fill_takes_the_least_value_per_cost():
    pool = [UnitGroup(0, "kv_groups", (0,)), UnitGroup(0, "neurons", (0,))]
    for rank_by, first in (("value_per_cost", "kv_groups"), ("value", "neurons")):
        config = BonsaiConfig(rank_by=rank_by, round_to=1)
        gone = select_removals(
            pool,
            [2.0, 1.0],
            costs=[10.0, 1.0],
            amount=0.5,
            config=config,
            uniform=False,
            trim=False,
        )
        assert gone[0].unit == first


def test_the_last_piece_is_trimmed_to_what_is_missing():
    pool = [UnitGroup(0, "neurons", tuple(range(24)))]
    (gone,) = select_removals(
        pool, [1.0], costs=[24.0], amount=9.0, config=QUICK, uniform=False, trim=True
    )
    assert gone.members == tuple(range(16))


def test_crowded_modules_offer_larger_groups_but_several_each():
    model = tiny.model("llama")
    modules = [(i, unit) for i in range(3) for unit in UNITS]
    importance = {(i, unit): torch.arange(Body(model).layers[i].count(unit)) for i, unit in modules}

    def sizes(most):
        pool = removable_pool(
            model,
            modules,
            importance=importance,
            share=1.0,
            block=8,
            most=most,
            config=BonsaiConfig(),
        )
        return [len(group.members) for group in pool if group.module == "layers.1.mlp"]

    assert sizes(15) == sizes(None) == 5 * [8]  # one block always stays
    assert sizes(14) == sizes(4) == 2 * [16]
    assert sizes(1) == 2 * [16]
