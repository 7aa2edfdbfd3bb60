"""What the ledger books is what a cut model has less."""

import pytest

import tiny
from attar.budget import Budget
from attar.measure.cost import cost_of
from attar.methods.bonsai import BonsaiConfig
from attar.pruning.ledger import Ledger
from attar.pruning.pieces import UnitGroup, removal_plan
from attar.slicing import slice_model

QUICK = BonsaiConfig(windows=8, context=16, ffn_block=8)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("key", ["params", "blocks", "bytes", "kv_bytes", "macs"])
def test_the_cost_model_agrees_with_the_real_cost(family, key):
    model = tiny.model(family)
    (constraint,) = Budget.parse(f"{key}<=99%").constraints
    pool = [UnitGroup(0, "neurons", (1, 2, 5)), UnitGroup(2, "neurons", (0,))]
    if family != "gpt2":
        pool.append(UnitGroup(1, "kv_groups", (2,)))
    budget = Budget((constraint,)).resolve(cost_of(model))
    costs = Ledger(model, budget, layout="per_layer", config=QUICK, modules=[], tables={})
    saved = sum(costs.of_groups(key, pool))
    after = slice_model(model, removal_plan(model, pool))
    assert constraint.value(cost_of(model)) - constraint.value(cost_of(after)) == saved
