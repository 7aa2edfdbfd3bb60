"""Wavelet packets: PyWavelets is the oracle, and every way of computing them gives the same."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attar.coding import packets, stages, wavelets
from attar.coding.wavelets import (
    inverse_packet_transform,
    packet_transform,
    project,
    reach,
    unproject,
    wavelet_filters,
)
from attar.errors import ConfigError, DataError, MissingExtraError

WAVELETS = ("bior4.4", "haar", "db2", "bior1.3", "rbio3.1", "bior6.8")


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_pywavelets(signal: Tensor, levels: int, wavelet: str) -> Tensor:
    values: Any = signal.numpy()
    for _ in range(levels):
        if values.ndim == 3:
            bands = pywt.dwt(values, wavelet, mode="periodization", axis=-1)
        else:
            low, others = pywt.dwt2(values, wavelet, mode="periodization", axes=(-2, -1))
            bands = (low, *others)
        stacked = np.stack(bands, 2)
        values = stacked.reshape(len(values), -1, *stacked.shape[3:])
    return torch.from_numpy(values)


@st.composite
def signals(draw: st.DrawFn) -> tuple[Tensor, int]:
    levels = draw(st.integers(1, 5))
    axes = draw(st.integers(1, 2))
    blocks = draw(st.lists(st.integers(1, 40 >> levels | 1), min_size=axes, max_size=axes))
    sizes = [block * 2**levels for block in blocks]
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 4))
    return noise(batch, channels, *sizes, seed=draw(st.integers(0, 99))), levels


@settings(max_examples=60, deadline=None)
@given(case=signals(), wavelet=st.sampled_from(WAVELETS))
def test_it_is_pywavelets_repeated_and_comes_back(case: tuple[Tensor, int], wavelet: str) -> None:
    signal, levels = case
    coefficients = packet_transform(signal, levels=levels, wavelet=wavelet)
    torch.testing.assert_close(
        coefficients, by_pywavelets(signal, levels, wavelet), rtol=0, atol=1e-10
    )
    assert coefficients.numel() == signal.numel()
    again = inverse_packet_transform(coefficients, levels=levels, wavelet=wavelet)
    torch.testing.assert_close(again, signal, rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(case=signals())
def test_float32_comes_back_to_five_digits(case: tuple[Tensor, int]) -> None:
    signal, levels = case
    signal = signal.float().clamp(-1, 1)
    coefficients = packet_transform(signal, levels=levels)
    again = inverse_packet_transform(coefficients, levels=levels)
    assert coefficients.dtype == again.dtype == torch.float32
    torch.testing.assert_close(again, signal, rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [6, 8])
def test_deep_packets(levels: int) -> None:
    signal = noise(1, 2, 3 * 2**levels)
    coefficients = packet_transform(signal, levels=levels)
    torch.testing.assert_close(
        coefficients, by_pywavelets(signal, levels, "bior4.4"), rtol=0, atol=1e-10
    )
    again = inverse_packet_transform(coefficients, levels=levels)
    torch.testing.assert_close(again, signal, rtol=0, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(levels=st.integers(1, 4), axes=st.integers(1, 2), value=st.floats(-2, 2))
def test_a_constant_is_in_the_band_of_all_lows(levels: int, axes: int, value: float) -> None:
    signal = torch.full((1, 2, *[2 * 2**levels] * axes), value, dtype=torch.float64)
    bands = packet_transform(signal, levels=levels).unflatten(1, (2, -1))
    # PyWavelets rounds its taps to some twelve digits
    torch.testing.assert_close(
        bands[:, :, 1:], torch.zeros_like(bands[:, :, 1:]), atol=1e-9, rtol=0
    )
    gain = 2 ** (levels * axes / 2)
    lows = bands[:, :, 0]
    torch.testing.assert_close(lows, torch.full_like(lows, gain * value), atol=1e-9, rtol=0)


@settings(max_examples=40, deadline=None)
@given(case=signals(), rows=st.integers(1, 20), wavelet=st.sampled_from(("bior4.4", "haar")))
def test_a_projection_is_the_transform_and_a_layer_whichever_way(
    case: tuple[Tensor, int], rows: int, wavelet: str
) -> None:
    signal, levels = case
    bands = by_pywavelets(signal, levels, wavelet)
    weight, bias = noise(rows, bands.shape[1], seed=1) / bands.shape[1] ** 0.5, noise(rows, seed=2)
    layer = torch.einsum("rk,bk...->br...", weight, bands)
    one_by_one = wavelets._stages(wavelet, levels)
    whole = wavelets._stage(wavelet, levels, back=False)
    for dtype, most in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        one, by = signal.to(dtype), weight.to(dtype)
        shifted = project(one, by, bias=bias.to(dtype), levels=levels, wavelet=wavelet)
        for found in (
            packets.analyse(one, one_by_one, weight=by),
            packets.fused(one, whole, weight=by),
            shifted - bias.to(dtype).view(-1, *[1] * (signal.dim() - 2)),
        ):
            torch.testing.assert_close(found, layer.to(dtype), rtol=0, atol=most)


@settings(max_examples=40, deadline=None)
@given(
    case=signals(), latents=st.integers(1, 20), wavelet=st.sampled_from(("bior4.4", "haar", "db2"))
)
def test_a_layer_and_the_way_back_at_once_or_one_by_one(
    case: tuple[Tensor, int], latents: int, wavelet: str
) -> None:
    signal, levels = case
    shape = {"levels": levels, "wavelet": wavelet}
    bands = packet_transform(signal, **shape)
    weight, bias = noise(bands.shape[1], latents, seed=1), noise(bands.shape[1], seed=2)
    values = noise(len(bands), latents, *bands.shape[2:], seed=3)
    for added in (bias, None):
        places = torch.einsum("kr,br...->bk...", weight, values)
        if added is not None:
            places = places + added.view(-1, *[1] * (signal.dim() - 2))
        expected = inverse_packet_transform(places, **shape)
        found = unproject(values, weight, bias=added, **shape)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
        traced = unproject(values, weight.clone().requires_grad_(), bias=added, **shape)
        torch.testing.assert_close(traced.detach(), expected, rtol=0, atol=1e-9)


def test_deep_packets_back_from_a_layer() -> None:
    weight, values = noise(2 * 2**8, 5, seed=1), noise(2, 5, 3, seed=2)
    places = torch.einsum("kr,brn->bkn", weight, values)
    torch.testing.assert_close(
        unproject(values, weight, levels=8), inverse_packet_transform(places, levels=8)
    )


def test_which_way_depends_on_what_is_counted() -> None:
    def at_once(levels: int, rows: int, *shape: int) -> bool:
        return packets.cheaper_fused(
            torch.empty(shape),
            rows,
            stages=wavelets._stages("bior4.4", levels),
            whole=wavelets._stage("bior4.4", levels, back=False),
        )

    assert not at_once(3, 12, 1, 3, 512, 512)
    assert not at_once(2, 48, 1, 3, 512, 512)
    assert not at_once(8, 108, 1, 2, 2**19)
    assert at_once(8, 4, 1, 2, 2**19)
    assert at_once(3, 8, 1, 2, 2**17)
    # making the kernel costs more than it saves
    assert not at_once(8, 27, 1, 2, 2**19)
    # neither the batch nor the length counts: a part is computed as the whole
    assert at_once(3, 8, 7, 2, 2**17)
    assert at_once(3, 8, 1, 2, 8)


@pytest.mark.parametrize(("levels", "rows"), [(3, 8), (4, 12), (6, 30)])
def test_a_part_with_its_surroundings_is_computed_as_the_whole(levels: int, rows: int) -> None:
    size = 2**levels
    signal = noise(1, 2, 60 * size, dtype=torch.float32)
    weight = noise(rows, 2 * size, dtype=torch.float32) / size**0.5
    whole = project(signal, weight, levels=levels)
    around = -(-reach(levels) // size)
    for first, count in ((around, 1), (around + 3, 7), (20, 60 - around - 20)):
        part = signal[..., (first - around) * size : (first + count + around) * size]
        found = project(part, weight, levels=levels)[..., around : around + count]
        expected = whole[..., first : first + count]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(case=signals(), factor=st.floats(-3, 3))
def test_a_projection_is_linear(case: tuple[Tensor, int], factor: float) -> None:
    signal, levels = case
    other = noise(*signal.shape, seed=100)
    weight = noise(3, packet_transform(signal, levels=levels).shape[1], seed=1)

    def of(values: Tensor) -> Tensor:
        return project(values, weight, levels=levels)

    torch.testing.assert_close(of(signal + factor * other), of(signal) + factor * of(other))


@settings(max_examples=20, deadline=None)
@given(case=signals(), by=st.integers(0, 5))
def test_coefficients_shift_with_the_signal(case: tuple[Tensor, int], by: int) -> None:
    signal, levels = case
    shifted = packet_transform(signal.roll(by * 2**levels, -1), levels=levels)
    expected = packet_transform(signal, levels=levels).roll(by, -1)
    torch.testing.assert_close(shifted, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 2, 48), (5, 3, 16, 24)])
@pytest.mark.parametrize("budget", [2**19, 200])
def test_an_item_does_not_depend_on_its_batch(
    shape: tuple[int, ...], budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "_CACHED", budget)
    batch = noise(*shape, dtype=torch.float32)
    bands = packet_transform(batch, levels=2)
    weight = noise(7, bands.shape[1], dtype=torch.float32)
    projected = project(batch, weight, levels=2)
    again = inverse_packet_transform(bands, levels=2)
    back = unproject(projected, weight.mT, levels=2)
    for i in range(len(batch)):
        one = slice(i, i + 1)
        assert torch.equal(packet_transform(batch[one], levels=2), bands[one])
        assert torch.equal(project(batch[one], weight, levels=2), projected[one])
        assert torch.equal(inverse_packet_transform(bands[one], levels=2), again[one])
        assert torch.equal(unproject(projected[one], weight.mT, levels=2), back[one])


@pytest.mark.parametrize("shape", [(5, 2, 48), (5, 3, 16, 24)])
def test_items_together_as_on_an_accelerator(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = noise(*shape)
    bands = packet_transform(batch, levels=2)
    weight = noise(7, bands.shape[1])
    projected = project(batch, weight, levels=2)
    back = unproject(projected, weight.mT, levels=2)

    def pairs(values: Tensor) -> Iterator[tuple[slice, int]]:
        for start in range(0, len(values), 2):
            items = slice(start, start + 2)
            yield items, len(values[items]) * values.shape[1]

    monkeypatch.setattr(packets, "_items", pairs)
    torch.testing.assert_close(packet_transform(batch, levels=2), bands)
    torch.testing.assert_close(project(batch, weight, levels=2), projected)
    torch.testing.assert_close(inverse_packet_transform(bands, levels=2), batch)
    torch.testing.assert_close(unproject(projected, weight.mT, levels=2), back)


@pytest.mark.parametrize("shape", [(2, 2, 320), (2, 2, 72, 40)])
@pytest.mark.parametrize("levels", [2, 3])
def test_stripes_change_nothing(
    shape: tuple[int, ...], levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = noise(*shape)
    whole = packet_transform(signal, levels=levels)
    weight = noise(5, whole.shape[1])
    projected = project(signal, weight, levels=levels)
    back = unproject(projected, weight.mT, levels=levels)
    monkeypatch.setattr(packets, "_CACHED", 400)
    torch.testing.assert_close(packet_transform(signal, levels=levels), whole)
    torch.testing.assert_close(project(signal, weight, levels=levels), projected)
    torch.testing.assert_close(inverse_packet_transform(whole, levels=levels), signal)
    torch.testing.assert_close(unproject(projected, weight.mT, levels=levels), back)


@pytest.mark.parametrize("shape", [(1, 2, 16), (1, 1, 8, 4)])
def test_gradients(shape: tuple[int, ...]) -> None:
    signal = noise(*shape).requires_grad_()
    bands = packet_transform(signal, levels=2).detach().requires_grad_()
    weight = noise(3, bands.shape[1], seed=1).requires_grad_()
    bias = noise(3, seed=2).requires_grad_()

    def forth(values: Tensor) -> Tensor:
        return packet_transform(values, levels=2)

    def back(values: Tensor) -> Tensor:
        return inverse_packet_transform(values, levels=2)

    def layer(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return project(values, weight, bias=bias, levels=2)

    def unlayer(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return unproject(values, weight, bias=bias, levels=2)

    latents = layer(signal, weight, bias).detach().requires_grad_()
    spread = weight.detach().mT.clone().requires_grad_()
    added = noise(len(spread), seed=4).requires_grad_()
    assert torch.autograd.gradcheck(unlayer, [latents, spread, added])
    assert torch.autograd.gradcheck(forth, [signal])
    assert torch.autograd.gradcheck(back, [bands])
    assert torch.autograd.gradcheck(layer, [signal, weight, bias])
    assert torch.autograd.gradgradcheck(layer, [signal, weight, bias])


def test_the_one_convolution_has_the_gradient_of_the_stages() -> None:
    signal = noise(2, 2, 2**14, dtype=torch.float32)
    weight = noise(4, 2 * 8, dtype=torch.float32).requires_grad_()
    whole = wavelets._stage("bior4.4", 3, back=False)
    assert packets.cheaper_fused(signal, 4, stages=wavelets._stages("bior4.4", 3), whole=whole)
    project(signal, weight, levels=3).square().mean().backward()
    found, weight.grad = weight.grad, None
    bands = packet_transform(signal, levels=3)
    torch.einsum("rk,bkn->brn", weight, bands).square().mean().backward()
    torch.testing.assert_close(found, weight.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    signal = noise(1, 3, 16, 16).to(dtype).requires_grad_()
    bands = packet_transform(signal, levels=2)
    assert bands.dtype == torch.float32
    assert torch.equal(bands, packet_transform(signal.float(), levels=2))
    weight = noise(4, bands.shape[1]).to(dtype)
    projected = project(signal, weight, levels=2)
    assert projected.dtype == torch.float32
    assert torch.equal(projected, project(signal.float(), weight.float(), levels=2))
    (grad,) = torch.autograd.grad(projected.sum(), signal)
    assert grad.dtype == dtype
    latents = projected.detach().to(dtype)
    back = unproject(latents, weight.mT, levels=2)
    assert back.dtype == torch.float32
    assert torch.equal(back, unproject(latents.float(), weight.mT.float(), levels=2))


def test_autocast_changes_nothing() -> None:
    signal = noise(1, 3, 16, 16, dtype=torch.float32).requires_grad_()
    weight = noise(4, 48, dtype=torch.float32).requires_grad_()
    bands = packet_transform(signal, levels=2)
    projected = project(signal, weight, levels=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(packet_transform(signal, levels=2), bands)
        assert torch.equal(
            inverse_packet_transform(bands, levels=2),
            inverse_packet_transform(bands.detach(), levels=2),
        )
        again = project(signal, weight, levels=2)
        assert torch.equal(again, projected)
        back = unproject(projected, weight.mT, levels=2)
        assert back.dtype == torch.float32
        torch.testing.assert_close(
            back, unproject(projected.detach(), weight.mT.detach(), levels=2)
        )
        grads = torch.autograd.grad(again.sum(), [signal, weight])
    for found, expected in zip(
        grads, torch.autograd.grad(projected.sum(), [signal, weight]), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("levels", [1, 3])
def test_reach_is_what_a_coefficient_depends_on(levels: int) -> None:
    assert reach(levels) == 9 * (2**levels - 1) + 1
    size = 2**levels
    signal = torch.zeros(1, 1, 40 * size, dtype=torch.float64, requires_grad=True)
    packet_transform(signal, levels=levels)[0, :, 20].sum().backward()
    assert signal.grad is not None
    seen = signal.grad[0, 0].nonzero().flatten()
    first = 20 * size - 4 * (size - 1)
    assert first <= seen.min()
    assert seen.max() < first + reach(levels)


@settings(max_examples=20, deadline=None)
@given(case=signals(), wavelet=st.sampled_from(WAVELETS))
def test_an_adjoint_is_one(case: tuple[Tensor, int], wavelet: str) -> None:
    signal, levels = case
    split = wavelets._stages(wavelet, levels)
    bands = packets.analyse(signal, split)
    other = noise(*bands.shape, seed=3)
    back = packets.synthesise(other, [stage.adjoint for stage in split])
    torch.testing.assert_close((bands * other).sum(), (signal * back).sum())


def test_wider_stages_are_several_in_one() -> None:
    filters = wavelet_filters("bior4.4")
    low, high = filters.dec_lo[::-1], filters.dec_hi[::-1]
    whole = stages.split_stage(low, high, levels=3)
    signal = noise(1, 1, 64)
    by_one = packets.analyse(signal, [stages.split_stage(low, high, levels=1)] * 3)
    torch.testing.assert_close(packets.analyse(signal, [whole]), by_one)
    # the outermost of ten taps is 0
    assert whole.matrix.shape == (8, 57)


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="multiples of 8"):
        packet_transform(noise(1, 3, 12, 16), levels=3)
    with pytest.raises(DataError, match="shape"):
        packet_transform(noise(3, 12), levels=1)
    with pytest.raises(DataError, match="floating"):
        packet_transform(torch.zeros(1, 1, 8, dtype=torch.int64), levels=1)
    with pytest.raises(DataError, match="multiples of 2"):
        packet_transform(noise(1, 1, 0), levels=1)
    with pytest.raises(ConfigError, match="levels"):
        packet_transform(noise(1, 1, 8), levels=0)
    with pytest.raises(DataError, match="multiple of 4"):
        inverse_packet_transform(noise(1, 6, 2, 2), levels=1)
    with pytest.raises(DataError, match="weight"):
        project(noise(1, 1, 8), noise(3, 3), levels=1)
    with pytest.raises(DataError, match="bias"):
        project(noise(1, 1, 8), noise(3, 2), bias=noise(2), levels=1)
    for shape in ((3, 2), (0, 2), (4, 3), (4,)):
        with pytest.raises(DataError, match="weight"):
            unproject(noise(1, 2, 8), noise(*shape), levels=1)
    with pytest.raises(DataError, match="bias"):
        unproject(noise(1, 2, 8), noise(4, 2), bias=noise(2), levels=1)
    for name in ("no such", "mexh", ""):
        with pytest.raises(ConfigError, match=r"bior4\.4"):
            wavelet_filters(name)
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(MissingExtraError, match="codec"):
        wavelet_filters("db7")
