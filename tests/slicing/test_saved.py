"""What of a sliced model can be saved and reloads, and what is refused with the reason."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import tiny
from attar import checkpoint
from attar.arch import Arch
from attar.errors import CompatibilityError
from attar.families import Body
from attar.slicing import (
    LayerKeep,
    SlicePlan,
    functional_forward,
    masked,
    slice_model,
    zero_out,
)
from cuts import EVERY, HEADS, STILL, assert_law, ids_for, outputs, plan_for


def in_proportion(model: PreTrainedModel, *, narrow: bool) -> SlicePlan:
    """Half the width, with half the heads or with all heads half as wide; other neurons in every
    layer when the heads stay.
    """
    keeps = []
    for keep in SlicePlan.identity(model).layers[:2]:
        groups = keep.kv_groups if narrow else keep.kv_groups[1::2]
        neurons = keep.neurons[keep.layer :] if narrow else keep.neurons[::2]
        keeps.append(LayerKeep(keep.layer, groups, neurons))
    hidden = tuple(range(0, 32, 2))
    channels = tuple(range(1, Body(model).head_dim, 2)) if narrow else None
    return SlicePlan(tuple(keeps), hidden, channels, (0, 1, 2, *range(10, 40)))


@pytest.mark.parametrize(
    ("family", "head"),
    [*((f, None) for f in EVERY), *((f, h) for f in tiny.ENCODERS for h in ("mlm", "classes"))],
)
def test_what_a_class_can_express_is_saved_and_reloads(
    family: str, head: str | None, tmp_path: Any
) -> None:
    model = tiny.model(family, auto=HEADS.get(head or ""))
    parts = ("kv_groups", "hidden", "vocabulary", "layers")
    plans = [
        in_proportion(model, narrow=narrow) for narrow in (False, True)[: 1 + (family in STILL)]
    ]
    if family not in tiny.TIED:
        plans = [plan_for(model, *parts)]
    elif family in tiny.ENCODERS:  # which the per-layer form can build with any heads
        plans += [plan_for(model, *parts[:-1]), plan_for(model, "head_channels")]
    for index, plan in enumerate(plans):
        sliced = slice_model(model, plan)
        checkpoint.save(sliced, tmp_path / str(index))
        again = checkpoint.load(tmp_path / str(index))
        assert Arch.of(again) == Arch.of(sliced)
        ids = plan.renumber(ids_for(plan))
        with torch.no_grad():
            pair = [outputs(m(input_ids=ids)) for m in (again, sliced)]
        torch.testing.assert_close(*pair, atol=1e-6, rtol=1e-6)


def test_embeddings_of_a_width_of_their_own_keep_it(tmp_path: Any) -> None:
    model = tiny.model("opt", word_embed_proj_dim=16)
    sliced = assert_law(model, plan_for(model, "neurons", "vocabulary", "layers"))
    checkpoint.save(sliced, tmp_path)
    again = checkpoint.load(tmp_path)
    assert again.config.word_embed_proj_dim == 16
    assert Arch.of(again) == Arch.of(sliced)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}),
        ("smollm3", {"no_rope_layers": [0, 1, 1, 0, 1]}),
        ("smollm3", {"no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 4}),
        ("gemma2", {"sliding_window": 4}),
        ("gemma3_text", {"sliding_window": 4, "sliding_window_pattern": 2}),
        ("modernbert", {"global_attn_every_n_layers": 2}),
    ],
)
def test_layers_that_know_their_number_are_the_same_when_others_are_gone(
    family: str, changes: dict[str, Any], tmp_path: Any
) -> None:
    model = tiny.model(family, num_hidden_layers=5, **changes)
    keeps = SlicePlan.identity(model).layers
    for number, kept in enumerate([(0, 3, 4), (1, 2, 4), (3,)]):
        if family == "modernbert" and 0 not in kept:
            continue
        plan = SlicePlan(tuple(keeps[i] for i in kept))
        sliced = assert_law(model, plan)
        checkpoint.save(sliced, tmp_path / str(number))
        again = checkpoint.load(tmp_path / str(number))
        with torch.no_grad():
            pair = [outputs(m(input_ids=tiny.ids())) for m in (again, sliced)]
        torch.testing.assert_close(*pair, atol=1e-6, rtol=1e-6)


def test_gradients_of_scaled_queries_reach_the_parent() -> None:
    model = tiny.model("gpt2", scale_attn_by_inverse_layer_idx=True)
    plan = SlicePlan(SlicePlan.identity(model).layers[2:])
    sliced = slice_model(model, plan)
    for logits in (
        functional_forward(model, plan, input_ids=tiny.ids()).logits,
        sliced(input_ids=tiny.ids()).logits,
    ):
        logits.square().mean().backward()
    ours, theirs = (m.transformer.h[i].attn.c_attn for m, i in ((model, 2), (sliced, 0)))
    queries = torch.arange(96) < 32  # a third of layer 2's, which is layer 0 now
    torch.testing.assert_close(ours.weight.grad[:, queries], theirs.weight.grad[:, queries] / 3)
    torch.testing.assert_close(ours.weight.grad[:, ~queries], theirs.weight.grad[:, ~queries])


@pytest.mark.parametrize("family", [f for f in tiny.TIED if f not in tiny.ENCODERS])
@pytest.mark.parametrize("part", ["hidden", "kv_groups", "head_channels"])
def test_what_no_class_can_express_is_not_saved(family: str, part: str, tmp_path: Any) -> None:
    model = tiny.model(family)
    plan = plan_for(model, part)
    if part == "head_channels" and plan.head_channels is None:
        return
    with pytest.raises(CompatibilityError, match="heads and width in proportion"):
        checkpoint.save(slice_model(model, plan), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_modernbert_without_its_first_layer_is_not_saved(tmp_path: Any) -> None:
    model = tiny.model("modernbert")
    plan = SlicePlan(SlicePlan.identity(model).layers[1:])
    with pytest.raises(CompatibilityError, match="keep layer 0"):
        checkpoint.save(assert_law(model, plan), tmp_path)


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("family", "changes", "parts", "words"),
    [
        ("llama", {}, {"head_channels": (0, 1)}, "rotary position frequencies"),
        ("opt", {"word_embed_proj_dim": 16}, {"hidden": (0, 1)}, "a width of their own"),
        ("roberta", {"pad_token_id": 1}, {"vocabulary": (1, 2, 5)}, "keep the ids 0 to 1"),
        ("bert", {"is_decoder": True, "add_cross_attention": True}, {"hidden": (0,)}, "crossatt"),
        ("llama", {}, {"hidden": ()}, "at least one of the hidden"),
        ("llama", {}, {"hidden": (3, 2)}, "strictly increasing numbers below 32"),
        ("llama", {}, {"vocabulary": (3, 64)}, "strictly increasing numbers below 64"),
    ],
)
def test_plans_that_a_model_cannot_carry_out_are_refused(
    family: str, changes: dict[str, Any], parts: dict[str, Any], words: str
) -> None:
    model = tiny.model(family, **changes)
    plan = SlicePlan(SlicePlan.identity(model).layers, **parts)
    with pytest.raises(CompatibilityError, match=words):
        slice_model(model, plan)
    with pytest.raises(CompatibilityError, match=words), masked(model, plan):
        pass


def test_heads_under_a_norm_over_all_heads_are_refused() -> None:
    model = tiny.model("olmo2")
    keeps = (LayerKeep(k.layer, (0,), k.neurons) for k in SlicePlan.identity(model).layers)
    with pytest.raises(CompatibilityError, match="over all heads at once"):
        slice_model(model, SlicePlan(tuple(keeps)))


def test_padding_and_a_capped_loss_are_refused() -> None:
    model = tiny.model("gemma2")
    plan = plan_for(model, "vocabulary")
    with pytest.raises(CompatibilityError, match="zeros would still count"):
        zero_out(model, plan)
    ids = ids_for(plan)
    with pytest.raises(CompatibilityError, match="soft-capped"), masked(model, plan):
        model(input_ids=ids, labels=ids)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
