"""Children of encoder-decoders are slices of their parent, and ordinary checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, MarianMTModel, PreTrainedModel

import tiny
from attar.arch import Arch, LayerShape, Space
from attar.checkpoint import load, save
from attar.errors import CompatibilityError
from attar.measure.cost import cost_of
from attar.portable.modeling_elastic_marian import ElasticMarianMTModel
from attar.slicing import child_of, plain

T5 = ["t5", "t5-gated"]
STOCK = [*T5, "marian", "marian-apart"]


def filled(parent: PreTrainedModel, arch: Arch, *, layers: Any = None) -> Any:
    """The child as a model of its own."""
    child = child_of(parent, arch, layers=layers)
    made = child.extract(child.weights(plain(parent)))
    assert not any(t.is_meta for t in (*made.parameters(), *made.buffers()))
    return made


def inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    """A padded source and a target; all ids are below the smallest vocabulary here."""
    source, target = tiny.ids(2, 9, seed=seed) % 50, tiny.ids(2, 6, seed=seed + 1) % 50
    mask = torch.ones_like(source)
    mask[1, 6:] = 0
    return {"input_ids": source, "attention_mask": mask, "decoder_input_ids": target}


@torch.no_grad()
def logits(model: PreTrainedModel, **changes: Any) -> torch.Tensor:
    return model(**(inputs() | changes)).logits


def uniform(family: str) -> Arch:
    """A child of a stock parent: narrower, shallower, with fewer and smaller heads."""
    heads, ffn = 2, (24, 24) if family in T5 else (24, 40)
    encoder = LayerShape(heads, heads, ffn[0])
    decoder = LayerShape(heads, heads, ffn[1], cross_attention_heads=heads, cross_attention_span=1)
    channels = 6 if family in T5 else 8
    return Arch((encoder,) * 2, 16, channels, decoder=Arch((decoder,) * 3, 16, channels))


def hat(**changes: Any) -> Arch:
    """A child as in HAT's space."""
    encoder = (LayerShape(4, 4, 48), LayerShape(2, 2, 24), LayerShape(8, 8, 16))
    decoder = (LayerShape(2, 2, 24, None, 4, 1), LayerShape(4, 4, 40, None, 2, 3))
    inside = Arch(decoder, 32, attention_size=16)
    return replace(Arch(encoder, 24, attention_size=16, decoder=inside), **changes)


@pytest.mark.parametrize("family", tiny.ENCODER_DECODERS)
def test_the_largest_child_is_the_parent_bit_for_bit(family):
    parent = tiny.encoder_decoder(family)
    child = filled(parent, Arch.of(parent))
    assert type(child) is type(parent)
    assert torch.equal(logits(child), logits(parent))
    assert child.config.to_dict() == parent.config.to_dict()
    assert Arch.of(child) == Arch.of(parent)


@pytest.mark.parametrize("family", STOCK)
def test_a_filled_child_is_the_stock_model_that_its_folder_gives(family, tmp_path):
    parent = tiny.encoder_decoder(family)
    child = filled(parent, uniform(family))
    child.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    stock = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert type(stock) is type(parent)
    assert torch.equal(logits(stock), logits(child))
    theirs = stock.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in child.state_dict().items())
    found = Arch.of(stock)
    assert replace(found, vocab_size=None, decoder=None) == replace(uniform(family), decoder=None)
    assert replace(found.decoder or found, vocab_size=None) == uniform(family).decoder


@pytest.mark.parametrize("family", STOCK)
def test_calling_the_skeleton_with_slices_is_the_filled_child(family):
    parent = tiny.encoder_decoder(family)
    child = child_of(parent, uniform(family))
    called = child.run(child.weights(plain(parent)), **inputs())
    expected = filled(parent, uniform(family))(**inputs())
    assert torch.equal(called.logits, expected.logits)
    called.logits.sum().backward()  # gradients reach the parent
    reached = {name for name, p in parent.named_parameters() if p.grad is not None}
    assert {where.name for where in child.slices.values()} == reached


@pytest.mark.parametrize("family", STOCK)
def test_a_child_by_hand(family):
    """Heads of the child are the first heads, and of each its first channels."""
    parent, arch = tiny.encoder_decoder(family), uniform(family)
    child = filled(parent, arch)
    name = {
        True: "decoder.block.{}.layer.1.EncDecAttention.q.weight",
        False: "model.decoder.layers.{}.encoder_attn.q_proj.weight",
    }[family in T5]
    whole = parent.get_parameter(name.format(1)).unflatten(0, (4, 8))  # layer 1 of 4 is kept
    expected = whole[:2, : arch.head_dim, :16].flatten(0, 1)
    assert torch.equal(child.get_parameter(name.format(1)), expected)


