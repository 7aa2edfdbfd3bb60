"""How close a decoded picture or recording is to its original, in the field's usual scores.

All take the original and the decoded signal as tensors `(C, *sizes)`, one item at a time. Values
lie from `-peak` to `peak`; the default is the convention of codecs here, -0.5 to 0.5. What is
decoded is clipped to that range first, as it is when it is stored. Sums are in float64. A score may
be infinite, but is never NaN.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from attar.errors import DataError, require

PEAK = 0.5
"""The largest value of a signal where nothing else is said; the smallest is its negative."""

#: weights of the scales, finest first (Wang, Simoncelli and Bovik 2003, section 3.2)
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
#: eigenvalues of the channels' products that are taken for zero, as a share of the largest
_RANK = 1e-12


def psnr(original: Tensor, decoded: Tensor, *, peak: float = PEAK) -> float:
    """Peak signal-to-noise ratio in dB: `10 log10((2 peak)^2 / mean((x - y)^2))`.

    Args:
        original: `(C, *sizes)`.
        decoded: the same shape.
        peak: values lie from `-peak` to `peak`.

    Returns:
        Infinity where they are equal.

    Raises:
        DataError: the shapes differ, a value is not finite, or the original leaves the range.
    """
    x, y = _pair(original, decoded, peak=peak)
    return _decibels((2 * peak) ** 2 * x.numel(), float((x - y).square().sum()))


def ms_ssim_scales(height: int, width: int) -> int:
    """On how many scales `ms_ssim` compares pictures of this size: 5 from 161 pixels a side, fewer
    below, 1 (which is SSIM) under 21.
    """
    shorter, scales = min(height, width), 1
    while scales < len(_WEIGHTS) and shorter > (_WINDOW - 1) * 2**scales:
        scales += 1
    return scales


def ms_ssim(original: Tensor, decoded: Tensor, *, peak: float = PEAK) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), 1 for equal pictures.

    Every channel is compared on its own, with a Gaussian window of 11 pixels (sigma 1.5) where it
    lies wholly inside the picture, and the channels are averaged. The published five scales need
    161 pixels a side. A smaller picture is compared on as many scales as fit (`ms_ssim_scales`, for
    the record), their weights divided by their sum; on one scale this is SSIM. Under 11 pixels the
    window is the largest odd one that fits. Negative terms count as 0.

    Args:
        original: `(C, H, W)`.
        decoded: the same shape.
        peak: values lie from `-peak` to `peak`.

    Returns:
        From 0 to 1.

    Raises:
        DataError: as `psnr`, or the signal is no picture.
    """
    x, y = _pair(original, decoded, peak=peak)
    if x.dim() != 3:
        raise DataError(
            f"ms_ssim compares pictures (C, H, W); found the shape {tuple(x.shape)}; "
            "use psnr or si_sdr for other signals"
        )
    scales = ms_ssim_scales(x.shape[1], x.shape[2])
    weights = torch.tensor(_WEIGHTS[:scales], dtype=x.dtype, device=x.device)
    x, y = x[:, None] / (2 * peak) + 0.5, y[:, None] / (2 * peak) + 0.5
    terms = []
    for scale in range(scales):
        luminance, structure = _ssim_terms(x, y)
        last = scale == scales - 1
        terms.append((luminance * structure if last else structure).mean((1, 2, 3)).clamp_min(0))
        if not last:
            x, y = _halved(x), _halved(y)
    if scales < len(_WEIGHTS):  # the published ones add up to 1.0001
        weights = weights / weights.sum()
    powers = torch.stack(terms, dim=1) ** weights  # (C, scales)
    return min(1.0, float(powers.prod(dim=1).mean()))


def _ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's luminance and its contrast-structure at each place, from values in [0, 1]."""
    c1, c2 = _K1**2, _K2**2
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x = _blurred(x * x) - mean_x**2
    var_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (var_x + var_y + c2)


def _blurred(x: Tensor) -> Tensor:
    """The Gaussian mean of each place whose window lies inside `(C, 1, H, W)`."""
    shorter = min(x.shape[2:])
    width = min(_WINDOW, shorter - (shorter + 1) % 2)
    weights = [math.exp(-((i - (width - 1) / 2) ** 2) / (2 * _SIGMA**2)) for i in range(width)]
    for axis in (2, 3):
        length = x.shape[axis] - width + 1
        # a sum of shifted pictures: PyTorch's convolution takes 15 times as long in float64
        total = torch.zeros_like(x.narrow(axis, 0, length))
        for start, weight in enumerate(weights):
            total.add_(x.narrow(axis, start, length), alpha=weight / math.fsum(weights))
        x = total
    return x


