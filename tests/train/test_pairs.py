"""The loss on pairs of texts, and what a model learns from it."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import tiny
from attar.arch import Arch, Space
from attar.data.pairs import Pairs
from attar.errors import ConfigError
from attar.evaluation.pairs import pair_loss, target_losses, translations
from attar.portable.modeling_elastic_marian import ElasticMarianMTModel
from attar.search.supernet import Supernet
from attar.train.pairs import pair_terms, smoothed_loss
from attar.train.trainer import TrainConfig, fit
from letters import SOURCES, TARGETS, words


def pairs() -> Pairs:
    return Pairs(SOURCES, TARGETS, words())


@pytest.mark.parametrize("family", tiny.ENCODER_DECODERS)
def test_without_smoothing_it_is_the_models_own_loss(family: str) -> None:
    model: Any = tiny.encoder_decoder(family)
    batch = pairs().batch([0, 1, 2])
    term = smoothed_loss(0.0)(model, batch)["loss"]
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    expected = model(**given).loss  # which makes its own decoder_input_ids
    torch.testing.assert_close(term.values.mean(), expected)
    assert (term.per, len(term.values)) == ("labels", pairs().counts(batch)["labels"])


def test_smoothing_is_that_of_torch() -> None:
    model = tiny.encoder_decoder("elastic")
    batch = pairs().batch([0, 1, 2])
    terms = smoothed_loss(0.1)(model, batch)
    inputs = {n: batch[n] for n in ("input_ids", "attention_mask", "decoder_input_ids")}
    flat = model(**inputs).logits.flatten(0, 1)
    expected = F.cross_entropy(flat, batch["labels"].flatten(), label_smoothing=0.1)
    torch.testing.assert_close(terms["loss"].values.mean(), expected)
    plain = F.cross_entropy(flat, batch["labels"].flatten())
    torch.testing.assert_close(terms["nats"].values.mean(), plain.detach())
    assert terms["nats"].weight == 0
    with pytest.raises(ConfigError, match="label_smoothing"):
        smoothed_loss(1.0)


def test_a_batch_is_the_sum_of_its_rows() -> None:
    model, source = tiny.encoder_decoder("elastic"), pairs()
    whole = pair_terms(model, source.batch([0, 1, 2]), label_smoothing=0.1)["loss"].values
    rows = [pair_terms(model, source.batch([i]), label_smoothing=0.1)["loss"] for i in range(3)]
    torch.testing.assert_close(whole, torch.cat([row.values for row in rows]))


def test_the_held_out_loss_does_not_depend_on_the_batch() -> None:
    model, source = tiny.encoder_decoder("elastic"), pairs()
    with torch.no_grad():
        nats = target_losses(model, source.batch([0, 1, 2]))[1]
    for size in (1, 2, 8):
        assert pair_loss(model, source, batch_size=size) == pytest.approx(float(nats.mean()))


def test_the_loss_of_a_network_of_a_supernet_is_that_of_its_extract() -> None:
    parent = tiny.encoder_decoder("elastic")
    largest = Arch.of(parent)
    assert largest.decoder is not None
    decoder = Space(
        (2, 4), (24, 32), (4,), (24, 48), attention_size=(16,),
        cross_attention_heads=(4,), cross_attention_span=(1, 3),
    )  # fmt: skip
    space = Space((3,), (24, 32), (4,), (24, 48), attention_size=(16,), decoder=decoder)
    net = Supernet(parent, space, depth="first").eval()
    with net.frozen(space.smallest) as run:
        found = pair_loss(run, pairs())
    assert found == pytest.approx(pair_loss(net.extract(space.smallest), pairs()))
    assert found != pytest.approx(pair_loss(partial(net, space.largest), pairs()))


def test_a_model_learns_to_translate() -> None:
    shape = tiny.encoder_decoder("elastic", encoder_dropout=0.0, decoder_dropout=0.0).config
    torch.manual_seed(0)
    model, tokenizer = ElasticMarianMTModel(shape), words()
    before = pair_loss(model, pairs())
    config = TrainConfig(
        max_steps=40, per_device_train_batch_size=3, learning_rate=5e-3, warmup_steps=10
    )
    fit(model, pairs(), config=config, compute=smoothed_loss(0.1))
    assert pair_loss(model, pairs()) < 0.3 < before
    for beams, size in ((1, 2), (5, 3)):
        written = translations(
            model, [*SOURCES, ""], tokenizer, num_beams=beams, max_new_tokens=8, batch_size=size
        )
        assert written == [*TARGETS, ""]


def test_accumulated_batches_take_the_same_step() -> None:
    weights = []
    for size, accumulated in ((3, 1), (1, 3)):
        model = tiny.encoder_decoder("elastic", encoder_dropout=0.0, decoder_dropout=0.0)
        config = TrainConfig(
            max_steps=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            learning_rate=1e-3,
        )
        fit(model, pairs(), config=config, compute=smoothed_loss(0.1))
        # the gradient of a key's bias is 0 but for rounding, which Adam makes as large as any
        named = [(name, p) for name, p in model.named_parameters() if "k_proj.bias" not in name]
        weights.append(torch.cat([p.detach().flatten() for _, p in named]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=2e-4)
