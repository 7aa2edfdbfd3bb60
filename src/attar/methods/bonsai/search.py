"""The loop of Bonsai, and the baselines that differ from it only in how they value a piece (section
2.2).
"""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from attar import evaluate
from attar.arch import Arch
from attar.budget import Budget, Constraint
from attar.checkpoint import has_stock_form, write_text
from attar.errors import BudgetError, CompatibilityError, DataError
from attar.families import UNITS, Body
from attar.latency import LatencyTable
from attar.methods.bonsai.config import BonsaiConfig, Layout, Method
from attar.methods.bonsai.pieces import (
    Ledger,
    Piece,
    block_size,
    cut_pieces,
    draw_pairs,
    fill,
    prunable,
    removable_pool,
    removal_plan,
    spare,
    switch,
)
from attar.methods.bonsai.priors import Module, Prior, layer_priors, unit_priors
from attar.methods.bonsai.regression import fit_values, kendall_tau
from attar.slicing import SlicePlan, UnitMasks, slice_model

logger = logging.getLogger(__name__)

Metric = Callable[[PreTrainedModel], float]
#: below this held-out rank correlation the regression has learnt nothing and the prior decides
LEAST_TAU = 0.05
#: sub-models measured in one step unless the options say otherwise
MOST_EVALUATIONS = 200
_PRIOR_OF: dict[str, Prior] = {
    "random": "random",
    "magnitude": "magnitude",
    "wanda": "wanda",
    "flap": "fluctuation",
}


@dataclass
class Step:
    """What one step saw and did; the record keeps one per step."""

    number: int
    currency: str
    pieces: int
    evaluations: int
    utility: float
    tau: float | None
    fell_back: bool
    unusable: int
    removed: dict[str, int]
    importance: dict[str, float]
    seconds: float
    tokens: int


@dataclass
class Search:
    """A pruned model and how it came about: `model` is the parent, cut down in place; `plan` counts
    in the parent's numbers.
    """

    model: PreTrainedModel
    plan: SlicePlan
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    predicted: dict[str, float] = field(default_factory=dict)


def search(
    model: PreTrainedModel,
    windows: Tensor,
    *,
    budget: Budget,
    method: Method = "bonsai",
    layout: Layout = "per_layer",
    config: BonsaiConfig = BonsaiConfig(),
    metric: Metric | None = None,
    tables: dict[str, LatencyTable] | None = None,
    state: Path | None = None,
) -> Search:
    """Prune `model` in place, step by step, until the budget holds.

    Args:
        model: the parent; it is cut down as the search goes, so that no second copy of the weights
            exists.
        windows: calibration text as token ids, `(N, T)`; every step draws its own rows.
        budget: absolute limits (`Budget.resolve`).
        method: `bonsai`; `blockwise` (direct measurement, section 2.12); or a one-shot baseline.
        layout: `uniform` keeps all layers alike; `depth` removes whole layers; `per_layer` and
            `padded` are free.
        config: see `BonsaiConfig`.
        metric: a figure of merit to keep high instead of the likelihood; any function of the model.
        tables: latency tables for the currencies `latency` and `prefill`.
        state: a folder for the evaluations made so far, to resume from.

    Raises:
        BudgetError: the budget is out of reach; the message names the smallest reachable.
        CompatibilityError: the layout or method does not fit the model.
        DataError: the loss of the parent is not finite.
    """
    run = _Run(model, windows, budget, method, layout, config, metric, tables or {}, state)
    return run.go()