def _halved(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; the last row or column of an odd number is repeated."""
    height, width = x.shape[2:]
    padded = functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    return functional.avg_pool2d(padded, 2)


def snr(original: Tensor, decoded: Tensor, *, peak: float = PEAK) -> float:
    """Signal-to-noise ratio in dB: `10 log10(|x|^2 / |x - y|^2)`, over all channels together.

    Infinity where they are equal, minus infinity of a silent original that decodes to something.

    Raises:
        DataError: as `psnr`.
    """
    x, y = _pair(original, decoded, peak=peak)
    if torch.equal(x, y):
        return math.inf
    return _decibels(_energy(x), _energy(x - y))


def si_sdr(original: Tensor, decoded: Tensor, *, peak: float = PEAK) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, arXiv 1811.02508).

    `10 log10(|a x|^2 / |a x - y|^2)` with `a = <x, y> / |x|^2`, over all channels together and
    without taking out means. Silence, which `psnr` rewards, gets minus infinity.

    Args:
        original: `(C, *sizes)`.
        decoded: the same shape.
        peak: values lie from `-peak` to `peak`.

    Returns:
        Infinity where they are equal up to a factor; minus infinity where nothing of the original
        is left.

    Raises:
        DataError: as `psnr`.
    """
    x, y = _pair(original, decoded, peak=peak)
    if torch.equal(x, y):
        return math.inf
    energy = _energy(x)
    scaled = x * (float((x * y).sum()) / energy if energy else 0.0)
    return _decibels(_energy(scaled), _energy(scaled - y))


class SpatialScores(NamedTuple):
    """Where the error of a recording with several channels lies, in dB: `ssdr` says how far the
    channels were mixed or made louder or softer, `srdr` how much is no mixture of them at all.
    """

    ssdr: float
    srdr: float


def spatial_scores(original: Tensor, decoded: Tensor, *, peak: float = PEAK) -> SpatialScores:
    """Signal to spatial and signal to residual distortion (Watcharasupat and Lerch 2024).

    With P the `(C, C)` matrix for which `|y - P x|` is smallest, `ssdr = 10 log10(|x|^2 /
    |x - P x|^2)` and `srdr = 10 log10(|P x|^2 / |y - P x|^2)`. The two errors add up:
    `|x - y|^2 = |x - P x|^2 + |y - P x|^2`. The published measure also lets each channel be
    delayed, and averages over short frames; a codec keeps time, so neither is done here, and
    figures differ from the paper's.

    Args:
        original: `(C, T)`.
        decoded: the same shape.
        peak: values lie from `-peak` to `peak`.

    Raises:
        DataError: as `psnr`.
    """
    x, y = _pair(original, decoded, peak=peak)
    if torch.equal(x, y):
        return SpatialScores(math.inf, math.inf)
    x, y = x.flatten(1), y.flatten(1)
    mixed = (y @ x.T) @ torch.linalg.pinv(x @ x.T, rtol=_RANK, hermitian=True) @ x
    return SpatialScores(
        _decibels(_energy(x), _energy(x - mixed)), _decibels(_energy(mixed), _energy(y - mixed))
    )


def silence(original: Tensor) -> Tensor:
    """What stands for a codec that keeps nothing: a score that it does well by says little."""
    return torch.zeros_like(original)


def _same_shape(original: Tensor, decoded: Tensor) -> None:
    if original.shape != decoded.shape or not original.numel():
        raise DataError(
            "expected an original and a decoded signal of one shape, not empty; found "
            f"{tuple(original.shape)} and {tuple(decoded.shape)}; crop what the codec padded"
        )


def _pair(original: Tensor, decoded: Tensor, *, peak: float) -> tuple[Tensor, Tensor]:
    """Both in float64, the decoded one clipped to the range."""
    require(math.isfinite(peak) and peak > 0, "peak", peak, "a finite number above 0")
    _same_shape(original, decoded)
    x, y = _exact(original), _exact(decoded)
    for name, values in (("original", x), ("decoded", y)):
        if not torch.isfinite(values).all():
            raise DataError(f"the {name} signal holds NaN or infinite values; scores need numbers")
    largest = float(x.abs().max())
    if largest > peak * (1 + 1e-4):
        raise DataError(
            f"expected an original from {-peak:g} to {peak:g}, found {largest:g}; "
            "scale it, or say what its peak is"
        )
    return x.clamp(-peak, peak), y.clamp(-peak, peak)


def _exact(values: Tensor) -> Tensor:
    values = values.detach()
    if values.device.type == "mps":  # has no float64
        values = values.cpu()
    return values.to(torch.float64)


def _energy(x: Tensor) -> float:
    return float(x.square().sum())


def _decibels(signal: float, noise: float) -> float:
    """10 log10 of a ratio of energies; minus infinity without a signal, whatever the noise."""
    if signal == 0:
        return -math.inf
    return math.inf if noise == 0 else 10 * (math.log10(signal) - math.log10(noise))
