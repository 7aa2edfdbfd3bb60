"""Random cuts of all kinds, and the law that sliced, masked and functional models answer alike."""

import random
from typing import Any

import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

import tiny
from attar.families import UNITS, Body
from attar.slicing import (
    LayerKeep,
    SlicePlan,
    functional_forward,
    masked,
    slice_model,
)

EVERY = [*tiny.CAUSAL, *tiny.ENCODERS]
STILL = ["gpt2", "opt", "bert", "roberta"]  # no rotary positions, so heads can get narrower
PARTS = ("layers", "kv_groups", "neurons", "hidden", "head_channels", "vocabulary")
HEADS = {
    "mlm": AutoModelForMaskedLM,
    "classes": AutoModelForSequenceClassification,
    "spans": AutoModelForQuestionAnswering,
}
CLOSE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}


def plan_for(model: PreTrainedModel, *parts: str, seed: int = 0) -> SlicePlan:
    """A random plan that cuts these parts where the family can lose them."""
    rng, body = random.Random(seed), Body(model)

    def some(count: int) -> tuple[int, ...]:
        return tuple(sorted(rng.sample(range(count), rng.randint(count // 2, count - 1))))

    layers = []
    for i, layer in enumerate(body.layers):
        if "layers" in parts and i == 1:
            continue
        whole = [tuple(range(layer.count(unit))) for unit in UNITS]
        fixed = {"kv_groups": body.family.wide_norm, "neurons": False}
        kept = (
            some(len(all_)) if unit in parts and not fixed[unit] else all_
            for unit, all_ in zip(UNITS, whole, strict=True)
        )
        layers.append(LayerKeep(i, *kept))
    tokens = tuple(sorted({0, 1, 2, *rng.sample(range(3, tiny.VOCAB), 40)}))
    narrow = "head_channels" in parts and not body.why_not("head_channels")
    return SlicePlan(
        tuple(layers),
        hidden=some(body.hidden) if "hidden" in parts else None,
        head_channels=some(body.head_dim) if narrow else None,
        vocabulary=tokens if "vocabulary" in parts else None,
    )


def ids_for(plan: SlicePlan) -> torch.Tensor:
    """Token ids of the parent that the plan keeps, `(2, 12)`."""
    if plan.vocabulary is None:
        return tiny.ids()
    drawn = torch.randint(3, len(plan.vocabulary), (2, 12), generator=torch.manual_seed(0))
    return torch.tensor(plan.vocabulary)[drawn]


def outputs(found: Any) -> list[torch.Tensor]:
    if hasattr(found, "start_logits"):
        return [found.start_logits, found.end_logits]
    return [found.logits if hasattr(found, "logits") else found.last_hidden_state]


def expected(model: PreTrainedModel, plan: SlicePlan, ids: torch.Tensor) -> list[torch.Tensor]:
    """What the masked parent gives, where the sliced model has something to compare."""
    with masked(model, plan):
        found = outputs(model(input_ids=ids))
    if not hasattr(model(input_ids=ids), "last_hidden_state"):
        if plan.vocabulary is not None and found[0].shape[-1] == tiny.VOCAB:
            gone = sorted(set(range(tiny.VOCAB)) - set(plan.vocabulary))
            assert bool((found[0][..., gone] == -torch.inf).all())
            return [found[0][..., list(plan.vocabulary)]]
        return found
    if plan.hidden is not None:
        gone = sorted(set(range(32)) - set(plan.hidden))
        assert not bool(found[0][..., gone].any())
        return [found[0][..., list(plan.hidden)]]
    return found


@torch.no_grad()
def assert_law(model: PreTrainedModel, plan: SlicePlan) -> PreTrainedModel:
    ids = ids_for(plan).to(model.device)
    sliced, wanted = slice_model(model, plan), expected(model, plan, ids)
    new = plan.renumber(ids)
    torch.testing.assert_close(outputs(sliced(input_ids=new)), wanted, **CLOSE)
    functional = outputs(functional_forward(model, plan, input_ids=new))
    torch.testing.assert_close(functional, wanted, **CLOSE)
    return sliced


def output(found: Any) -> torch.Tensor:
    """Logits, or the last hidden states."""
    return found.logits if hasattr(found, "logits") else found.last_hidden_state


def random_plan(
    model: PreTrainedModel, *, seed: int = 0, uniform: bool = False, drop: int | None = None
) -> SlicePlan:
    """A plan that keeps some of everything that may go."""
    rng, body, layers = random.Random(seed), Body(model), []
    for i, layer in enumerate(body.layers):
        if i == drop:
            continue
        groups, neurons = layer.kv_groups, layer.neurons
        if not body.why_not("kv_groups"):
            groups = 2 if uniform else rng.randint(1, groups)
        neurons = 24 if uniform else rng.randrange(8, max(9, neurons), 8)
        keep = [
            tuple(sorted(rng.sample(range(layer.count(unit)), n)))
            for unit, n in zip(UNITS, (groups, neurons), strict=True)
        ]
        layers.append(LayerKeep(i, *keep))
    return SlicePlan(tuple(layers))
