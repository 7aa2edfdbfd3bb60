"""MI-alpha: its definition term by term, its two ends, its symmetries, and numbers that hold."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attar.errors import ConfigError
from attar.methods.distiller.mutual_information import Critic, mi_alpha

ALPHAS = [0.0, 1e-6, 0.1, 0.5, 0.9, 1.0]
SEEDS = st.integers(0, 9999)
SIZES = st.integers(2, 9)


def draw(seed: int, *size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def log_mean(values: list[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values) / len(values))


def log_mix(alpha: float, log_m: float, log_q: float) -> float:
    if alpha in (0.0, 1.0):
        return log_m if alpha else log_q
    a, b = math.log(alpha) + log_m, math.log(1 - alpha) + log_q
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def by_hand(f: Tensor, log_q: Tensor, alpha: float, same: Tensor | None = None) -> float:
    """The definition with one loop for every sum, in double precision."""
    F, q, K = f.double().tolist(), log_q.double().tolist(), len(f)
    joint, marg = [], []
    for i in range(K):
        others = [j for j in range(K) if j != i and not (same is not None and same[i, j])]
        for j in others:
            without_j = log_mean([F[i][k] for k in [i, *others] if k != j])
            without_i = log_mean([F[i][k] for k in others])
            joint.append(F[i][i] - log_mix(alpha, without_j, q[i]))
            marg.append(math.exp(F[i][j] - log_mix(alpha, without_i, q[i])))
    return 1 + sum(joint) / len(joint) - sum(marg) / len(marg)


def sources(seed: int, size: int) -> Tensor:
    """Items of about half as many sources, but at least two."""
    ids = torch.randint(
        0, max(2, size // 2), (size,), generator=torch.Generator().manual_seed(seed)
    )
    ids[:2] = torch.tensor([0, 1])
    return ids[:, None] == ids[None, :]


# --- the definition -----------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
@given(seed=SEEDS, size=SIZES, masked=st.booleans())
def test_it_is_the_definition(alpha: float, seed: int, size: int, masked: bool) -> None:
    f, log_q = 2 * draw(seed, size, size), draw(seed + 1, size)
    same = sources(seed, size) if masked else None
    found = mi_alpha(f, log_q, alpha=alpha, same=same)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(by_hand(f, log_q, alpha, same), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
@settings(max_examples=12)
@given(seed=SEEDS)
def test_its_gradient_is_that_of_the_definition(alpha: float, seed: int) -> None:
    f, log_q = 2 * draw(seed, 5, 5), draw(seed + 1, 5)
    same = sources(seed, 5)
    leaves = f.clone().requires_grad_(), log_q.clone().requires_grad_()
    found = torch.autograd.grad(
        mi_alpha(*leaves, alpha=alpha, same=same), leaves, allow_unused=True
    )
    step = 1e-5
    for tensor, gradient in zip((f, log_q), found, strict=True):
        for at in range(tensor.numel()):
            values = []
            for sign in (1, -1):
                moved = tensor.double().flatten()
                moved[at] += sign * step
                pair = (moved.view_as(tensor), log_q) if tensor is f else (f, moved)
                values.append(by_hand(*pair, alpha, same))
            slope = (values[0] - values[1]) / (2 * step)
            mine = 0.0 if gradient is None else gradient.flatten()[at].item()
            assert mine == pytest.approx(slope, rel=1e-3, abs=1e-4)


@given(seed=SEEDS, size=SIZES)
def test_at_one_it_is_infonce_that_leaves_one_out(seed: int, size: int) -> None:
    f = 3 * draw(seed, size, size)
    terms = []
    for i in range(size):
        for j in range(size):
            if i != j:
                rest = torch.cat([f[i, :j], f[i, j + 1 :]])
                terms.append(f[i, i] - (rest.logsumexp(0) - math.log(size - 1)))
    found = mi_alpha(f, draw(seed + 1, size), alpha=1)
    torch.testing.assert_close(found, torch.stack(terms).mean(), atol=1e-5, rtol=1e-5)
    assert found <= math.log(size - 1) + 1e-5


@given(seed=SEEDS, size=SIZES)
def test_at_zero_it_is_tuba(seed: int, size: int) -> None:
    f, log_q = draw(seed, size, size), draw(seed + 1, size)
    joint = sum((f[i, i] - log_q[i]).item() for i in range(size)) / size
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
    marg = sum(math.exp((f[i, j] - log_q[i]).item()) for i, j in pairs) / len(pairs)
    found = mi_alpha(f, log_q, alpha=0).item()
    assert found == pytest.approx(1 + joint - marg, rel=1e-4, abs=1e-5)


def test_with_a_fixed_baseline_it_is_nwj() -> None:
    critic = Critic(4, 6, baseline="fixed", generator=torch.Generator().manual_seed(0))
    f, log_q = critic(draw(0, 5, 4), draw(1, 5, 6))
    assert torch.equal(log_q, torch.ones(5))
    off = ~torch.eye(5, dtype=torch.bool)
    want = f.diagonal().mean() - (f[off] - 1).exp().mean()
    torch.testing.assert_close(mi_alpha(f, log_q, alpha=0), want)


def test_the_ceilings_are_reached_by_perfect_scores() -> None:
    f, log_q = 1e3 * torch.eye(8), torch.zeros(8)
    # The pair's own weight fills the average of the seven that leave another out.
    assert mi_alpha(f, log_q, alpha=1).item() == pytest.approx(math.log(7))
    for alpha in (0.1, 0.5, 0.9):
        found = mi_alpha(f, log_q + 40, alpha=alpha).item()
        assert found == pytest.approx(1 + math.log(7) - math.log(alpha), rel=1e-5)


# --- symmetries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
@given(seed=SEEDS, size=SIZES, shift=st.floats(-50, 50, width=32))
def test_a_shift_of_a_row_and_its_baseline_changes_nothing(
    alpha: float, seed: int, size: int, shift: float
) -> None:
    f, log_q = draw(seed, size, size), draw(seed + 1, size)
    want = mi_alpha(f, log_q, alpha=alpha)
    torch.testing.assert_close(
        mi_alpha(f + shift, log_q + shift, alpha=alpha), want, atol=1e-4, rtol=1e-4
    )
    by_row = shift * draw(seed + 2, size)
    moved = mi_alpha(f + by_row[:, None], log_q + by_row, alpha=alpha)
    torch.testing.assert_close(moved, want, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("alpha", ALPHAS)
@given(seed=SEEDS, size=SIZES)
def test_order_does_not_matter(alpha: float, seed: int, size: int) -> None:
    f, log_q, same = draw(seed, size, size), draw(seed + 1, size), sources(seed, size)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    found = mi_alpha(f[order][:, order], log_q[order], alpha=alpha, same=same[order][:, order])
    torch.testing.assert_close(
        found, mi_alpha(f, log_q, alpha=alpha, same=same), atol=1e-5, rtol=1e-4
    )


def test_rows_belong_to_the_teacher() -> None:
    """A baseline that is right for its row makes TUBA exact; the transpose does not."""
    log_q = torch.tensor([-3.0, 0.0, 2.0])
    f = log_q[:, None].expand(3, 3)
    assert mi_alpha(f, log_q, alpha=0).item() == pytest.approx(0.0, abs=1e-6)
    assert mi_alpha(f.T, log_q, alpha=0).item() < -1


@pytest.mark.parametrize("alpha", ALPHAS)
def test_scores_of_one_source_count_nothing(alpha: float) -> None:
    f, log_q, same = draw(0, 6, 6), draw(1, 6), sources(0, 6)
    assert same.sum() > 6
    want = mi_alpha(f, log_q, alpha=alpha, same=same)
    off = same & ~torch.eye(6, dtype=torch.bool)
    for value in (80.0, math.inf, math.nan):
        leaf = f.masked_fill(off, value).requires_grad_()
        found = mi_alpha(leaf, log_q, alpha=alpha, same=same)
        (gradient,) = torch.autograd.grad(found, leaf)
        assert torch.equal(found, want)
        assert torch.equal(gradient[off], torch.zeros(int(off.sum())))
        assert gradient.isfinite().all()
    # Whether an item counts as of its own source is all one.
    own = same & ~torch.eye(6, dtype=torch.bool)
    assert torch.equal(mi_alpha(f, log_q, alpha=alpha, same=own), want)
    nothing = torch.zeros(6, 6, dtype=torch.bool)
    assert torch.equal(
        mi_alpha(f, log_q, alpha=alpha, same=nothing), mi_alpha(f, log_q, alpha=alpha)
    )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_row_without_negatives_is_left_out(alpha: float) -> None:
    """Item 3 was mixed from all the others."""
    f, log_q = draw(0, 4, 4), draw(1, 4)
    same = torch.zeros(4, 4, dtype=torch.bool)
    same[3], same[:, 3] = True, True
    leaves = f.clone().requires_grad_(), log_q.clone().requires_grad_()
    found = mi_alpha(*leaves, alpha=alpha, same=same)
    torch.testing.assert_close(found, mi_alpha(f[:3, :3], log_q[:3], alpha=alpha))
    for gradient in torch.autograd.grad(found, leaves, allow_unused=True):
        if gradient is not None:
            assert gradient.isfinite().all()
            assert not gradient[3].any()


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-30, 1e-6, 0.1, 0.5, 1 - 1e-9, 1.0])
@given(seed=SEEDS, size=SIZES, scale=st.sampled_from([1e2, 1e3, 1e4]))
def test_large_scores_give_finite_values_and_gradients(
    alpha: float, seed: int, size: int, scale: float
) -> None:
    f = (scale * draw(seed, size, size)).clamp(-1e4, 1e4).requires_grad_()
    log_q = draw(seed + 1, size).requires_grad_()
    found = mi_alpha(f, log_q, alpha=alpha)
    assert found.isfinite()
    want = by_hand(f.detach(), log_q.detach(), alpha)
    assert found.item() == pytest.approx(want, rel=2e-3, abs=1e-2)  # digits of 1e4 in float32
    gradients = torch.autograd.grad(found, (f, log_q), allow_unused=True)
    assert all(g.isfinite().all() for g in gradients if g is not None)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
def test_equal_scores_are_finite_and_inform_of_nothing(alpha: float, value: float) -> None:
    f = torch.full((5, 5), value, requires_grad=True)
    found = mi_alpha(f, torch.full((5,), value), alpha=alpha)
    assert found.item() == pytest.approx(0.0, abs=1e-6)
    (gradient,) = torch.autograd.grad(found, f)
    assert gradient.isfinite().all()


def test_tuba_with_large_scores() -> None:
    # Far below the baseline: finite. Far above: what float32 cannot hold, unless clamped.
    f, log_q = 1e4 * (2 * torch.eye(4) - 1), torch.zeros(4)
    assert mi_alpha(f, log_q, alpha=0).item() == pytest.approx(10_001)
    assert mi_alpha(-f, log_q, alpha=0) == -math.inf
    leaf = (-f).requires_grad_()
    found = mi_alpha(leaf, log_q, alpha=0, clamp=50)
    assert found.item() == pytest.approx(1 - 50 - math.exp(50), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, leaf)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_clamp_cuts_scores_and_only_large_ones(alpha: float) -> None:
    f, log_q = 40 * draw(0, 6, 6), 20 * draw(1, 6)
    assert torch.equal(
        mi_alpha(f, log_q, alpha=alpha, clamp=30), mi_alpha(f.clamp(-30, 30), log_q, alpha=alpha)
    )
    assert torch.equal(mi_alpha(f, log_q, alpha=alpha, clamp=1e3), mi_alpha(f, log_q, alpha=alpha))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_half_precision_is_computed_in_float32(alpha: float, dtype: torch.dtype) -> None:
    f, log_q = (9 * draw(0, 6, 6)).to(dtype), draw(1, 6).to(dtype)
    found = mi_alpha(f, log_q, alpha=alpha)
    assert found.dtype == torch.float32
    assert torch.equal(found, mi_alpha(f.float(), log_q.float(), alpha=alpha))


# --- what cannot be --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mi_alpha(torch.zeros(3, 3), torch.zeros(3), alpha=1.1), "between 0 and 1"),
        (lambda: mi_alpha(torch.zeros(3, 3), torch.zeros(3), alpha=-0.1), "between 0 and 1"),
        (lambda: mi_alpha(torch.zeros(3, 3), torch.zeros(3), alpha=math.nan), "between 0 and 1"),
        (lambda: mi_alpha(torch.zeros(1, 1), torch.zeros(1), alpha=1), "at least 2 items"),
        (lambda: mi_alpha(torch.zeros(0, 0), torch.zeros(0), alpha=1), "at least 2 items"),
        (lambda: mi_alpha(torch.zeros(3, 2), torch.zeros(3), alpha=1), r"\(K, K\)"),
        (lambda: mi_alpha(torch.zeros(3, 3), torch.zeros(1), alpha=1), "log_baseline"),
        (
            lambda: mi_alpha(torch.zeros(3, 3), torch.zeros(3), alpha=1, same=torch.ones(3) > 0),
            "same must have shape",
        ),
        (
            lambda: mi_alpha(torch.zeros(3, 3), torch.zeros(3), alpha=1, same=torch.ones(3, 3) > 0),
            "at least 2 sources",
        ),
        (lambda: mi_alpha(torch.zeros(3, 3), torch.zeros(3), alpha=0, clamp=0), "clamp"),
        (lambda: Critic(2, 2, baseline="none"), "learned or fixed"),  # type: ignore[arg-type]
    ],
)
def test_what_has_no_value_is_refused(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        call()


# --- the critic ---------------------------------------------------------------------------------


def test_the_critic_has_the_published_shape() -> None:
    critic = Critic(312, 768)
    mlps = ((312, 64), (768, 64), (768, 1))
    want = sum((d + 1) * 128 + 129 * 128 + 129 * out for d, out in mlps)
    assert sum(p.numel() for p in critic.parameters()) == want
    f, log_q = critic(draw(0, 5, 312), draw(1, 5, 768))
    assert (f.shape, log_q.shape) == ((5, 5), (5,))


def test_a_score_is_of_the_rows_teacher_and_the_columns_student() -> None:
    critic = Critic(4, 6)
    student, teacher = draw(0, 5, 4), draw(1, 5, 6)
    f, log_q = critic(student, teacher)
    for i, j in ((0, 0), (1, 3), (4, 2)):
        one, q = critic(student[j : j + 1], teacher[i : i + 1])
        torch.testing.assert_close(one[0, 0], f[i, j])
        torch.testing.assert_close(q[0], log_q[i])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_reach_student_critic_and_baseline_but_not_the_teacher(alpha: float) -> None:
    critic = Critic(4, 6, baseline="fixed" if alpha == 1 else "learned")
    student, teacher = draw(0, 5, 4).requires_grad_(), draw(1, 5, 6).requires_grad_()
    (-mi_alpha(*critic(student, teacher), alpha=alpha)).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    for name, p in critic.named_parameters():
        assert p.grad is not None, name
        # What shifts all scores of a row alike is free at alpha 1, where no baseline ties it down.
        if alpha < 1 or name != "student.4.bias":
            assert p.grad.abs().max() > 1e-8, name


def test_the_critic_ignores_autocast_and_half_precision_features() -> None:
    critic = Critic(4, 6)
    student, teacher = draw(0, 5, 4).bfloat16(), draw(1, 5, 6).bfloat16()
    want = critic(student.float(), teacher.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = critic(student, teacher)
    for a, b in zip(found, want, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_a_generator_fixes_the_critic() -> None:
    first, second, third = (
        Critic(4, 6, generator=torch.Generator().manual_seed(seed)).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], third[name]) for name in first)


def test_training_the_critic_finds_information_and_none_where_there_is_none() -> None:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for related in (True, False):
        critic = Critic(3, 3, hidden=32, size=8, generator=torch.Generator().manual_seed(1))
        optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
        values = []
        for _ in range(120):
            teacher = torch.randn(32, 3, generator=generator)
            noise = torch.randn(32, 3, generator=generator)
            student = 0.95 * teacher + 0.31 * noise if related else noise
            value = mi_alpha(*critic(student, teacher), alpha=0.5)
            optimizer.zero_grad()
            (-value).backward()
            optimizer.step()
            values.append(value.item())
        found[related] = sum(values[-20:]) / 20
    # 3.5 nats there are, of which a short training finds some.
    assert 1.0 < found[True] < 3.5
    assert found[False] < 0.1
