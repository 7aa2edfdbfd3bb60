"""Wavelet packets of pictures and of signals along one axis, from stages.

Pictures are done in stripes and long signals in segments, which stay in the processor's cache and
bound the memory. On a processor every item of a batch is computed alone, so that its values do not
depend on the batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d

from attar.coding.stages import (
    ROWS,
    Stage,
    block_size,
    join,
    plan_join,
    slide,
    sliding_matrix,
    split,
    window,
)
from attar.models import without_autocast

#: samples of a stripe, for the cache of a processor
_CACHED = 2**19
#: the same on an accelerator, where many small steps cost more
_AT_ONCE = 2**26
#: a weight (D, c) and a bias (D, 1)
_Layer = tuple[Tensor, Tensor]

#: samples of a channel over which the cost of making a kernel is spread
_USUAL = 2**15


def analyse(signal: Tensor, stages: Sequence[Stage], *, weight: Tensor | None = None) -> Tensor:
    """The stages, the first one first, along every axis behind the channels.

    Args:
        signal: (B, C, *sizes), one size or two: multiples of S, the product of the stages' sizes.
        stages: of one axis.
        weight: (c, C * S^dims): of every place's coefficients, the product with this is given
            instead; None: the coefficients.

    Returns:
        (B, C * S^dims, *sizes / S) or (B, c, *sizes / S). The bits of a coefficient's index are
        those of the levels, the first level's highest; along two axes W's comes before H's.
    """
    total, dims = block_size(stages), signal.dim() - 2
    channels = signal.shape[1] * total**dims if weight is None else len(weight)
    out = signal.new_empty(len(signal), channels, *(size // total for size in signal.shape[2:]))
    with _exactly(signal):
        analyse_into = _analyse_line if dims == 1 else _analyse_picture
        analyse_into(out, signal, stages=stages, weight=weight)
    return out


def synthesise(
    coefficients: Tensor,
    stages: Sequence[Stage],
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """The stages, the last one first, along every axis: undoes or transposes what `analyse` does.

    Args:
        coefficients: (B, C * S^dims, *grid), in the order that `analyse` gives.
        stages: such that their windows are whole blocks, as those of an adjoint.
        weight: (C * S^dims, c): in place of coefficients (B, c, *grid) are given, of which this
            makes them at every place, a stripe at a time; None: they are coefficients.
        bias: (C * S^dims,), added to what the weight makes; None: nothing.

    Returns:
        (B, C, *grid * S).
    """
    total, dims = block_size(stages), coefficients.dim() - 2
    channels, *grid = coefficients.shape[1:]
    channels = channels if weight is None else len(weight)
    sizes = [size * total for size in grid]
    out = coefficients.new_empty(len(coefficients), channels // total**dims, *sizes)
    layer = None
    if weight is not None:
        layer = weight, (weight.new_zeros(channels) if bias is None else bias)[:, None]
    with _exactly(coefficients):
        synthesise_into = _synthesise_line if dims == 1 else _synthesise_picture
        synthesise_into(out, coefficients, stages=stages, layer=layer)
    return out


def fused(signal: Tensor, stage: Stage, *, weight: Tensor) -> Tensor:
    """As `analyse` with a weight, as one convolution of the signal with a stride.

    Args:
        signal: as in `analyse`.
        stage: all levels of one axis.
        weight: as in `analyse`.
    """
    dims, size, width = signal.dim() - 2, stage.size, stage.width
    matrix = sliding_matrix(stage, signal)
    with _exactly(signal):
        if dims == 1:
            kernel = weight.unflatten(1, (-1, size)) @ matrix
        else:
            kernel = _by_axis(weight[..., None, None], [stage])
            kernel = kernel.reshape(len(weight), -1, size, size) @ matrix
            kernel = (kernel.mT @ matrix).mT
        sizes = signal.shape[2:]
        out = signal.new_empty(len(signal), len(weight), *(n // size for n in sizes))
        first = {axis + 1: -stage.before for axis in range(dims)}
        around = signal.new_empty(signal.shape[1], *(n + width - size for n in sizes))
        for item, target in zip(signal, out, strict=True):
            _fill(around, item, first)
            convolve = conv1d if dims == 1 else conv2d
            target.copy_(convolve(around[None], kernel, stride=size)[0])
    return out


def _analyse_line(
    out: Tensor, signal: Tensor, *, stages: Sequence[Stage], weight: Tensor | None
) -> None:
    total = block_size(stages)
    for some, channels in _items(signal):
        for first, blocks in _stripes(out.shape[-1], channels * total, signal):
            before, span = window(stages, blocks)
            values = signal.new_empty(channels, span)
            _fill(values, signal[some].flatten(0, 1), {1: first * total - before})
            place = out[some].narrow(-1, first, blocks)
            values = split(values, stages).view(len(place), -1, blocks)
            if weight is not None:
                values = torch.bmm(weight.expand(len(place), -1, -1), values)
            place.copy_(values)


def _analyse_picture(
    out: Tensor, signal: Tensor, *, stages: Sequence[Stage], weight: Tensor | None
) -> None:
    total, bits = block_size(stages), _bits(stages)
    rows, columns = out.shape[2:]
    left, across = window(stages, columns)
    target = _by_axis(out, stages) if weight is None else out
    if weight is not None:
        # (c, C, H's band, W's band) to the order of what is multiplied
        parts = _by_axis(weight[..., None, None], stages).reshape(len(weight), -1, total, total)
        weight = parts.transpose(1, 2).reshape(len(weight), -1)
    for some, channels in _items(signal):
        source = signal[some].flatten(0, 1).transpose(0, 1)
        for first, high in _stripes(rows, channels * across * total, signal):
            before, span = window(stages, high)
            values = signal.new_empty(span, channels, across)
            _fill(values, source, {0: first * total - before, 2: -left})
            for stage in stages:
                values = slide(values.view(len(values), -1), stage)
            values = split(values.view(-1, across), stages)
            # (rows, H's band, items, C, W's band, columns)
            values = values.view(high, total, len(signal[some]), -1, total, columns)
            if weight is None:
                values = values.unflatten(4, bits).unflatten(1, bits)
                order = [len(bits) + 1, len(bits) + 2, *range(1, len(bits) + 1)]
                order += [*range(len(bits) + 3, 2 * len(bits) + 3), 0, 2 * len(bits) + 3]
                target[some].narrow(-2, first, high).copy_(values.permute(order))
            else:
                values = values.transpose(1, 2).reshape(-1, weight.shape[1], columns)
                values = torch.bmm(weight.expand(len(values), -1, -1), values)
                values = values.unflatten(0, (high, -1)).permute(1, 2, 0, 3)
                target[some].narrow(-2, first, high).copy_(values)


def _synthesise_line(
    out: Tensor, coefficients: Tensor, *, stages: Sequence[Stage], layer: _Layer | None
) -> None:
    total = block_size(stages)
    for some, channels in _items(out):
        source = coefficients[some].flatten(0, 1)
        for first, blocks in _stripes(source.shape[-1], channels * total, out):
            plan = plan_join(stages, blocks)
            positions = out.new_empty(len(source), plan.span)
            _fill(positions, source, {1: first - plan.ahead})
            if layer is not None:
                positions = positions.view(-1, coefficients.shape[1], plan.span)
                positions = _apply(layer, positions).flatten(0, 1)
            joined = join(positions, stages, plan=plan)
            place = out[some].narrow(-1, first * total, blocks * total)
            place.unflatten(-1, joined.shape[1:]).copy_(joined.unflatten(0, place.shape[:2]))


def _synthesise_picture(
    out: Tensor, coefficients: Tensor, *, stages: Sequence[Stage], layer: _Layer | None
) -> None:
    total, bits = block_size(stages), len(_bits(stages))
    rows, columns = coefficients.shape[2:]
    plan_across = plan_join(stages, columns)
    # (rows, *bits of H, B, C, *bits of W, columns)
    order = [-2, *range(2, 2 + bits), 0, 1, *range(2 + bits, 2 + 2 * bits), -1]
    if layer is None:
        values = _by_axis(coefficients, stages).permute(order)
    else:
        ordered = [_by_axis(one[None, :, None], stages).permute(order) for one in layer]
        layer = ordered[0].reshape(layer[0].shape), ordered[1].reshape(layer[1].shape)
        values = coefficients.permute(2, 0, 1, 3)
    batch = 1 if layer else 1 + bits
    for some, channels in _items(out):
        source = values[(slice(None),) * batch + (some,)]
        for first, high in _stripes(rows, channels * columns * total**2, out):
            plan = plan_join(stages, high)
            stripe = out.new_empty(plan.span, *source.shape[1:])
            _fill(stripe, source, {0: first - plan.ahead})
            if layer is not None:
                stripe = _apply(layer, stripe.flatten(0, 1))
                # (rows, items, H's bands, ...) as above
                stripe = stripe.view(plan.span, source.shape[1], total, -1).transpose(1, 2)
                stripe = stripe.contiguous()
            for stage, cut in plan.back(stages):
                stripe = slide(stripe.view(len(stripe) * stage.size, -1), stage)
                stripe = stripe.flatten(0, 1)[cut]
            positions = out.new_empty(high * total * channels * total, plan_across.span)
            _fill(positions, stripe.view(-1, columns), {1: -plan_across.ahead})
            joined = join(positions, stages, plan=plan_across)
            joined = joined.unflatten(0, (high * total, -1, out.shape[1])).movedim(0, 2)
            place = out[some].narrow(-2, first * total, high * total)
            place.unflatten(-1, joined.shape[-2:]).copy_(joined)


def _apply(layer: _Layer, values: Tensor) -> Tensor:
    """A linear layer on the channels of (N, c, positions)."""
    weight, bias = (one.expand(len(values), -1, -1) for one in layer)
    return torch.baddbmm(bias, weight, values)


def _items(values: Tensor) -> Iterator[tuple[slice, int]]:
    """The items of a batch that are computed together, one on a processor, and their channels."""
    batch, channels = values.shape[:2]
    step = 1 if values.device.type == "cpu" else max(1, _AT_ONCE // max(1, values[:1].numel()))
    for start in range(0, batch, step):
        yield slice(start, start + step), min(step, batch - start) * channels


def _stripes(blocks: int, samples: int, values: Tensor) -> Iterator[tuple[int, int]]:
    """The first block and the number of blocks of each stripe, at so many samples per block."""
    budget = _CACHED if values.device.type == "cpu" else _AT_ONCE
    step = max(1, budget // samples)
    for first in range(0, blocks, step):
        yield first, min(step, blocks - first)


def _fill(target: Tensor, source: Tensor, first: Mapping[int, int]) -> None:
    """Copy `source`, continued circularly along some axes from an index on, into the target."""
    every = [
        list(_pieces(first.get(axis), count, size))
        for axis, (count, size) in enumerate(zip(target.shape, source.shape, strict=True))
    ]
    for parts in product(*every):
        into, of = zip(*parts, strict=True)
        target[into].copy_(source[of])


def _pieces(first: int | None, count: int, size: int) -> Iterator[tuple[slice, slice]]:
    if first is None:
        yield slice(None), slice(None)
        return
    done = 0
    while done < count:
        start = (first + done) % size
        step = min(size - start, count - done)
        yield slice(done, done + step), slice(start, start + step)
        done += step


def _bits(stages: Sequence[Stage]) -> list[int]:
    """The shape of the index of a band, bit by bit."""
    return [2] * (block_size(stages).bit_length() - 1)


def _by_axis(values: Tensor, stages: Sequence[Stage]) -> Tensor:
    """Bands (B, C * S * S, rows, columns) as a view that has those of the axes apart:
    (B, C, *bits of H, *bits of W, rows, columns).

    W's bits are level by level. H's are stage by stage, the last stage first, as the results of
    `_slide` lie.
    """
    levels, first = [], 0
    for stage in stages:
        count = len(_bits([stage]))
        levels = [*range(first, first + count), *levels]
        first += count
    order = [0, 1, *(3 + 2 * level for level in levels), *range(2, 2 + 2 * first, 2), -2, -1]
    return values.unflatten(1, (-1, *[2] * (2 * first))).permute(order)


@contextmanager
def _exactly(like: Tensor) -> Iterator[None]:
    """No half types and no TensorFloat-32, whatever is allowed around."""
    with torch.no_grad(), without_autocast(like.device):
        if like.device.type != "cuda":
            yield
            return
        cudnn = torch.backends.cudnn
        with cudnn.flags(cudnn.enabled, cudnn.benchmark, allow_tf32=False):
            yield


def cheaper_fused(signal: Tensor, rows: int, *, stages: Sequence[Stage], whole: Stage) -> bool:
    """Whether `fused` costs less than `analyse` with a weight of so many rows.

    Counted in nanoseconds per sample as measured on one core of a processor with AVX-512; elsewhere
    than on a processor, and in float64, it is not used. The sizes of the signal do not count: a
    part of it is computed the same way as the whole.
    """
    if signal.device.type != "cpu" or signal.dtype != torch.float32:
        return False
    dims, channels = signal.dim() - 2, signal.shape[1]
    spread = (whole.width / whole.size) ** dims
    # output channels are computed sixteen at a time
    once = 0.5 + 0.0105 * spread * 16 * -(-rows // 16)
    kernel = rows * channels * whole.size * whole.width
    kernel *= 1 if dims == 1 else whole.size + whole.width
    once += 0.02 * kernel / (channels * _USUAL)
    each = 0.8 + 0.025 * rows + 1.3 * (dims - 1)
    for stage in stages:
        each += 1.7
        if dims == 2:
            tile = max(1, ROWS // stage.size)
            each += 0.4 + 0.027 * (stage.width + (tile - 1) * stage.size)
    return once < each
