"""SpacTor's first stage: what is replaced, what is asked, and which loss reaches which weight."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import spans
import tiny
from attar.data.sources import Batch
from attar.errors import CompatibilityError, ConfigError
from attar.methods.spactor import FirstStage, SpacTorConfig, detect_and_restore
from attar.methods.spactor.first_stage import Generator, replaced
from attar.methods.spactor.objective import joint_loss, reached_at, sampled
from attar.train.corruption import sentinel_ids, text_tokens
from attar.train.span_rows import span_loss

WORDS = spans.tokenizer()
TEXT = text_tokens(WORDS, spans.VOCAB)
SPECIAL = [0, 1, *sentinel_ids(WORDS), spans.VOCAB - 2, spans.VOCAB - 1]


def stage(model: Any, **options: Any) -> FirstStage:
    return FirstStage(model, config=SpacTorConfig(**options), text=TEXT)


def total(terms: dict[str, Any], counts: dict[str, float]) -> Tensor:
    return torch.stack(
        [t.weight * t.values.sum() / max(1.0, counts[t.per]) for t in terms.values()]
    ).sum()


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_text_is_neither_special_nor_beyond_the_tokenizer() -> None:
    assert (~TEXT).nonzero()[:, 0].tolist() == sorted(SPECIAL)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_samples_have_the_probabilities_of_the_text_that_may_be_drawn(temperature: float) -> None:
    logits = torch.randn(1, 1, spans.VOCAB, generator=torch.Generator().manual_seed(0))
    logits[..., SPECIAL] = 50.0  # what must not be drawn is the likeliest
    uniform = (torch.arange(20_000)[None] + 0.5) / 20_000
    many = logits.expand(1, 20_000, -1)
    drawn = sampled(many, uniform, text=TEXT, temperature=temperature)
    found = drawn[0].bincount(minlength=spans.VOCAB)
    expected = (logits[0, 0] / temperature).masked_fill(~TEXT, -torch.inf).softmax(-1)
    assert torch.allclose(found / 20_000, expected, atol=1e-4)


@given(
    seed=st.integers(0, 1000), uniform=st.floats(2.0**-60, 1.0, width=32), scale=st.floats(0.1, 99)
)
def test_no_special_token_is_ever_drawn(seed: int, uniform: float, scale: float) -> None:
    logits = scale * torch.randn(1, 1, spans.VOCAB, generator=torch.Generator().manual_seed(seed))
    drawn = sampled(logits, torch.tensor([[uniform]]), text=TEXT, temperature=1.0)
    assert TEXT[drawn].all()


def test_sums_that_are_not_in_order_give_text() -> None:
    text = torch.tensor([False, True, False, True, True, False])
    sums = torch.tensor([1e-7, 0.3, 0.3000004, 0.5, 0.9999999, 1.0]).repeat(1, 5, 1)
    uniform = torch.tensor([[1e-8, 0.3, 0.3000002, 0.4, 1.0]])
    assert reached_at(sums, uniform, text=text).tolist() == [[1, 1, 1, 3, 4]]
    uniform = torch.linspace(0.2999, 0.3001, 100)[None]
    sums = torch.tensor([0.0, 0.3, 0.30001, 0.29999, 0.7, 0.69999]).repeat(1, 100, 1)
    assert text[reached_at(sums, uniform / sums[..., -1], text=text)].all()


@given(seed=st.integers(0, 99), size=st.sampled_from([5, 142, 3001]), half=st.booleans())
def test_samples_are_those_of_cumulated_probabilities(seed: int, size: int, half: bool) -> None:
    noise = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(2, 3, size, generator=noise)
    logits = logits.bfloat16() if half else logits
    kept, text = logits.clone(), torch.rand(size, generator=noise) < 0.8
    text[1] = True
    uniform = 1 - torch.rand(2, 3, generator=noise)
    scores = (logits.float() / 0.7).masked_fill(~text, -torch.inf)
    sums = scores.softmax(-1).cumsum(-1)
    expected = torch.searchsorted(sums, uniform[..., None] * sums[..., -1:])[..., 0]
    assert torch.equal(sampled(logits, uniform, text=text, temperature=0.7), expected)
    assert torch.equal(logits, kept)


def test_a_token_is_replaced_at_its_places_alone() -> None:
    ids = torch.arange(10).view(2, 5)
    places, tokens = torch.tensor([[1, 4], [0, -1]]), torch.tensor([[91, 94], [90, 99]])
    assert replaced(ids, masked=places, tokens=tokens).tolist() == [
        [0, 91, 2, 3, 94],
        [90, 6, 7, 8, 9],
    ]


def test_what_is_replaced_lies_within_the_places_and_the_targets_stay() -> None:
    model = spans.t5()
    rows = spans.source(model)
    batch, plain = rows.batch(range(8)), spans.source(model, mask_share=0.0).batch(range(8))
    assert torch.equal(batch["labels"], plain["labels"])
    assert torch.equal(batch["input_ids"], plain["input_ids"])
    chosen = batch["input_ids"].gather(1, batch["masked"])
    assert TEXT[chosen].all()
    assert (batch["masked"].diff(dim=1) > 0).all()
    parts = detect_and_restore(model, batch, stage=stage(model))
    inside = torch.zeros_like(parts.is_replaced).scatter(1, batch["masked"], True)
    assert parts.is_replaced.any()
    assert not (parts.is_replaced & ~inside).any()
    assert torch.equal(parts.scored, TEXT[batch["input_ids"]])
    assert rows.counts(batch)["scored"] == parts.scored.sum()
    assert rows.counts(batch)["masked"] == batch["masked"].numel()
    assert (parts.loss_rtd[~parts.scored] == 0).all()
    # the model reads the samples, and still writes the text itself
    assert not torch.equal(parts.loss_sc, span_loss(model, batch)["loss"].values)
    other: Batch = batch | {"uniform": batch["uniform"].flip(0)}
    again = detect_and_restore(model, other, stage=stage(model))
    assert not torch.equal(again.loss_sc, parts.loss_sc)
    every = detect_and_restore(model, batch, stage=stage(model, rtd_on_special=True))
    assert torch.equal(every.scored, batch["attention_mask"].bool())


def test_a_perfect_generator_replaces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = spans.t5()
    batch = spans.source(model).batch(range(8))
    truth = batch["input_ids"].gather(1, batch["masked"])

    def logits(_: Any, hidden: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(truth, spans.VOCAB).float()

    monkeypatch.setattr(Generator, "logits", logits)
    parts = detect_and_restore(model, batch, stage=stage(model, temperature=1e-6))
    assert not parts.is_replaced.any()
    plain = span_loss(model, batch)["loss"].values
    assert torch.equal(parts.loss_sc, plain)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("embedding", ["tied", "none", "gdes"])
def test_each_loss_reaches_its_own_weights(embedding: str, tied: bool) -> None:
    model = spans.t5(tied=tied)
    encoder: Any = model.get_encoder()
    table = encoder.get_input_embeddings().weight
    before = table.detach().clone()
    beside = stage(model, generator_embedding=embedding)
    batch = spans.source(model).batch(range(8))
    if embedding == "gdes":
        assert torch.equal(encoder.get_input_embeddings().weight, before)
    both = torch.nn.ModuleList([model, beside])

    def reached(name: str) -> set[int]:
        parts = detect_and_restore(model, batch, stage=beside)
        both.zero_grad()
        getattr(parts, name).sum().backward()
        return {
            id(p) for p in both.parameters() if p.grad is not None and bool((p.grad != 0).any())
        }

    shared = {id(table)} if embedding == "tied" else set()
    generator = {id(p) for p in beside.generator.parameters()}
    t5 = {id(p) for p in model.parameters()}
    assert reached("loss_mlm") == generator
    detecting = reached("loss_rtd")
    assert detecting & generator == shared
    assert {id(p) for p in beside.detector.parameters()} <= detecting
    assert id(table) in detecting
    restoring = reached("loss_sc")
    assert restoring & generator == shared
    assert restoring == t5
    assert generator & t5 == shared
    beside.end()
    assert not any("parametrizations" in name for name in model.state_dict())


def test_the_sum_of_two_tables_is_an_ordinary_t5_again() -> None:
    model, twin = spans.t5(), spans.t5()
    batch = spans.source(model).batch(range(8))
    beside = stage(model, generator_embedding="gdes")
    parameters = {id(p) for p in model.parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01)
        beside.generator.embedding.weight.add_(0.1)
    during = span_loss(model, batch)["loss"].values
    beside.end()
    assert torch.equal(span_loss(model, batch)["loss"].values, during)
    assert {id(p) for p in model.parameters()} == parameters
    assert model.state_dict().keys() == twin.state_dict().keys()


def test_logits_at_all_places_give_the_same_losses() -> None:
    model = spans.t5()
    batch = spans.source(model).batch(range(8))
    one, other = (
        detect_and_restore(model, batch, stage=stage(model, logits_at=at))
        for at in ("masked", "all")
    )
    for name in ("loss_sc", "loss_rtd", "loss_mlm"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-5)


def test_a_rate_of_zero_is_span_corruption_bit_for_bit() -> None:
    model = spans.t5()
    rows = spans.source(model)
    batch = rows.batch(range(8))
    empty: Batch = {n: v[:, :0] if n in ("masked", "uniform") else v for n, v in batch.items()}
    terms = joint_loss(model, empty, stage=stage(model, w_rtd=0.0, w_mlm=0.0))
    plain = span_loss(model, batch)
    counts = rows.counts(empty)
    ours, theirs = (gradients(model, total(t, counts)) for t in (terms, plain))
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.equal(gradient, theirs[name]), name


def test_the_loss_does_not_depend_on_how_a_batch_is_cut() -> None:
    model = spans.t5()
    rows, beside = spans.source(model), stage(model)
    whole = rows.batch(range(8))
    parts = [rows.batch(range(i, i + 2)) for i in range(0, 8, 2)]
    counts = rows.counts(whole)
    cut = torch.stack([total(joint_loss(model, b, stage=beside), counts) for b in parts]).sum()
    at_once = total(joint_loss(model, whole, stage=beside), counts)
    assert torch.allclose(cut, at_once, rtol=1e-5)


def test_the_second_stage_is_transformers_own_loss() -> None:
    model: Any = spans.t5()
    rows = spans.source(model)
    batch = rows.batch(range(8))
    ours = span_loss(model, batch)["loss"].values.sum() / rows.counts(batch)["labels"]
    names = ("input_ids", "attention_mask", "labels")
    theirs = model(**{name: batch[name] for name in names}).loss
    assert abs(ours - theirs).item() < 1e-6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tau": -1.0}, "tau"),
        ({"mlm_probability": 1.0}, "mlm_probability"),
        ({"temperature": 0.0}, "temperature"),
        ({"generator_layers": 1.5}, "generator_layers"),
        ({"w_rtd": -0.1}, "w_rtd"),
        ({"generator_embedding": "shared"}, "generator_embedding"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SpacTorConfig(**options)


def test_models_that_cannot_be_trained_so_are_refused() -> None:
    with pytest.raises(CompatibilityError, match="expected a T5"):
        stage(tiny.model("llama"))
    with pytest.raises(CompatibilityError, match="float16"):
        stage(spans.t5().half())


def test_a_step_in_bfloat16_is_that_in_float32_but_for_rounding() -> None:
    model = spans.t5()
    batch, beside = spans.source(model).batch(range(8)), stage(model)
    whole = joint_loss(model, batch, stage=beside)
    with torch.autocast("cpu", torch.bfloat16):
        half = joint_loss(model, batch, stage=beside)
    for name in ("loss_sc", "loss_rtd", "loss_mlm"):
        assert torch.isclose(half[name].values.sum(), whole[name].values.sum(), rtol=0.02)


def test_logits_that_are_no_numbers_give_some_token() -> None:
    drawn = sampled(torch.full((1, 1, 142), torch.nan), torch.ones(1, 1), text=TEXT, temperature=1)
    assert 0 <= drawn.item() < spans.VOCAB
