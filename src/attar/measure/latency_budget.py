"""Limits in milliseconds: the tables that a search steers by, and how far they are trusted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

from transformers import PreTrainedModel

from attar.artefacts import write_text
from attar.budget import Budget, Cost, Latency
from attar.errors import BudgetError
from attar.foreign import read_json
from attar.measure.latency_table import LatencyTable, Mode, measure_table
from attar.models import computing

_TIMED = ("latency", "prefill")
#: how far below a latency limit the search aims
_MARGIN = 0.03
#: a table that errs by more than this cannot steer
_ERROR = 0.15


def tables(
    model: PreTrainedModel, budget: Budget, *, round_to: int, state: Path | None
) -> dict[str, LatencyTable]:
    """A table for every limit in milliseconds; those of an interrupted run from its `state`."""
    keys: list[Mode] = [cast(Mode, c.key) for c in budget.constraints if c.key in _TIMED]
    if not keys:
        return {}
    stored = None if state is None else state / "latency.json"
    if stored is not None and stored.exists():  # a resumed run must steer by the same clock
        known = read_json(stored, "the table of times")
        return {key: LatencyTable.from_dict(table) for key, table in known.items()}
    with computing(model):
        tables = {str(key): _steady(model, key, round_to) for key in keys}
    if stored is not None:
        rows = {key: table.to_dict() for key, table in tables.items()}
        write_text(stored, json.dumps(rows))
    return tables


def _steady(model: PreTrainedModel, mode: Mode, round_to: int) -> LatencyTable:
    """A latency table, measured once more if something disturbed the first."""
    table = measure_table(model, mode, round_to=round_to)
    if abs(table.error) <= _ERROR:
        return table
    again = measure_table(model, mode, round_to=round_to)
    return min(table, again, key=lambda t: abs(t.error))


def check(goal: Budget, tables: dict[str, LatencyTable]) -> None:
    """Refuse to steer by a table that does not predict.

    Raises:
        BudgetError: a limit that the parent misses is one whose table errs too much.
    """
    for constraint in goal.constraints:
        table = tables.get(constraint.key)
        if table is not None and constraint.limit < table.base and abs(table.error) > _ERROR:
            raise BudgetError(
                f"{constraint.key} cannot be bounded on this machine now: for a network of half "
                f"the widths the timing table is {table.error:+.0%} off the measured time, and at "
                f"most {_ERROR:.0%} is accepted; leave the machine to this run and try again, or "
                "bound macs instead"
            )


def with_margin(budget: Budget, parent: Cost) -> Budget:
    """The budget to search for: latencies that the parent misses a little below the limit, as no
    clock repeats itself.
    """
    timed = [c for c in budget.constraints if c.key in _TIMED and c.value(parent) > c.limit]
    rest = [c for c in budget.constraints if c.key not in _TIMED]
    tight = [replace(c, limit=c.limit * (1 - _MARGIN)) for c in timed]
    return replace(budget, constraints=(*rest, *tight))


def by_table(cost: Cost, tables: dict[str, LatencyTable]) -> Cost:
    """The parent's cost with the times that its table was measured by: they are many and recent,
    and a percentage must mean a share of what the search steers by.
    """
    times = {k: Latency(t.base, t.base * t.spread) for k, t in tables.items()}
    if "latency" in times:
        cost = replace(cost, decode=times["latency"])
    return replace(cost, prefill=times["prefill"]) if "prefill" in times else cost
