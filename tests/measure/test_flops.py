"""FLOPs of a training step: counted as by hand, and nothing but counted."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

import tiny
from attar.errors import CompatibilityError
from attar.measure.flops import training_flops

B, S, T = 2, 12, 7
#: to count takes a second for a few layers; those of the decoder are not all the first one
LAYERS = {"num_layers": 1, "num_decoder_layers": 2}


def _batch(device: str = "cpu") -> dict[str, Tensor]:
    with torch.device(device):
        ids = torch.zeros(B, S, dtype=torch.long)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": ids[:, :T].clone(),
        }


def _macs_of_t5(model: PreTrainedModel) -> int:
    """Of one forward pass, from the sizes in the config."""
    c: Any = model.config
    hidden, attention = c.d_model, c.num_heads * c.d_kv
    feed_forward = (3 if c.is_gated_act else 2) * hidden * c.d_ff
    project = hidden * attention  # one of queries, keys, values and output, for one token
    own = 4 * project + feed_forward
    encoder = S * own + 2 * S * S * attention
    cross = 2 * T * project + 2 * S * project + 2 * T * S * attention
    decoder = T * own + 2 * T * T * attention + cross
    logits = T * hidden * c.vocab_size
    return B * (c.num_layers * encoder + c.num_decoder_layers * decoder + logits)


def _loss(model: nn.Module) -> Any:
    return lambda batch: model(**batch).loss


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["t5", "t5-gated"])
def test_a_step_of_t5_is_counted_as_by_hand(family: str, attention: str, device: str) -> None:
    model: Any = tiny.encoder_decoder(family, dropout_rate=0.1, **LAYERS).train()
    model = model.to(device)
    model.set_attn_implementation(attention)
    # backward: one product for the weights, or the other factor, and one for what came before
    expected = 3 * 2 * _macs_of_t5(model)
    assert training_flops(_loss(model), _batch(device)) == expected
    model.eval()
    assert training_flops(_loss(model), _batch(device)) == expected


def test_counting_changes_nothing() -> None:
    model = tiny.encoder_decoder("t5", **LAYERS).train()
    weights = {name: p.clone() for name, p in model.state_dict().items()}
    kept = torch.ones_like(model.get_parameter("shared.weight"))
    model.get_parameter("shared.weight").grad = kept
    state, batch = torch.get_rng_state(), _batch()
    with torch.no_grad():
        training_flops(_loss(model), batch)
    assert torch.equal(torch.get_rng_state(), state)
    for name, p in model.named_parameters():
        assert p.grad is (kept if name == "shared.weight" else None)
        assert type(p) is nn.Parameter
    assert torch.equal(kept, torch.ones_like(kept))
    assert all(torch.equal(p, weights[name]) for name, p in model.state_dict().items())
    assert torch.isfinite(model(**batch).loss)


def test_only_what_has_a_gradient_counts_in_the_backward_pass() -> None:
    first, second = nn.Linear(5, 3, bias=False), nn.Linear(3, 4, bias=False)
    batch = {"x": torch.zeros(7, 5)}
    one, two = 2 * 7 * 5 * 3, 2 * 7 * 3 * 4

    def loss(batch: Any) -> Tensor:
        return second(first(batch["x"])).sum()

    def apart(batch: Any) -> Tensor:
        return second(first(batch["x"]).detach()).sum()

    assert training_flops(loss, batch) == 2 * one + 3 * two  # inputs have no gradient
    assert training_flops(apart, batch) == one + 2 * two
    first.requires_grad_(False)
    assert training_flops(loss, batch) == one + 2 * two


def test_modules_that_share_a_weight_count_each_use() -> None:
    table = nn.Embedding(6, 4)

    def loss(batch: Any) -> Tensor:
        hidden = table(batch["ids"])
        return F.linear(F.linear(hidden, table.weight), table.weight.T).sum()

    assert training_flops(loss, {"ids": torch.zeros(9, dtype=torch.long)}) == 3 * 2 * (2 * 9 * 24)


def test_checkpointing_computes_the_layers_again() -> None:
    model = tiny.encoder_decoder("t5", use_cache=False, **LAYERS).train()
    plain = training_flops(_loss(model), _batch())
    logits = 2 * B * T * model.config.d_model * tiny.VOCAB
    model.activation_checkpointing_enable()
    again = training_flops(_loss(model), _batch()) - plain
    assert again == 2 * _macs_of_t5(model) - logits


def test_a_loss_that_reads_values_is_refused() -> None:
    layer = nn.Linear(5, 3)

    def masked(batch: Any) -> Tensor:
        return layer(batch["x"])[batch["known"]].sum()

    def read(batch: Any) -> Tensor:
        return layer(batch["x"]).sum() / batch["known"].sum().item()

    batch = {"x": torch.zeros(7, 5), "known": torch.ones(7, dtype=torch.bool)}
    for loss in (masked, read):
        with pytest.raises(CompatibilityError, match="without values"):
            training_flops(loss, batch)
