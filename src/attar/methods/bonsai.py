"""Bonsai: structured pruning from forward passes alone.

Whole parts of a decoder (KV groups, blocks of feed-forward neurons, layers) are switched off at
random, the loss of each such sub-model is measured, and a regression of the losses on the switches
tells what each part is worth. The least valuable parts go, a little at a time, until the budget
holds. No gradients; the figure of merit may be any function of the model.

Dery, Kolawole, Kagy, Smith, Neubig, Talwalkar: Everybody Prune Now, 2024, arXiv 2402.05406.

Deviations (paper; official code; here; why):
- Units: single neurons; same; *blocks* of width / 32 neurons adjacent in prior rank, because with a
  few hundred evaluations single neurons drown in noise. `ffn_block=1` restores the paper's.
- Heads: paper prunes heads of MHA models; here a KV group (key/value head and its query heads),
  which is safe under grouped queries.
- Fit: ridge; L1 by Adam over a grid; closed-form ridge, lambda by leave-one-*round*-out error.
- Masks: prior-weighted fixed counts in complementary pairs; here rounds of masks, in which every
  candidate is off once, in a mask drawn at random, so that each module's total varies and the fit
  can tell what a layer can lose. `sampling="prior_weighted"` restores the paper's.
- Masks a round: two; here so many that a mask takes about as much as a step does: of three KV
  groups two are candidates, and to switch half of these off in all layers at once would destroy a
  deep model, whose loss then says little of any one of them.
- Evaluations: all modules at once; the same; here attention and feed-forward candidates apart, as
  half of both off at once drowns the small effects of neurons. `joint=True` restores the paper's.
- Pool: the lowest 2p of the *present* size while p of the *original* is removed, so that late steps
  ignore the regression; here `pool_factor` times what the step removes.
- Weights of evaluations: all the same; here the less the more a mask loses. A few KV groups of a
  large model are worth a hundred times the others, and what a mask without one of them says of the
  others is noise.
- Utility: minus perplexity clipped at 1e8; here minus mean NLL per token. `utility="perplexity"`
  restores the paper's.
- Windows: the code reseeds and sees the same text every step; here new windows every step.
- Removal order: by value; here value per unit of what the budget bounds. `rank_by="value"` restores
  the paper's.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.budget import Budget
from attar.data.data import STDLIB, Data, DataLike
from attar.errors import ConfigError, require
from attar.families import Unit
from attar.pruning.apply import apply_plan
from attar.pruning.baselines import BASELINES, GroupScores, ScoringTask, Strategy
from attar.pruning.config import Layout, Method, PruneConfig
from attar.pruning.importance import Module
from attar.pruning.loop import MOST_EVALUATIONS, Metric
from attar.pruning.pieces import UnitGroup, switch
from attar.pruning.run import PruneTask, run_prune
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.record import Paper, Run
from attar.runtime import Bar
from attar.slicing import UnitMasks

logger = logging.getLogger(__name__)

PAPER = Paper(
    title="Everybody Prune Now: Structured Pruning of LLMs with only Forward Passes",
    authors=(
        "Lucio Dery",
        "Steven Kolawole",
        "Jean-François Kagy",
        "Virginia Smith",
        "Graham Neubig",
        "Ameet Talwalkar",
    ),
    year=2024,
    arxiv="2402.05406",
)
Array = NDArray[np.float64]

#: below this held-out rank correlation the regression has learnt nothing and the prior decides
LEAST_KENDALL_TAU = 0.05
#: candidates for lambda, in units of trace(K) / n
GRID = np.logspace(-3, 3, 13)


@dataclass(frozen=True, kw_only=True)
class BonsaiConfig(PruneConfig):
    """Options of the loop, and those of Bonsai alone. Each default says where it leaves the
    paper."""

    sampling: Literal["coin", "prior_weighted"] = "coin"
    """coin: every candidate is off in one mask of each round, drawn at random. prior_weighted: the
    published fixed count per module, in pairs of masks.
    """
    joint: bool = False
    """Switch attention and feed-forward candidates together, as published. Apart, the large effects
    of attention do not drown the small ones of neurons."""


# --------------------------------------------------------------------- regression (paper, sec. 3.2)


@dataclass(frozen=True)
class Fit:
    """A fitted utility.

    Attributes:
        beta: value of keeping each piece, `(pieces,)`.
        penalty: the lambda that held-out pairs chose.
        kendall_tau: rank correlation between utilities and their held-out predictions.
        unusable: evaluations whose utility was not finite; they were ranked worst.
    """

    beta: Array
    penalty: float
    kendall_tau: float
    unusable: int


def fit_values(
    masks: Array, utilities: Array, *, parts: int = 2, weights: Array | None = None
) -> Fit:
    """Weighted ridge regression of utilities on keep-vectors.

    beta = X^T (K + lambda I)^-1 y with K = X X^T, X and y centred and each row times the root of
    its weight. lambda minimises the leave-one-*round*-out error: each mask of a round follows from
    the others, and leaving out only one of them would leak it.

    Args:
        masks: `(n, pieces)`, 1 where a piece was kept; every piece is off once in each round.
        utilities: `(n,)`, larger is better; not-finite ones count as worse than the worst.
        parts: masks of a round, which are consecutive rows.
        weights: how much each evaluation counts, `(n,)`; None: all the same.
    """
    y, unusable = _finite(utilities)
    n = len(y)
    counted = np.ones(n) if weights is None else np.asarray(weights / weights.mean())
    root, share = np.sqrt(counted), counted / n
    x = root[:, None] * (masks - share @ masks)
    centred = root * (y - share @ y)
    kernel = x @ x.T
    scale = np.trace(kernel) / n or 1.0
    values, vectors = np.linalg.eigh(kernel)
    values = values.clip(0)
    free = np.outer(root, root) / n  # the part of a free intercept in the hat matrix
    errors, predictions = [], []
    for factor in GRID:
        fitted = (vectors * (values / (values + factor * scale))) @ vectors.T
        held_out = _leave_round_out(fitted + free, centred - fitted @ centred, parts)
        predictions.append(y - held_out / root)
        errors.append(float(np.square(held_out).mean()))
    best = int(np.argmin(errors))
    penalty = float(GRID[best] * scale)
    beta = x.T @ (vectors @ ((vectors.T @ centred) / (values + penalty)))
    return Fit(beta, penalty, kendall_tau(y, predictions[best]), unusable)


def trust(utilities: Array) -> Array:
    """Weights of evaluations, `(n,)`: 1 / (s^2 + r^2), with r what a mask loses against the best
    one and s the median of these losses. For the error of a linear fit grows with the loss.
    """
    y, _ = _finite(utilities)
    losses = y.max() - y
    scale = float(np.median(losses)) or 1.0
    return 1 / (1 + np.square(losses / scale))


def _finite(utilities: Array) -> tuple[Array, int]:
    """Replace what is not finite by a value below the worst finite one, so that neither side of a
    pair is dropped.
    """
    y = np.asarray(utilities, dtype=np.float64).copy()
    bad = ~np.isfinite(y)
    if bad.any():
        good = y[~bad]
        y[bad] = good.min() - max(1.0, float(np.ptp(good))) if len(good) else 0.0
    return y, int(bad.sum())


def _leave_round_out(hat: Array, residual: Array, parts: int) -> Array:
    """Residuals of every round under the fit without it: (I - H_SS)^-1 r_S."""
    rounds = np.arange(len(residual)).reshape(-1, parts)
    blocks = np.eye(parts) - hat[rounds[:, :, None], rounds[:, None, :]]
    solved = np.linalg.solve(blocks + 1e-12 * np.eye(parts), residual[rounds][..., None])
    return np.asarray(solved.reshape(-1), dtype=np.float64)


def kendall_tau(a: Array, b: Array) -> float:
    """Kendall's tau-b of two vectors `(n,)`, from -1 to 1; 0 where either is constant.

    It compares all pairs at once, in O(n^2) memory: n is the evaluations of one step.
    """
    upper = np.triu_indices(len(a), 1)
    da = np.sign(a[:, None] - a[None, :])[upper]
    db = np.sign(b[:, None] - b[None, :])[upper]
    norm = np.sqrt(np.square(da).sum() * np.square(db).sum())
    return float((da * db).sum() / norm) if norm else 0.0


# -------------------------------------------------------------------------- sub-models (paper, 3.1)


def masks_per_round(pool: Sequence[UnitGroup], *, task: ScoringTask) -> int:
    """How many masks it takes to have each candidate off once, at least 2.

    With candidates of `pool_factor` times what the step removes, two masks take half of that each.
    Where a module must offer more, as one of few KV groups, more masks take as much, each of the
    units of its kind.
    """
    assert isinstance(task.config, BonsaiConfig)
    if task.config.sampling == "prior_weighted":
        return 2
    parts = 2
    for unit in {group.unit for group in pool}:
        offered = sum(len(group.members) or 1 for group in pool if group.unit == unit)
        live = [len(scores) for module, scores in task.importance.items() if module[1] == unit]
        if live:
            most = task.config.pool_factor * task.share * sum(live) / 2
            parts = max(parts, round(offered / max(most, 1)))
    return min(parts, len(pool))


def draw_masks(
    pool: Sequence[UnitGroup],
    rounds: int,
    *,
    parts: int,
    sampling: Literal["coin", "prior_weighted"],
    importance: dict[Module, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Keep-vectors `(rounds * parts, groups)`: in each round of consecutive rows every group is off
    once.

    `coin`: in which row is drawn for each group alone, so that the load on each module varies too.
    `prior_weighted`: as published, in pairs, a fixed number per module, drawn with weights
    max(rho) - rho.
    """
    if sampling == "coin":
        place = (torch.rand(rounds, len(pool), generator=generator) * parts).long()
        rows = torch.arange(parts - 1, -1, -1)
        return (place[:, None] != rows[:, None]).float().flatten(0, 1)
    keep = torch.ones(rounds, len(pool))
    for columns, weights in _module_weights(pool, importance):
        drop = max(1, len(columns) // 2)
        for row in keep:
            chosen = torch.multinomial(weights, drop, generator=generator)
            row[columns[chosen]] = 0
    return torch.stack([keep, 1 - keep], 1).reshape(2 * rounds, len(pool))


def _module_weights(
    pool: Sequence[UnitGroup], importance: dict[Module, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Per module: its columns in the pool and the weights to drop them with; uniform where the
    prior cannot tell.
    """
    columns: dict[tuple[int, Unit | None], list[int]] = defaultdict(list)
    for i, group in enumerate(pool):
        columns[group.layer, group.unit].append(i)
    shares = []
    for (layer, unit), mine in columns.items():
        weights = torch.ones(len(mine), dtype=torch.float64)
        if unit is not None:
            rho = importance[layer, unit].cpu()  # `generator` draws there
            scores = torch.stack([rho[list(pool[i].members)].mean() for i in mine])
            weights = rho.max() - scores
        drop = max(1, len(mine) // 2)
        if int((weights > 0).sum()) < drop:
            weights = torch.ones_like(weights)
        shares.append((torch.tensor(mine), weights))
    return shares


def regress(task: ScoringTask) -> GroupScores:
    """What keeping each group is worth: the inner loop of Bonsai's algorithm 1.

    Args:
        task: the candidates of one step (step 1 of the algorithm: the prior has picked them), whose
            `config` is a `BonsaiConfig`.
    """
    config, pool = task.config, task.pool
    assert isinstance(config, BonsaiConfig)
    scores, taus = GroupScores([0.0] * len(pool)), []
    with UnitMasks(task.model) as masks:
        for kind, mine in _strata(pool, joint=config.joint):
            part = [pool[i] for i in mine]
            # 2. draw sub-models: masks in rounds that together take every candidate
            parts = masks_per_round(part, task=task)
            draws = draw_masks(
                part,
                _rounds(part, config, parts=parts),
                parts=parts,
                sampling=config.sampling,
                importance=task.importance,
                generator=task.generator,
            )
            # 3. measure the utility of each by forward passes alone
            utilities = []
            for row in Bar(draws, desc="evaluations", unit="evaluation", leave=False):
                keep = torch.ones(len(pool))
                keep[mine] = row
                switch(masks, task.model, pool=pool, keep=keep)
                utilities.append(task.utility())
            # 4. regress the utilities on the masks: beta is what each group is worth
            measured = np.array(utilities)
            fit = fit_values(draws.double().numpy(), measured, parts=parts, weights=trust(measured))
            scores.unusable += fit.unusable
            taus.append(fit.kendall_tau)
            values = fit.beta.tolist()
            if fit.kendall_tau <= LEAST_KENDALL_TAU:
                scores.fell_back.append(kind)
                logger.warning(
                    "held-out rank correlation %.2f: the evaluations say nothing about these %s, "
                    "so the prior ranks them; more windows or evaluations would help",
                    fit.kendall_tau,
                    kind,
                )
                values = _in_prior_order(values, part)
            for i, value in zip(mine, values, strict=True):
                scores.values[i] = value
    # 5. `attar.pruning.loop` removes what is worth least, and comes back with the smaller model
    scores.kendall_tau = float(np.mean(taus))
    return scores


def _strata(pool: Sequence[UnitGroup], *, joint: bool) -> list[tuple[str, list[int]]]:
    """Indices of the candidates that are switched and fitted together."""
    kinds: dict[str, list[int]] = {}
    for i, group in enumerate(pool):
        kind = "groups" if joint else group.unit or "layers"
        kinds.setdefault(kind, []).append(i)
    return list(kinds.items())


def _rounds(pool: Sequence[UnitGroup], config: PruneConfig, *, parts: int) -> int:
    most = MOST_EVALUATIONS if config.ffn_block else max(MOST_EVALUATIONS, len(pool))
    n = config.evaluations or min(most, max(32, 2 * len(pool)))
    return max(2, min(n, 2 ** min(len(pool), 20)) // parts)


def _in_prior_order(values: list[float], pool: Sequence[UnitGroup]) -> list[float]:
    """The fitted values shared out again within each module, so that they follow the prior."""
    ordered = list(values)
    for module in dict.fromkeys(group.module for group in pool):
        mine = [i for i, group in enumerate(pool) if group.module == module]  # in prior order
        for i, value in zip(mine, sorted(values[i] for i in mine), strict=True):
            ordered[i] = value
    return ordered


# -------------------------------------------------------------------------------------- the verb

STRATEGY = Strategy("bonsai", regress)


def strategy_of(method: Method) -> Strategy:
    """How a method values candidates.

    Raises:
        ConfigError: there is no such method.
    """
    if method == "bonsai":
        return STRATEGY
    known = f"bonsai, or a baseline: {', '.join(BASELINES)}"
    require(method in BASELINES, "method", method, known)
    return BASELINES[method]


@takes_recipe("prune")
def prune(
    model: str | Path | PreTrainedModel,
    data: DataLike = STDLIB,
    *,
    budget: str | Budget | None = None,
    method: Method = "bonsai",
    layout: Layout = "per_layer",
    config: BonsaiConfig | str = BonsaiConfig(),
    metric: Metric | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    apply: str | Path | None = None,
    eval_tokens: int = 50_000,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Prune a model to a budget and write it as a Hugging Face checkpoint with its record and plan.

    Args:
        model: folder, Hub name, or a loaded model, which is then cut down *in place*.
        data: text or conversations to calibrate on (the train split) and to report quality on (the
            test split); see `attar.data.chats.load_documents`.
        budget: such as ``"blocks<=50%"``; see `Budget.parse`.
        method: `bonsai`, or a baseline: `random`, `magnitude`, `wanda`, `flap`, `blockwise`.
        layout: `per_layer` (best quality; `attar.load` or its modelling file), `uniform` (stock
            class), `depth` (whole layers, stock class), `padded` (original shapes with zeros, for
            other tools).
        config: how the search goes; or the name or path of a recipe.
        metric: a function of the model to keep high; None takes the likelihood of the text, or for
            an encoder or a model with a task head, how close its hidden states stay to the
            parent's.
        tokenizer: needed with a loaded model; None reads the one in the model's folder.
        apply: in place of a budget: cut by this plan, or that of this folder, without a search.
        eval_tokens: tokens of the test split, in passages spread over it, that quality is reported
            on.
        output_dir: where the artefact goes; None keeps it in memory (with a loaded model).
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an unfinished run of the same settings.

    Returns:
        The record; `run.budget["met"]` says whether every limit holds.

    Raises:
        BudgetError: the budget is malformed or out of reach.
        CompatibilityError: model, tokenizer or layout do not fit.
        ConfigError: the output folder is taken, or an option is out of range.
        DataError: model or text are missing or damaged.
    """
    if output_dir is None and not isinstance(model, PreTrainedModel):
        raise ConfigError("give an output_dir: a model that was named by its folder would be lost")
    if (budget is None) == (apply is None):
        found = "neither" if budget is None else "both"
        raise ConfigError(
            "say what the result may cost, as in budget='blocks<=50%' (--budget \"blocks<=50%\"), "
            f"or which plan to apply: give one of the two; found {found}"
        )
    if apply is not None:
        if isinstance(model, PreTrainedModel) or output_dir is None:
            raise ConfigError("a plan is applied to a fresh parent: give its folder or Hub name")
        return apply_plan(
            model, apply, output_dir=output_dir, layout=layout, recipe=recipe, resume=resume
        )
    assert budget is not None
    config, recipe = configured(config, BonsaiConfig, recipe=recipe)
    task = PruneTask(
        model=model,
        data=Data.of(data),
        budget=Budget.parse(budget),
        strategy=strategy_of(method),
        layout=layout,
        config=config,
        metric=metric,
        eval_tokens=eval_tokens,
        tokenizer=tokenizer,
    )
    paper = PAPER if method in ("bonsai", "blockwise") else None
    return run_prune(task, paper=paper, output_dir=output_dir, recipe=recipe, resume=resume)
