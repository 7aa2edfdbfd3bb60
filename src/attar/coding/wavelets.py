"""The wavelet packet transform, forwards and backwards, of signals along one axis or two.

Every level splits each channel into a low and a high band per axis, each half as long. The
boundary is circular ("periodization" in PyWavelets), so there are as many coefficients as samples,
and every even length has an exact inverse, down to 2. A packet, not a pyramid: a level splits all
bands of the level before. Where the band of level 1 is f1, of level 2 f2 and so on, a channel of
the result is `((channel * F + f1) * F + f2) ...`, F = 2 bands per level along one axis (low, high)
and 4 along two (low-low, high along rows' axis H alone, high along W alone, high-high).

Values are computed and given in the dtype of the signal if that is float32 or float64, and in
float32 where it is a half type, also under autocast. On a processor they do not depend on what else
is in the batch.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from attar.coding.packets import analyse, cheaper_fused, fused, synthesise
from attar.coding.stages import Stage, split_stage
from attar.errors import ConfigError, MissingExtraError, expect, require

#: samples of the widest window of one stage: wider ones cost more than another stage
_WIDEST = 128


@dataclass(frozen=True)
class Filters:
    """The taps of a wavelet, in PyWavelets' order: analysis low and high, synthesis low and high.

    All four are equally long, an even number of taps.
    """

    dec_lo: tuple[float, ...]
    dec_hi: tuple[float, ...]
    rec_lo: tuple[float, ...]
    rec_hi: tuple[float, ...]


@cache
def wavelet_filters(name: str) -> Filters:
    """The taps of an orthogonal or biorthogonal wavelet.

    Args:
        name: as PyWavelets spells it, such as `bior4.4` (the CDF 9/7 wavelet), `haar`, `db2`.

    Raises:
        MissingExtraError: PyWavelets is not installed.
        ConfigError: it knows no such wavelet.
    """
    try:
        pywt = import_module("pywt")
    except ImportError as error:
        raise MissingExtraError(
            f"wavelets need PyWavelets, which is not installed ({error}); "
            "run pip install '.[codec]' in the checkout of Attar."
        ) from error
    try:
        bank = pywt.Wavelet(name).filter_bank
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"wavelet must be an orthogonal or biorthogonal one of PyWavelets, such as bior4.4 "
            f"or haar; found {name!r}"
        ) from error
    return Filters(*(tuple(map(float, taps)) for taps in bank))


def reach(levels: int, wavelet: str = "bior4.4") -> int:
    """Samples per axis that one coefficient may depend on: `(taps - 1) * (2^levels - 1) + 1`.

    Coefficient k depends on samples from `2^levels * k - (taps / 2 - 1) * (2^levels - 1)` on.
    """
    return (len(wavelet_filters(wavelet).dec_lo) - 1) * (2**levels - 1) + 1


def packet_transform(signal: Tensor, *, levels: int, wavelet: str = "bior4.4") -> Tensor:
    """The coefficients of a signal; differentiable.

    Args:
        signal: (B, C, L) or (B, C, H, W), of a floating dtype; sizes are multiples of 2^levels.
        levels: how often the bands are split, 1 or more.
        wavelet: a name that `wavelet_filters` knows.

    Returns:
        (B, C * 2^levels, L / 2^levels) or (B, C * 4^levels, H / 2^levels, W / 2^levels).

    Raises:
        ConfigError: `levels` is below 1, or the wavelet is unknown.
        DataError: another shape or dtype.
        MissingExtraError: PyWavelets is not installed.
    """
    _check(signal, levels, divisor=2**levels)
    return _Analysis.apply(_computable(signal), _stages(wavelet, levels))


def inverse_packet_transform(
    coefficients: Tensor, *, levels: int, wavelet: str = "bior4.4"
) -> Tensor:
    """The signal of which these are the coefficients; differentiable.

    Args:
        coefficients: (B, C * 2^levels, n) or (B, C * 4^levels, h, w), of a floating dtype.
        levels: as in `packet_transform`.
        wavelet: as in `packet_transform`.

    Returns:
        (B, C, n * 2^levels) or (B, C, h * 2^levels, w * 2^levels).

    Raises:
        ConfigError: `levels` is below 1, or the wavelet is unknown.
        DataError: another shape or dtype.
        MissingExtraError: PyWavelets is not installed.
    """
    _check(coefficients, levels, divisor=1)
    bands = 2 ** (levels * (coefficients.dim() - 2))
    channels = coefficients.shape[1]
    expect(channels % bands == 0, "channels", channels, f"a multiple of {bands} bands")
    return _Synthesis.apply(_computable(coefficients), _stages_back(wavelet, levels))


def project(
    signal: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    levels: int,
    wavelet: str = "bior4.4",
) -> Tensor:
    """A linear layer on the coefficients of every place, `weight @ coefficients + bias`, without
    keeping them; differentiable.

    The transform and then the layer, or both as one convolution: which is cheaper is counted from
    the shapes alone.

    Args:
        signal: as in `packet_transform`.
        weight: (c, C * bands): one row per output channel, of a floating dtype.
        bias: (c,), or None for none.
        levels: as in `packet_transform`.
        wavelet: as in `packet_transform`.

    Returns:
        (B, c, L / 2^levels) or (B, c, H / 2^levels, W / 2^levels).

    Raises:
        ConfigError: `levels` is below 1, or the wavelet is unknown.
        DataError: another shape or dtype.
        MissingExtraError: PyWavelets is not installed.
    """
    _check(signal, levels, divisor=2**levels)
    bands = signal.shape[1] * 2 ** (levels * (signal.dim() - 2))
    expect(
        weight.dim() == 2 and weight.shape[1] == bands,
        "the weight",
        tuple(weight.shape),
        f"of shape (channels of the result, {bands})",
    )
    values = _computable(signal)
    stages = _stages(wavelet, levels)
    whole = _stage(wavelet, levels, back=False)
    at_once = cheaper_fused(values, len(weight), stages=stages, whole=whole)
    way = _Way(stages, whole if at_once else None)
    projected = _Projection.apply(values, weight.to(values.dtype), way)
    if bias is not None:
        expect(bias.shape == weight.shape[:1], "the bias", tuple(bias.shape), f"({len(weight)},)")
        projected = projected + bias.to(values.dtype).view(-1, *[1] * (signal.dim() - 2))
    return projected


def unproject(
    latents: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    levels: int,
    wavelet: str = "bior4.4",
) -> Tensor:
    """The signal whose coefficients at every place are `weight @ latents + bias`; differentiable.

    Without a gradient they are made a stripe at a time, and never kept.

    Args:
        latents: (B, c, n) or (B, c, h, w), of a floating dtype.
        weight: (C * bands, c), of a floating dtype: one row per coefficient.
        bias: (C * bands,), or None for none.
        levels: as in `packet_transform`.
        wavelet: as in `packet_transform`.

    Returns:
        (B, C, n * 2^levels) or (B, C, h * 2^levels, w * 2^levels).

    Raises:
        ConfigError: `levels` is below 1, or the wavelet is unknown.
        DataError: another shape or dtype.
        MissingExtraError: PyWavelets is not installed.
    """
    _check(latents, levels, divisor=1)
    bands = 2 ** (levels * (latents.dim() - 2))
    expect(
        weight.dim() == 2
        and weight.shape[1] == latents.shape[1]
        and len(weight) > 0
        and len(weight) % bands == 0,
        "the weight",
        tuple(weight.shape),
        f"of shape (a multiple of {bands}, {latents.shape[1]})",
    )
    if bias is not None:
        expect(bias.shape == weight.shape[:1], "the bias", tuple(bias.shape), f"({len(weight)},)")
    values = _computable(latents)
    weight, bias = weight.to(values.dtype), None if bias is None else bias.to(values.dtype)
    wanted = [values, weight] if bias is None else [values, weight, bias]
    if torch.is_grad_enabled() and any(one.requires_grad for one in wanted):
        with torch.autocast(values.device.type, enabled=False):
            places = torch.nn.functional.linear(values.flatten(2).mT, weight, bias).mT
        coefficients = places.unflatten(2, values.shape[2:])
        return inverse_packet_transform(coefficients, levels=levels, wavelet=wavelet)
    return synthesise(values, _stages_back(wavelet, levels), weight=weight, bias=bias)


class _Analysis(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signal: Tensor, stages: tuple[Stage, ...]) -> Tensor:
        ctx.stages = stages
        return analyse(signal, stages)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Synthesis.apply(grads[0], _adjoint(ctx.stages)), None


class _Synthesis(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, stages: tuple[Stage, ...]) -> Tensor:
        ctx.stages = stages
        return synthesise(coefficients, stages)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Analysis.apply(grads[0], _adjoint(ctx.stages)), None


@dataclass(frozen=True)
class _Way:
    """How a signal is projected: stage by stage, or by one convolution for all levels."""

    stages: tuple[Stage, ...]
    whole: Stage | None


class _Projection(torch.autograd.Function):
    """Keeps the signal alone: the gradient of the weight computes the coefficients again."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, weight: Tensor, way: _Way) -> Tensor:
        ctx.save_for_backward(signal, weight)
        ctx.stages = way.stages
        if way.whole is not None:
            return fused(signal, way.whole, weight=weight)
        return analyse(signal, way.stages, weight=weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        signal, weight = ctx.saved_tensors
        grad = grads[0]
        of_signal = of_weight = None
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                spread = (weight.mT @ grad.flatten(2)).unflatten(2, grad.shape[2:])
                of_signal = _Synthesis.apply(spread, _adjoint(ctx.stages))
            if ctx.needs_input_grad[1]:
                coefficients = _Analysis.apply(signal, ctx.stages).flatten(2)
                of_weight = (grad.flatten(2) @ coefficients.mT).sum(0)
        return of_signal, of_weight, None


@cache
def _stage(wavelet: str, levels: int, *, back: bool) -> Stage:
    """So many levels along one axis, or the way back."""
    filters = wavelet_filters(wavelet)
    if back:
        return split_stage(filters.rec_lo, filters.rec_hi, levels=levels).adjoint
    # analysis is a convolution, whose taps are read from the last one on
    return split_stage(filters.dec_lo[::-1], filters.dec_hi[::-1], levels=levels)


@cache
def _groups(wavelet: str, levels: int) -> tuple[int, ...]:
    """How many levels each stage takes: as many as a window of moderate width allows."""
    most = 1
    while most < levels and _stage(wavelet, most + 1, back=False).width <= _WIDEST:
        most += 1
    count = -(-levels // most)
    return tuple(levels // count + (place < levels % count) for place in range(count))


@cache
def _stages(wavelet: str, levels: int) -> tuple[Stage, ...]:
    return tuple(_stage(wavelet, some, back=False) for some in _groups(wavelet, levels))


@cache
def _stages_back(wavelet: str, levels: int) -> tuple[Stage, ...]:
    return tuple(_stage(wavelet, some, back=True) for some in _groups(wavelet, levels))


def _adjoint(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return tuple(stage.adjoint for stage in stages)


def _check(values: Tensor, levels: int, *, divisor: int) -> None:
    require(levels >= 1, "levels", levels, "1 or more")
    expect(values.is_floating_point(), "the dtype of a signal", values.dtype, "a floating one")
    shape = tuple(values.shape)
    expect(values.dim() in (3, 4), "the shape", shape, "(batch, channels, L) or (..., H, W)")
    fits = all(size > 0 and size % divisor == 0 for size in shape[2:])
    expect(fits, "sizes", shape[2:], f"multiples of {divisor}: pad the signal")


def _computable(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
