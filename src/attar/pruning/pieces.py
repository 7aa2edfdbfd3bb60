"""Groups of units: what one switch turns off, how they are cut and switched, and which go."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.errors import ConfigError
from attar.families import UNITS, Body, Unit
from attar.pruning.config import Layout, PruneConfig
from attar.pruning.importance import Module
from attar.slicing import LayerKeep, SlicePlan, UnitMasks

#: groups that a module offers at least, as far as it can spare them
SEVERAL = 2


@dataclass(frozen=True)
class UnitGroup:
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


def prunable(
    model: PreTrainedModel, layout: Layout, *, config: PruneConfig, uniform_heads: bool
) -> list[Module]:
    """The modules that may shrink under this layout."""
    body = Body(model)
    _check_protect(config.protect, len(body.layer_list), layout)
    modules: list[Module] = []
    for i in range(len(body.layer_list)):
        for unit in UNITS:
            heads_fixed = unit == "kv_groups" and layout == "uniform" and not uniform_heads
            alike = range(len(body.layer_list)) if layout == "uniform" else [i]
            shielded = any(UnitGroup(j, unit).module in config.protect for j in alike)
            if not (body.why_not(unit) or heads_fixed or shielded):
                modules.append((i, unit))
    return modules


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


def spare(model: PreTrainedModel, module: Module, *, config: PruneConfig) -> int:
    """How many units a module can lose: one KV group, or one rounding step of neurons, always
    stays.
    """
    count = Body(model).layer(module[0]).count(module[1])
    if module[1] == "kv_groups":
        return count - 1
    return max(0, count - config.round_to) // config.round_to * config.round_to


def block_size(config: PruneConfig, width: int) -> int:
    """Neurons per group: width / 32 of the parent, at least 8, a multiple of `round_to`."""
    if config.ffn_block is not None:
        return config.ffn_block
    least = max(8, width / 32)
    return math.ceil(least / config.round_to) * config.round_to


def cut_groups(module: Module, order: Sequence[int], *, size: int) -> list[UnitGroup]:
    """Units in the order of the prior, cut into groups of `size` neighbours; a short rest at the
    important end is left out.
    """
    layer, unit = module
    starts = range(0, len(order) - size + 1, size)
    return [UnitGroup(layer, unit, tuple(order[i : i + size])) for i in starts]


def finest_pool(
    model: PreTrainedModel,
    modules: Sequence[Module],
    *,
    importance: dict[Module, Tensor],
    config: PruneConfig,
) -> list[UnitGroup]:
    """Everything that can be spared, in the order of the prior: single KV groups, and neurons by
    `round_to`."""
    pool: list[UnitGroup] = []
    for module in modules:
        size = 1 if module[1] == "kv_groups" else config.round_to
        order = importance[module].argsort(stable=True).tolist()
        pool += cut_groups(
            module, order[: spare(model, module, config=config) // size * size], size=size
        )
    return pool


def removable_pool(
    model: PreTrainedModel,
    modules: Sequence[Module],
    *,
    importance: dict[Module, Tensor],
    share: float,
    block: int,
    most: int | None,
    config: PruneConfig,
) -> list[UnitGroup]:
    """The candidates: in every module the `share` of live units that the prior likes least, in
    groups.

    Attention offers at least two KV groups and the feed-forward network at least two blocks, as far
    as they can be spared. Where modules of one kind offer more than `most` groups together, groups
    are doubled until they do not, but every module goes on offering several; None: never.
    """
    orders = {module: importance[module].argsort(stable=True).tolist() for module in modules}
    rooms = {module: spare(model, module, config=config) for module in modules}
    sizes = {module: 1 if module[1] == "kv_groups" else block for module in modules}

    def offered(module: Module) -> int:
        wanted = max(SEVERAL, round(share * len(orders[module]) / sizes[module]))
        return min(wanted, rooms[module] // sizes[module])

    for unit in UNITS:
        alike = [module for module in modules if module[1] == unit]
        if most is None or sum(offered(module) for module in alike) <= most:
            continue
        fair = most // len(alike)
        for module in alike:
            while offered(module) > fair and offered(module) >= 2 * SEVERAL:
                sizes[module] *= 2
    return [
        group
        for module, order in orders.items()
        for group in cut_groups(
            module, order[: offered(module) * sizes[module]], size=sizes[module]
        )
    ]


# -------------------------------------------------------------------------------------- switching


def switch(
    masks: UnitMasks, model: PreTrainedModel, *, pool: Sequence[UnitGroup], keep: Tensor
) -> None:
    """Make the model run without the groups whose entry in `keep` `(groups,)` is 0."""
    masks.clear()
    off = [group for group, on in zip(pool, keep.tolist(), strict=True) if not on]
    layers = Body(model).layers
    members: dict[Module, list[int]] = defaultdict(list)
    for group in off:
        if group.unit is not None:
            members[group.layer, group.unit] += group.members
    for (layer, unit), gone in members.items():
        vector = torch.ones(layers[layer].count(unit))
        vector[gone] = 0
        masks.set(layer, unit, vector)
    skipped = {group.layer for group in off if group.unit is None}
    masks.set_layers([i for i in range(len(layers)) if i not in skipped])


# --------------------------------------------------------------------------------------- removing


def select_removals(
    pool: Sequence[UnitGroup],
    values: Sequence[float],
    *,
    costs: Sequence[float],
    amount: float,
    config: PruneConfig,
    uniform: bool,
    trim: bool,
) -> list[UnitGroup]:
    """Choose groups worth least until they save `amount`: greedy knapsack order, at most one group
    too many.

    Args:
        pool: the candidates.
        values: what keeping each is worth.
        costs: what removing each saves; groups that save nothing stay.
        amount: what is to be saved.
        config: `rank_by` and `round_to`.
        uniform: move in bundles: the r-th least valuable group of every module of one kind goes
            together or not at all.
        trim: shorten the last group to what is still missing, of neurons in multiples of
            `round_to`.
    """
    bundles = _bundles(pool, values) if uniform else [[i] for i in range(len(pool))]
    saved = {i: sum(costs[j] for j in bundle) for i, bundle in enumerate(bundles)}

    def rank(i: int) -> float:
        worth = sum(values[j] for j in bundles[i])
        return worth / saved[i] if config.rank_by == "value_per_cost" else worth

    chosen: list[UnitGroup] = []
    for i in sorted((i for i in saved if saved[i] > 0), key=rank):
        if amount <= 0:
            break
        groups = [pool[j] for j in bundles[i]]
        if trim and saved[i] > amount:
            groups = [_trim(group, amount / saved[i], config.round_to) for group in groups]
        chosen += groups
        amount -= saved[i]
    return chosen


def _trim(group: UnitGroup, share: float, round_to: int) -> UnitGroup:
    multiple = round_to if group.unit == "neurons" else 1
    needed = math.ceil(share * len(group.members) / multiple - 1e-9) * multiple
    return replace(group, members=group.members[:needed])


def _bundles(pool: Sequence[UnitGroup], values: Sequence[float]) -> list[list[int]]:
    """Indices of the r-th least valuable group of every module of one kind, for every kind and
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


def removal_plan(model: PreTrainedModel, gone: Sequence[UnitGroup]) -> SlicePlan:
    """The plan that keeps everything but these groups, in the present model's numbers."""
    members: dict[Module, set[int]] = defaultdict(set)
    for group in gone:
        if group.unit is not None:
            members[group.layer, group.unit] |= set(group.members)
    dropped = {group.layer for group in gone if group.unit is None}
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
