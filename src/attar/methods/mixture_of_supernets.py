"""Mixture-of-Supernets: sub-networks whose feed-forward weights depend on their architecture.

In a weight-sharing supernet, small and large networks pull the same weights in different
directions. Here every feed-forward map has m candidates, the experts, and a router that sees the
architecture, never the tokens, says how they are blended into one ordinary matrix. Attention,
embeddings and norms stay shared. A network that is taken out has the blend of the moment: it is
dense and has no router.

With e the encoding of an architecture a, R a small network, and W_i(a) what a keeps of expert i:

    p = softmax(R(e))                                     one router per layer      (1)
    W(a) = sum_i p_i W_i(a)                               layer-wise                (2)
    P = softmax(reshape(R_a(e), (d_out(a), m)))           one router per map        (3)
    W(a) = sum_i diag(P[:, i]) W_i(a)                     neuron-wise               (4)

and the same for biases; R_a has the outputs of R for the neurons that a keeps. It is trained with
the loss of the task alone: nothing is dropped, balanced or annealed.

Jawahar, Yang, Xiong, Liu, Wang, Sun, Li, Pappu, Oguz, Abdul-Mageed, Lakshmanan, Krishnamoorthi,
Chandra: Mixture-of-Supernets, Findings of ACL 2024, arXiv 2306.04845.

Deviations (official code; here; why):
- Copies of pretrained weights: exact ones; with noise of 1% (`init_noise`), because a router learns
  nothing while all experts are equal: d loss / d logit_i = p_i <G, W_i - W(a)>.
- Random experts: drawn as usual, so that their blend starts 1 / sqrt(m) as large; the same, and
  `init_scale` undoes it, because a smaller start alone can look like a gain.
- Encoding: some numbers with fixed bounds; every choice of the space between its own bounds, so
  that no two networks look the same to a router, those that differ in depth too.
- Norms behind the feed-forward network: one per expert, of which the first is used; one.
- Batches that are accumulated: each may have other networks; networks are drawn once per step
  (`attar.search.supernet.Draws`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from attar.arch import Arch, Space
from attar.errors import check_types, require
from attar.families import feed_forward_modules
from attar.models import without_autocast
from attar.report.record import Paper
from attar.search.supernet import Depth, Supernet
from attar.slicing import HeadSlicing, Slice, plain

PAPER = Paper(
    title=(
        "Mixture-of-Supernets: Improving Weight-Sharing Supernet Training with "
        "Architecture-Routed Mixture-of-Experts"
    ),
    authors=(
        "Ganesh Jawahar",
        "Haichuan Yang",
        "Yunyang Xiong",
        "Zechun Liu",
        "Dilin Wang",
        "Fei Sun",
        "Meng Li",
        "Aasish Pappu",
        "Barlas Oguz",
        "Muhammad Abdul-Mageed",
        "Laks V.S. Lakshmanan",
        "Raghuraman Krishnamoorthi",
        "Vikas Chandra",
    ),
    year=2024,
    arxiv="2306.04845",
)


#: each is as many weights again as all feed-forward maps have
_EXPERTS = 1000


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """How feed-forward weights are mixed. Defaults are those of the official code for BERT, except
    where they say otherwise."""

    experts: int = 2
    """Candidates for every weight (m), of which the first is the parent's own; 1: a plain
    supernet."""
    router: Literal["neuron", "layer", "none"] = "neuron"
    """`neuron`: every output neuron of a map has a mixture of its own; `layer`: a layer has one;
    `none`: 1 / m for all, whatever the architecture. The last is a control, not in the paper."""
    router_hidden: int = 128
    """Neurons of a router."""
    router_dropout: float = 0.0
    """Dropout in the routers while they are trained; 0.1 in the official code for translation."""
    init: Literal["copy", "random"] = "copy"
    """What the other experts start as: copies of the parent's own, for pretrained weights (BERT),
    or draws of their own with its standard deviation, for random ones (translation)."""
    init_noise: float = 1e-2
    """Size of the noise on copies, relative to the norm of each neuron's weights. An extension; 0:
    as in the official code, which trains no router from copies."""
    init_scale: float = 1.0
    """Multiplies all experts, the parent's own too, before training from random weights (init
    random). 1: as published, a blend of m draws starts 1 / sqrt(m) as large as a draw; sqrt(m): it
    starts as large. With one expert 1 / sqrt(m) is the control. An extension."""
    tied: bool = False
    """Keep all experts the same, the parent's own: a control, equal to one expert."""
    seed: int = 0
    """Of the routers and of the draws and the noise of the experts."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("experts", "router_hidden"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.experts <= _EXPERTS, "experts", self.experts, f"at most {_EXPERTS}")
        dropout, scale = self.router_dropout, self.init_scale
        require(0 <= dropout < 1, "router_dropout", dropout, "at least 0 and below 1")
        require(self.init_noise >= 0, "init_noise", self.init_noise, "zero or more")
        require(scale > 0, "init_scale", scale, "above zero")
        fine = scale == 1 or self.init == "random"
        require(fine, "init_scale", scale, "1 with init copy, whose blend starts as large")


# ------------------------------------------------------------------------------------- equations


def mixture_of_layer(logits: Tensor) -> Tensor:
    """Equation (1): (m,) -> (m,), not negative, with the sum 1."""
    return logits.softmax(-1)


def mixture_of_neurons(logits: Tensor, *, experts: int) -> Tensor:
    """Equation (3): (d_out * m,) -> (d_out, m); the outputs m*j to m*j + m - 1 of a router are for
    neuron j."""
    return logits.unflatten(-1, (-1, experts)).softmax(-1)


def blend(experts: Sequence[Tensor], mixture: Tensor, *, axis: int = 0) -> Tensor:
    """Equations (2) and (4): m tensors of one shape -> their mixture, in the same shape and type.

    Args:
        experts: W_1 to W_m, (..., d_out, ...).
        mixture: (m,), or (d_out, m) for one mixture per output neuron.
        axis: of the output neurons.
    """
    shape = [1] * experts[0].dim()
    if mixture.dim() == 2:
        shape[axis] = -1
    pairs = zip(mixture.unbind(-1), experts, strict=True)
    return reduce(torch.add, (p.view(shape) * w for p, w in pairs)).to(experts[0].dtype)


class Router(nn.Module):
    """R: the encoding of an architecture -> logits of the experts, (k,) -> (outputs,).

    Linear, ReLU, (dropout,) linear, in the type of its weights whatever the autocast.

    Args:
        numbers: in an encoding (k).
        outputs: m, or m for each output neuron of a map.
        config: width and dropout.
    """

    def __init__(self, numbers: int, outputs: int, *, config: MixtureConfig) -> None:
        super().__init__()
        self.reads = nn.Linear(numbers, config.router_hidden)
        self.writes = nn.Linear(config.router_hidden, outputs)
        self._experts, self._dropout = config.experts, config.router_dropout

    def forward(self, encoding: Tensor, neurons: Tensor | None = None) -> Tensor:
        """Logits.

        Args:
            encoding: (k,).
            neurons: the output neurons that stay, increasing; None: all.
        """
        weight, bias = self.writes.weight, self.writes.bias
        if neurons is not None:  # R_a: the last map is cut before it is applied
            kept = Slice("", {0: neurons})
            weight = kept.of(weight.unflatten(0, (-1, self._experts))).flatten(0, 1)
            bias = kept.of(bias.unflatten(0, (-1, self._experts))).flatten()
        with without_autocast(encoding.device):
            hidden = F.relu(self.reads(encoding.to(weight)))
            hidden = F.dropout(hidden, self._dropout, training=self.training)
            return F.linear(hidden, weight, bias)


# ------------------------------------------------------------------------------------ the provider


@dataclass(frozen=True)
class _Place:
    """Which map a parameter belongs to."""

    layer: int
    linear: str
    axis: int  # of the output neurons


class Mixture(nn.Module):
    """The feed-forward weights of every network of a space: a provider of `Supernet`.

    Expert 1 is the parent's own weight; the others, and the routers, are parameters here. Under
    autocast routers and blends stay in float32, and the blend is rounded where it is used. Limits:
    a parent in bfloat16 gets blends that are rounded to bfloat16, and a module that is cast as a
    whole has its routers cast, too.

    Args:
        parent: of the supernet; it is not changed, and not part of this module.
        space: the networks.
        config: experts and routers.

    Raises:
        CompatibilityError: the parent's family is not one of `FAMILIES`.
    """

    def __init__(
        self, parent: PreTrainedModel, space: Space, *, config: MixtureConfig | None = None
    ) -> None:
        super().__init__()
        self.space, self.config = space, config or MixtureConfig()
        self._parent = (parent,)  # in a tuple, so that it is no submodule
        self._places: dict[str, _Place] = {}
        self.experts = nn.ParameterDict()
        self.routers = nn.ModuleDict()
        if self.config.experts > 1:
            self._place(parent)
            self._draw(parent)
            self._route(parent)

    def _place(self, parent: PreTrainedModel) -> None:
        for layer, linears in enumerate(feed_forward_modules(parent)):
            for linear in linears:
                module = parent.get_submodule(linear)
                turned = isinstance(module, Conv1D)
                for name, _ in module.named_parameters():
                    axis = 1 if turned and name == "weight" else 0
                    self._places[f"{linear}.{name}"] = _Place(layer, linear, axis)

    @torch.no_grad()
    def _draw(self, parent: PreTrainedModel) -> None:
        """Experts 2 to m, (m - 1, ...) for each of the parent's parameters."""
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed)
        for name, place in self._places.items() if not config.tied else ():
            own = parent.get_parameter(name)
            experts = own.detach().expand(config.experts - 1, *own.shape).clone()
            if own.dim() > 1:  # biases are copies: they start at zero, or as pretrained
                noise = torch.randn(experts.shape, generator=generator).to(experts)
                if config.init == "random":
                    experts = noise * own.std()
                else:
                    size = own.square().mean(1 - place.axis, keepdim=True).sqrt()
                    experts += config.init_noise * size * noise
            self.experts[_key(name)] = nn.Parameter(experts)

    def _route(self, parent: PreTrainedModel) -> None:
        config, numbers = self.config, len(self.space.choices)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            for name, place in self._places.items() if config.router != "none" else ():
                outputs = config.experts
                if config.router == "neuron":
                    outputs *= parent.get_parameter(name).shape[place.axis]
                if (router := self._router(place)) not in self.routers:
                    self.routers[router] = Router(numbers, outputs, config=config)
        self.routers.to(parent.device)

    def _router(self, place: _Place) -> str:
        return _key(place.linear) if self.config.router == "neuron" else str(place.layer)

    def taking(self, arch: Arch) -> Callable[[Slice], Tensor | None]:
        """What gives the feed-forward weights of one network, and None for all others. Its routers
        run once."""
        if not self._places:
            return lambda where: None
        own, encoding = plain(self._parent[0]), self.encode(arch)
        mixtures: dict[str, Tensor] = {}

        def take(where: Slice) -> Tensor | None:
            place = self._places.get(where.name)
            if place is None:
                return None
            others = [own(where)] * (self.config.experts - 1)
            if not self.config.tied:
                others = [where.of(expert) for expert in self.experts[_key(where.name)]]
            router = self._router(place)
            if router not in mixtures:
                neurons = where.axes.get(place.axis)
                mixtures[router] = self.mixture(encoding, place.linear, neurons=neurons)
            return blend([own(where), *others], mixtures[router], axis=place.axis)

        return take

    def encode(self, arch: Arch) -> Tensor:
        """What routers see of a network, (k,)."""
        return torch.tensor(self.space.encode(arch), device=self._parent[0].device)

    def mixture(self, encoding: Tensor, linear: str, *, neurons: Tensor | None = None) -> Tensor:
        """The coefficients of the experts for one network and one linear map.

        Args:
            encoding: of the network, (k,).
            linear: the map's name in the parent.
            neurons: its output neurons that stay, increasing; None: all.

        Returns:
            (d_out, m) from a router of neurons, else (m,).
        """
        experts = self.config.experts
        if self.config.router == "none":
            return torch.full((experts,), 1 / experts, device=encoding.device)
        router = self.routers[self._router(self._places[f"{linear}.weight"])]
        if self.config.router == "layer":
            return mixture_of_layer(router(encoding))
        return mixture_of_neurons(router(encoding, neurons), experts=experts)


