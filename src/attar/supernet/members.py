"""The networks of several spaces as one, which a search chooses from."""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attar import artefacts
from attar.arch import Arch, Space
from attar.budget import Budget, Cost
from attar.families import is_encoder_decoder
from attar.foreign import read_json
from attar.measure.cost import cost_of
from attar.measure.timing import measure
from attar.runtime import Bar
from attar.search.individuals import Genes, Problem
from attar.search.latency import LatencySurrogate, fit_latency
from attar.search.storage import study_lock
from attar.search.supernet import Supernet

Member = tuple[str, Arch]
"""A network, by the name of its space and its widths."""

#: networks that are timed before a search within a limit on time; more are predicted from them
TIMED = 48
#: tokens that are read and written where an encoder-decoder is timed
TRANSLATED = 30
_SECONDS = 2.0  # that the timing of one network may take
_TIMES_FILE = "latency.json"
_TIMED_KEYS = ("latency", "prefill")


@dataclass(frozen=True)
class Members:
    """The networks of several spaces; see `attar.search.individuals.Genome`.

    The first gene is the space; the others are those of the space, which has its own number of
    them and of choices, so that of a gene the remainder counts.

    Attributes:
        spaces: by name.
    """

    spaces: Mapping[str, Space]

    @property
    def choices(self) -> Sequence[int]:
        """How many choices each gene has."""
        own = [space.choices for space in self.spaces.values()]
        longest = max(len(choices) for choices in own)
        return (
            len(own),
            *(max(c[i] for c in own if i < len(c)) for i in range(longest)),
        )

    def decode(self, genes: Genes) -> Member:
        """The network of these genes."""
        name = list(self.spaces)[genes[0]]
        own = self.spaces[name].choices
        return name, self.spaces[name].decode(
            [gene % n for gene, n in zip(genes[1:], own, strict=False)]
        )

    def genes_of(self, individual: Member) -> Genes:
        """The canonical genes of a network."""
        name, arch = individual
        own = self.spaces[name].genes_of(arch)
        rest = len(self.choices) - 1 - len(own)
        return (list(self.spaces).index(name), *own, *[0] * rest)

    @property
    def size(self) -> int:
        """How many networks there are."""
        return sum(space.size for space in self.spaces.values())

    def __iter__(self) -> Iterator[Member]:
        for name, space in self.spaces.items():
            yield from ((name, arch) for arch in space.enumerate())


@dataclass(frozen=True)
class MemberProblem(Problem):
    """A problem whose individuals are listed space by space, as the product of all genes would be
    far more.

    Attributes:
        members: the networks.
    """

    members: Members = field(default_factory=lambda: Members({}))

    def all_genes(self) -> list[Genes]:
        """Every network once."""
        return [self.members.genes_of(one) for one in self.members]

    @classmethod
    def over(
        cls, members: Members, costs: "Costs", *, score: Callable[[Member], float]
    ) -> "MemberProblem":
        """The problem of these networks, within the limits of their costs."""
        return cls(
            choices=members.choices,
            score=lambda genes: score(members.decode(genes)),
            excess=lambda genes: costs.excess(members.decode(genes)),
            cost=lambda genes: costs.figures(members.decode(genes)),
            canonical=lambda genes: members.genes_of(members.decode(genes)),
            members=members,
        )


# ------------------------------------------------------------------------------------------ costs


