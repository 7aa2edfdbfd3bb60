"""Mixup: student and teacher get the same mixture, and what is drawn depends on the seed alone."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from attar.errors import ConfigError
from attar.train.mixup import (
    MixedBatch,
    mix,
    mixed_inputs,
    mixed_labels,
    mixed_sources,
    mixed_targets,
)

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
    "num_labels": 3,
    "initializer_range": 0.4,
}
FAMILIES = {
    "bert": (BertForSequenceClassification, BertConfig, {"hidden_size": 16}),
    "electra": (
        ElectraForSequenceClassification,
        ElectraConfig,
        {"hidden_size": 16, "embedding_size": 8},
    ),
    "roberta": (
        RobertaForSequenceClassification,
        RobertaConfig,
        {"hidden_size": 16, "type_vocab_size": 1, "bos_token_id": 1, "eos_token_id": 2},
    ),
}


def _model(family: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    built, config, own = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return built(config(**(SIZES | own | changes))).eval()


def _batch(lengths: Sequence[int] = (9, 4, 7, 9), *, width: int = 9, seed: int = 0) -> Any:
    draw = torch.Generator().manual_seed(seed)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, 40, mask.shape, generator=draw) * mask
    return {"input_ids": ids, "attention_mask": mask}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _swapped(weight: float) -> MixedBatch:
    return MixedBatch(weight, torch.tensor([1, 2, 3, 0]))


def mixed_share(mixed: MixedBatch) -> float:
    """Share of the texts that have another text as their partner."""
    own = torch.arange(len(mixed.partner))
    return (mixed.partner != own).double().mean().item()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_weight_on_one_text_is_the_plain_batch(family: str) -> None:
    model, batch = _model(family), _batch()
    if family != "roberta":
        batch["token_type_ids"] = batch["attention_mask"] * torch.tensor([0] * 4 + [1] * 5)
    with torch.no_grad():
        plain = model(**batch).logits
        for weight, rows in ((1.0, [0, 1, 2, 3]), (0.0, [1, 2, 3, 0])):
            mixed = model(**mixed_inputs(model, batch, mixed=_swapped(weight))).logits
            expected = torch.cat([plain, plain[rows]])
            torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)
        half = model(**mixed_inputs(model, batch, mixed=_swapped(0.5))).logits
    torch.testing.assert_close(half[:4], plain, atol=1e-5, rtol=1e-5)
    assert (half[4:] - plain).abs().max() > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_mixed_with_itself_is_itself(family: str) -> None:
    model, batch = _model(family), _batch()
    itself = MixedBatch(0.3, torch.arange(4))
    inputs = mixed_inputs(model, batch, mixed=itself)
    for value in inputs.values():
        assert torch.equal(value[:4], value[4:])
    assert mixed_share(itself) == 0


@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_teacher_and_student_get_the_same_mixture(seed: int) -> None:
    teacher, student = _model("bert"), _model("electra", seed=1)
    narrow = torch.randn(16, 8, generator=_generator(seed))
    theirs: Any = teacher.get_input_embeddings()
    ours: Any = student.get_input_embeddings()
    with torch.no_grad():
        ours.weight.copy_(theirs.weight @ narrow)
        batch = _batch(seed=seed)
        mixed = mix(batch, generator=_generator(seed))
        a, b = (mixed_inputs(model, batch, mixed=mixed) for model in (teacher, student))
    # The embedding tables are linear images of each other, so their mixtures are too.
    torch.testing.assert_close(
        a["inputs_embeds"] @ narrow, b["inputs_embeds"], atol=1e-4, rtol=1e-4
    )
    assert torch.equal(a["attention_mask"], b["attention_mask"])
    again = mix(batch, generator=_generator(seed))
    assert again.weight == mixed.weight
    assert torch.equal(again.partner, mixed.partner)


def test_a_mixture_has_the_words_of_both_and_the_positions_of_either() -> None:
    model, batch = _model("bert"), _batch()
    batch["token_type_ids"] = torch.tensor([[0] * 9, [0] * 9, [0] * 4 + [1] * 5, [0] * 4 + [1] * 5])
    mixed = MixedBatch(0.25, torch.tensor([1, 0, 3, 2]))
    inputs = mixed_inputs(model, batch, mixed=mixed)
    words: Any = model.get_input_embeddings()
    for i, j in enumerate((1, 0, 3, 2)):
        e, f = words(batch["input_ids"][i]), words(batch["input_ids"][j])
        torch.testing.assert_close(inputs["inputs_embeds"][i], e)
        torch.testing.assert_close(inputs["inputs_embeds"][4 + i], 0.25 * e + 0.75 * f)
        longer = max(batch["attention_mask"][i].sum(), batch["attention_mask"][j].sum())
        assert inputs["attention_mask"][4 + i].tolist() == [1] * longer + [0] * (9 - longer)
        assert torch.equal(inputs["token_type_ids"][4 + i], batch["token_type_ids"][i])
    bare = mixed_inputs(model, {"input_ids": batch["input_ids"]}, mixed=mixed)
    assert bare.keys() == {"inputs_embeds", "attention_mask"}
    assert bare["attention_mask"].all()


def test_segments_of_the_longer_partner_reach_beyond_the_end() -> None:
    batch = _batch((3, 6), width=7)
    batch["token_type_ids"] = torch.tensor([[0] * 7, [0, 0, 0, 1, 1, 1, 0]])
    mixed = MixedBatch(0.5, torch.tensor([1, 0]))
    types = mixed_inputs(_model("bert"), batch, mixed=mixed)["token_type_ids"]
    assert types[2:].tolist() == [[0, 0, 0, 1, 1, 1, 0]] * 2
    # Where the shorter text is only padding, its segments hinder nobody.
    assert any(mixed_share(mix(batch, generator=_generator(seed))) == 1 for seed in range(9))


def test_more_padding_changes_no_mixture() -> None:
    model, mixed = _model("bert"), _swapped(0.4)
    short = _batch()
    long = {name: F.pad(value, (0, 5)) for name, value in short.items()}
    with torch.no_grad():
        a, b = (model(**mixed_inputs(model, rows, mixed=mixed)).logits for rows in (short, long))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_partners_are_a_permutation_within_agreeing_segments(
    rows: list[tuple[int, int]], seed: int
) -> None:
    batch = _batch([a + b for a, b in rows], width=9)
    types = [[0] * a + [1] * b + [0] * (9 - a - b) for a, b in rows]
    batch["token_type_ids"] = torch.tensor(types)
    mixed = mix(batch, generator=_generator(seed))
    partner = mixed.partner.tolist()
    assert sorted(partner) == list(range(len(rows)))
    for i, j in enumerate(partner):
        shared = min(sum(rows[i]), sum(rows[j]))
        assert types[i][:shared] == types[j][:shared]


def test_a_row_without_partner_stays_alone_and_the_others_do_not() -> None:
    batch = _batch((9, 9, 9, 9, 9))
    firsts = torch.tensor([3, 5, 5, 5, 7])
    batch["token_type_ids"] = (torch.arange(9) >= firsts[:, None]).long()
    draws = [mix(batch, generator=_generator(seed)) for seed in range(300)]
    assert all(d.partner[0] == 0 and d.partner[4] == 4 for d in draws)
    orders = Counter(tuple(d.partner[1:4].tolist()) for d in draws)
    assert len(orders) == 6
    assert min(orders.values()) > 30
    assert max(mixed_share(d) for d in draws) == pytest.approx(3 / 5)


def test_permutations_are_uniform_and_weights_follow_beta() -> None:
    draw, batch = _generator(5), _batch((9, 9, 9), width=9)
    draws = [mix(batch, beta=0.4, generator=draw) for _ in range(3000)]
    orders = Counter(tuple(d.partner.tolist()) for d in draws)
    assert stats.chisquare(list(orders.values())).pvalue > 0.01
    assert len(orders) == 6
    weights = [d.weight for d in draws]
    assert stats.kstest(weights, stats.beta(0.4, 0.4).cdf).pvalue > 0.01
    steep = [mix(batch, beta=4.0, generator=draw).weight for _ in range(500)]
    assert stats.kstest(steep, stats.beta(4.0, 4.0).cdf).pvalue > 0.01


def test_mixed_hard_labels_are_mixed_one_hot_vectors() -> None:
    labels = torch.tensor([0, 2, 1, 2])
    logits = torch.randn(8, 3, generator=_generator())
    weight, first, second = mixed_labels(labels, mixed=_swapped(0.3))
    one_hot = F.one_hot(labels, 3).float()
    target = torch.cat([one_hot, 0.3 * one_hot + 0.7 * one_hot[[1, 2, 3, 0]]])
    parts = [F.cross_entropy(logits, side, reduction="none") for side in (first, second)]
    expected = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(weight * parts[0] + (1 - weight) * parts[1], expected)


def test_a_mixture_with_an_unlabelled_part_is_unlabelled() -> None:
    labels = torch.tensor([0, -100, 1, 2])
    for side in mixed_labels(labels, mixed=_swapped(0.3))[1:]:
        assert (side == -100).tolist() == [False, True, False, False, True, True, False, False]
    _, first, second = mixed_labels(labels, mixed=_swapped(1.0))
    assert first.tolist() == second.tolist() == labels.tolist() * 2
    scores = torch.tensor([0.5, torch.nan, 2.0, 4.0])
    found = mixed_targets(scores, mixed=_swapped(0.25))
    expected = torch.tensor([0.5, torch.nan, 2, 4, torch.nan, torch.nan, 3.5, 1.375])
    torch.testing.assert_close(found, expected, equal_nan=True)
    hot = torch.tensor([[1, 0], [1, 1], [-100, -100], [0, 0]])
    found = mixed_targets(hot, mixed=_swapped(0.25))[4:]
    expected = torch.tensor([[1, 0.75], [torch.nan] * 2, [torch.nan] * 2, [0.75, 0]])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_both_texts_of_every_row_are_known() -> None:
    mixed = MixedBatch(0.3, torch.tensor([1, 0, 2]))
    found = mixed_sources(torch.tensor([5, 6, 7]), mixed=mixed)
    assert found.tolist() == [[5, 5], [6, 6], [7, 7], [5, 6], [6, 5], [7, 7]]


def test_gradients_reach_the_word_embeddings_through_mixtures() -> None:
    model, batch = _model("electra"), _batch()
    words: Any = model.get_input_embeddings()
    inputs = mixed_inputs(model, batch, mixed=_swapped(0.5))
    model(**inputs).logits[4].sum().backward()
    touched = words.weight.grad.abs().sum(-1).nonzero().flatten().tolist()
    both = {*batch["input_ids"][0].tolist(), *batch["input_ids"][1].tolist()} - {0}
    assert set(touched) == both


def test_batches_that_cannot_be_mixed_are_refused() -> None:
    for beta in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="beta must be positive"):
            mix(_batch(), beta=beta, generator=_generator())
    with pytest.raises(ConfigError, match="input_ids"):
        mix({"inputs_embeds": torch.zeros(2, 3, 4)}, generator=_generator())
