"""The loop that Bonsai and the baselines share: remove what is worth least until a budget holds."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.arch import Arch
from attar.artefacts import write_text
from attar.budget import Budget, Constraint
from attar.checkpoint import has_stock_form
from attar.errors import BudgetError, CompatibilityError, DataError
from attar.evaluation import likelihood
from attar.families import UNITS, Body
from attar.foreign import read_json
from attar.measure.latency_table import LatencyTable
from attar.models import autocast, computing
from attar.pruning.baselines import GroupScores, ScoringTask, Strategy
from attar.pruning.compensation import add_biases, compensate, without_biases
from attar.pruning.config import Layout, PruneConfig
from attar.pruning.importance import Module, layer_importance, unit_importance
from attar.pruning.ledger import Ledger
from attar.pruning.pieces import (
    UnitGroup,
    block_size,
    finest_pool,
    prunable,
    removable_pool,
    removal_plan,
    select_removals,
)
from attar.report.units import amount
from attar.runtime import Bar
from attar.slicing import SlicePlan, slice_model

logger = logging.getLogger(__name__)

#: sub-models of one kind measured in one step, unless more candidates or the options ask for others
MOST_EVALUATIONS = 200


class Evaluations:
    """The utilities of one step, kept in a file line by line, so that a killed run loses at most
    the one under way.
    """

    def __init__(self, state: Path | None, step: int) -> None:
        self._file = None if state is None else state / f"step-{step:03d}.jsonl"
        self._known: list[float] = []
        self.count = 0
        if self._file is not None and self._file.exists():
            # what follows the last newline was cut short by the kill
            lines = self._file.read_text(encoding="utf-8").split("\n")[:-1]
            self._known = [float(json.loads(line)) for line in lines]
            write_text(self._file, "".join(f"{line}\n" for line in lines))

    def remember(self, measure: Callable[[], float]) -> float:
        """The next utility: from the file if an earlier run got this far, else measured and
        written down.
        """
        self.count += 1
        if self.count <= len(self._known):
            return self._known[self.count - 1]
        value = measure()
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(value) + "\n")
        return value


Metric = Callable[[PreTrainedModel], float]
"""A figure of merit of a model, to keep high."""


@dataclass
class Step:
    """What one step saw and did; the record keeps one per step.

    Attributes:
        number: from 0.
        constraint: the one that was tightest.
        candidates: groups of units that could go.
        evaluations: sub-models measured.
        utility: of the model at the start of the step.
        kendall_tau: held-out rank correlation of the fit; None without one.
        fell_back: kinds of groups that the prior ranked instead of the fit.
        unusable: evaluations that were not finite.
        removed: module -> units removed.
        importance: module -> mean value of its candidates.
        seconds: wall time.
        tokens: forwarded in evaluations.
    """

    number: int
    constraint: str
    candidates: int
    evaluations: int
    utility: float
    kendall_tau: float | None
    fell_back: list[str]
    unusable: int
    removed: dict[str, int]
    importance: dict[str, float]
    seconds: float
    tokens: int


@dataclass
class PruneResult:
    """A pruned model and how it came about.

    Attributes:
        model: the parent, cut down in place.
        plan: what stayed, in the parent's numbers.
        steps: what each step saw and did.
        notes: what could not be removed, and why.
        predicted: the figure of every constraint as the search counts it.
    """

    model: PreTrainedModel
    plan: SlicePlan
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    predicted: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LoopTask:
    """What is to be pruned, and how.

    Attributes:
        model: the parent; it is cut down as the loop goes, so that no second copy of the weights
            exists.
        windows: calibration text as token ids, `(N, T)`; every step draws its own rows.
        budget: absolute limits (`Budget.resolve`).
        strategy: how candidates are valued.
        layout: `uniform` keeps all layers alike; `depth` removes whole layers; `per_layer` and
            `padded` are free.
        config: see `PruneConfig`.
        metric: a figure of merit to keep high instead of the likelihood.
        tables: latency tables for the constraints `latency` and `prefill`.
        state: a folder for the evaluations made so far, to resume from.
    """

    model: PreTrainedModel
    windows: Tensor
    budget: Budget
    strategy: Strategy
    layout: Layout = "per_layer"
    config: PruneConfig = PruneConfig()
    metric: Metric | None = None
    tables: Mapping[str, LatencyTable] = field(default_factory=dict)
    state: Path | None = None


def prune_to_budget(task: LoopTask) -> PruneResult:
    """Prune `task.model` in place, step by step, until the budget holds.

    Raises:
        BudgetError: the budget is out of reach; the message names the least that can be reached.
        CompatibilityError: the layout or method does not fit the model.
        DataError: the loss of the parent is not finite.
    """
    _check_layout(task)
    run, strategy, config = _Loop(task), task.strategy, task.config
    run.costs.check_reach()
    run.check_parent()
    run.restore()
    if not strategy.one_shot:
        logger.info(
            "%s: each step removes %.0f%% of what can be pruned", strategy.name, 100 * config.step
        )
    bar = Bar(total=100, desc=f"pruning by {strategy.name}", unit="%")
    with bar:
        while (tightest := run.costs.tightest()) is not None:
            constraint, missing = tightest
            share = 1.0 if strategy.one_shot and not config.iterative else config.step
            amount = min(share * run.costs.removable[constraint.key], missing)
            run.step(constraint, amount, last=amount >= missing)
            run.save()
            bar.update(round(run.costs.progress() * 100) - bar.n)
    run.result.predicted = {c.key: run.costs.total(c) for c in task.budget.constraints}
    return run.result


def _check_layout(task: LoopTask) -> None:
    if task.layout == "uniform" and not Arch.of(task.model).uniform:
        raise CompatibilityError(
            "the uniform layout needs a parent whose layers are all alike, and this one's differ; "
            "use per_layer"
        )
    if task.layout == "depth" and Body(task.model).connected:
        raise CompatibilityError(
            "the depth layout cannot remove layers of this model, as linear maps connect each of "
            "them to the next; use per_layer"
        )
    if task.layout == "depth" and task.strategy.one_shot and task.strategy.name != "random":
        raise CompatibilityError(
            f"{task.strategy.name} scores units inside a module and cannot compare layers; for the "
            "depth layout use bonsai, blockwise or random"
        )


class _Loop:
    """One run of the loop: its task, and a step of it."""

    def __init__(self, task: LoopTask) -> None:
        self.task, self.model, self.config = task, task.model, task.config
        # decided once, by the parent: a model that shrinks below the threshold keeps its precision
        self.precision = autocast(task.model)
        self.result = PruneResult(task.model, SlicePlan.identity(task.model))
        if task.strategy.compensates:
            self._add_biases()
        self.modules = self._modules()
        layers = Body(task.model).layers
        self.widths: dict[Module, int] = {
            (i, unit): layer.count(unit) for i, layer in enumerate(layers) for unit in UNITS
        }
        self.block = block_size(task.config, max(layer.neurons for layer in layers))
        self.costs = Ledger(
            task.model,
            task.budget,
            layout=task.layout,
            config=task.config,
            modules=self.modules,
            tables=dict(task.tables),
        )

    def _add_biases(self) -> None:
        """Biases for what is removed, where the class has them; a note where it has none."""
        if self.task.layout != "uniform":  # there they would cost Llama the freedom of its heads
            add_biases(self.model)
        if lack := without_biases(self.model):
            self.result.notes.append(
                f"nothing makes up for what goes from {' and '.join(lack)}: "
                f"{type(self.model).__name__} has no output bias there"
                + (" in the uniform layout" if self.task.layout == "uniform" else "")
            )

    def _modules(self) -> list[Module]:
        """The modules that may shrink; a note says why heads stay where they do."""
        heads_free, layout = has_stock_form(self.model.config), self.task.layout
        notes = self.result.notes
        if reason := Body(self.model).why_not("kv_groups"):
            notes.append(f"heads stay: {reason}")
        elif all(layer.kv_groups == 1 for layer in Body(self.model).layers):
            notes.append("heads stay: every layer has a single KV group, and one must stay")
        elif layout == "uniform" and not heads_free:
            notes.append(
                f"heads stay: no stock class that other programs read holds fewer heads of a "
                f"{self.model.config.model_type} model; the per_layer layout can remove them"
            )
        return prunable(self.model, layout, config=self.config, uniform_heads=heads_free)

    def step(self, constraint: Constraint, amount: float, *, last: bool) -> None:
        """One step: draw text, score units, pick candidates, value them, remove the least.

        Of Bonsai's algorithm 1, (b) and (c) are step 1, the method called in (d) does steps 2 to 4,
        and (e) is step 5.
        """
        began, number = time.perf_counter(), len(self.result.steps)
        # (a) new text every step
        generator = torch.Generator().manual_seed(self.config.seed * 100_003 + number)
        order = torch.randperm(len(self.task.windows), generator=generator)
        rows = self.task.windows[order[: self.config.windows]]
        log = Evaluations(self.task.state, number)
        # left before the weights change: autocast caches them
        with computing(self.model), self.precision:
            # (b) a score for every unit, which picks the candidates inside each module
            importance = unit_importance(
                self.model,
                rows,
                prior=self.task.strategy.prior or self.config.prior,
                generator=generator,
                batch_size=self.config.batch_size,
                standardise=self.task.strategy.one_shot,
            )
        # (c) the candidates, and what each would save of the stored weights
        pool = self._pool(constraint, amount, importance=importance, rows=rows)
        self._require_candidates(pool, constraint)
        costs = self.costs.of_groups(constraint.key, pool)
        # (d) what keeping each is worth
        with computing(self.model), self.precision:
            utility = self._utility(rows, log)
            present = utility()
            scores = self.task.strategy.score(
                ScoringTask(
                    model=self.model,
                    pool=pool,
                    costs=costs,
                    importance=importance,
                    widths=self.widths,
                    share=self._share(constraint, amount),
                    config=self.config,
                    generator=generator,
                    utility=utility,
                )
            )
        # (e) the least valuable go
        uniform = self.task.layout == "uniform"
        gone = select_removals(
            pool,
            scores.values,
            costs=costs,
            amount=amount,
            config=self.config,
            uniform=uniform,
            trim=last,
        )
        names = {p: self._name(p) for p in [*pool, *gone]}
        plan = removal_plan(self.model, gone)
        if self.task.strategy.compensates:
            compensate(self.model, plan, windows=rows, batch_size=self.config.batch_size)
        self.result.plan = self.result.plan.then(plan)
        slice_model(self.model, plan, in_place=True)
        step = Step(
            number=number,
            constraint=constraint.key,
            candidates=len(pool),
            evaluations=log.count,
            utility=present,
            kendall_tau=scores.kendall_tau,
            fell_back=scores.fell_back,
            unusable=scores.unusable,
            removed=_count(gone, names),
            importance=_importance(pool, scores, names),
            seconds=time.perf_counter() - began,
            tokens=log.count * rows.numel(),
        )
        self.result.steps.append(step)
        self._tell(step, self.costs.total(constraint))

    def _require_candidates(self, pool: list[UnitGroup], constraint: Constraint) -> None:
        if pool:
            return
        timed = constraint.key in self.costs.tables
        raise BudgetError(
            f"nothing that is left saves any {constraint.key}"
            f"{' by the timings of this machine' if timed else ''}, and the budget "
            f"{self.task.budget.text!r} is not met yet; raise it"
            f"{', or bound macs instead' if timed else ''}"
        )

    def _name(self, group: UnitGroup) -> str:
        """The group's module under the number that its layer has in the parent."""
        return replace(group, layer=self.result.plan.layers[group.layer].layer).module

    def _pool(
        self,
        constraint: Constraint,
        amount: float,
        *,
        importance: dict[Module, Tensor],
        rows: Tensor,
    ) -> list[UnitGroup]:
        """The candidates of this step."""
        costs, config, model = self.costs, self.config, self.model
        if self.task.layout == "depth":
            return self._layer_pool(constraint, amount, rows)
        modules = [m for m in self.modules if costs.of_unit(constraint.key, m) > 0]
        if self.task.strategy.one_shot:
            return finest_pool(model, modules, importance=importance, config=config)
        share = min(1.0, max(2.0, config.pool_factor) * self._share(constraint, amount))
        # blocks that the options ask for stay as they are
        most = None if config.ffn_block else config.evaluations or MOST_EVALUATIONS
        cut = partial(
            removable_pool, model, modules, importance=importance, most=most, config=config
        )
        pool = cut(share=share, block=self.block)
        if sum(costs.of_groups(constraint.key, pool)) < amount:  # the rests of blocks count now
            pool = cut(share=1.0, block=config.round_to)
        return pool

    def _share(self, constraint: Constraint, amount: float) -> float:
        """The part of what may still go that a step removes."""
        return amount / max(self.costs.spare(constraint), 1e-9)

    def _layer_pool(self, constraint: Constraint, amount: float, rows: Tensor) -> list[UnitGroup]:
        """Whole layers, those that change their input least; at least one layer always stays."""
        influence = layer_importance(self.model, rows, batch_size=self.config.batch_size)
        order = influence.argsort(stable=True).tolist()
        parents = self.result.plan.layers  # options and records count in the parent's numbers
        whole = [
            UnitGroup(i, None)
            for i in order
            if f"layers.{parents[i].layer}" not in self.config.protect
        ]
        most = len(order) - 1
        if not self.task.strategy.one_shot and whole:
            per_layer = max(self.costs.of_group(constraint.key, whole[0]), 1e-9)
            most = min(most, max(3, round(self.config.pool_factor * amount / per_layer)))
        return whole[:most]

    def _utility(self, rows: Tensor, log: Evaluations) -> Callable[[], float]:
        """A function that measures the model as it is switched now, remembered for resuming."""

        def measure() -> float:
            if self.task.metric is not None:
                with torch.random.fork_rng():  # a user's metric must not move our random state
                    return float(self.task.metric(self.model))
            nll = likelihood.nll(self.model, rows, batch_size=self.config.batch_size)
            if self.config.utility == "perplexity":
                return -min(math.exp(min(nll, 700.0)), 1e8) if math.isfinite(nll) else -1e8
            return -nll

        return lambda: log.remember(measure)

    def check_parent(self) -> None:
        """Refuse a parent whose loss is not finite."""
        if self.task.metric is None and not math.isfinite(
            likelihood.nll(self.model, self.task.windows[:1], batch_size=1)
        ):
            raise DataError(
                "the parent's loss on the calibration text is not finite, so nothing can be learnt "
                "from it; its weights may be damaged or need another dtype"
            )

    def _tell(self, step: Step, now: float) -> None:
        logger.info(
            "step %d: %s now %s; candidates %d, evaluations %d%s, %.1f s",
            step.number + 1,
            step.constraint,
            amount(step.constraint, now),
            step.candidates,
            step.evaluations,
            "" if (tau := step.kendall_tau) is None else f", held-out rank correlation {tau:.2f}",
            step.seconds,
        )

    def save(self) -> None:
        """Keep what is decided so far for a resumed run."""
        if self.task.state is not None:
            steps = [asdict(step) for step in self.result.steps]
            stored = {"plan": self.result.plan.to_dict(), "steps": steps}
            write_text(self.task.state / "search.json", json.dumps(stored))

    def restore(self) -> None:
        """Go to where an interrupted run stopped."""
        if self.task.state is None or not (self.task.state / "search.json").exists():
            return
        if self.task.strategy.compensates:
            return  # the plan holds no biases, and a step anew is one forward pass
        stored = read_json(self.task.state / "search.json", "the state of a search")
        self.result.plan = SlicePlan.from_dict(stored["plan"])
        self.result.steps = [Step(**step) for step in stored["steps"]]
        slice_model(self.model, self.result.plan, in_place=True)
        logger.info("resuming after step %d", len(self.result.steps))


def _count(gone: list[UnitGroup], names: dict[UnitGroup, str]) -> dict[str, int]:
    """Units removed, by module."""
    removed: dict[str, int] = {}
    for group in gone:
        removed[names[group]] = removed.get(names[group], 0) + max(1, len(group.members))
    return removed


def _importance(
    pool: list[UnitGroup], scores: GroupScores, names: dict[UnitGroup, str]
) -> dict[str, float]:
    """Mean value of the candidates, by module."""
    values: dict[str, list[float]] = {}
    for group, value in zip(pool, scores.values, strict=True):
        values.setdefault(names[group], []).append(value)
    return {module: float(np.mean(each)) for module, each in values.items()}


def kept_widths(model: PreTrainedModel) -> list[dict[str, int]]:
    """KV groups and neurons of every layer, for the record."""
    return [{unit: layer.count(unit) for unit in UNITS} for layer in Body(model).layers]
