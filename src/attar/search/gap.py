"""Is a network of a supernet as good as the same network trained alone, and do the networks agree
on where their shared weights should go?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.arch import Arch
from attar.errors import ConfigError
from attar.measure.cost import cost_of
from attar.search.elastic_training import NetworkLoss
from attar.search.parents import forget
from attar.search.supernet import Supernet
from attar.train.trainer import Term


@dataclass(frozen=True)
class GapRow:
    """One network, with the weights that it inherits and trained alone.

    Attributes:
        arch: its widths.
        params: its parameters.
        inherited: score of the network as it is taken out of the supernet.
        standalone: score of the same network trained alone.
    """

    arch: Arch
    params: int
    inherited: float
    standalone: float

    @property
    def gap(self) -> float:
        """What sharing costs: positive where the network is better alone, if less is better."""
        return self.inherited - self.standalone


def gap_report(
    supernet: Supernet,
    archs: Iterable[Arch],
    *,
    score: Callable[[PreTrainedModel], float],
    train_standalone: Callable[[Arch], PreTrainedModel],
) -> list[GapRow]:
    """Compare networks of a supernet with the same networks trained alone.

    Args:
        supernet: trained.
        archs: the networks.
        score: of a model, on held-out data; the same for both.
        train_standalone: trains a network alone, from what `untrained` gives, for as many steps and
            on the same batches as the supernet; the report is only as fair as this.
    """
    rows = []
    for arch in archs:
        model = supernet.extract(arch)
        params = cost_of(model, cache=False).params
        inherited = score(model)
        rows.append(GapRow(arch, params, inherited, standalone=score(train_standalone(arch))))
    return rows


def untrained(
    supernet: Supernet, arch: Arch, *, init: Literal["parent", "random"] = "parent", seed: int = 0
) -> PreTrainedModel:
    """A network to train alone.

    Args:
        supernet: as it is before it is trained.
        arch: of the network.
        init: from the weights that the network has in the supernet (`parent`), or from random ones
            of its class (`random`).
        seed: of the random weights.
    """
    model = supernet.extract(arch)
    if init == "random":
        forget(model, seed=seed)
    return model


def gradient_cosine(
    supernet: Supernet,
    loss: NetworkLoss,
    *,
    pair: tuple[Arch, Arch] | None = None,
    counts: Mapping[str, float] | None = None,
    chosen: Callable[[str], bool] = lambda name: name.startswith("parent."),
) -> float:
    """Cosine between the gradients of two networks on one batch, over the weights that both move:
    below 0 they are in conflict.

    Args:
        supernet: in the mode that the loss is to run in.
        loss: of a network on the batch (`attar.search.elastic_training.Begin` gives it).
        pair: the networks; None: the largest and the smallest.
        counts: what the parts of the loss are divided by, if it has several (`Source.counts`).
        chosen: which of `supernet.named_parameters()`, by name; as it stands those of the parent,
            which every kind of supernet has. Those of experts are `providers.0.experts.`.

    Raises:
        ConfigError: the networks share none of those weights.
    """
    weights = [p for name, p in supernet.named_parameters() if p.requires_grad and chosen(name)]
    ours, theirs = (
        _gradients(loss(arch), weights, counts or {})
        for arch in pair or (supernet.space.largest, supernet.space.smallest)
    )
    product = one = other = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a is None or b is None:
            continue
        both = (a != 0) & (b != 0)  # outside its slice a network has a gradient of exactly 0
        a, b = a[both].double(), b[both].double()
        product += float(a @ b)
        one, other = one + float(a @ a), other + float(b @ b)
    if not one or not other:
        raise ConfigError(
            "expected two networks with weights in common, found none that both have a gradient "
            "for; choose other weights"
        )
    return product / (one * other) ** 0.5


def _gradients(
    terms: Mapping[str, Term], weights: Sequence[Tensor], counts: Mapping[str, float]
) -> tuple[Tensor | None, ...]:
    parts = [t.weight * t.values.sum() / counts.get(t.per, 1.0) for t in terms.values()]
    return torch.autograd.grad(torch.stack(parts).sum(), weights, allow_unused=True)
