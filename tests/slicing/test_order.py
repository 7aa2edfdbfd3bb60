"""A network in another order computes the same."""

import pytest
import torch

import tiny
from attar.families import Body
from attar.slicing.order import reorder_hidden, reorder_units, rotate_hidden


def ids() -> torch.Tensor:
    return torch.randint(4, tiny.VOCAB, (2, 9), generator=torch.manual_seed(0))


@pytest.mark.parametrize("family", [*tiny.CAUSAL, *tiny.ENCODERS])
@pytest.mark.parametrize("tied", [False, True])
def test_any_order_of_channels_heads_and_neurons_is_the_same_network(
    family: str, tied: bool
) -> None:
    model = tiny.model(family, tie_word_embeddings=tied).eval()
    before = model(input_ids=ids())[0].clone()
    body, draw = Body(model), torch.manual_seed(1)
    for index, layer in enumerate(body.layers):
        heads = torch.randperm(layer.kv_groups, generator=draw)
        neurons = torch.randperm(layer.neurons, generator=draw)
        wide = body.family.wide_norm  # which has gains for all heads at once
        reorder_units(model, index, heads=None if wide else heads, neurons=neurons)
    order = torch.randperm(body.hidden, generator=draw)
    reorder_hidden(model, order)
    after = model(input_ids=ids())[0]
    if after.shape[-1] == body.hidden and model.get_output_embeddings() is None:
        before = before[..., order]
    torch.testing.assert_close(after, before, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_a_rotation_is_exact_where_norms_have_equal_gains(family: str) -> None:
    model = tiny.model(family, tie_word_embeddings=False).eval()
    with torch.no_grad():
        for part in Body(model).stream():
            if part.is_norm:
                part.module.weight.fill_(0.7)  # type: ignore[union-attr, operator]
    before = model(input_ids=ids())[0].clone()
    basis = torch.linalg.qr(torch.randn(32, 32, generator=torch.manual_seed(2))).Q
    rotate_hidden(model, basis)
    torch.testing.assert_close(model(input_ids=ids())[0], before, atol=2e-5, rtol=1e-3)
