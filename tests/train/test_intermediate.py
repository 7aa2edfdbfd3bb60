"""Layer maps and intermediate losses: closed forms, laws of transport, and masks that hold."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tiny
from attar.errors import CompatibilityError, ConfigError
from attar.train.features import (
    Projection,
    attention_ce,
    attention_mse,
    hidden_ce,
    hidden_cosine,
    hidden_mse,
    pkd,
    pool,
)
from attar.train.layer_map import Features, LayerMap, emd_flow

MASK = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
HIDDEN = [hidden_mse, hidden_ce, hidden_cosine]
ATTENTION = [attention_mse, attention_ce]
POOLS: list[Callable[..., Tensor]] = [
    lambda s, t, mask, how=how: pkd(pool(s, how=how, mask=mask), pool(t, how=how, mask=mask))
    for how in ("cls", "mean")
]
Loss = Callable[..., Tensor]


def draw(seed: int, *size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def attention(seed: int, heads: int) -> Tensor:
    keys = MASK[:, None, None, :].bool()
    return (2 * draw(seed, 3, heads, 5, 5)).masked_fill(~keys, -torch.inf).softmax(-1)


# --- layer maps -------------------------------------------------------------------------------


def test_the_maps_of_the_paper() -> None:
    assert LayerMap.skip(4, 12).pairs == ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))
    assert LayerMap.last(4, 12).pairs == ((0, 8), (1, 9), (2, 10), (3, 11), (4, 12))
    assert LayerMap.skip(4, 12, features="attention").pairs == ((0, 2), (1, 5), (2, 8), (3, 11))
    assert LayerMap.last(4, 12, features="attention").pairs == ((0, 8), (1, 9), (2, 10), (3, 11))
    assert LayerMap.skip(3, 5).pairs == ((0, 0), (1, 1), (2, 3), (3, 5))
    emd = LayerMap.emd(2, 3)
    assert (emd.pairs, emd.blocks) == (((0, 0),), (range(1, 3), range(1, 4)))
    emd = LayerMap.emd(2, 3, features="attention")
    assert (emd.pairs, emd.blocks) == ((), (range(2), range(3)))


@pytest.mark.parametrize("features", ["hidden", "attention"])
@given(student=st.integers(1, 30), extra=st.integers(0, 30))
def test_every_map_ends_on_the_last_layer(features: Features, student: int, extra: int) -> None:
    teacher = student + extra
    skip, last = (f(student, teacher, features=features) for f in (LayerMap.skip, LayerMap.last))
    for found in (skip, last):
        assert (
            found.pairs[-1]
            == ((student, teacher), (student - 1, teacher - 1))[features == "attention"]
        )
        assert [s for s, _ in found.pairs] == list(range(len(found.pairs)))
        teachers = [t for _, t in found.pairs]
        assert teachers == sorted(set(teachers))
    if extra == 0:
        assert skip == last
        assert all(s == t for s, t in skip.pairs)


def test_indices_are_those_of_the_models() -> None:
    student, teacher = tiny.model("bert", num_hidden_layers=2), tiny.model("bert")
    outputs = [
        model(input_ids=tiny.ids(), output_hidden_states=True) for model in (student, teacher)
    ]
    found = LayerMap.skip(2, 3)
    assert len(outputs[0].hidden_states) == len(found.pairs)
    own = LayerMap.skip(3, 3)
    states = [o.hidden_states for o in outputs]
    total = own.total(lambda s, t: hidden_mse(states[1][s], states[1][t]))
    assert torch.equal(total, torch.zeros(2, 12))
    assert (found.total(lambda s, t: hidden_mse(states[0][s], states[1][t])) > 0).all()


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, unique=True),
    space=st.sampled_from(["", " "]),
)
def test_what_is_written_is_read(pairs: list[tuple[int, int]], space: str) -> None:
    text = f",{space}".join(f"{s}{space}:{t}" for s, t in pairs)
    found = LayerMap.parse(text, student_layers=4, teacher_layers=9)
    assert found == LayerMap.explicit(pairs, student_layers=4, teacher_layers=9)
    assert found.pairs == tuple(pairs)
    assert not found.transport


@pytest.mark.parametrize("features", ["hidden", "attention"])
@pytest.mark.parametrize("name", ["skip", "last", "emd"])
def test_names_are_read(name: str, features: Features) -> None:
    found = LayerMap.parse(f" {name} ", student_layers=2, teacher_layers=6, features=features)
    assert found == getattr(LayerMap, name)(2, 6, features=features)


@pytest.mark.parametrize(
    ("text", "features", "match"),
    [
        ("middle", "hidden", "skip, last, emd or pairs"),
        ("", "hidden", "skip, last, emd or pairs"),
        ("0:0,", "hidden", "skip, last, emd or pairs"),
        ("0:-1", "hidden", "skip, last, emd or pairs"),
        ("0:0,1:2,0:0", "hidden", "0:0,1:2,0:0; leave out"),
        ("3:0", "hidden", "of the student are 0 to 2, .* names 3"),
        ("2:5", "hidden", "of the teacher are 0 to 4, .* names 5"),
        ("2:0", "attention", "of the student are 0 to 1, .* names 2"),
        ("1:4", "attention", "of the teacher are 0 to 3, .* names 4"),
        ("skip", "logits", "features"),
    ],
)
def test_maps_that_fit_nothing_are_refused(text: str, features: Features, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        LayerMap.parse(text, student_layers=2, teacher_layers=4, features=features)


def test_impossible_depths_are_refused() -> None:
    for make in (LayerMap.skip, LayerMap.last, LayerMap.emd):
        with pytest.raises(ConfigError, match="student with at least 1 layer"):
            make(0, 4)
        with pytest.raises(ConfigError, match="teacher with at least 1 layer"):
            make(4, 0)
    with pytest.raises(ConfigError, match=r"teacher are 0 to 2, .* names -2"):
        LayerMap.last(4, 2)
    with pytest.raises(ConfigError, match="at least one pair"):
        LayerMap.explicit([], student_layers=1, teacher_layers=1)


# --- transport --------------------------------------------------------------------------------


def emd_loss(cost: Tensor) -> Tensor:
    return (emd_flow(cost) * cost).sum()


@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    seed=st.integers(0, 999),
    shift=st.floats(-100, 100, width=32),
)
def test_laws_of_transport(rows: int, columns: int, seed: int, shift: float) -> None:
    cost = draw(seed, rows, columns)
    flow, loss = emd_flow(cost), emd_loss(cost)
    assert flow.dtype == torch.float32
    assert (flow >= 0).all()
    torch.testing.assert_close(flow.sum(1), torch.full((rows,), 1 / rows))
    torch.testing.assert_close(flow.sum(0), torch.full((columns,), 1 / columns))
    assert loss <= cost.mean() + 1e-6
    torch.testing.assert_close(emd_loss(cost + shift), loss + shift, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(emd_loss(3 * cost), 3 * loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(emd_loss(cost.T), loss, atol=1e-5, rtol=1e-5)


def test_transport_between_as_many_layers_is_the_best_assignment() -> None:
    from scipy.optimize import linear_sum_assignment

    for seed in range(5):
        cost = draw(seed, 6, 6)
        best = cost.numpy()[linear_sum_assignment(cost.numpy())].mean()
        assert emd_loss(cost).item() == pytest.approx(float(best), abs=1e-6)
    assert emd_loss(1 - torch.eye(4)[[2, 0, 3, 1]]).item() == 0


def test_the_plan_is_a_constant_in_the_backward_pass() -> None:
    cost = draw(0, 3, 5).requires_grad_()
    flow = emd_flow(cost)
    assert not flow.requires_grad
    (gradient,) = torch.autograd.grad(emd_loss(cost), cost)
    assert torch.equal(gradient, flow)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_cost_that_is_not_finite_shows_in_the_loss(bad: float) -> None:
    cost = draw(0, 2, 4)
    cost[1, 2] = bad
    assert torch.equal(emd_flow(cost), torch.full((2, 4), 1 / 8))
    assert not emd_loss(cost).isfinite()


def test_the_total_of_a_map() -> None:
    values = draw(0, 3, 4, 2, 5)  # (student, teacher, B, T)
    pairs = LayerMap.last(2, 3).total(lambda s, t: values[s, t])
    torch.testing.assert_close(pairs, values[0, 1] + values[1, 2] + values[2, 3])
    every = LayerMap.emd(2, 3).total(lambda s, t: values[s, t])
    assert every.shape == (2, 5)
    cost = values.sum((2, 3))
    torch.testing.assert_close(every.sum(), cost[0, 0] + emd_loss(cost[1:, 1:]))
    scalar = LayerMap.emd(3, 4, features="attention").total(lambda s, t: cost[s, t])
    torch.testing.assert_close(scalar, emd_loss(cost))


# --- losses -----------------------------------------------------------------------------------


def test_hidden_losses_are_what_they_say() -> None:
    s, t = draw(0, 3, 5, 7), draw(1, 3, 5, 7)
    real = MASK.bool()
    mse, ce, cosine = (loss(s, t, mask=MASK) for loss in HIDDEN)
    torch.testing.assert_close(mse[real], ((s - t) ** 2)[real].sum(-1) / 7)
    direct = -(t[real].exp() / t[real].exp().sum(-1, keepdim=True) * s[real].log_softmax(-1)).sum(
        -1
    )
    torch.testing.assert_close(ce[real], direct)
    direct = 1 - torch.nn.functional.cosine_similarity(s[real], t[real], dim=-1)
    torch.testing.assert_close(cosine[real], direct)
    torch.testing.assert_close(pkd(s[:, 0], t[:, 0]), 2 * hidden_cosine(s, t)[:, 0])
    for value in (mse, ce, cosine):
        assert torch.equal(value[~real], torch.zeros(3))


def test_attention_losses_are_what_they_say() -> None:
    s, t = attention(0, 4), attention(1, 4)
    mse, ce = (loss(s, t, mask=MASK) for loss in ATTENTION)
    for b in range(3):
        keys = [k for k in range(5) if MASK[b, k]]
        for q in range(5):
            pairs = [(s[b, h, q, k].item(), t[b, h, q, k].item()) for h in range(4) for k in keys]
            want = sum((x - y) ** 2 for x, y in pairs) / len(pairs) if q in keys else 0.0
            assert mse[b, q].item() == pytest.approx(want, rel=1e-4)
            want = -sum(y * math.log(x) for x, y in pairs) / 4 if q in keys else 0.0
            assert ce[b, q].item() == pytest.approx(want, rel=1e-4)


def test_equal_features_are_at_no_distance() -> None:
    t = draw(0, 3, 5, 7)
    for value in (hidden_mse(t, t), hidden_cosine(t, t)):
        assert torch.equal(value, torch.zeros(3, 5))
    assert torch.equal(pkd(t[:, 0], t[:, 0]), torch.zeros(3))
    entropy = torch.distributions.Categorical(logits=t).entropy()
    torch.testing.assert_close(hidden_ce(t, t), entropy)
    a = attention(0, 4)
    assert torch.equal(attention_mse(a, a), torch.zeros(3, 5))
    entropy = -torch.xlogy(a, a).sum(-1).mean(1) * MASK
    torch.testing.assert_close(attention_ce(a, a, mask=MASK), entropy)


@given(seed=st.integers(0, 999), scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_no_loss_is_below_that_of_equals(seed: int, scale: float) -> None:
    s, t = scale * draw(seed, 3, 5, 7), scale * draw(seed + 1, 3, 5, 7)
    assert (hidden_mse(s, t) >= 0).all()
    assert ((hidden_cosine(s, t) >= 0) & (hidden_cosine(s, t) <= 2 + 1e-6)).all()
    assert (hidden_ce(s, t) >= hidden_ce(t, t) - 1e-5).all()
    torch.testing.assert_close(hidden_cosine(9 * s, t), hidden_cosine(s, t))
    a, b = attention(seed, 2), attention(seed + 1, 2)
    gap = attention_ce(a, b, mask=MASK) - attention_ce(b, b, mask=MASK)
    assert (gap >= -1e-5).all()


def test_other_numbers_of_heads_are_averaged_first() -> None:
    s, t = attention(0, 2), attention(1, 6)
    for loss in ATTENTION:
        want = loss(s.mean(1, keepdim=True), t.mean(1, keepdim=True), mask=MASK)
        torch.testing.assert_close(loss(s, t, mask=MASK), want)
        # with as many heads each is compared with its own
        assert (loss(t.roll(1, 1), t, mask=MASK).sum() - loss(t, t, mask=MASK).sum()) > 1e-3


def both(loss: Loss, seed: int) -> tuple[Tensor, Tensor]:
    if loss in ATTENTION:
        return attention(seed, 4), attention(seed + 1, 4)
    return draw(seed, 3, 5, 7), draw(seed + 1, 3, 5, 7)


def spoil(features: Tensor, value: float) -> Tensor:
    """With this value at all padded positions: tokens, or queries and keys."""
    padded = ~MASK.bool()
    if features.dim() == 3:
        return features.masked_fill(padded[..., None], value)
    return features.masked_fill((padded[:, :, None] | padded[:, None, :])[:, None], value)


@pytest.mark.parametrize("value", [7.0, -1e30, math.nan, math.inf])
@pytest.mark.parametrize("loss", [*HIDDEN, *ATTENTION, *POOLS])
def test_padding_never_changes_a_loss_nor_a_gradient(loss: Loss, value: float) -> None:
    s, t = both(loss, 0)
    found = []
    for student, teacher in ((s, t), (spoil(s, value), t), (s, spoil(t, value))):
        leaf = student.clone().requires_grad_()
        result = loss(leaf, teacher, mask=MASK)
        (gradient,) = torch.autograd.grad(result.sum(), leaf)
        assert torch.equal(spoil(gradient, 0.0), gradient)  # nothing flows into padding
        found.append((result, gradient))
    for result, gradient in found[1:]:
        assert torch.equal(result, found[0][0])
        assert torch.equal(gradient, found[0][1])


@pytest.mark.parametrize("loss", [*HIDDEN, *ATTENTION])
def test_an_item_without_tokens_counts_nothing(loss: Loss) -> None:
    s, t = both(loss, 0)
    mask = MASK.clone()
    mask[1] = 0
    leaf = s.clone().requires_grad_()
    found = loss(leaf, t, mask=mask)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert torch.equal(found[1], torch.zeros(5))
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", [*HIDDEN, *ATTENTION, *POOLS])
def test_the_teacher_gets_no_gradient_and_order_does_not_matter(loss: Loss) -> None:
    s, t = (x.requires_grad_() for x in both(loss, 0))
    found = loss(s, t, mask=MASK)
    to_student, to_teacher = torch.autograd.grad(found.sum(), (s, t), allow_unused=True)
    assert to_teacher is None
    assert to_student.abs().sum() > 0
    rows = torch.tensor([2, 0, 1])
    torch.testing.assert_close(loss(s[rows], t[rows], mask=MASK[rows]), found[rows])
    # an item is worth the same alone: batches can be cut anywhere
    torch.testing.assert_close(loss(s[1:2], t[1:2], mask=MASK[1:2]), found[1:2])


@pytest.mark.parametrize("loss", HIDDEN)
def test_half_precision_is_computed_in_float32(loss: Loss) -> None:
    s, t = (x.bfloat16() for x in both(loss, 0))
    found = loss(s, t)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(s.float(), t.float()))


def test_attention_that_dropout_cut_gives_a_finite_loss() -> None:
    s, t = attention(0, 4), attention(1, 4)
    cut = (s * (draw(2, 3, 4, 5, 5) > 0)).requires_grad_()
    found = attention_ce(cut, t, mask=MASK)
    assert found.isfinite().all()
    (gradient,) = torch.autograd.grad(found.sum(), cut)
    assert gradient.isfinite().all()
    torch.testing.assert_close(attention_ce(s / 0.9, t, mask=MASK), attention_ce(s, t, mask=MASK))


def test_pooling() -> None:
    x = draw(0, 3, 5, 7)
    torch.testing.assert_close(pool(x), x[:, 0])
    torch.testing.assert_close(pool(x, mask=MASK), torch.stack([x[0, 0], x[1, 1], x[2, 0]]))
    want = torch.stack([x[0, :3].mean(0), x[1, 1:].mean(0), x[2].mean(0)])
    torch.testing.assert_close(pool(x, how="mean", mask=MASK), want)
    assert torch.equal(pool(x, how="mean", mask=0 * MASK), torch.zeros(3, 7))
    with pytest.raises(ConfigError, match="cls or mean"):
        pool(x, how="max")  # type: ignore[arg-type]


def test_the_projection_is_absent_between_equal_widths() -> None:
    same = Projection(8, 8)
    x = draw(0, 2, 3, 8)
    assert same(x) is x
    assert list(same.parameters()) == []
    first, second = (Projection(64, 256, generator=torch.Generator().manual_seed(3)) for _ in "ab")
    assert first.linear is not None
    assert second.linear is not None
    assert torch.equal(first.linear.weight, second.linear.weight)
    assert first.linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert first(draw(0, 2, 3, 64).bfloat16()).shape == (2, 3, 256)
    assert torch.equal(first(torch.zeros(64)), torch.zeros(256))
    assert Projection(16, 4)(draw(0, 2, 16)).shape == (2, 4)  # a wide student too


def test_features_of_other_shapes_are_refused() -> None:
    s, t = draw(0, 3, 5, 6), draw(0, 3, 5, 7)
    for loss in HIDDEN:
        with pytest.raises(CompatibilityError, match=r"\(3, 5, 6\) and the teacher's \(3, 5, 7\)"):
            loss(s, t)
        with pytest.raises(CompatibilityError, match="mask must have shape"):
            loss(t, t, mask=MASK[:, :4])
    with pytest.raises(CompatibilityError, match="one shape"):
        pkd(s[:, 0], t[:, 0])
    for loss in ATTENTION:
        with pytest.raises(CompatibilityError, match="one shape"):
            loss(attention(0, 2), attention(0, 2)[..., :4])
