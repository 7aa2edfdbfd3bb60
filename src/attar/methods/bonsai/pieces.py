"""Pieces: what one switch turns off, what it costs, and which of them go (sections 2.4 and 2.7)."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.arch import Arch
from attar.budget import LINEAR, Constraint, cost_of
from attar.errors import ConfigError
from attar.families import UNITS, Body, Unit
from attar.latency import LatencyTable
from attar.methods.bonsai.config import BonsaiConfig, Layout
from attar.methods.bonsai.priors import Module
from attar.slicing import LayerKeep, SlicePlan, UnitMasks


@dataclass(frozen=True)
class Piece:
    """Units of one module that are switched together; a whole layer when `unit` is None.

    `members` are numbers in the present model, the least important first.
    """

    layer: int
    unit: Unit | None
    members: tuple[int, ...] = ()

    @property
    def module(self) -> str:
        """The module as people write it, such as `layers.0.attention`."""
        part = {"kv_groups": ".attention", "neurons": ".mlp", None: ""}[self.unit]
        return f"layers.{self.layer}{part}"


class Ledger:
    """What a model and its pieces cost in one currency of the budget."""

    def __init__(self, model: PreTrainedModel, tables: dict[str, LatencyTable]) -> None:
        self._model = model
        self._body = Body(model)
        self.tables = tables

    def total(self, constraint: Constraint) -> float:
        """The model's present figure; latencies are predicted from the table."""
        if constraint.key in self.tables:
            return self.tables[constraint.key].predict(Arch.of(self._model))
        return constraint.value(cost_of(self._model))

    def unit(self, key: str, layer: int, unit: Unit) -> float:
        """What one unit of this module costs, in the base unit of the currency."""
        here = self._body.layers[layer]
        if key in self.tables:
            return self.tables[key].saving(unit, here.count(unit))
        if key == "kv_bytes":
            size = next(self._model.parameters()).element_size()
            return 2.0 * (self._body.head_dim or 0) * size if unit == "kv_groups" else 0.0
        cost = 0.0
        for cut in here.cuts(unit):
            weight = here.module.get_parameter(cut.name)
            numbers = cut.rows.shape[1] * weight.numel() / weight.shape[cut.axis]
            if key == "bytes":
                numbers *= weight.element_size()
            if key == "macs" and cut.parameter == "bias":
                numbers = 0
            cost += numbers
        return cost

    def pieces(self, key: str, pool: Sequence[Piece]) -> list[float]:
        """What removing each piece saves; every module is asked once."""
        units = {
            (p.layer, p.unit): self.unit(key, p.layer, p.unit)
            for p in {(p.layer, p.unit): p for p in pool}.values()
            if p.unit is not None
        }
        return [
            self.piece(key, p) if p.unit is None else len(p.members) * units[p.layer, p.unit]
            for p in pool
        ]

    def piece(self, key: str, piece: Piece) -> float:
        """What removing this piece saves."""
        if piece.unit is not None:
            return len(piece.members) * self.unit(key, piece.layer, piece.unit)
        if key in ("params", "bytes"):
            tensors = list(self._body.layer_list[piece.layer].parameters())
            return float(
                sum(p.numel() * (p.element_size() if key == "bytes" else 1) for p in tensors)
            )
        if key in self.tables:
            arch, table = Arch.of(self._model), self.tables[key]
            rest = arch.layers[: piece.layer] + arch.layers[piece.layer + 1 :]
            return max(0.0, table.predict(arch) - table.predict(Arch(rest)))
        if key == "macs":
            modules = self._body.layer_list[piece.layer].modules()
            return float(sum(m.weight.numel() for m in modules if isinstance(m, LINEAR)))
        layer = self._body.layers[piece.layer]
        return layer.kv_groups * self.unit(key, piece.layer, "kv_groups")


def prunable(
    model: PreTrainedModel, layout: Layout, config: BonsaiConfig, uniform_heads: bool
) -> list[Module]:
    """The modules that may shrink under this layout."""
    body = Body(model)
    _check_protect(config.protect, len(body.layer_list), layout)
    found: list[Module] = []
    for i in range(len(body.layer_list)):
        for unit in UNITS:
            heads_fixed = unit == "kv_groups" and layout == "uniform" and not uniform_heads
            alike = range(len(body.layer_list)) if layout == "uniform" else [i]
            shielded = any(Piece(j, unit).module in config.protect for j in alike)
            if not (body.why_not(unit) or heads_fixed or shielded):
                found.append((i, unit))
    return found


