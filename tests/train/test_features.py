"""Losses between features: closed forms, and masks that hold."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

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