@pytest.mark.parametrize("family", T5)
def test_relative_positions_stay_with_the_first_layer_that_is_kept(family):
    parent = tiny.encoder_decoder(family)
    child: Any = filled(parent, uniform(family), layers=((1, 2), (1, 2, 3)))
    bias = "{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    for side in ("encoder", "decoder"):
        whole = parent.get_parameter(bias.format(side))
        assert torch.equal(child.get_parameter(bias.format(side)), whole[:, :2])
    query = "encoder.block.{}.layer.0.SelfAttention.q.weight"
    rows = parent.get_parameter(query.format(1)).unflatten(0, (4, 8))[:2, :6, :16].flatten(0, 1)
    assert torch.equal(child.get_parameter(query.format(0)), rows)


@pytest.mark.parametrize("family", T5)
def test_a_t5_scales_its_logits_with_the_width_where_its_parent_does(family):
    child: Any = filled(tiny.encoder_decoder(family), uniform(family))
    seen = []
    child.lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    inside = []
    child.decoder.register_forward_hook(lambda _, __, output: inside.append(output[0]))
    logits(child)
    assert torch.equal(seen[0], inside[0] * (16**-0.5 if family == "t5" else 1.0))


@pytest.mark.parametrize(
    ("layers", "encoder", "decoder"),
    [
        (None, [0, 1], [0, 1, 2]),
        ("spread", [0, 1], [0, 1, 2]),
        ("first", [0, 1], [0, 1, 2]),
        (((0, 2), (0, 2, 3)), [0, 2], [0, 2, 3]),
    ],
)
def test_which_layers_stay(layers, encoder, decoder):
    parent = tiny.encoder_decoder("marian")
    child: Any = filled(parent, uniform("marian"), layers=layers)
    for side, kept in (("encoder", encoder), ("decoder", decoder)):
        for index, number in enumerate(kept):
            bias = f"model.{side}.layers.{{}}.fc2.bias"
            ours = child.get_parameter(bias.format(index))
            assert torch.equal(ours, parent.get_parameter(bias.format(number))[:16])


def test_layers_are_spread_evenly_unless_the_first_are_asked_for():
    two = (LayerShape(4, 4, 48, None, 4, 1),) * 2
    parent = tiny.encoder_decoder("elastic")
    arch = Arch.of(parent)
    assert arch.decoder is not None
    shallow = replace(arch, decoder=replace(arch.decoder, layers=two))
    for layers, kept in ((None, [0, 2]), ("first", [0, 1])):
        child = filled(parent, shallow, layers=layers)
        for index, number in enumerate(kept):
            name = "model.decoder.layers.{}.fc2.bias"
            ours, theirs = child.get_parameter(name.format(index)), name.format(number)
            assert torch.equal(ours, parent.get_parameter(theirs))


def test_a_stock_marian_has_elastic_children_and_the_largest_computes_the_same():
    parent = tiny.encoder_decoder("marian")
    arch = Arch.of(parent)
    assert arch.decoder is not None
    decoder = replace(arch.decoder, head_dim=None, attention_size=32)
    whole = replace(arch, head_dim=None, attention_size=32, decoder=decoder)
    child = filled(parent, whole)
    assert isinstance(child, ElasticMarianMTModel)
    torch.testing.assert_close(logits(child), logits(parent), rtol=1e-4, atol=1e-4)
    assert logits(filled(parent, hat())).isfinite().all()


@pytest.mark.parametrize("family", ["elastic", "marian"])
def test_an_elastic_child_is_saved_alone_and_loads_again(family, tmp_path):
    child = filled(tiny.encoder_decoder(family), hat())
    assert save(child, tmp_path) == "per_layer"
    again = load(tmp_path)
    assert type(again) is ElasticMarianMTModel
    assert torch.equal(logits(again), logits(child))
    expected = replace(hat(), vocab_size=tiny.VOCAB)
    assert Arch.of(again) == expected
    size = sum(p.numel() for p in child.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * size + 20_000
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, trust_remote_code=True)
    assert torch.equal(logits(plain.eval()), logits(child))


def parameters_of(arch: Arch, vocabulary: int) -> int:
    """Counted by hand: projections with biases, two norms or three, and one table as wide as the
    wider stack.
    """
    decoder = arch.decoder
    assert decoder is not None
    first, second = arch.hidden_size or 0, decoder.hidden_size or 0
    total = vocabulary * max(first, second)
    for side, sources in ((arch, ()), (decoder, (first,))):
        width, size = side.hidden_size or 0, side.attention_size or 0
        for shape in side.layers:
            for source in (width, *sources):
                total += (width + 1) * size + 2 * (source + 1) * size + (size + 1) * width
                total += 2 * width
            neurons = shape.intermediate_size
            total += (width + 1) * neurons + (neurons + 1) * width + 2 * width
    return total


def test_the_parameters_of_a_sub_network_are_its_own():
    parent = tiny.encoder_decoder("elastic")
    for arch in (hat(), replace(Arch.of(parent), vocab_size=None)):
        child = filled(parent, arch)
        expected = parameters_of(arch, tiny.VOCAB)
        assert cost_of(child).params == expected
        assert sum(t.numel() for t in child.state_dict().values()) > expected  # tied, and a buffer