@dataclass
class Costs:
    """What networks cost; each is counted once. Where the budget bounds a time, some networks are
    timed on this machine, once for all workers of the folder, and the others predicted from them.

    Attributes:
        supernets: by name.
        budget: with absolute limits; None: no limits.
        folder: of the search.
        context: tokens of a prompt. Encoder-decoders are timed as they write a translation of 30
            tokens of as long a text, or of `context` where that is less, as in HAT.
        seed: draws those that are timed.
    """

    supernets: Mapping[str, Supernet]
    budget: Budget | None
    folder: Path
    context: int
    seed: int = 0
    note: str | None = None
    _counted: dict[Member, Cost] = field(default_factory=dict)
    _surrogates: dict[str, LatencySurrogate] = field(default_factory=dict)
    _times: dict[str, dict[str, float]] = field(default_factory=dict)

    def of(self, member: Member) -> Cost:
        """Counted from the network's tensors."""
        if member not in self._counted:
            (name, arch), bounds = member, self.budget.constraints if self.budget else ()
            if any(c.key == "kv_bytes" for c in bounds):  # a cache is counted by running the model
                self._counted[member] = cost_of(self.supernets[name].extract(arch))
            else:
                skeleton = self.supernets[name].child(arch).skeleton
                self._counted[member] = cost_of(skeleton, cache=False)
        return self._counted[member]

    def measured(self, member: Member) -> Cost:
        """Timed on this machine, as a network of its own."""
        name, arch = member
        network = self.supernets[name].extract(arch)
        if is_encoder_decoder(network):
            tokens = min(TRANSLATED, self.context)
            return measure(network, prompt_tokens=tokens, new_tokens=tokens, seconds=_SECONDS)
        return measure(network, prompt_tokens=self.context, seconds=_SECONDS)

    def figures(self, member: Member) -> dict[str, float]:
        """Sizes, and times where they are bounded, by name."""
        cost = self.of(member)
        sizes = {"params": float(cost.params), "macs": float(cost.macs)}
        return sizes | {key: self._time(key, member) for key in self.timed}

    def excess(self, member: Member) -> dict[str, float]:
        """By how much each limit is overrun, as of `Budget.excess`."""
        if self.budget is None:
            return {}
        counted = self.of(member)
        return {
            c.key: (self._time(c.key, member) if c.key in _TIMED_KEYS else c.value(counted))
            / c.limit
            - 1
            for c in self.budget.constraints
        }

    @property
    def timed(self) -> list[str]:
        """Which times are bounded."""
        bounds = self.budget.constraints if self.budget else ()
        return [c.key for c in bounds if c.key in _TIMED_KEYS]

    def prepare(self, members: Members) -> None:
        """Time networks, where the budget bounds a time and nobody has done so for this folder."""
        if not self.timed:
            return
        chosen = _some(members, TIMED, seed=self.seed)
        artefacts.make_folder(self.folder)
        file = self.folder / _TIMES_FILE
        with study_lock(self.folder):
            if not file.exists():
                self._times = {
                    _mark(one): self._timed(one)
                    for one in Bar(chosen, desc="timing", unit="network")
                }
                artefacts.write_text(file, json.dumps(self._times))
        self._times = read_json(file, "the measured times")
        if members.size > len(chosen):
            for key in self.timed:
                features = [self._features(one) for one in chosen]
                times = [self._times[_mark(one)][key] for one in chosen]
                self._surrogates[key] = fit_latency(features, times, seed=self.seed)
                self.note = str(self._surrogates[key].error)

    def _timed(self, member: Member) -> dict[str, float]:
        cost = self.measured(member)
        pairs = {"latency": cost.decode, "prefill": cost.prefill}
        return {key: time.median for key, time in pairs.items() if time is not None}

    def _time(self, key: str, member: Member) -> float:
        if (times := self._times.get(_mark(member))) is not None:
            return times[key]
        return max(self._surrogates[key](self._features(member)), math.ulp(0.0))

    def _features(self, member: Member) -> tuple[float, ...]:
        """What a time depends on."""
        cost = self.of(member)
        sizes = float(cost.params), float(cost.macs), float(cost.block_params)
        return sizes + _widths(member[1])


def _widths(arch: Arch) -> tuple[float, ...]:
    stream, shapes = arch.hidden_size or 0, arch.layers
    own: tuple[float, ...] = (
        len(shapes),
        stream,
        sum(shape.hidden_size or stream for shape in shapes),
        sum(shape.intermediate_size for shape in shapes),
        sum(shape.num_attention_heads for shape in shapes),
    )
    if arch.decoder is None:
        return own
    cross = [
        (x.cross_attention_heads or 0, x.cross_attention_span or 0) for x in arch.decoder.layers
    ]
    return (*own, *_widths(arch.decoder), *(float(sum(some)) for some in zip(*cross, strict=True)))


def _mark(member: Member) -> str:
    return f"{member[0]} {member[1].to_json()}"


def _some(members: Members, most: int, *, seed: int) -> list[Member]:
    """The ends of every space and random networks; all, where there are no more."""
    if members.size <= most:
        return list(members)
    ends = [(n, a) for n, s in members.spaces.items() for a in (s.largest, s.smallest)]
    chosen = dict.fromkeys(ends)
    rng, names = random.Random(seed), list(members.spaces)
    for _ in range(20 * most):
        if len(chosen) >= most:
            break
        name = rng.choice(names)
        chosen[name, members.spaces[name].sample(rng)] = None
    return list(chosen)
