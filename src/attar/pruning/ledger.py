"""What a model and its parts cost, where it stands against its budget, and how far it can go."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from attar.arch import Arch
from attar.budget import Budget, Constraint
from attar.errors import BudgetError
from attar.families import Body
from attar.measure.cost import cost_of, linear_macs
from attar.measure.latency_table import LatencyTable
from attar.pruning.config import Layout, PruneConfig
from attar.pruning.importance import Module
from attar.pruning.pieces import UnitGroup, spare


class Ledger:
    """The constraints of a budget over a model that shrinks.

    Args:
        model: the model, which is cut in place.
        budget: absolute limits.
        layout: what may be removed.
        config: `round_to` and `protect`.
        modules: the modules that may shrink.
        tables: latency tables of the constraints in milliseconds.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        budget: Budget,
        *,
        layout: Layout,
        config: PruneConfig,
        modules: Sequence[Module],
        tables: dict[str, LatencyTable],
    ) -> None:
        self.budget, self.tables = budget, tables
        self._model, self._body = model, Body(model)
        self._layout, self._config, self._modules = layout, config, modules
        self.start = {c.key: self.total(c) for c in budget.constraints}
        self.removable = {c.key: self.spare(c) for c in budget.constraints}

    def total(self, constraint: Constraint) -> float:
        """The model's present figure; latencies are predicted from the table."""
        if constraint.key in self.tables:
            return self.tables[constraint.key].predict(Arch.of(self._model))
        return constraint.value(cost_of(self._model, cache=constraint.key == "kv_bytes"))

    def of_unit(self, key: str, module: Module) -> float:
        """What one unit of this module costs, in the base unit of the constraint."""
        layer, unit = module
        here = self._body.layer(layer)
        if key in self.tables:
            return self.tables[key].saving(unit, here.count(unit))
        if key == "kv_bytes":
            size = next(self._model.parameters()).element_size()
            return 2.0 * here.head_dim * size if unit == "kv_groups" else 0.0
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

    def of_groups(self, key: str, pool: Sequence[UnitGroup]) -> list[float]:
        """What removing each group saves; every module is asked once."""
        units = {
            (p.layer, p.unit): self.of_unit(key, (p.layer, p.unit))
            for p in {(p.layer, p.unit): p for p in pool}.values()
            if p.unit is not None
        }
        return [
            self.of_group(key, p) if p.unit is None else len(p.members) * units[p.layer, p.unit]
            for p in pool
        ]

    def of_group(self, key: str, group: UnitGroup) -> float:
        """What removing this group saves."""
        if group.unit is not None:
            return len(group.members) * self.of_unit(key, (group.layer, group.unit))
        if key in ("params", "blocks", "bytes"):
            tensors = list(self._body.layer_list[group.layer].parameters())
            return float(
                sum(p.numel() * (p.element_size() if key == "bytes" else 1) for p in tensors)
            )
        if key in self.tables:
            arch, table = Arch.of(self._model), self.tables[key]
            rest = arch.layers[: group.layer] + arch.layers[group.layer + 1 :]
            return max(0.0, table.predict(arch) - table.predict(Arch(rest)))
        if key == "macs":
            return float(linear_macs(self._body.layer_list[group.layer]))
        layer = self._body.layers[group.layer]
        return layer.kv_groups * self.of_unit(key, (group.layer, "kv_groups"))

    def spare(self, constraint: Constraint) -> float:
        """What the present model can still lose, in the base unit of the constraint."""
        if self._layout == "depth":
            layers = [UnitGroup(i, None) for i in range(len(self._body.layer_list))]
            free = [group for group in layers if group.module not in self._config.protect]
            saved = sorted(self.of_groups(constraint.key, free))
            return sum(saved if len(free) < len(layers) else saved[:-1])  # one always stays
        if constraint.key in self.tables:
            return self._spare_time(self.tables[constraint.key])
        return sum(
            spare(self._model, m, config=self._config) * self.of_unit(constraint.key, m)
            for m in self._modules
        )

    def _spare_time(self, table: LatencyTable) -> float:
        layers, saved = self._body.layers, 0.0
        for layer, unit in self._modules:
            width = layers[layer].count(unit)
            least = width - spare(self._model, (layer, unit), config=self._config)
            saved += table.at(unit, width) - table.at(unit, least)
        return saved

    def check_reach(self) -> None:
        """Refuse a budget that no model of this layout can meet.

        Raises:
            BudgetError: it names the least that can be reached.
        """
        for c in self.budget.constraints:
            start, least = self.start[c.key], self.start[c.key] - self.removable[c.key]
            if c.limit < least * (1 - 1e-9):
                raise BudgetError(
                    f"the budget {self.budget.text!r} is out of reach: the least {c.key} that "
                    f"layout {self._layout} can give this model is {least:.6g} "
                    f"({100 * least / start:.1f}% of the parent's {start:.6g}), and the limit is "
                    f"{c.limit:.6g}: raise the limit, or choose another layout"
                )

    def tightest(self) -> tuple[Constraint, float] | None:
        """The unmet limit that is furthest away, as a share of what the parent could lose, and
        what is missing of it; None when all are met.
        """
        over = []
        for c in self.budget.constraints:
            missing = self.total(c) - c.limit
            if missing > 1e-9 * max(1.0, c.limit):
                over.append((missing / max(self.removable[c.key], 1e-12), missing, c))
        if not over:
            return None
        _, missing, constraint = max(over, key=lambda row: row[0])
        return constraint, missing

    def progress(self) -> float:
        """How much of the way to the budget is done, 0 to 1."""
        shares = [1.0]
        for c in self.budget.constraints:
            if self.start[c.key] > c.limit:
                done = self.start[c.key] - self.total(c)
                shares.append(done / (self.start[c.key] - c.limit))
        return min(shares)