def _check_protect(protect: Sequence[str], layers: int, layout: Layout) -> None:
    """A protected module that does not exist would silently protect nothing."""
    parts = [""] if layout == "depth" else [".attention", ".mlp"]
    known = {f"layers.{i}{part}" for i in range(layers) for part in parts}
    if unknown := [name for name in protect if name not in known]:
        raise ConfigError(
            f"protect names {unknown[0]!r}, which this model does not have under layout {layout}; "
            f"its modules are {', '.join(f'layers.N{part}' for part in parts)} "
            f"with N from 0 to {layers - 1}"
        )


def spare(model: PreTrainedModel, module: Module, config: BonsaiConfig) -> int:
    """How many units a module can lose: one KV group, or one rounding step of neurons, always
    stays.
    """
    count = Body(model).layers[module[0]].count(module[1])
    if module[1] == "kv_groups":
        return count - 1
    return max(0, count - config.round_to) // config.round_to * config.round_to


def block_size(config: BonsaiConfig, width: int) -> int:
    """Neurons per piece: width / 32 of the parent, at least 8, a multiple of `round_to`."""
    if config.ffn_block is not None:
        return config.ffn_block
    wanted = max(8, width / 32)
    return math.ceil(wanted / config.round_to) * config.round_to


def cut_pieces(module: Module, order: Sequence[int], size: int) -> list[Piece]:
    """Units in prior order, cut into pieces of `size` neighbours; a short rest at the important end
    is left out.
    """
    layer, unit = module
    starts = range(0, len(order) - size + 1, size)
    return [Piece(layer, unit, tuple(order[i : i + size])) for i in starts]


