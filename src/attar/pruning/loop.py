"""The loop of Bonsai, which the baselines share (section 2.2)."""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from attar.arch import Arch
from attar.artefacts import write_text
from attar.budget import Budget, Constraint
from attar.checkpoint import has_stock_form
from attar.errors import BudgetError, CompatibilityError, DataError
from attar.evaluation import likelihood
from attar.families import UNITS, Body
from attar.measure.latency_table import LatencyTable
from attar.methods.bonsai import regress
from attar.models import autocast
from attar.pruning.baselines import Answer, Question, blockwise, one_shot
from attar.pruning.config import BonsaiConfig, Layout, Method
from attar.pruning.importance import Module, Prior, layer_importance, unit_importance
from attar.pruning.ledger import Limits
from attar.pruning.pieces import (
    Piece,
    block_size,
    fill,
    finest_pool,
    prunable,
    removable_pool,
    removal_plan,
)
from attar.slicing import SlicePlan, slice_model

logger = logging.getLogger(__name__)

#: sub-models measured in one step unless the options say otherwise
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
_ONE_SHOT: dict[Method, Prior] = {
    "random": "random",
    "magnitude": "magnitude",
    "wanda": "wanda",
    "flap": "fluctuation",
}


@dataclass
class Step:
    """What one step saw and did; the record keeps one per step.

    Attributes:
        number: from 0.
        currency: the constraint that was tightest.
        pieces: candidates.
        evaluations: sub-models measured.
        utility: of the model at the start of the step.
        tau: held-out Kendall correlation of the fit; None without one.
        fell_back: kinds of pieces that the prior ranked instead of the fit.
        unusable: evaluations that were not finite.
        removed: module -> units removed.
        importance: module -> mean value of its candidates.
        seconds: wall time.
        tokens: forwarded in evaluations.
    """

    number: int
    currency: str
    pieces: int
    evaluations: int
    utility: float
    tau: float | None
    fell_back: list[str]
    unusable: int
    removed: dict[str, int]
    importance: dict[str, float]
    seconds: float
    tokens: int


