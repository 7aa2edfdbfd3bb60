"""Smaller models: the blocks of a larger one, and whatever surrounds them."""

from typing import Any

import pytest
import torch
from transformers import (
    DebertaConfig,
    DebertaForSequenceClassification,
    EsmConfig,
    EsmForMaskedLM,
    FunnelConfig,
    FunnelModel,
    LongformerConfig,
    LongformerModel,
    PreTrainedModel,
    ReformerConfig,
    ReformerModel,
    SqueezeBertConfig,
    SqueezeBertModel,
)

import decoders
import tiny
from attar.errors import CompatibilityError, ConfigError
from attar.train.students import depth, make_student


def without(model: Any, dropped: list[int]) -> PreTrainedModel:
    """The model with the identity for some of its layers."""

    class Skip(torch.nn.Module):
        def __init__(self, layer: torch.nn.Module) -> None:
            super().__init__()
            self.layer = layer  # some models ask it for what it is

        def __getattr__(self, name: str) -> Any:
            if name == "layer":
                return super().__getattr__(name)
            return getattr(super().__getattr__("layer"), name)

        def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return hidden

    from attar.families import Body

    layers = Body(model).layer_list
    for i in dropped:
        layers[i] = Skip(layers[i])
    return model


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_a_cut_is_the_model_without_the_other_layers(family: str) -> None:
    target = tiny.model(family)
    kept = [0, 2]
    if target.config.to_dict().get("layer_types"):  # the kind of a layer depends on its number
        assert make_student(target, layers=kept).config.layer_types == [
            target.config.layer_types[i] for i in kept
        ]
    draft = make_student(target, layers=kept)
    assert depth(draft) == 2
    ids = tiny.ids()
    with torch.no_grad():
        expected = without(tiny.model(family), [1])(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(draft(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)
    assert draft.generation_config.to_dict() == target.generation_config.to_dict()  # pyright: ignore


def test_all_layers_are_the_model_itself() -> None:
    for target in (tiny.model("qwen2"), decoders.encoder_decoder().float()):
        ids = tiny.ids()
        more = {"decoder_input_ids": ids} if target.config.is_encoder_decoder else {}
        whole = make_student(target, layers=depth(target))
        with torch.no_grad():
            expected = target(input_ids=ids, **more).logits
            torch.testing.assert_close(whole(input_ids=ids, **more).logits, expected)


def test_an_encoder_decoder_is_cut_on_both_sides() -> None:
    target = decoders.encoder_decoder()
    draft: Any = make_student(target, layers=1)
    assert len(draft.encoder.block) == len(draft.decoder.block) == 1
    for side in ("encoder", "decoder"):
        ours, theirs = getattr(draft, side).block[0], getattr(target, side).block
        assert torch.equal(
            ours.layer[0].SelfAttention.q.weight, theirs[1].layer[0].SelfAttention.q.weight.float()
        )
        bias = theirs[0].layer[0].SelfAttention.relative_attention_bias.weight
        assert torch.equal(ours.layer[0].SelfAttention.relative_attention_bias.weight, bias.float())


def test_a_narrow_draft_starts_at_random() -> None:
    draft = make_student(tiny.model("llama"), layers=1, width=16, init="random")
    assert draft.config.hidden_size == 16
    assert draft.config.num_attention_heads == 4
    with torch.no_grad():
        assert draft(input_ids=tiny.ids()).logits.shape == (2, 12, tiny.VOCAB)


def test_heads_that_share_keys_stay_together() -> None:
    target = tiny.model("llama")  # 8 heads of width 4, two of which share a key/value head
    draft = make_student(target, layers=1, width=8, init="random")
    assert (draft.config.num_attention_heads, draft.config.num_key_value_heads) == (2, 1)
    with torch.no_grad():
        assert draft(input_ids=tiny.ids()).logits.shape == (2, 12, tiny.VOCAB)
    with pytest.raises(ConfigError, match="multiple of 8"):
        make_student(target, layers=1, width=12, init="random")


def test_lists_with_an_entry_a_layer_are_cut_too() -> None:
    target = tiny.model("smollm3", num_hidden_layers=4, no_rope_layers=[1, 1, 1, 0])
    assert make_student(target, layers=[0, 3]).config.no_rope_layers == [1, 0]


def test_lists_with_an_entry_a_layer_have_any_name() -> None:
    config = LongformerConfig(
        vocab_size=tiny.VOCAB,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        attention_window=[4, 8, 16],
        pad_token_id=0,
        eos_token_id=[2, 3, 4],  # as many as there are layers, and nothing to do with them
    )
    teacher: Any = LongformerModel(config).eval()
    student: Any = make_student(teacher, layers=[0, 1])
    assert student.config.attention_window == [4, 8]
    assert student.config.eos_token_id == [2, 3, 4]
    ids = tiny.ids(2, 32)
    with torch.no_grad():
        states = teacher(input_ids=ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(student(input_ids=ids).last_hidden_state, states[2])


def test_a_head_that_reads_the_number_of_layers_and_a_model_without_one_are_refused() -> None:
    config = EsmConfig(
        vocab_size=tiny.VOCAB,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        pad_token_id=0,
        mask_token_id=5,
    )
    teacher = EsmForMaskedLM(config)
    with pytest.raises(CompatibilityError, match=r"contact_head\S+ of Esm\w+ depends on the num"):
        make_student(teacher, layers=2)
    assert depth(make_student(teacher, layers=4)) == 4
    uncounted = tiny.model("bert")
    vars(uncounted.config)["num_hidden_layers"] = None
    with pytest.raises(CompatibilityError, match="number of blocks as num_hidden_layers"):
        make_student(uncounted, layers=1)


def test_rules_of_a_class_for_its_sizes_are_kept_or_told() -> None:
    shape: Any = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4}
    squeezed = SqueezeBertModel(
        SqueezeBertConfig(**shape, embedding_size=32, num_hidden_layers=3, intermediate_size=48)
    )
    narrow = make_student(squeezed, layers=2, width=16, init="random")
    with torch.no_grad():
        assert narrow(input_ids=tiny.ids()).last_hidden_state.shape[-1] == 16
    named = DebertaConfig(**shape, num_hidden_layers=3, intermediate_size=48)
    named = make_student(DebertaForSequenceClassification(named), layers=2, width=16, init="random")
    with torch.no_grad():
        assert named(input_ids=tiny.ids()).logits.shape == (2, 2)
    funnel = FunnelModel(FunnelConfig(vocab_size=64, block_sizes=[2, 2], d_model=32, n_head=4,
                                      d_head=8, d_inner=48))  # fmt: skip
    with pytest.raises(CompatibilityError, match=r"FunnelModel cannot be made smaller .*block_siz"):
        make_student(funnel, layers=2)


def test_a_reformer_keeps_the_kinds_of_its_layers() -> None:
    config = ReformerConfig(
        vocab_size=64,
        hidden_size=32,
        num_attention_heads=4,
        attention_head_size=8,
        feed_forward_size=48,
        attn_layers=["local", "lsh", "local", "lsh"],
        axial_pos_shape=[8, 8],
        axial_pos_embds_dim=[16, 16],
        num_buckets=2,
        is_decoder=False,
    )
    teacher = ReformerModel(config).eval()
    student = make_student(teacher, layers=[0, 3])
    assert student.config.attn_layers == ["local", "lsh"]
    with torch.no_grad():
        assert torch.isfinite(student(input_ids=tiny.ids()).last_hidden_state).all()
    with pytest.raises(CompatibilityError, match="ReformerModel cannot be made smaller"):
        make_student(teacher, layers=2, width=16, init="random")


def test_what_cannot_be_is_told() -> None:
    target = tiny.model("llama")
    for layers, said in (
        (4, "between 1 and 3"),
        (0, "between 1"),
        ([2, 1], "ascending"),
        ([3], "from 0 to 2"),
        ([], "found none"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_student(target, layers=layers)
    target.config.per_layer_config = {0: {"intermediate_size": 8}}
    with pytest.raises(CompatibilityError, match="differ in width"):
        make_student(target, layers=1)


@pytest.mark.parametrize("init", ["cut", "random"])
def test_a_mixture_of_experts_that_names_its_layers_by_number_is_refused(init: Any) -> None:
    target = tiny.model("llama")
    for name in ("mlp_only_layers", "moe_layers"):
        setattr(target.config, name, [])
        assert depth(make_student(target, layers=2, init=init)) == 2
        setattr(target.config, name, [1, 2])
        with pytest.raises(CompatibilityError, match=f"names layers by number .{name}"):
            make_student(target, layers=2, init=init)
        delattr(target.config, name)
