"""Priors: how much each unit seems to matter, from its weights and from one forward pass over
calibration windows (second moments as in Wanda, fluctuations as in FLAP).

Larger means keep. Scores compare units inside one module; they do not compare modules with each
other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.families import UNITS, Body, Unit
from attar.models import autocast, computing, evaluation_mode, has_cache
from attar.runtime import Bar

Prior = Literal["wanda", "magnitude", "fluctuation", "random"]
Module = tuple[int, Unit]
#: activations or weights that are summed in float64 at once
NUMBERS_AT_A_TIME = 2**20


@dataclass
class ChannelStats:
    """Running sums over tokens of one projection's input channels.

    Attributes:
        tokens: how many were summed; the means below need at least one.
        total: sum of x, `(channels,)` float64 on the device of x, as the next two.
        absolute: sum of |x|.
        square: sum of x^2.
    """

    tokens: int
    total: Tensor
    absolute: Tensor
    square: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean of x per channel, `(channels,)`."""
        return self.total / self.tokens

    @property
    def mean_absolute(self) -> Tensor:
        """Mean of |x| per channel, `(channels,)`."""
        return self.absolute / self.tokens

    @property
    def mean_square(self) -> Tensor:
        """Mean of x^2 per channel, `(channels,)`."""
        return self.square / self.tokens

    @property
    def variance(self) -> Tensor:
        """Variance of x per channel over tokens, `(channels,)`; divided by their number."""
        return (self.mean_square - self.mean**2).clamp_min(0)


@contextmanager
def _hooks(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run_body(model: PreTrainedModel, rows: Tensor) -> None:
    """One forward pass for what hooks see of it: without head and cache, which cost memory."""
    cache = {"use_cache": False} if has_cache(model) else {}
    model.base_model(input_ids=rows.to(model.device), **cache)


def _moments(x: Tensor) -> Tensor:
    """Sums of x, |x| and x^2 over the rows of `(N, channels)`: `(3, channels)` float64.

    Some rows at a time: a float64 copy of all of them would hold more than the model itself does at
    any time.
    """
    sums = torch.zeros(3, x.shape[1], dtype=torch.float64, device=x.device)
    for rows in x.split(max(1, NUMBERS_AT_A_TIME // x.shape[1])):
        part = rows.double()
        sums += torch.stack([part.sum(0), part.abs().sum(0), part.square().sum(0)])
    return sums


@torch.no_grad()
def channel_stats(
    model: PreTrainedModel, windows: Tensor, *, batch_size: int = 8
) -> dict[Module, ChannelStats]:
    """Statistics of what enters every output projection, over all tokens of `windows` `(N, T)`.

    Sums, not averages of batch averages, so that the result does not depend on batch size or order.
    """
    stats_of: dict[Module, ChannelStats] = {}

    def watch(key: Module) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].detach().flatten(0, -2)
            total, absolute, square = _moments(x)
            if key not in stats_of:
                stats_of[key] = ChannelStats(len(x), total, absolute, square)
                return
            stats = stats_of[key]
            stats.tokens += len(x)
            stats.total += total
            stats.absolute += absolute
            stats.square += square

        return hook

    handles = [
        layer.out(unit).register_forward_pre_hook(watch((i, unit)))
        for i, layer in enumerate(Body(model).layers)
        for unit in UNITS
    ]
    with _hooks(handles), evaluation_mode(model), computing(model), autocast(model):
        batches = windows.split(batch_size)
        for rows in Bar(batches, desc="calibrating", unit="batch", leave=False):
            _run_body(model, rows)
    return stats_of


def unit_importance(
    model: PreTrainedModel,
    windows: Tensor,
    *,
    prior: Prior,
    generator: torch.Generator,
    batch_size: int = 8,
    standardise: bool = False,
) -> dict[Module, Tensor]:
    """One score per unit of every module, `(units,)` float64: the average over the unit's channels,
    on the device that computes it (random ones on that of `generator`).

    `standardise` takes the mean of a module's channels from their scores and divides by their
    standard deviation first, so that modules compare, as FLAP does.

    - `wanda`: mean over outputs of |W_oj|, times sqrt(mean x_j^2)
    - `magnitude`: mean |x_j|
    - `fluctuation` (FLAP): Var(x_j) times the sum over outputs of W_oj^2; for heads the square of
      it, as in the authors' code
    - `random`: uniform numbers from `generator`
    """
    body = Body(model)
    stats = {} if prior == "random" else channel_stats(model, windows, batch_size=batch_size)
    scores: dict[Module, Tensor] = {}
    for i, layer in enumerate(body.layers):
        for unit in UNITS:
            columns = layer.columns(unit)
            if prior == "random":
                random = torch.rand(len(columns), generator=generator, dtype=torch.float64)
                scores[i, unit] = standardised(random) if standardise else random
                continue
            channel = _channel_scores(layer.out(unit), stats[i, unit], prior)
            if prior == "fluctuation" and unit == "kv_groups":
                channel = channel.square()
            if standardise:
                channel = standardised(channel)
            scores[i, unit] = channel[columns.to(channel.device)].mean(1)
    return scores


def standardised(scores: Tensor) -> Tensor:
    """Scores with mean 0 and standard deviation 1."""
    return (scores - scores.mean()) / scores.std(correction=0).clamp_min(1e-300)


def _channel_scores(projection: nn.Module, stats: ChannelStats, prior: Prior) -> Tensor:
    weight = projection.weight
    assert isinstance(weight, Tensor)
    if prior == "magnitude":
        return stats.mean_absolute
    w = weight.detach().t() if isinstance(projection, Conv1D) else weight.detach()
    _, absolute, square = _moments(w)
    if prior == "wanda":
        return absolute / len(w) * stats.mean_square.sqrt()
    return stats.variance * square


@torch.no_grad()
def layer_importance(model: PreTrainedModel, windows: Tensor, *, batch_size: int = 8) -> Tensor:
    """Block influence of every layer (ShortGPT, Men et al., 2024): 1 - mean cosine of what enters
    and what leaves it, `(layers,)`.
    """
    layers = Body(model).layer_list
    total, tokens = torch.zeros(len(layers), dtype=torch.float64), 0

    def watch(i: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            entered = args[0] if args else kwargs["hidden_states"]
            left = output[0] if isinstance(output, tuple) else output
            cosine = torch.cosine_similarity(entered.float(), left.float(), dim=-1)
            total[i] += float((1 - cosine).sum())

        return hook

    handles = [
        layer.register_forward_hook(watch(i), with_kwargs=True) for i, layer in enumerate(layers)
    ]
    with _hooks(handles), evaluation_mode(model), computing(model), autocast(model):
        for rows in windows.split(batch_size):
            _run_body(model, rows)
            tokens += rows.numel()
    return total / tokens