@dataclass
class Search:
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
        BudgetError: the budget is out of reach; the message names the least that can be reached.
        CompatibilityError: the layout or method does not fit the model.
        DataError: the loss of the parent is not finite.
    """
    _check_layout(model, method, layout)
    run = _Run(model, windows, budget, method, layout, config, metric, tables or {}, state)
    run.limits.check_reach()
    run.check_parent()
    run.restore()
    if method not in _ONE_SHOT:
        logger.info("%s: steps of %.0f%% of what can go", method, 100 * config.step)
    bar = tqdm(total=100, desc=f"{method}: of the way to the budget", unit="%", disable=None)
    with bar:
        while (tightest := run.limits.tightest()) is not None:
            constraint, missing = tightest
            share = 1.0 if method in _ONE_SHOT and not config.iterative else config.step
            amount = min(share * run.limits.removable[constraint.name], missing)
            run.step(constraint, amount, last=amount >= missing)
            run.save()
            bar.update(round(run.limits.progress() * 100) - bar.n)
    run.found.predicted = {c.name: run.limits.ledger.total(c) for c in budget.constraints}
    return run.found


def _check_layout(model: PreTrainedModel, method: Method, layout: Layout) -> None:
    if layout == "uniform" and not Arch.of(model).uniform:
        raise CompatibilityError(
            "the uniform layout needs a parent whose layers are all alike, and this one's differ; "
            "use per_layer"
        )
    if layout == "depth" and method in ("magnitude", "wanda", "flap"):
        raise CompatibilityError(
            f"{method} scores units inside a module and cannot compare layers; for the depth "
            "layout use bonsai, blockwise or random"
        )


class _Run:
    """One search: its arguments, and a step of it."""

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
        self.model, self.windows = model, windows
        self.method: Method = method
        self.layout: Layout = layout
        self.config, self.metric, self.state = config, metric, state
        # decided once, by the parent: a model that shrinks below the threshold keeps its precision
        self.precision = autocast(model)
        self.found = Search(model, SlicePlan.identity(model))
        self.modules = self._modules()
        self.widths: dict[Module, int] = {
            (i, unit): layer.count(unit)
            for i, layer in enumerate(Body(model).layers)
            for unit in UNITS
        }
        self.block = block_size(config, max(layer.neurons for layer in Body(model).layers))
        self.limits = Limits(
            model, budget, layout=layout, config=config, modules=self.modules, tables=tables
        )

    def _modules(self) -> list[Module]:
        """The modules that may shrink; a note says why heads stay where they do."""
        heads_free = has_stock_form(self.model.config)
        if reason := Body(self.model).why_not("kv_groups"):
            self.found.notes.append(f"heads stay: {reason}")
        elif all(layer.kv_groups == 1 for layer in Body(self.model).layers):
            self.found.notes.append(
                "heads stay: every layer has a single KV group, and one must stay"
            )
        elif self.layout == "uniform" and not heads_free:
            self.found.notes.append(
                f"heads stay: {type(self.model.config).__name__} takes only head counts that "
                "divide the width; the per_layer layout can remove them"
            )
        return prunable(self.model, self.layout, self.config, heads_free)

    def step(self, constraint: Constraint, amount: float, *, last: bool) -> None:
        """One step of section 2.2: priors, candidates, evaluations, fit, removal."""
        began, number = time.perf_counter(), len(self.found.steps)
        generator = torch.Generator().manual_seed(self.config.seed * 100_003 + number)
        order = torch.randperm(len(self.windows), generator=generator)
        rows = self.windows[order[: self.config.windows]]  # new text every step
        log = Evaluations(self.state, number)
        with self.precision:  # left before the weights change: autocast caches them
            priors = unit_importance(
                self.model,
                rows,
                _ONE_SHOT.get(self.method, self.config.prior),
                generator=generator,
                batch_size=self.config.batch_size,
            )
            pool = self._pool(constraint, amount, priors, rows)
            if not pool:
                timed = constraint.key in self.limits.ledger.tables
                raise BudgetError(
                    f"no piece that is left saves any {constraint.name}"
                    f"{' by the timings of this machine' if timed else ''}, and the budget "
                    f"{self.limits.budget.text!r} is not met yet; raise it"
                    f"{', or bound macs instead' if timed else ''}"
                )
            costs = self.limits.ledger.pieces(constraint.key, pool)
            utility = self._utility(rows, log)
            present = utility()
            answer = self._value(
                Question(
                    self.model, pool, costs, priors, self.widths, self.config, generator, utility
                )
            )
        uniform = self.layout == "uniform"
        gone = fill(
            pool, answer.values, costs, amount, config=self.config, uniform=uniform, trim=last
        )
        names = {p: self._name(p) for p in [*pool, *gone]}
        plan = removal_plan(self.model, gone)
        self.found.plan = self.found.plan.then(plan)
        slice_model(self.model, plan, in_place=True)
        step = Step(
            number=number,
            currency=constraint.name,
            pieces=len(pool),
            evaluations=log.count,
            utility=present,
            tau=answer.tau,
            fell_back=answer.fell_back,
            unusable=answer.unusable,
            removed=_count(gone, names),
            importance=_importance(pool, answer, names),
            seconds=time.perf_counter() - began,
            tokens=log.count * rows.numel(),
        )
        self.found.steps.append(step)
        self._tell(step, self.limits.ledger.total(constraint))

    def _name(self, piece: Piece) -> str:
        """The piece's module under the number that its layer has in the parent."""
        return replace(piece, layer=self.found.plan.layers[piece.layer].layer).module

    def _pool(
        self, constraint: Constraint, amount: float, priors: dict[Module, Tensor], rows: Tensor
    ) -> list[Piece]:
        """The candidates of this step."""
        ledger, config = self.limits.ledger, self.config
        if self.layout == "depth":
            return self._layer_pool(constraint, amount, rows)
        modules = [m for m in self.modules if ledger.unit(constraint.key, *m) > 0]
        if self.method in _ONE_SHOT:
            return finest_pool(self.model, modules, priors, config=config)
        live = max(self.limits.spare(constraint), 1e-9)
        share = min(1.0, max(2.0, config.pool_factor) * amount / live)
        most = config.evaluations or MOST_EVALUATIONS
        block, widest = self.block, max(layer.neurons for layer in Body(self.model).layers)
        pool = removable_pool(self.model, modules, priors, share=share, block=block, config=config)
        while len(pool) > most and config.ffn_block is None and block < widest:
            block *= 2  # more pieces than evaluations could tell apart
            pool = removable_pool(
                self.model, modules, priors, share=share, block=block, config=config
            )
        if sum(ledger.pieces(constraint.key, pool)) < amount:
            pool = finest_pool(self.model, modules, priors, config=config)
        return pool

    def _layer_pool(self, constraint: Constraint, amount: float, rows: Tensor) -> list[Piece]:
        """Whole layers, those that change their input least; at least one layer always stays."""
        influence = layer_importance(self.model, rows, batch_size=self.config.batch_size)
        order = influence.argsort(stable=True).tolist()
        parents = self.found.plan.layers  # options and records count in the parent's numbers
        whole = [
            Piece(i, None) for i in order if f"layers.{parents[i].layer}" not in self.config.protect
        ]
        most = len(order) - 1
        if self.method not in _ONE_SHOT and whole:
            per_layer = max(self.limits.ledger.piece(constraint.key, whole[0]), 1e-9)
            most = min(most, max(3, round(self.config.pool_factor * amount / per_layer)))
        return whole[:most]

    def _value(self, question: Question) -> Answer:
        if self.method in _ONE_SHOT:
            return one_shot(question)
        return blockwise(question) if self.method == "blockwise" else regress(question)

    def _utility(self, rows: Tensor, log: Evaluations) -> Callable[[], float]:
        """A function that measures the model as it is switched now, remembered for resuming."""

        def measure() -> float:
            if self.metric is not None:
                with torch.random.fork_rng():  # a user's metric must not move our random state
                    return float(self.metric(self.model))
            nll = likelihood.nll(self.model, rows, batch_size=self.config.batch_size)
            if self.config.utility == "perplexity":
                return -min(math.exp(min(nll, 700.0)), 1e8) if math.isfinite(nll) else -1e8
            return -nll

        return lambda: log.remember(measure)

    def check_parent(self) -> None:
        """Refuse a parent whose loss is not finite."""
        if self.metric is None and not math.isfinite(
            likelihood.nll(self.model, self.windows[:1], batch_size=1)
        ):
            raise DataError(
                "the parent's loss on the calibration text is not finite, so nothing can be learnt "
                "from it; its weights may be damaged or need another dtype"
            )

    def _tell(self, step: Step, now: float) -> None:
        logger.info(
            "step %d: %s now %.4g; %d pieces, %d evaluations, held-out tau %s, %.1f s",
            step.number + 1,
            step.currency,
            now,
            step.pieces,
            step.evaluations,
            "-" if step.tau is None else f"{step.tau:.2f}",
            step.seconds,
        )

    def save(self) -> None:
        """Keep what is decided so far for a resumed run."""
        if self.state is not None:
            steps = [asdict(step) for step in self.found.steps]
            stored = {"plan": self.found.plan.to_dict(), "steps": steps}
            write_text(self.state / "search.json", json.dumps(stored))

    def restore(self) -> None:
        """Go to where an interrupted run stopped."""
        if self.state is None or not (self.state / "search.json").exists():
            return
        stored = json.loads((self.state / "search.json").read_text(encoding="utf-8"))
        self.found.plan = SlicePlan.from_dict(stored["plan"])
        self.found.steps = [Step(**step) for step in stored["steps"]]
        slice_model(self.model, self.found.plan, in_place=True)
        logger.info("resuming after step %d", len(self.found.steps))


def _count(gone: list[Piece], names: dict[Piece, str]) -> dict[str, int]:
    """Units removed, by module."""
    removed: dict[str, int] = {}
    for piece in gone:
        removed[names[piece]] = removed.get(names[piece], 0) + max(1, len(piece.members))
    return removed


def _importance(pool: list[Piece], answer: Answer, names: dict[Piece, str]) -> dict[str, float]:
    """Mean value of the candidates, by module."""
    found: dict[str, list[float]] = {}
    for piece, value in zip(pool, answer.values, strict=True):
        found.setdefault(names[piece], []).append(value)
    return {module: float(np.mean(values)) for module, values in found.items()}


def kept_widths(model: PreTrainedModel) -> list[dict[str, int]]:
    """KV groups and neurons of every layer, for the record."""
    return [{unit: layer.count(unit) for unit in UNITS} for layer in Body(model).layers]