class _Run:
    """One search: the arguments and what the steps share."""

    def __init__(
        self,
        model: PreTrainedModel,
        windows: Tensor,
        budget: Budget,
        method: Method,
        layout: Layout,
        config: BonsaiConfig,
        metric: Metric | None,
        tables: dict[str, LatencyTable],
        state: Path | None,
    ) -> None:
        self.model, self.windows, self.budget = model, windows, budget
        self.method: Method = method
        self.layout: Layout = layout
        self.config, self.metric = config, metric
        self.state = state
        self.ledger = Ledger(model, tables)
        self.tables = tables
        # decided once, by the parent: a model that shrinks below the threshold keeps its precision
        self.precision = evaluate.autocast(model)
        self.uniform = layout == "uniform"
        self.found = Search(model, SlicePlan.identity(model))
        if self.uniform and not Arch.of(model).uniform:
            raise CompatibilityError(
                "the uniform layout needs a parent whose layers are all alike, and this one's "
                "differ; use per_layer"
            )
        if layout == "depth" and method in ("magnitude", "wanda", "flap"):
            raise CompatibilityError(
                f"{method} scores units inside a module and cannot compare layers; for the depth "
                f"layout use bonsai, blockwise or random"
            )
        heads_free = has_stock_form(model.config)
        body = Body(model)
        self.modules = prunable(model, layout, config, heads_free)
        if reason := body.why_not("kv_groups"):
            self.found.notes.append(f"heads stay: {reason}")
        elif self.uniform and not heads_free:
            self.found.notes.append(
                f"heads stay: {type(model.config).__name__} takes only head counts that divide the "
                f"width; "
                "the per_layer layout can remove them"
            )
        widths = [layer.neurons for layer in body.layers]
        self.block = block_size(model, config, max(widths))
        self.start = {c.name: self.ledger.total(c) for c in budget.constraints}
        self.removable = {c.name: self._removable(c) for c in budget.constraints}

    # ------------------------------------------------------------------------------------ the loop

    def go(self) -> Search:
        self._check_reach()
        self._check_parent()
        self._restore()
        bar = tqdm(
            total=100, desc=f"{self.method}: of the way to the budget", unit="%", disable=None
        )
        with bar:
            while (tightest := self._tightest()) is not None:
                constraint, missing = tightest
                one_shot = self.method in _PRIOR_OF
                share = 1.0 if one_shot else self.config.step
                amount = min(share * self.removable[constraint.name], missing)
                self._step(constraint, amount, last=amount >= missing)
                self._save()
                bar.update(round(self._progress() * 100) - bar.n)
        self.found.predicted = {c.name: self.ledger.total(c) for c in self.budget.constraints}
        return self.found

    def _step(self, constraint: Constraint, amount: float, *, last: bool) -> None:
        """One step of section 2.2: priors, candidates, evaluations, fit, removal."""
        began = time.perf_counter()
        number = len(self.found.steps)
        generator = torch.Generator().manual_seed(self.config.seed * 100_003 + number)
        rows = self._draw_windows(generator)
        with self.precision:  # left before the weights change: autocast caches them
            priors = self._priors(rows, generator)
            pool = self._pool(constraint, amount, priors)
            costs = self.ledger.pieces(constraint.key, pool)
            values, facts = self._values(pool, costs, priors, rows, generator, number)
        gone = fill(
            pool, values, costs, amount, config=self.config, uniform=self.uniform, trim=last
        )
        if not gone:
            raise BudgetError(
                f"no piece that is left saves any {constraint.name}, and the budget "
                f"{self.budget.text!r} is not met yet; raise it"
            )
        importance = {
            m: float(np.mean([v for p, v in zip(pool, values, strict=True) if p.module == m]))
            for m in dict.fromkeys(p.module for p in pool)
        }
        removed: dict[str, int] = {}
        for piece in gone:
            removed[piece.module] = removed.get(piece.module, 0) + max(1, len(piece.members))
        plan = removal_plan(self.model, gone)
        self.found.plan = self.found.plan.then(plan)
        slice_model(self.model, plan, in_place=True)
        evaluations = facts.pop("evaluations")
        step = Step(
            number=number,
            currency=constraint.name,
            pieces=len(pool),
            evaluations=evaluations,
            removed=removed,
            importance=importance,
            seconds=time.perf_counter() - began,
            tokens=evaluations * rows.numel(),
            **facts,
        )
        self.found.steps.append(step)
        logger.info(
            "step %d: %s now %.4g; %d pieces, %d evaluations, held-out tau %s, %.1f s",
            number + 1,
            constraint.name,
            self.ledger.total(constraint),
            step.pieces,
            step.evaluations,
            "-" if step.tau is None else f"{step.tau:.2f}",
            step.seconds,
        )

    def _draw_windows(self, generator: torch.Generator) -> Tensor:
        """Rows that this step's evaluations share; new ones every step."""
        order = torch.randperm(len(self.windows), generator=generator)
        return self.windows[order[: self.config.windows]]

    def _priors(self, rows: Tensor, generator: torch.Generator) -> dict[Module, Tensor]:
        prior = _PRIOR_OF.get(self.method, self.config.prior)
        return unit_priors(
            self.model, rows, prior, generator=generator, batch_size=self.config.batch_size
        )

    def _pool(
        self, constraint: Constraint, amount: float, priors: dict[Module, Tensor]
    ) -> list[Piece]:
        if self.layout == "depth":
            return self._layer_pool(amount, constraint)
        modules = [m for m in self.modules if self.ledger.unit(constraint.key, *m) > 0]
        if self.method in _PRIOR_OF:  # everything that can be spared, in the finest pieces
            return [piece for m in modules for piece in self._finest(m, priors[m])]
        live = self._removable(constraint)
        share = min(1.0, max(2.0, self.config.pool_factor) * amount / max(live, 1e-9))
        block, most = self.block, self.config.evaluations or MOST_EVALUATIONS
        widest = max(layer.neurons for layer in Body(self.model).layers)

        def pool_of(size: int) -> list[Piece]:
            return removable_pool(
                self.model, modules, priors, share=share, block=size, config=self.config
            )

        pool = pool_of(block)
        while len(pool) > most and self.config.ffn_block is None and block < widest:
            block *= 2  # more pieces than evaluations could tell apart
            pool = pool_of(block)
        if sum(self.ledger.pieces(constraint.key, pool)) < amount:
            pool = removable_pool(
                self.model,
                modules,
                priors,
                share=1.0,
                block=self.config.round_to,
                config=self.config,
            )
        return pool

    def _finest(self, module: Module, prior: Tensor) -> list[Piece]:
        size = 1 if module[1] == "kv_groups" else self.config.round_to
        order = prior.argsort(stable=True).tolist()
        return cut_pieces(
            module, order[: spare(self.model, module, self.config) // size * size], size
        )

    def _layer_pool(self, amount: float, constraint: Constraint) -> list[Piece]:
        """Whole layers, those that change their input least; at least one layer always stays."""
        influence = layer_priors(self.model, self.windows[: self.config.windows])
        order = influence.argsort(stable=True).tolist()
        whole = [Piece(i, None) for i in order if Piece(i, None).module not in self.config.protect]
        if self.method in _PRIOR_OF:
            return whole[: len(order) - 1]
        per_layer = self.ledger.piece(constraint.key, whole[0]) if whole else 1.0
        wanted = max(3, round(self.config.pool_factor * amount / per_layer))
        return whole[: min(len(order) - 1, wanted)]

    # -------------------------------------------------------------------------------------- values

    def _values(
        self,
        pool: Sequence[Piece],
        costs: list[float],
        priors: dict[Module, Tensor],
        rows: Tensor,
        generator: torch.Generator,
        number: int,
    ) -> tuple[list[float], dict[str, Any]]:
        """What keeping each piece is worth, by the method at hand."""
        facts: dict[str, Any] = {"tau": None, "fell_back": False, "unusable": 0}
        log = _Evaluations(self.state, number)
        utility = self._utility(rows, log)
        facts["utility"] = utility()
        if self.method in _PRIOR_OF:
            values = self._one_shot(pool, costs, priors, generator)
        elif self.method == "blockwise":
            values = self._blockwise(pool, utility)
        else:
            values = self._regress(pool, costs, priors, generator, utility, facts)
        facts["evaluations"] = log.count
        return values, facts

    def _utility(self, rows: Tensor, log: "_Evaluations") -> Callable[[], float]:
        """A function that measures the model as it is switched now, remembered for resuming."""

        def measure() -> float:
            if self.metric is not None:
                with torch.random.fork_rng():  # a user's metric must not move our random state
                    return float(self.metric(self.model))
            nll = evaluate.nll(self.model, rows, batch_size=self.config.batch_size)
            if self.config.utility == "perplexity":
                return -min(math.exp(min(nll, 700.0)), 1e8) if math.isfinite(nll) else -1e8
            return -nll

        return lambda: log.remember(measure)

    def _regress(
        self,
        pool: Sequence[Piece],
        costs: list[float],
        priors: dict[Module, Tensor],
        generator: torch.Generator,
        utility: Callable[[], float],
        facts: dict[str, Any],
    ) -> list[float]:
        n = self.config.evaluations or min(MOST_EVALUATIONS, max(32, 2 * len(pool)))
        if self.layout == "depth":
            n = min(n, 2 ** len(pool))
        pairs = max(2, n // 2)
        keep = draw_pairs(pool, pairs, config=self.config, priors=priors, generator=generator)
        with UnitMasks(self.model) as masks:
            scores = []
            for row in tqdm(keep, desc="evaluations", leave=False, disable=None):
                switch(masks, self.model, pool, row)
                scores.append(utility())
        fit = fit_values(keep.double().numpy(), np.array(scores))
        facts |= {"tau": fit.tau, "unusable": fit.unusable}
        if fit.tau > LEAST_TAU:
            return fit.beta.tolist()
        facts["fell_back"] = True
        logger.warning(
            "held-out rank correlation %.2f: the evaluations say nothing about these pieces, so "
            "the prior decides this step; "
            "more windows or evaluations would help",
            fit.tau,
        )
        return self._by_prior(pool, costs)

    def _blockwise(self, pool: Sequence[Piece], utility: Callable[[], float]) -> list[float]:
        """Switch each module's pieces off one after the other and read the damage of each directly
        (section 2.12).
        """
        values = [0.0] * len(pool)
        with UnitMasks(self.model) as masks:
            keep = torch.ones(len(pool))
            switch(masks, self.model, pool, keep)
            whole = utility()
            for module in dict.fromkeys(p.module if p.unit else "layers" for p in pool):
                keep, before = torch.ones(len(pool)), whole
                for i, piece in enumerate(pool):
                    if (piece.module if piece.unit else "layers") != module:
                        continue
                    if piece.unit is None:  # layers are measured one at a time
                        keep, before = torch.ones(len(pool)), whole
                    keep[i] = 0
                    switch(masks, self.model, pool, keep)
                    after = utility()
                    values[i] = before - after if math.isfinite(after) else math.inf
                    before = after
        return values

    def _by_prior(self, pool: Sequence[Piece], costs: list[float]) -> list[float]:
        """Rank within the module's pool, so that every module gives alike."""
        counts: dict[str, int] = {}
        values = []
        for piece in pool:  # pieces come in prior order
            counts[piece.module] = counts.get(piece.module, 0) + 1
            values.append(float(counts[piece.module]))
        return self._times_cost(values, costs)

    def _one_shot(
        self,
        pool: Sequence[Piece],
        costs: list[float],
        priors: dict[Module, Tensor],
        generator: torch.Generator,
    ) -> list[float]:
        """Baselines: standardised scores over all modules (as FLAP), or an equal share of every
        module.
        """
        if self.layout == "depth":
            return torch.rand(len(pool), generator=generator).tolist()
        values = []
        taken: dict[str, int] = {}
        for piece in pool:
            assert piece.unit is not None
            rho = priors[piece.layer, piece.unit]
            if self.config.allocation == "equal":
                taken[piece.module] = taken.get(piece.module, 0) + len(piece.members)
                score = taken[piece.module] / len(rho)
            else:
                standard = (rho - rho.mean()) / rho.std(correction=0).clamp_min(1e-12)
                score = float(standard[list(piece.members)].mean())
            values.append(score)
        return self._times_cost(values, costs)

    def _times_cost(self, scores: list[float], costs: list[float]) -> list[float]:
        """`fill` divides by cost; a score that is already one per channel is handed over times the
        cost.
        """
        if self.config.rank_by == "value":
            return scores
        return [s * c for s, c in zip(scores, costs, strict=True)]

    # ------------------------------------------------------------------------------------- budgets

    def _tightest(self) -> tuple[Constraint, float] | None:
        """The unmet limit that is furthest away, as a share of what can be removed, and what is
        missing of it.
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

    def _removable(self, constraint: Constraint) -> float:
        """What all pieces that can be spared save together."""
        if self.layout == "depth":
            pieces = [Piece(i, None) for i in range(len(Body(self.model).layer_list))]
            saved = sorted(self.ledger.pieces(constraint.key, pieces))
            return sum(saved[:-1])
        if constraint.key in self.tables:
            return self._removable_time(constraint)
        return sum(
            spare(self.model, m, self.config) * self.ledger.unit(constraint.key, *m)
            for m in self.modules
        )

    def _removable_time(self, constraint: Constraint) -> float:
        table, layers = self.tables[constraint.key], Body(self.model).layers
        saved = 0.0
        for layer, unit in self.modules:
            width = layers[layer].count(unit)
            least = width - spare(self.model, (layer, unit), self.config)
            saved += table.at(unit, width) - table.at(unit, least)
        return saved

    def _check_reach(self) -> None:
        for c in self.budget.constraints:
            least = self.start[c.name] - self.removable[c.name]
            if c.limit < least - 1e-9 * least:
                raise BudgetError(
                    f"the budget {self.budget.text!r} is out of reach: the least {c.name} that "
                    f"layout {self.layout} can give this model is "
                    f"{least:.6g} ({100 * least / self.start[c.name]:.1f}% of the parent's "
                    f"{self.start[c.name]:.6g}), and the limit is "
                    f"{c.limit:.6g}"
                )

    def _check_parent(self) -> None:
        if self.metric is None and not math.isfinite(
            evaluate.nll(self.model, self.windows[:1], batch_size=1)
        ):
            raise DataError(
                "the parent's loss on the calibration text is not finite, so nothing can be learnt "
                "from it; its weights may be damaged "
                "or need another dtype"
            )

    def _progress(self) -> float:
        shares = [
            1.0
            if self.start[c.name] <= c.limit
            else (self.start[c.name] - self.ledger.total(c)) / (self.start[c.name] - c.limit)
            for c in self.budget.constraints
        ]
        return min(1.0, *shares) if shares else 1.0

    # -------------------------------------------------------------------------------------- resume

    def _save(self) -> None:
        if self.state is not None:
            stored = {
                "plan": self.found.plan.to_dict(),
                "steps": [asdict(step) for step in self.found.steps],
            }
            write_text(self.state / "search.json", json.dumps(stored))

    def _restore(self) -> None:
        if self.state is None or not (self.state / "search.json").exists():
            return
        stored = json.loads((self.state / "search.json").read_text(encoding="utf-8"))
        self.found.plan = SlicePlan.from_dict(stored["plan"])
        self.found.steps = [Step(**step) for step in stored["steps"]]
        slice_model(self.model, self.found.plan, in_place=True)
        logger.info("resuming after step %d", len(self.found.steps))


class _Evaluations:
    """The utilities of one step, kept in a file line by line, so that a killed run loses at most
    the one under way.
    """

    def __init__(self, state: Path | None, step: int) -> None:
        self._file = None if state is None else state / f"step-{step:03d}.jsonl"
        self._known: list[float] = []
        self.count = 0
        if self._file is not None and self._file.exists():
            lines = self._file.read_text(encoding="utf-8").split("\n")
            self._known = [
                float(json.loads(line)) for line in lines[:-1]
            ]  # what follows the last newline is broken off
            self._file.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")

    def remember(self, measure: Callable[[], float]) -> float:
        """The next utility: from the file if an earlier run got this far, else measured and written
        down.
        """
        self.count += 1
        if self.count <= len(self._known):
            return self._known[self.count - 1]
        value = measure()
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(value) + "\n")
        return value


def kept_widths(model: PreTrainedModel) -> list[dict[str, int]]:
    """KV groups and neurons of every layer, for the record."""
    return [{unit: layer.count(unit) for unit in UNITS} for layer in Body(model).layers]


__all__ = ["Metric", "Search", "Step", "kendall_tau", "kept_widths", "search"]
