"""Scores of decoded signals equal their formulas, and are never NaN."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from torch import Tensor

from attar.errors import ConfigError, DataError
from attar.evaluation.fidelity import (
    ms_ssim,
    ms_ssim_scales,
    psnr,
    si_sdr,
    silence,
    snr,
    spatial_scores,
)


def noise(*shape: int, seed: int = 0, scale: float = 0.1) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def picture(channels: int, height: int, width: int) -> Tensor:
    """Smooth in places, with an edge."""
    rows, columns = torch.arange(height)[:, None].double(), torch.arange(width).double()
    phases = torch.arange(channels)[:, None, None]
    waves = 0.3 * torch.sin(rows / 9 + phases) * torch.cos(columns / (5 + phases))
    return waves + torch.where(columns > width / 2, 0.15, -0.15)


def test_psnr_of_one_grey_level_and_of_a_stated_peak() -> None:
    x = torch.zeros(3, 4, 5)
    assert psnr(x, x + 1 / 255) == pytest.approx(20 * math.log10(255))
    assert psnr(x, x + 0.25) == pytest.approx(20 * math.log10(4))
    x, y = noise(2, 50), noise(2, 50, seed=1)
    assert psnr(8 * x, 8 * y, peak=4) == pytest.approx(psnr(x, y))


def test_psnr_clips_what_is_decoded() -> None:
    x = torch.full((1, 6), 0.5)
    x[0, 0] = -0.5
    over = x.clone()
    over[0, :2] = torch.tensor([-3.0, 7.0])
    assert psnr(x, over) == math.inf
    over[0, 2] = 0.25
    assert psnr(x, over) == pytest.approx(10 * math.log10(6 / 0.25**2))


def test_equal_signals_score_infinity_and_one() -> None:
    x = picture(2, 30, 40)
    assert psnr(x, x) == snr(x, x) == si_sdr(x, x) == math.inf
    assert spatial_scores(x[:, 0], x[:, 0]) == (math.inf, math.inf)
    assert ms_ssim(x, x) == pytest.approx(1, abs=1e-12)
    still = silence(x)
    assert snr(still, still) == si_sdr(still, still) == math.inf


def test_silence_does_well_by_psnr_alone() -> None:
    """Trap of separation benchmarks: a model that says nothing looks good."""
    x = noise(2, 400, scale=0.01)
    still = silence(x)
    assert psnr(x, still) > 35
    assert snr(x, still) == pytest.approx(0)
    assert si_sdr(x, still) == -math.inf
    assert spatial_scores(x, still) == (pytest.approx(0), -math.inf)
    assert snr(still, x) == si_sdr(still, x) == -math.inf


def test_si_sdr_is_the_angle_whatever_the_scale() -> None:
    x = torch.tensor([[0.4, 0.0]])
    y = torch.tensor([[0.4, 0.04]])
    assert si_sdr(x, y) == pytest.approx(20)
    assert si_sdr(x, 0.5 * y) == pytest.approx(20)
    assert si_sdr(0.01 * x, -y) == pytest.approx(20)
    assert si_sdr(x, torch.tensor([[0.0, 0.3]])) == -math.inf
    assert si_sdr(x, 0.5 * x) == math.inf


def test_si_sdr_takes_all_channels_as_one_signal() -> None:
    x, y = noise(2, 60), noise(2, 60, seed=3)
    assert si_sdr(x, x + y) == pytest.approx(si_sdr(x.reshape(1, -1), (x + y).reshape(1, -1)))
    louder = torch.stack([x[0], 0.5 * x[1]])
    assert si_sdr(x, louder) < 20  # each channel on its own would be perfect


def test_spatial_errors_add_up_and_tell_mixing_from_noise() -> None:
    x = noise(2, 500)
    mixed = torch.tensor([[0.9, 0.2], [-0.1, 0.7]]).double() @ x
    ssdr, srdr = spatial_scores(x, mixed)
    error = float((mixed - x).square().sum())
    assert ssdr == pytest.approx(10 * math.log10(float(x.square().sum()) / error))
    assert srdr > 200
    y = mixed + noise(2, 500, seed=4, scale=0.02)
    ssdr, srdr = spatial_scores(x, y)
    solution = torch.linalg.lstsq(x.T, y.T).solution
    projected = solution.T @ x
    assert ssdr == pytest.approx(snr(x, projected))
    assert srdr == pytest.approx(snr(projected, y))
    parts = float((x - projected).square().sum() + (y - projected).square().sum())
    assert parts == pytest.approx(float((x - y).square().sum()))


def test_spatial_scores_of_channels_that_are_alike() -> None:
    x = noise(1, 300).expand(2, 300)
    y = 0.5 * x + noise(1, 300, seed=2, scale=0.001)
    assert spatial_scores(x, y) == pytest.approx(spatial_scores(x[:1], y[:1]))
    two = noise(2, 300)
    x = torch.cat([two, torch.tensor([[0.3, 0.7], [1.1, -0.2]]).double() @ two])
    y = x + noise(4, 300, seed=2, scale=0.02)
    projected = torch.linalg.lstsq(two.T, y.T).solution.T @ two
    assert spatial_scores(x, y).srdr == pytest.approx(snr(projected, y))


def ssim_maps(x: Any, y: Any) -> tuple[Any, Any]:
    """Luminance and contrast-structure of two pictures in [0, 1], in NumPy and SciPy."""
    window = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))

    def blurred(values: Any) -> Any:
        for axis in (0, 1):
            values = correlate1d(values, window / window.sum(), axis=axis)
        return values[5:-5, 5:-5]

    a, b = blurred(x), blurred(y)
    u, v, w = blurred(x * x) - a * a, blurred(y * y) - b * b, blurred(x * y) - a * b
    return (2 * a * b + 1e-4) / (a * a + b * b + 1e-4), (2 * w + 9e-4) / (u + v + 9e-4)


@pytest.mark.parametrize(("height", "width"), [(161, 168), (45, 53), (20, 11)])
def test_ms_ssim_equals_its_definition(height: int, width: int) -> None:
    x = picture(2, height, width)
    y = (x + noise(2, height, width)).clamp(-0.5, 0.5)
    scales = {161: 5, 45: 3, 20: 1}[height]
    assert ms_ssim_scales(height, width) == scales
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    weights = weights if scales == 5 else weights / weights.sum()
    score = 0.0
    for a, b in zip(x.numpy() + 0.5, y.numpy() + 0.5, strict=True):
        product = 1.0
        for scale, weight in enumerate(weights):
            luminance, structure = ssim_maps(a, b)
            last = scale == scales - 1
            product *= (luminance * structure if last else structure).mean() ** weight
            a, b = (np.pad(v, [(0, n % 2) for n in v.shape], mode="edge") for v in (a, b))
            a, b = ((v[::2] + v[1::2])[:, ::2] + (v[::2] + v[1::2])[:, 1::2] for v in (a, b))
            a, b = a / 4, b / 4
        score += product / 2
    assert ms_ssim(x, y) == pytest.approx(score, abs=1e-9)
    assert ms_ssim(3 * x, 3 * y, peak=1.5) == pytest.approx(score, abs=1e-9)


def test_scales_end_where_the_window_no_longer_fits() -> None:
    sides = [1, 10, 11, 20, 21, 40, 41, 80, 81, 160, 161, 5000]
    assert [ms_ssim_scales(s, 9999) for s in sides] == [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert ms_ssim_scales(9999, 21) == 2


def test_ms_ssim_of_one_pixel_is_ssims_luminance() -> None:
    x, y = torch.full((1, 1, 1), -0.25), torch.full((1, 1, 1), 0.25)
    assert ms_ssim(x, y) == pytest.approx((2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4))
    assert ms_ssim(picture(3, 2, 40), picture(3, 2, 40)) == pytest.approx(1)


def test_ms_ssim_counts_what_is_opposed_as_zero() -> None:
    x = noise(1, 16, 16, scale=0.15).clamp(-0.5, 0.5)
    assert ms_ssim(x, -x) == 0


VALUES = st.sampled_from([0.0, 0.5, -0.5, 0.25, 1e-30, -0.1])


@given(st.data(), st.integers(1, 3), st.integers(1, 6))
def test_no_score_is_nan(data: Any, channels: int, length: int) -> None:
    size = channels * length
    x, y = (
        torch.tensor(data.draw(st.lists(VALUES, min_size=size, max_size=size))).view(channels, -1)
        for _ in range(2)
    )
    scores = [
        psnr(x, y),
        snr(x, y),
        si_sdr(x, y),
        *spatial_scores(x, y),
    ]
    scores.append(ms_ssim(x[:, None], y[:, None]))
    assert not any(math.isnan(score) for score in scores)
    assert 0 <= scores[-1] <= 1
    assert psnr(x, y) == psnr(y, x)


@pytest.mark.parametrize("score", [psnr, snr, si_sdr, ms_ssim, spatial_scores])
def test_scores_refuse_what_cannot_be_compared(score: Any) -> None:
    x = picture(1, 12, 12)
    with pytest.raises(DataError, match=r"\(1, 12, 12\) and \(1, 12, 11\); crop"):
        score(x, x[..., :11])
    with pytest.raises(DataError, match="not empty"):
        score(x[:0], x[:0])
    for bad in (math.nan, math.inf):
        broken = x.clone()
        broken[0, 3, 3] = bad
        with pytest.raises(DataError, match="the decoded signal holds NaN or infinite"):
            score(x, broken)
        with pytest.raises(DataError, match="the original signal holds NaN"):
            score(broken, x)
    with pytest.raises(DataError, match=r"from -0.5 to 0.5, found 255; scale it"):
        score(torch.full((1, 12, 12), 255.0), x)
    with pytest.raises(ConfigError, match="peak must be"):
        score(x, x, peak=0.0)


def test_pictures_are_what_they_should_be() -> None:
    x = noise(1, 12)
    with pytest.raises(DataError, match=r"pictures \(C, H, W\); found the shape \(1, 12\)"):
        ms_ssim(x, x)


def test_half_precision_is_summed_in_double() -> None:
    x = torch.full((1, 100_000), 0.25, dtype=torch.float16)
    y = x + 0.125
    assert psnr(x, y) == pytest.approx(20 * math.log10(8))
