"""An elastic Marian against a slow reference, a stock Marian, and itself in pieces."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

import tiny
from attar.checkpoint import load, save
from attar.errors import CompatibilityError, DataError
from attar.portable.modeling_elastic_marian import ElasticMarianConfig, ElasticMarianMTModel

SHAPE: dict[str, Any] = {
    "encoder_hidden_size": 24,
    "encoder_ffn_dim": [40, 24, 16],
    "encoder_attention_heads": [4, 2, 8],
    "decoder_ffn_dim": [24, 40],
    "decoder_attention_heads": [2, 4],
    "cross_attention_heads": [4, 2],
    "cross_attention_span": [3, 2],
    "decoder_attention_size": 8,
    "activation_function": "gelu",
}


def model(**changes: Any) -> Any:
    return tiny.encoder_decoder("elastic", **(SHAPE | changes))


# ------------------------------------------------------------------------------------- reference


def attend(module: Any, queries: Tensor, source: Tensor, *, heads: int, causal: bool) -> Tensor:
    """Attention of one row, head by head and query by query. `(T, D)` and `(S, D')`."""
    q, k, v = module.q_proj(queries), module.k_proj(source), module.v_proj(source)
    size = q.shape[1] // heads
    rows = []
    for t in range(len(q)):
        seen = t + 1 if causal else len(k)
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = torch.stack([q[t, own] @ k[s, own] for s in range(seen)]) / math.sqrt(size)
            parts.append(scores.softmax(0) @ v[:seen, own])
        rows.append(torch.cat(parts))
    return module.out_proj(torch.stack(rows))


def embed(stack: Any, ids: Tensor, width: int) -> Tensor:
    places = torch.zeros(len(ids), width)
    for t in range(len(ids)):
        for j in range(width // 2):
            angle = t / 10000 ** (2 * j / width)
            places[t, j], places[t, width // 2 + j] = math.sin(angle), math.cos(angle)
    return stack.embed_tokens.weight[ids, :width] * math.sqrt(width) + places


def feed_forward(layer: Any, states: Tensor) -> Tensor:
    neurons = torch.nn.functional.gelu(layer.fc1(states))
    return layer.final_layer_norm(states + layer.fc2(neurons))


@torch.no_grad()
def reference(net: Any, source: Tensor, target: Tensor) -> Tensor:
    """Logits `(T, V)` of one row without padding."""
    config, encoder, decoder = net.config, net.model.encoder, net.model.decoder
    states, every = embed(encoder, source, config.encoder_hidden_size), []
    for layer, heads in zip(encoder.layers, config.encoder_attention_heads, strict=True):
        mixed = attend(layer.self_attn, states, states, heads=heads, causal=False)
        states = feed_forward(layer, layer.self_attn_layer_norm(states + mixed))
        every.append(states)
    states = embed(decoder, target, config.decoder_hidden_size)
    for i, layer in enumerate(decoder.layers):
        heads = config.decoder_attention_heads[i]
        mixed = attend(layer.self_attn, states, states, heads=heads, causal=True)
        states = layer.self_attn_layer_norm(states + mixed)
        seen = torch.cat(every[-config.cross_attention_span[i] :])  # in any order
        heads = config.cross_attention_heads[i]
        mixed = attend(layer.encoder_attn, states, seen, heads=heads, causal=False)
        states = feed_forward(layer, layer.encoder_attn_layer_norm(states + mixed))
    table = decoder.embed_tokens.weight[:, : states.shape[1]]
    return states @ table.T + net.final_logits_bias[0]


@pytest.mark.parametrize("width", [24, 32, 40])
def test_it_computes_what_a_slow_reference_does(width):
    net = model(encoder_hidden_size=width)
    source, target = tiny.ids(2, 7), tiny.ids(2, 5, seed=1)
    with torch.no_grad():
        logits = net(input_ids=source, decoder_input_ids=target).logits
    for row in range(2):
        expected = reference(net, source[row], target[row])
        torch.testing.assert_close(logits[row], expected, rtol=1e-4, atol=1e-4)


def test_attention_weights_come_on_request_and_change_nothing():
    net, ids = model(), tiny.ids(2, 7)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    with torch.no_grad():
        given = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids}
        plain = net(**given)
        full = net(**given, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(full.logits, plain.logits, rtol=1e-5, atol=1e-5)
    assert [a.shape[-1] for a in full.cross_attentions] == [3 * 7, 2 * 7]
    for weights in (*full.encoder_attentions, *full.decoder_attentions, *full.cross_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert torch.all(full.cross_attentions[0][1].unflatten(-1, (3, 7))[..., 4:] == 0)
    assert torch.equal(full.encoder_hidden_states[-1], full.encoder_last_hidden_state)
    assert [len(full.encoder_hidden_states), len(full.decoder_hidden_states)] == [4, 3]


# --------------------------------------------------------------------------------------- padding


@torch.no_grad()
def test_padding_changes_nothing():
    net, source, target = model(), tiny.ids(1, 5), tiny.ids(1, 4, seed=1)
    alone = net(input_ids=source, decoder_input_ids=target).logits
    padded = torch.cat([source, torch.zeros(1, 3, dtype=torch.long)], 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0]])
    ends = torch.cat([target, torch.zeros(1, 2, dtype=torch.long)], 1)
    together = net(input_ids=padded, attention_mask=mask, decoder_input_ids=ends).logits
    torch.testing.assert_close(together[:, :4], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        net.generate(input_ids=padded, attention_mask=mask, max_new_tokens=6, num_beams=3),
        net.generate(input_ids=source, max_new_tokens=6, num_beams=3),
    )


@torch.no_grad()
def test_target_tokens_that_are_masked_are_not_seen():
    net, source, target = model(), tiny.ids(1, 5), tiny.ids(1, 6, seed=1)
    mask = torch.tensor([[1, 0, 1, 1, 1, 1]])
    other = target.clone()
    other[0, 1] = 7
    first, second = (
        net(input_ids=source, decoder_input_ids=ids, decoder_attention_mask=mask).logits
        for ids in (target, other)
    )
    assert torch.equal(first[:, 2:], second[:, 2:])
    assert not torch.allclose(first[:, 1], second[:, 1])


# -------------------------------------------------------------------------------------- generate


@pytest.mark.parametrize("beams", [1, 5])
def test_generating_with_a_cache_is_generating_without(beams):
    net, source = model(), tiny.ids(3, 7)
    mask = torch.ones_like(source)
    mask[2, 3:] = 0
    options = {"max_new_tokens": 10, "num_beams": beams, "no_repeat_ngram_size": 2}
    with_cache, without = (
        net.generate(input_ids=source, attention_mask=mask, use_cache=use, **options)
        for use in (True, False)
    )
    assert torch.equal(with_cache, without)
    assert len(set(with_cache.flatten().tolist())) > 4  # not one token over and over


@torch.no_grad()
def test_reading_token_by_token_is_reading_at_once():
    net, source, target = model(), tiny.ids(2, 7), tiny.ids(2, 6, seed=1)
    whole = net(input_ids=source, decoder_input_ids=target).logits
    encoded, cache, pieces = net.get_encoder()(source), None, []
    for start, end in ((0, 1), (1, 4), (4, 6)):
        output = net(
            encoder_outputs=encoded,
            decoder_input_ids=target[:, start:end],
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
        pieces.append(output.logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-5, atol=1e-5)


def test_greedy_generation_takes_the_best_token_each_time():
    net, source = model(), tiny.ids(1, 7)
    ids = torch.zeros(1, 1, dtype=torch.long)
    for _ in range(6):
        ids = torch.cat(
            [ids, net(input_ids=source, decoder_input_ids=ids).logits[:, -1:].argmax(-1)], 1
        )
    made = net.generate(input_ids=source, max_new_tokens=6, do_sample=False)
    assert torch.equal(made, ids[:, : made.shape[1]])


# ------------------------------------------------------------------------------------ the class


@torch.no_grad()
def test_with_uniform_widths_it_is_a_marian():
    stock = tiny.encoder_decoder("marian")
    config = ElasticMarianConfig(
        vocab_size=tiny.VOCAB,
        encoder_hidden_size=32,
        decoder_hidden_size=32,
        encoder_attention_size=32,
        decoder_attention_size=32,
        encoder_ffn_dim=[48] * 3,
        encoder_attention_heads=[4] * 3,
        decoder_ffn_dim=[56] * 4,
        decoder_attention_heads=[4] * 4,
        cross_attention_heads=[4] * 4,
        cross_attention_span=[1] * 4,
        activation_function="gelu",
    )
    twin = ElasticMarianMTModel(config).eval()
    found = twin.load_state_dict(stock.state_dict(), strict=False)
    assert found.missing_keys == []
    assert all("embed_positions" in name for name in found.unexpected_keys)
    given = {"input_ids": tiny.ids(2, 9), "decoder_input_ids": tiny.ids(2, 6, seed=1)}
    torch.testing.assert_close(twin(**given).logits, stock(**given).logits, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_mean_cross_entropy_of_the_labels():
    net, source, labels = model(), tiny.ids(2, 7), tiny.ids(2, 5, seed=1)
    labels[1, 3:] = -100
    output = net(input_ids=source, labels=labels)
    shifted = net.prepare_decoder_input_ids_from_labels(labels)
    assert shifted[:, 0].tolist() == [0, 0]
    assert shifted[1].tolist() == [0, *labels[1, :3].tolist(), 0]
    logits = net(input_ids=source, decoder_input_ids=shifted).logits
    picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    expected = -picked[labels >= 0].mean()
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("width", [24, 32, 40])
def test_tables_are_tied_and_saved_once(shared, width, tmp_path):
    net = model(
        encoder_hidden_size=width,
        share_encoder_decoder_embeddings=shared,
        decoder_vocab_size=tiny.VOCAB if shared else 50,
    )
    assert net.lm_head.weight is net.model.decoder.embed_tokens.weight
    assert (net.lm_head.weight is net.model.encoder.embed_tokens.weight) == shared
    save(net, tmp_path)
    again: Any = load(tmp_path)
    assert isinstance(again, ElasticMarianMTModel)
    theirs = again.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in net.state_dict().items())
    assert again.lm_head.weight is again.model.decoder.embed_tokens.weight
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, trust_remote_code=True)
    ids = tiny.ids(2, 7) % 50
    given = {"input_ids": ids, "decoder_input_ids": ids}
    with torch.no_grad():
        assert torch.equal(plain(**given).logits, net(**given).logits)
    options = {"max_new_tokens": 5, "num_beams": 2}
    assert torch.equal(plain.generate(ids, **options), net.generate(ids, **options))


def test_a_new_model_has_embeddings_of_norm_one_and_no_padding():
    net = ElasticMarianMTModel(
        ElasticMarianConfig(vocab_size=500, **{**SHAPE, "decoder_hidden_size": 32})
    )
    table = net.model.decoder.embed_tokens.weight
    assert table[0].norm() == 0
    assert table[1:].norm(dim=1).mean().item() == pytest.approx(1, abs=0.1)


def test_outputs_of_another_encoder_are_refused():
    net, ids = model(), tiny.ids(1, 5)
    states = BaseModelOutput(last_hidden_state=torch.zeros(1, 5, 24))
    with pytest.raises(ValueError, match="with last_layers"):
        net(encoder_outputs=states, decoder_input_ids=ids)
    one = model(cross_attention_span=[1, 1])
    one(encoder_outputs=states, decoder_input_ids=ids)  # which all have


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_attention_heads": [4]}, "expected 3 numbers for encoder_attention_heads"),
        ({"cross_attention_heads": [3, 2]}, "divide decoder_attention_size 8"),
        ({"cross_attention_span": [4, 1]}, "at most 3 for cross_attention_span"),
        ({"decoder_vocab_size": 9}, "one vocabulary for a shared table"),
        ({"decoder_layers": 3}, "expected 3 numbers for decoder_ffn_dim"),
    ],
)
def test_a_config_that_does_not_fit_itself_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ElasticMarianConfig(**(SHAPE | {"vocab_size": 64} | changes))
    net = model()
    save(net, tmp_path)
    for key, value in changes.items():
        setattr(net.config, key, value)
    net.config.save_pretrained(tmp_path)
    with pytest.raises((DataError, CompatibilityError), match="model"):
        load(tmp_path)
