"""Laws of the divergences: zero for equals, never negative, closed forms, and the top-k bound."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import tiny
from attar import divergences as d
from attar.divergences import (
    Divergence,
    forward_kl,
    js,
    lk,
    log_mass_outside,
    mean_over,
    overlap,
    reverse_kl,
    topk_forward_kl,
    tvd,
)
from attar.errors import ConfigError

ALL = [forward_kl, reverse_kl, js, tvd, lk]


def logits(seed: int, *, scale: float = 2.0, size: tuple[int, ...] = (2, 3, 11)) -> Tensor:
    return scale * torch.randn(size, generator=torch.Generator().manual_seed(seed))


def top(teacher: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    log_probs = teacher.log_softmax(-1)
    values, ids = log_probs.topk(k, -1)
    return ids, values, log_mass_outside(log_probs, ids)


def named(logits: Tensor, k: int) -> dict[str, Tensor]:
    """The same as arguments of `topk_forward_kl`."""
    return dict(zip(("ids", "log_probs", "log_rest"), top(logits, k), strict=True))


@pytest.mark.parametrize("divergence", ALL)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_zero_for_equals_and_never_negative(
    divergence: Divergence, seed: int, scale: float
) -> None:
    p, q = logits(seed, scale=scale), logits(seed + 1, scale=scale)
    found = divergence(p, q)
    assert found.shape == (2, 3)
    assert found.dtype == torch.float32
    assert (found >= 0).all()
    # A constant added to all logits changes no distribution.
    torch.testing.assert_close(divergence(p, p + 3), torch.zeros(2, 3), atol=2e-5, rtol=0)


def test_a_model_is_at_no_distance_from_itself() -> None:
    model, ids = tiny.model("llama"), tiny.ids()
    with torch.no_grad():
        own = model(input_ids=ids).logits
    for divergence in ALL:
        torch.testing.assert_close(divergence(own, own), torch.zeros(2, 12), atol=1e-6, rtol=0)


def test_closed_forms_over_two_tokens() -> None:
    student = torch.tensor([[[0.25, 0.75]]]).log()
    teacher = torch.tensor([[[0.5, 0.5]]]).log()
    kl = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert forward_kl(student, teacher).item() == pytest.approx(kl)
    assert reverse_kl(teacher, student).item() == pytest.approx(kl)
    m = (0.375, 0.625)
    to_m = [p * math.log(p / x) for p, x in zip((0.5, 0.5), m, strict=True)]
    from_q = [q * math.log(q / x) for q, x in zip((0.25, 0.75), m, strict=True)]
    assert js(student, teacher).item() == pytest.approx(0.5 * sum(to_m) + 0.5 * sum(from_q))


@given(seed=st.integers(0, 10_000))
def test_what_two_distributions_share_is_one_less_their_distance(seed: int) -> None:
    p, q = logits(seed), logits(seed + 1)
    common = torch.minimum(p.softmax(-1), q.softmax(-1)).sum(-1)
    torch.testing.assert_close(overlap(q, p), common)
    torch.testing.assert_close(tvd(q, p), 1 - common)
    assert (tvd(q, p) ** 2 <= forward_kl(q, p) / 2 + 1e-6).all()  # Pinsker
    share = (-3 * common).exp()
    torch.testing.assert_close(lk(q, p), share * forward_kl(q, p) + (1 - share) * (1 - common))


def test_lk_takes_its_share_as_a_constant() -> None:
    p, q = logits(0), logits(1).requires_grad_()
    share = (-3 * overlap(q, p)).exp().detach()
    fixed = share * forward_kl(q, p) + (1 - share) * tvd(q, p)
    for a, b in zip(
        torch.autograd.grad(lk(q, p).sum(), q), torch.autograd.grad(fixed.sum(), q), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("divergence", ALL)
def test_gradients_are_those_of_finite_differences(divergence: Divergence) -> None:
    # In float32, as all of them are computed there; lk holds one of its factors constant.
    p, q = logits(0, size=(1, 1, 5)), logits(1, size=(1, 1, 5)).requires_grad_()
    share = (-3 * overlap(q, p)).exp().detach()

    def value(x: Tensor) -> Tensor:
        if divergence is lk:
            return (share * forward_kl(x, p) + (1 - share) * tvd(x, p)).sum()
        return divergence(x, p).sum()

    (gradient,) = torch.autograd.grad(divergence(q, p).sum(), q)
    steps = 1e-2 * torch.eye(5)[:, None, None]
    with torch.no_grad():
        expected = torch.stack([(value(q + s) - value(q - s)) / 2e-2 for s in steps])
    torch.testing.assert_close(gradient.flatten(), expected, atol=2e-3, rtol=1e-2)


def test_js_is_symmetric_and_bounded() -> None:
    p, q = logits(0, scale=40.0), logits(1, scale=40.0)
    torch.testing.assert_close(js(p, q), js(q, p))
    assert (js(p, q) <= math.log(2) + 1e-6).all()
    for beta in (0.0, 1.0):
        with pytest.raises(ConfigError, match="beta"):
            js(p, q, beta=beta)


def test_forward_kl_is_the_official_expression_divided_by_the_length() -> None:
    p, q = logits(0), logits(1)
    official = F.kl_div(
        q.log_softmax(-1), p.log_softmax(-1), reduction="batchmean", log_target=True
    )
    found = mean_over(forward_kl(q, p), None, count=6)
    assert found.item() == pytest.approx(official.item() / 3, rel=1e-5)


def test_bfloat16_logits_are_computed_in_float32() -> None:
    p, q = logits(0).bfloat16(), logits(1).bfloat16()
    assert torch.equal(forward_kl(q, p), forward_kl(q.float(), p.float()))


def test_a_token_that_the_teacher_never_takes_costs_nothing() -> None:
    p, q = logits(0), logits(1).requires_grad_()
    p[..., 0] = -torch.inf
    q_never = torch.cat([torch.full((2, 3, 1), -torch.inf), q[..., 1:]], -1)
    found = forward_kl(q_never, p)
    assert found.isfinite().all()
    (gradient,) = torch.autograd.grad(found.sum(), q)
    assert gradient.isfinite().all()


@given(seed=st.integers(0, 10_000))
def test_top_k_grows_to_the_full_kl(seed: int) -> None:
    p, q = logits(seed), logits(seed + 1)
    full = forward_kl(q, p)
    found = torch.stack([topk_forward_kl(q, **named(p, k)) for k in range(1, 12)])
    assert (found >= 0).all()
    assert (found.diff(dim=0) >= -1e-5).all()
    torch.testing.assert_close(found[-1], full, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(topk_forward_kl(p, **named(p, 4)), 0 * full, atol=1e-6, rtol=0)


@given(seed=st.integers(0, 10_000), k=st.sampled_from([1, 3, 10]))
def test_the_bucket_is_one_token_of_the_merged_vocabulary(seed: int, k: int) -> None:
    p, q = logits(seed), logits(seed + 1)
    ids, values, rest = top(p, k)
    student = q.log_softmax(-1)
    merged = torch.cat([student.gather(-1, ids), log_mass_outside(student, ids)[..., None]], -1)
    teacher = torch.cat([values, rest[..., None]], -1)
    torch.testing.assert_close(
        topk_forward_kl(q, ids, log_probs=values, log_rest=rest),
        forward_kl(merged, teacher),
        atol=1e-5,
        rtol=1e-5,
    )


def test_stored_with_few_digits_it_is_still_never_negative() -> None:
    p = logits(0, size=(4, 8, 200))
    ids, values, rest = top(p, 64)
    found = topk_forward_kl(p, ids.int(), log_probs=values.half(), log_rest=rest)
    assert (found >= 0).all()
    assert (found < 1e-5).all()


def test_a_bucket_that_the_student_hardly_fills_keeps_its_gradient() -> None:
    student = torch.tensor([[[60.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    teacher = torch.tensor([[[0.4, 0.3, 0.2, 0.1]]]).log()
    found = topk_forward_kl(student, **named(teacher, 1))
    assert found.item() == pytest.approx(
        0.4 * math.log(0.4) + 0.6 * (math.log(0.6) + 60 - math.log(3)), rel=1e-4
    )
    (gradient,) = torch.autograd.grad(found.sum(), student)
    assert gradient[0, 0].tolist() == pytest.approx([0.6, -0.2, -0.2, -0.2], abs=1e-4)


def test_the_reducer_ignores_what_is_masked() -> None:
    values = torch.tensor([[1.0, math.nan, 3.0], [5.0, math.inf, 7.0]])
    mask = torch.tensor([[1, 0, 1], [1, 0, 0]])
    assert mean_over(values, mask, count=3).item() == 3.0
    parts = [mean_over(values[i : i + 1], mask[i : i + 1], count=3) for i in (0, 1)]
    assert sum(parts) == 3.0


# ------------------------------------------------------------------------------- labelled examples


def test_soft_cross_entropy_is_kl_plus_the_teachers_entropy() -> None:
    student, teacher = logits(0, size=(4, 3, 7)), logits(1, size=(4, 3, 7))
    entropy = torch.distributions.Categorical(logits=teacher).entropy()
    expected = d.forward_kl(student, teacher) + entropy
    torch.testing.assert_close(d.soft_cross_entropy(student, teacher), expected)
    torch.testing.assert_close(d.soft_cross_entropy(teacher, teacher), entropy)


@pytest.mark.parametrize("name", ["soft_cross_entropy", "forward_kl", "logit_mse"])
def test_a_class_that_is_ruled_out_is_as_if_it_were_not_there(name: str) -> None:
    student, teacher = logits(0, size=(5, 6)), logits(1, size=(5, 6))
    loss = getattr(d, name)
    closed = torch.full((5, 2), -torch.inf)
    found = loss(torch.cat([student, closed], 1), torch.cat([teacher, closed], 1))
    torch.testing.assert_close(found, loss(student, teacher))


def test_binary_losses_are_those_of_two_classes_each() -> None:
    student, teacher = logits(0, size=(4, 5)), logits(1, size=(4, 5))
    pairs = [torch.stack([x, torch.zeros_like(x)], -1) for x in (student, teacher)]
    expected = d.soft_cross_entropy(*pairs).mean(-1)
    torch.testing.assert_close(d.binary_cross_entropy(student, teacher), expected)
    torch.testing.assert_close(d.binary_kl(student, teacher), d.forward_kl(*pairs).mean(-1))
    assert d.binary_kl(teacher, teacher).abs().max() == 0


def test_the_temperature_does_not_change_logit_mse_nor_the_size_of_the_others() -> None:
    student, teacher = (logits(i, scale=0.01, size=(8, 5)) for i in (0, 1))
    hot = d.at_temperature(d.logit_mse, temperature=4.0)
    torch.testing.assert_close(hot(student, teacher), d.logit_mse(student, teacher))
    warm = d.at_temperature(d.forward_kl, temperature=3.0)  # for small logits KL is quadratic
    torch.testing.assert_close(
        warm(student, teacher), d.forward_kl(student, teacher), rtol=0.05, atol=1e-7
    )
    plain = d.at_temperature(d.forward_kl, temperature=3.0, tau_squared=False)
    torch.testing.assert_close(9 * plain(student, teacher), warm(student, teacher))
    with pytest.raises(ConfigError, match="temperature"):
        d.at_temperature(d.forward_kl, temperature=0.0)


@given(seed=st.integers(0, 10_000), temperature=st.floats(50, 400))
def test_the_gradient_at_a_high_temperature_is_that_of_logit_mse(
    seed: int, temperature: float
) -> None:
    """T^2 KL of centred logits: (student - teacher) / V, and what is left falls as 1 / T."""
    classes = 5
    student, teacher = (logits(seed + i, scale=1.0, size=(3, classes)) for i in (0, 1))
    student, teacher = (x - x.mean(-1, keepdim=True) for x in (student, teacher))
    limit = (student - teacher) / classes
    largest = float(torch.stack([student, teacher]).abs().max())
    student.requires_grad_()
    gradients = {}
    for squared in (True, False):
        loss = d.at_temperature(d.forward_kl, temperature=temperature, tau_squared=squared)
        (gradients[squared],) = torch.autograd.grad(loss(student, teacher).sum(), student)
    rounding = temperature * 1e-6
    gap = float((gradients[True] - limit).abs().max())
    assert gap <= 2 * largest**2 / (classes * temperature) + rounding
    plain = gradients[False] * temperature**2
    torch.testing.assert_close(plain, gradients[True], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("name", ["forward_kl", "binary_kl", "soft_cross_entropy", "logit_mse"])
def test_who_agrees_with_the_teacher_has_nothing_to_learn(name: str, temperature: float) -> None:
    teacher = logits(0, size=(4, 6))
    student = teacher.clone().requires_grad_()
    loss = d.at_temperature(getattr(d, name), temperature=temperature)(student, teacher)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert gradient.abs().max() < 1e-5
    if name != "soft_cross_entropy":  # which keeps the teacher's entropy
        assert loss.abs().max() < 1e-5