def test_heads_share_out_the_same_columns():
    """The number of heads changes what an elastic child computes, and none of its weights."""
    parent = tiny.encoder_decoder("elastic")
    few, many = (filled(parent, hat(layers=(LayerShape(n, n, 24),) * 3)) for n in (2, 8))
    theirs = many.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in few.state_dict().items())
    assert not torch.allclose(logits(few), logits(many))


def test_dropout_shrinks_with_the_width():
    child = child_of(tiny.encoder_decoder("elastic"), hat()).skeleton
    assert child.config.encoder_dropout == pytest.approx(0.1 * 24 / 32)
    assert child.config.decoder_dropout == pytest.approx(0.1)


def test_every_network_of_a_space_like_hats_is_a_child():
    space = Space(
        (3,), (24, 32), (2, 4), (16, 48), attention_size=(16,),
        per_layer=("num_attention_heads", "intermediate_size"),
        decoder=Space(
            (1, 2, 4), (24, 32), (2, 4), (16, 48), attention_size=(16,),
            cross_attention_heads=(2, 4), cross_attention_span=(1, 2, 3),
            per_layer=("num_attention_heads", "intermediate_size", "cross_attention_heads",
                       "cross_attention_span"),
        ),
    )  # fmt: skip
    parent = tiny.encoder_decoder("elastic")
    assert replace(Arch.of(parent), vocab_size=None) == space.largest
    assert space.contains(Arch.of(parent))
    assert logits(filled(parent, space.smallest)).isfinite().all()


def test_a_smaller_vocabulary_keeps_the_first_tokens():
    parent = tiny.encoder_decoder("marian")
    child = filled(parent, replace(uniform("marian"), vocab_size=52))
    whole = filled(parent, uniform("marian"))
    assert torch.equal(logits(child), logits(whole)[..., :52])


def _heads(count: int, **changes: Any) -> Arch:
    arch = uniform("t5")
    assert arch.decoder is not None
    given = {"num_key_value_heads": count, "cross_attention_heads": count} | changes
    layers = tuple(replace(x, num_attention_heads=count, **given) for x in arch.decoder.layers)
    return replace(arch, decoder=replace(arch.decoder, layers=layers))


def _stock(arch: Arch) -> Arch:
    """Without the columns that heads share out."""
    decoder = replace(arch.decoder or arch, attention_size=None)
    return replace(arch, attention_size=None, decoder=decoder)


@pytest.mark.parametrize(
    ("family", "arch", "message"),
    [
        ("t5", replace(uniform("t5"), decoder=None), "with a decoder"),
        ("t5", replace(uniform("t5"), hidden_size=64), "d_model 64 in the encoder and 16"),
        ("t5", _heads(1), "num_heads 2 in the encoder and 1 elsewhere"),
        ("t5", _heads(2, cross_attention_heads=1), "with other heads"),
        ("t5", replace(uniform("t5"), layers=hat().layers[:2]), "layers of the encoder that"),
        ("t5", hat(), "tied with its embeddings"),
        ("marian", replace(uniform("marian"), head_dim=6), "2 heads of 6 channels at width 16"),
        ("marian", _stock(hat()), "layers of the encoder that differ.*give an attention_size"),
        ("t5", replace(_heads(2), layers=(LayerShape(2, 1, 24),) * 2), "several query heads"),
        ("elastic", hat(hidden_size=40), "no larger than its parent"),
        ("elastic", hat(layers=(LayerShape(3, 3, 8),) * 3), "divide encoder_attention_size"),
        ("marian", replace(uniform("marian"), vocab_size=2), "special tokens"),
    ],
)
def test_what_no_class_holds_is_refused_in_one_sentence(family, arch, message):
    with pytest.raises(CompatibilityError, match=message):
        child_of(tiny.encoder_decoder(family), arch)


def test_layers_that_do_not_fit_are_refused():
    parent = tiny.encoder_decoder("marian")
    for layers in (((0,), (0, 1, 2)), ((0, 3), (0, 1, 2)), ((1, 0), (0, 1, 2))):
        with pytest.raises(CompatibilityError, match="rising numbers below 3"):
            child_of(parent, uniform("marian"), layers=layers)
    with pytest.raises(CompatibilityError, match="two lists of layers"):
        child_of(parent, uniform("marian"), layers=range(3))
    deep = replace(uniform("marian"), layers=uniform("marian").layers * 2)
    with pytest.raises(CompatibilityError, match="1 to 3 layers in the encoder"):
        child_of(parent, deep)


def test_a_marian_in_half_precision_has_children_in_half_precision(tmp_path: Path):
    parent = tiny.encoder_decoder("marian").to(torch.bfloat16)
    child = filled(parent, uniform("marian"))
    assert {p.dtype for p in child.parameters()} == {torch.bfloat16}
    child.save_pretrained(tmp_path)
    again = MarianMTModel.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again), logits(child))