def _key(name: str) -> str:
    return name.replace(".", "-")  # a module's own names have no dots


# -------------------------------------------------------------------------------------- the method


def mixture_of_supernets(
    parent: PreTrainedModel,
    space: Space,
    *,
    config: MixtureConfig | None = None,
    depth: Depth = "spread",
    head_slicing: HeadSlicing = "head",
    others: Sequence[nn.Module] = (),
) -> Supernet:
    """A supernet whose feed-forward weights are mixed, to train from its start.

    Args:
        parent: expert 1 and all that is shared. With `init_scale` its feed-forward weights are
            multiplied in place. (A supernet that is loaded is made of a `Supernet` and a `Mixture`,
            and nothing is multiplied again.)
        space: the networks.
        config: experts and routers.
        depth: which layers a shallower network has.
        head_slicing: what heads keep where layers have hidden widths of their own.
        others: further providers, such as `attar.search.bottlenecks.Bottlenecks`.
    """
    config = config or MixtureConfig()
    scale_feed_forward(parent, config.init_scale)
    mixture = Mixture(parent, space, config=config)
    providers = (mixture, *others)
    return Supernet(parent, space, providers=providers, depth=depth, head_slicing=head_slicing)


@torch.no_grad()
def scale_feed_forward(parent: PreTrainedModel, factor: float) -> None:
    """Multiply the weights of all feed-forward maps, in place; biases stay.

    By 1 / sqrt(m), it is the control for a mixture of m random experts, whose blend starts as
    small.
    """
    for linears in feed_forward_modules(parent):
        for linear in linears:
            parent.get_parameter(f"{linear}.weight").mul_(factor)


def collapse(supernet: Supernet, arch: Arch) -> PreTrainedModel:
    """One network as an ordinary model, dense and without routers: its experts are blended once,
    without dropout in the routers."""
    return supernet.extract(arch)