def finest_pool(
    model: PreTrainedModel,
    modules: Sequence[Module],
    priors: dict[Module, Tensor],
    *,
    config: BonsaiConfig,
) -> list[Piece]:
    """Everything that can be spared, in prior order: single KV groups and `round_to` neurons."""
    pool: list[Piece] = []
    for module in modules:
        size = 1 if module[1] == "kv_groups" else config.round_to
        order = priors[module].argsort(stable=True).tolist()
        pool += cut_pieces(module, order[: spare(model, module, config) // size * size], size)
    return pool


def removable_pool(
    model: PreTrainedModel,
    modules: Sequence[Module],
    priors: dict[Module, Tensor],
    *,
    share: float,
    block: int,
    config: BonsaiConfig,
) -> list[Piece]:
    """The candidates: in every module the `share` of live units that the prior likes least, in
    pieces.

    Attention offers at least two KV groups and the feed-forward network at least two blocks, as far
    as they can be spared.
    """
    pool: list[Piece] = []
    for module in modules:
        order = priors[module].argsort(stable=True).tolist()
        size = 1 if module[1] == "kv_groups" else block
        room = spare(model, module, config)
        wanted = max(2, round(share * len(order) / size)) * size
        pool += cut_pieces(module, order[: min(wanted, room // size * size)], size)
    return pool


# -------------------------------------------------------------------------------------- switching


def switch(masks: UnitMasks, model: PreTrainedModel, pool: Sequence[Piece], keep: Tensor) -> None:
    """Make the model run without the pieces whose entry in `keep` `(pieces,)` is 0."""
    masks.clear()
    off = [piece for piece, on in zip(pool, keep.tolist(), strict=True) if not on]
    layers = Body(model).layers
    members: dict[Module, list[int]] = defaultdict(list)
    for piece in off:
        if piece.unit is not None:
            members[piece.layer, piece.unit] += piece.members
    for (layer, unit), gone in members.items():
        vector = torch.ones(layers[layer].count(unit))
        vector[gone] = 0
        masks.set(layer, unit, vector)
    skipped = {piece.layer for piece in off if piece.unit is None}
    masks.set_layers([i for i in range(len(layers)) if i not in skipped])


def draw_pairs(
    pool: Sequence[Piece],
    pairs: int,
    *,
    config: BonsaiConfig,
    priors: dict[Module, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Keep-vectors `(2 pairs, pieces)`: every odd row is the complement of the row before it.

    `coin`: every piece is off with probability 1/2, so that the load on each module varies too.
    `prior_weighted`: as published, a fixed number per module, drawn with weights max(rho) - rho.
    """
    if config.sampling == "coin":
        keep = (torch.rand(pairs, len(pool), generator=generator) < 0.5).float()
    else:
        keep = torch.ones(pairs, len(pool))
        for columns, weights in _module_weights(pool, priors):
            drop = max(1, len(columns) // 2)
            for row in keep:
                chosen = torch.multinomial(weights, drop, generator=generator)
                row[columns[chosen]] = 0
    return torch.stack([keep, 1 - keep], 1).reshape(2 * pairs, len(pool))


def _module_weights(
    pool: Sequence[Piece], priors: dict[Module, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Per module: its columns in the pool and the weights to drop them with; uniform where the
    prior cannot tell.
    """
    columns: dict[tuple[int, Unit | None], list[int]] = defaultdict(list)
    for i, piece in enumerate(pool):
        columns[piece.layer, piece.unit].append(i)
    found = []
    for (layer, unit), mine in columns.items():
        weights = torch.ones(len(mine), dtype=torch.float64)
        if unit is not None:
            rho = priors[layer, unit]
            scores = torch.stack([rho[list(pool[i].members)].mean() for i in mine])
            weights = rho.max() - scores
        drop = max(1, len(mine) // 2)
        if int((weights > 0).sum()) < drop:
            weights = torch.ones_like(weights)
        found.append((torch.tensor(mine), weights))
    return found


# --------------------------------------------------------------------------------------- removing


def fill(
    pool: Sequence[Piece],
    values: Sequence[float],
    costs: Sequence[float],
    amount: float,
    *,
    config: BonsaiConfig,
    uniform: bool,
    trim: bool,
) -> list[Piece]:
    """Choose pieces worth least until they save `amount`: greedy knapsack order, at most one piece
    too many.

    Args:
        pool: the candidates.
        values: what keeping each is worth.
        costs: what removing each saves; pieces that save nothing stay.
        amount: what is to be saved.
        config: `rank_by` and `round_to`.
        uniform: move in bundles: the r-th least valuable piece of every module of one kind goes
            together or not at all.
        trim: shorten the last neuron piece to what is still missing, in multiples of `round_to`.
    """
    bundles = _bundles(pool, values) if uniform else [[i] for i in range(len(pool))]
    saved = {i: sum(costs[j] for j in bundle) for i, bundle in enumerate(bundles)}

    def rank(i: int) -> float:
        worth = sum(values[j] for j in bundles[i])
        return worth / saved[i] if config.rank_by == "value_per_cost" else worth

    chosen: list[Piece] = []
    for i in sorted((i for i in saved if saved[i] > 0), key=rank):
        if amount <= 0:
            break
        pieces = [pool[j] for j in bundles[i]]
        if trim and saved[i] > amount:
            pieces = [_trim(piece, amount / saved[i], config.round_to) for piece in pieces]
        chosen += pieces
        amount -= saved[i]
    return chosen


def _trim(piece: Piece, share: float, round_to: int) -> Piece:
    if piece.unit != "neurons":
        return piece
    needed = math.ceil(share * len(piece.members) / round_to - 1e-9) * round_to
    return replace(piece, members=piece.members[:needed])


def _bundles(pool: Sequence[Piece], values: Sequence[float]) -> list[list[int]]:
    """Indices of the r-th least valuable piece of every module of one kind, for every kind and
    r.
    """
    modules: dict[tuple[Unit | None, int], list[int]] = defaultdict(list)
    for i in sorted(range(len(pool)), key=lambda i: values[i]):
        modules[pool[i].unit, pool[i].layer].append(i)
    kinds = {unit for unit, _ in modules}
    return [
        list(rank)
        for kind in sorted(kinds, key=str)
        for rank in zip(
            *(rows for (unit, _), rows in modules.items() if unit == kind), strict=False
        )
    ]


def removal_plan(model: PreTrainedModel, gone: Sequence[Piece]) -> SlicePlan:
    """The plan that keeps everything but these pieces, in the present model's numbers."""
    members: dict[Module, set[int]] = defaultdict(set)
    for piece in gone:
        if piece.unit is not None:
            members[piece.layer, piece.unit] |= set(piece.members)
    dropped = {piece.layer for piece in gone if piece.unit is None}
    return SlicePlan(
        tuple(
            LayerKeep(
                keep.layer,
                tuple(g for g in keep.kv_groups if g not in members[keep.layer, "kv_groups"]),
                tuple(n for n in keep.neurons if n not in members[keep.layer, "neurons"]),
            )
            for keep in SlicePlan.identity(model).layers
            if keep.layer not in dropped
        )
    )
