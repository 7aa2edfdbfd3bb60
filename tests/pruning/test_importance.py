"""Priors against two passes over all activations."""

import pytest
import torch

import tiny
from attar.families import UNITS, Body
from attar.pruning.importance import channel_stats, layer_importance, unit_importance


def windows(rows=24, length=16):
    return tiny.ids(rows, length, seed=7)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_priors_equal_a_two_pass_computation(family):
    model, ids = tiny.model(family), windows()
    seen = {}
    layers = Body(model).layers
    for i, layer in enumerate(layers):
        for unit in UNITS:
            layer.out(unit).register_forward_pre_hook(
                lambda _, args, key=(i, unit): seen.__setitem__(key, args[0].flatten(0, 1).double())
            )
    with torch.no_grad():
        model(input_ids=ids)
    for prior in ("wanda", "magnitude", "fluctuation"):
        generator = torch.Generator()
        found = unit_importance(model, ids, prior=prior, generator=generator, batch_size=len(ids))
        ranked = unit_importance(
            model, ids, prior=prior, generator=generator, batch_size=len(ids), standardise=True
        )
        for (i, unit), x in seen.items():
            weight = layers[i].out(unit).weight.detach().double()
            weight = weight if family == "gpt2" else weight.T  # (in, out)
            expected = {
                "wanda": weight.abs().mean(1) * x.square().mean(0).sqrt(),
                "magnitude": x.abs().mean(0),
                "fluctuation": x.var(0, correction=0) * weight.square().sum(1),
            }[prior]
            if prior == "fluctuation" and unit == "kv_groups":
                expected = expected.square()
            units = layers[i].columns(unit)
            torch.testing.assert_close(
                ranked[i, unit],
                ((expected - expected.mean()) / expected.std(correction=0))[units].mean(1),
                rtol=1e-4,
                atol=1e-5,
            )
            expected = expected[units].mean(1)
            torch.testing.assert_close(found[i, unit], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("prior", ["wanda", "magnitude", "fluctuation"])
def test_priors_stay_on_the_device_that_computes_them(prior, monkeypatch):
    def moved(*_):
        raise AssertionError("a tensor went to the processor")

    monkeypatch.setattr(torch.Tensor, "cpu", moved)
    model = tiny.model("llama")
    found = unit_importance(model, windows(), prior=prior, generator=torch.Generator())
    assert {scores.device for scores in found.values()} == {model.device}


def test_priors_do_not_depend_on_batches():
    model, ids = tiny.model("llama"), windows(9)
    one = channel_stats(model, ids, batch_size=9)
    other = channel_stats(model, ids.flip(0), batch_size=2)
    for key, stats in one.items():
        assert stats.tokens == other[key].tokens == ids.numel()
        torch.testing.assert_close(stats.variance, other[key].variance, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(stats.mean_square, other[key].mean_square, rtol=1e-5, atol=0)


def test_a_split_neuron_has_half_the_wanda_and_a_quarter_of_the_fluctuation_prior():
    model, ids = tiny.model("llama"), windows()
    mlp = model.model.layers[0].mlp
    priors = ("wanda", "fluctuation")

    def measured():
        return {
            p: unit_importance(model, ids, prior=p, generator=torch.Generator())[0, "neurons"]
            for p in priors
        }

    with torch.no_grad():
        mlp.down_proj.weight[:, 1] = 0  # neuron 1 is free to become half of neuron 0
        logits, whole = model(input_ids=ids).logits, measured()
        for linear in (mlp.gate_proj, mlp.up_proj):
            linear.weight[1] = linear.weight[0]
        mlp.down_proj.weight[:, 0] /= 2
        mlp.down_proj.weight[:, 1] = mlp.down_proj.weight[:, 0]
        torch.testing.assert_close(model(input_ids=ids).logits, logits, atol=1e-4, rtol=1e-4)
    parts = measured()
    for prior, share in zip(priors, (1 / 2, 1 / 4), strict=True):
        for half in (0, 1):
            expected = pytest.approx(float(whole[prior][0]) * share, rel=1e-4)
            assert float(parts[prior][half]) == expected


def test_block_influence_of_an_idle_layer_is_zero():
    model = tiny.model("llama")
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.zero_()
        model.model.layers[1].mlp.down_proj.weight.zero_()
    influence = layer_importance(model, windows())
    assert influence[1] == pytest.approx(0, abs=1e-6)
    assert influence[0] > 0.01
