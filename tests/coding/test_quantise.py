"""Companding and rounding: the laws that make an integer latent decodable."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attar.coding.quantise import (
    Compander,
    add_noise,
    from_steps,
    in_steps,
    largest,
    to_integers,
)
from attar.errors import ConfigError, DataError

BITS = st.integers(2, 16)


@pytest.mark.parametrize(
    ("bits", "scale", "limit"),
    [
        (2, 0.5405, 1.499),
        (3, 1.6216, 3.499),
        (4, 3.7838, 7.499),
        (6, 16.757, 31.499),
        (8, 68.649, 127.499),
    ],
)
def test_the_constants_of_the_paper(bits: int, scale: float, limit: float) -> None:
    curve = Compander(bits)
    assert curve.scale == pytest.approx(scale, abs=5e-4)
    assert curve.limit == pytest.approx(limit)


def grid(ends: float, scale: float) -> Tensor:
    return torch.linspace(-ends * scale, ends * scale, 4001)


@given(bits=BITS)
def test_expanding_undoes_companding(bits: int) -> None:
    curve = Compander(bits)
    latents = grid(2.5, curve.scale)
    again = curve.expand(curve.compand(latents))
    torch.testing.assert_close(again, latents, rtol=1e-4, atol=1e-5 * curve.scale)


@given(bits=BITS)
def test_the_curve_is_odd_monotone_and_stays_in_range(bits: int) -> None:
    curve = Compander(bits)
    latents = grid(9, curve.scale)
    values = curve.compand(latents)
    assert bool((values.diff() >= 0).all())
    assert bool((curve.compand(grid(2.5, curve.scale)).diff() > 0).all())
    assert torch.equal(curve.compand(-latents), -values)
    assert torch.equal(curve.expand(-values), -curve.expand(values))
    last = largest(bits)
    # without the clamp of `to_integers`
    assert values.round().abs().max() == last
    assert bool(curve.expand(torch.tensor([-1e9, 1e9])).isfinite().all())


def test_a_normal_latent_fills_the_levels_evenly() -> None:
    curve = Compander(4)
    normal = torch.randn(400_000, generator=torch.Generator().manual_seed(0)) * curve.scale
    counts = to_integers(curve.compand(normal), 4).long().add(7).bincount(minlength=15)
    assert len(counts) == 15
    torch.testing.assert_close(counts / 400_000, torch.full((15,), 1 / 15), rtol=0.03, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    curve = Compander(8)
    latents = torch.randn(500, generator=torch.Generator().manual_seed(0)).mul(60).to(dtype)
    values = curve.compand(latents)
    assert values.dtype == curve.expand(latents).dtype == torch.float32
    assert torch.equal(values, curve.compand(latents.float()))
    assert torch.equal(curve.expand(latents), curve.expand(latents.float()))
    assert torch.equal(to_integers(latents, 8), to_integers(latents.float(), 8))


def test_gradients_reach_the_middle_and_never_become_nan() -> None:
    curve = Compander(4)
    latents = grid(2, curve.scale).double().requires_grad_()
    assert torch.autograd.gradcheck(curve.compand, [latents[::400].detach().requires_grad_()])
    values = torch.linspace(-7.6, 7.6, 9, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(curve.expand(values).sum(), values)
    assert bool(grad.isfinite().all())
    assert grad[[0, -1]].tolist() == [0, 0]
    assert bool((grad[1:-1] > 0).all())


def test_halves_go_to_the_even_integer_and_the_range_is_kept() -> None:
    values = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 99.0, -99.0, float("inf")])
    assert to_integers(values, 3).tolist() == [-2, -2, 0, 0, 2, 2, 3, -3, 3]
    assert to_integers(values, 3).dtype == torch.int16
    ends = torch.tensor([1e9, -1e9])
    assert to_integers(ends, 16).tolist() == [32767, -32767]


@settings(max_examples=30)
@given(
    channels=st.integers(1, 5), axes=st.integers(0, 2), seed=st.integers(0, 99), bits=st.just(16)
)
def test_steps_are_of_channels(channels: int, axes: int, seed: int, bits: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn((2, channels, *[3] * axes), generator=generator)
    steps = torch.rand(channels, generator=generator) + 0.01
    integers = to_integers(in_steps(latents, steps), bits)
    again = from_steps(integers, steps)
    half = 0.5 * steps.view(-1, *[1] * axes)
    assert bool(((again - latents).abs() <= half * 1.0001).all())
    for channel in range(channels):
        alone = in_steps(latents[:, channel : channel + 1], steps[channel : channel + 1])
        assert torch.equal(in_steps(latents, steps)[:, channel : channel + 1], alone)


def test_noise_is_uniform_within_half_a_level_and_of_the_generator() -> None:
    values = torch.linspace(-3, 3, 100_000)

    def noisy(seed: int) -> Tensor:
        return add_noise(values, torch.Generator().manual_seed(seed))

    noise = noisy(0) - values
    assert noise.abs().max() <= 0.5 + 1e-6
    assert noise.mean().abs() < 0.005
    assert noise.var().item() == pytest.approx(1 / 12, rel=0.02)
    assert torch.equal(noisy(0), noisy(0))
    assert not torch.equal(noisy(0), noisy(1))
    assert add_noise(values.bfloat16(), torch.Generator()).dtype == torch.float32


@pytest.mark.parametrize("bits", [-1, 0, 1, 17])
def test_other_bits_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match="2 to 16"):
        Compander(bits)
    with pytest.raises(ConfigError, match="2 to 16"):
        to_integers(torch.zeros(1), bits)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        to_integers(torch.tensor([0.0, float("nan")]), 8)
    with pytest.raises(DataError, match="one per channel: 3"):
        in_steps(torch.zeros(1, 3, 2), torch.ones(2))
