"""A supernet: many networks that share their weights, and the draws of those to train.

A :class:`Supernet` runs and extracts any architecture of a :class:`attar.arch.Space` with the
weights that its parent has at the moment. Where those weights come from is the business of
*providers*: without one, they are slices of the parent's parameters; a provider can blend several
candidates for a weight, as Mixture-of-Supernets does, or make a weight that the parent lacks.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.arch import Arch, Space
from attar.errors import CompatibilityError, require
from attar.models import evaluation_mode
from attar.slicing import Child, HeadSlicing, Slice, child_of, plain

_KEPT = 256  # children; a skeleton holds no weights, but building one takes milliseconds

Depth = Literal["spread", "first"]
"""Which of the parent's layers a shallower network has: evenly spread ones, or the first."""


@runtime_checkable
class Provider(Protocol):
    """Gives some of the weights of each network; a module, whose parameters are trained, too."""

    def taking(self, arch: Arch) -> Callable[[Slice], Tensor | None]:
        """What gives the weights of one network; None for those of the parent as they are."""
        ...


class Supernet(nn.Module):
    """The networks of a space, on slices of one parent.

    Args:
        parent: a model that is at least as wide and deep as the space.
        space: the networks.
        providers: modules that are a `Provider`; the first that gives a weight decides.
        depth: which layers a shallower network has.
        head_slicing: what heads keep where layers have hidden widths of their own (`child_of`).

    Raises:
        CompatibilityError: the parent does not hold the space's largest network, or no class can
            hold one of its networks.
    """

    def __init__(
        self,
        parent: PreTrainedModel,
        space: Space,
        *,
        providers: Sequence[nn.Module] = (),
        depth: Depth = "spread",
        head_slicing: HeadSlicing = "head",
    ) -> None:
        super().__init__()
        self.parent, self.space = parent, space
        self.depth: Depth = depth
        self.head_slicing: HeadSlicing = head_slicing
        self.providers = nn.ModuleList(providers)
        self._children: OrderedDict[Arch, Child] = OrderedDict()
        self._made_for = parent.device, parent.dtype
        try:
            self.child(space.largest)
        except CompatibilityError as error:
            raise CompatibilityError(
                f"the {type(parent).__name__} does not contain the space's largest network: {error}"
            ) from error

    def child(self, arch: Arch) -> Child:
        """The network of this architecture, without weights.

        Raises:
            ConfigError: it is not in the space.
        """
        now = self.parent.device, self.parent.dtype
        if now != self._made_for:  # children share the parent's buffers, and have its types
            self._children.clear()
            self._made_for = now
        child = self._children.pop(arch, None)
        if child is None:
            self.space.genes_of(arch)
            child = child_of(self.parent, arch, layers=self.depth, head_slicing=self.head_slicing)
        self._children[arch] = child
        if len(self._children) > _KEPT:
            self._children.popitem(last=False)
        return child

    def weights(self, arch: Arch) -> dict[str, Tensor]:
        """The parameters of this network, by their names in it; gradients reach the parent and the
        providers."""
        takes = [provider.taking(arch) for provider in self._given()]
        own = plain(self.parent)

        def take(where: Slice) -> Tensor:
            for one in takes:
                if (weight := one(where)) is not None:
                    return weight
            return own(where)

        return self.child(arch).weights(take)

    def _given(self) -> Iterator[Provider]:
        for provider in self.providers:
            assert isinstance(provider, Provider)
            yield provider

    def forward(self, arch: Arch, *, base: bool = False, **inputs: Any) -> Any:
        """The output of this network for what the parent's forward takes; `base` leaves its head
        out."""
        child = self.child(arch)
        child.skeleton.train(self.training)
        run = child.run_base if base else child.run
        return run(self.weights(arch), **inputs)

    @contextmanager
    def frozen(self, arch: Arch) -> Iterator[Callable[..., Any]]:
        """The network for many forward passes without gradients, in evaluation mode; its weights
        are made once."""
        child = self.child(arch)
        child.skeleton.eval()
        with torch.no_grad():
            with evaluation_mode(self.providers):
                weights = self.weights(arch)
            yield lambda **inputs: child.run(weights, **inputs)

    @torch.no_grad()
    def extract(self, arch: Arch) -> PreTrainedModel:
        """The network as an ordinary model of its own, in evaluation mode."""
        with evaluation_mode(self.providers):
            return self.child(arch).extract(self.weights(arch))


# ------------------------------------------------------------------------------------------- draws

Sampling = Literal["sandwich", "extremes", "random", "stratified"]
_TRIES = 200  # for a network of its own or of one size band; small spaces run out of them


@dataclass(frozen=True)
class Draws:
    """The networks that each step trains: a pure function of the seed and the step, so that all
    processes agree, before and after a resume.

    Attributes:
        space: to draw from.
        sampling: `sandwich`: the largest, the smallest and `n_random` others, all different where
            the space has as many; `extremes`: the largest and the smallest; `random`: `n_random`
            uniform draws; `stratified`: one draw from each of `n_random` equal bands of size.
        n_random: draws besides the extremes.
        seed: of the draws.
    """

    space: Space
    sampling: Sampling = "sandwich"
    n_random: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        least = 0 if self.sampling in ("sandwich", "extremes") else 1
        require(self.n_random >= least, "n_random", self.n_random, f"at least {least}")

    def at(self, step: int) -> list[Arch]:
        """The networks of a step, counted from 0."""
        rng, space = random.Random(f"{self.seed}-{step}"), self.space
        if self.sampling == "random":
            return [space.sample(rng) for _ in range(self.n_random)]
        if self.sampling == "stratified":
            return [self._of_band(rng, band) for band in range(self.n_random)]
        drawn = list(dict.fromkeys((space.largest, space.smallest)))
        others = self.n_random if self.sampling == "sandwich" else 0
        for _ in range(others):
            if len(drawn) == space.size:
                break
            drawn.append(self._other(rng, drawn))
        return drawn

    def _other(self, rng: random.Random, drawn: Sequence[Arch]) -> Arch:
        for _ in range(_TRIES):
            if (arch := self.space.sample(rng)) not in drawn:
                return arch
        return next(arch for arch in self.space.enumerate() if arch not in drawn)

    def _of_band(self, rng: random.Random, band: int) -> Arch:
        """The draw whose size is in this band between the smallest and the largest network, or
        next to it where none is found."""
        low, high = extent(self.space.smallest), extent(self.space.largest)
        step = (high - low) / self.n_random
        start, end = low + band * step, low + (band + 1) * step

        def outside(arch: Arch) -> float:
            return max(start - extent(arch), extent(arch) - end, 0.0)

        draws: list[Arch] = []
        for _ in range(_TRIES):
            draws.append(self.space.sample(rng))
            if outside(draws[-1]) == 0:
                break
        return min(draws, key=outside)


def extent(arch: Arch) -> float:
    """A measure of size that only orders networks of one space: products of widths, summed over the
    layers. What a network costs is counted from its tensors (`attar.measure.cost`)."""
    stream, total = arch.hidden_size or 0, 0.0
    for shape in arch.layers:
        width = shape.hidden_size or stream
        head = arch.head_dim or width // shape.num_attention_heads
        attention = arch.attention_size or shape.num_attention_heads * head
        total += width * (4 * attention + 2 * shape.intermediate_size)
    total += stream * (arch.vocab_size or 0)
    return total + (extent(arch.decoder) if arch.decoder else 0)
