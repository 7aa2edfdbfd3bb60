"""Where a model stands against its budget, and how far it can go (sections 2.8 and 5.1)."""

from transformers import PreTrainedModel

from attar.budget import Budget, Constraint
from attar.errors import BudgetError
from attar.families import Body
from attar.latency import LatencyTable
from attar.methods.bonsai.config import BonsaiConfig, Layout
from attar.methods.bonsai.pieces import Ledger, Piece, spare
from attar.methods.bonsai.priors import Module


class Limits:
    """The constraints of a budget over a model that shrinks."""

    def __init__(
        self,
        model: PreTrainedModel,
        budget: Budget,
        *,
        layout: Layout,
        config: BonsaiConfig,
        modules: list[Module],
        tables: dict[str, LatencyTable],
    ) -> None:
        self.budget, self.ledger = budget, Ledger(model, tables)
        self._model, self._layout, self._config = model, layout, config
        self._modules, self._tables = modules, tables
        self.start = {c.name: self.ledger.total(c) for c in budget.constraints}
        self.removable = {c.name: self.spare(c) for c in budget.constraints}

    def spare(self, constraint: Constraint) -> float:
        """What the present model can still lose, in this currency."""
        if self._layout == "depth":
            layers = [Piece(i, None) for i in range(len(Body(self._model).layer_list))]
            free = [piece for piece in layers if piece.module not in self._config.protect]
            saved = sorted(self.ledger.pieces(constraint.key, free))
            return sum(saved if len(free) < len(layers) else saved[:-1])  # one always stays
        if constraint.key in self._tables:
            return self._spare_time(self._tables[constraint.key])
        return sum(
            spare(self._model, m, self._config) * self.ledger.unit(constraint.key, *m)
            for m in self._modules
        )

    def _spare_time(self, table: LatencyTable) -> float:
        layers, saved = Body(self._model).layers, 0.0
        for layer, unit in self._modules:
            width = layers[layer].count(unit)
            least = width - spare(self._model, (layer, unit), self._config)
            saved += table.at(unit, width) - table.at(unit, least)
        return saved

    def check_reach(self) -> None:
        """Refuse a budget that no model of this layout can meet.

        Raises:
            BudgetError: it names the least that can be reached.
        """
        for c in self.budget.constraints:
            start, least = self.start[c.name], self.start[c.name] - self.removable[c.name]
            if c.limit < least * (1 - 1e-9):
                raise BudgetError(
                    f"the budget {self.budget.text!r} is out of reach: the least {c.name} that "
                    f"layout {self._layout} can give this model is {least:.6g} "
                    f"({100 * least / start:.1f}% of the parent's {start:.6g}), and the limit is "
                    f"{c.limit:.6g}"
                )

    def tightest(self) -> tuple[Constraint, float] | None:
        """The unmet limit that is furthest away, as a share of what the parent could lose, and
        what is missing of it; None when all are met.
        """
        over = []
        for c in self.budget.constraints:
            missing = self.ledger.total(c) - c.limit
            if missing > 1e-9 * max(1.0, c.limit):
                over.append((missing / max(self.removable[c.name], 1e-12), missing, c))
        if not over:
            return None
        _, missing, constraint = max(over, key=lambda row: row[0])
        return constraint, missing

    def progress(self) -> float:
        """How much of the way to the budget is done, 0 to 1."""
        shares = [1.0]
        for c in self.budget.constraints:
            if self.start[c.name] > c.limit:
                done = self.start[c.name] - self.ledger.total(c)
                shares.append(done / (self.start[c.name] - c.limit))
        return min(shares)
