"""From switched-off sets and their utilities to one value per piece: closed-form ridge on paired
masks (section 2.6).
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import artefacts
from attar.budget import Budget
from attar.errors import ConfigError
from attar.families import Unit
from attar.pruning.baselines import Answer, Question
from attar.pruning.config import BonsaiConfig, Layout, Method
from attar.pruning.importance import Module
from attar.pruning.loop import MOST_EVALUATIONS, Metric
from attar.pruning.pieces import Piece, switch
from attar.pruning.run import _Job
from attar.report.record import Paper, Run
from attar.slicing import UnitMasks

logger = logging.getLogger(__name__)


#: below this held-out rank correlation the regression has learnt nothing and the prior decides
LEAST_TAU = 0.05


def regress(question: Question) -> Answer:
    """Bonsai: switch random halves off, in complementary pairs, and fit (sections 2.4 and 2.6)."""
    pool, answer, taus = question.pool, Answer([0.0] * len(question.pool)), []
    with UnitMasks(question.model) as masks:
        for kind, mine in _strata(question):
            part = [pool[i] for i in mine]
            draws = draw_pairs(
                part,
                _pairs(part, question.config),
                config=question.config,
                priors=question.priors,
                generator=question.generator,
            )
            utilities = []
            for row in tqdm(draws, desc="evaluations", leave=False, disable=None):
                keep = torch.ones(len(pool))
                keep[mine] = row
                switch(masks, question.model, pool, keep)
                utilities.append(question.utility())
            fit = fit_values(draws.double().numpy(), np.array(utilities))
            answer.unusable += fit.unusable
            taus.append(fit.tau)
            values = fit.beta.tolist()
            if fit.tau <= LEAST_TAU:
                answer.fell_back.append(kind)
                logger.warning(
                    "held-out rank correlation %.2f: the evaluations say nothing about these %s, "
                    "so the prior ranks them; more windows or evaluations would help",
                    fit.tau,
                    kind,
                )
                values = _in_prior_order(values, part)
            for i, value in zip(mine, values, strict=True):
                answer.values[i] = value
    answer.tau = float(np.mean(taus))
    return answer


def _strata(question: Question) -> list[tuple[str, list[int]]]:
    """Indices of the candidates that are switched and fitted together."""
    kinds: dict[str, list[int]] = {}
    for i, piece in enumerate(question.pool):
        kind = "pieces" if question.config.joint else piece.unit or "layers"
        kinds.setdefault(kind, []).append(i)
    return list(kinds.items())


def _pairs(pool: Sequence[Piece], config: BonsaiConfig) -> int:
    n = config.evaluations or min(MOST_EVALUATIONS, max(32, 2 * len(pool)))
    return max(2, min(n, 2 ** min(len(pool), 20)) // 2)


def _in_prior_order(values: list[float], pool: Sequence[Piece]) -> list[float]:
    """The fitted values handed out anew within each module, so that they follow the prior."""
    ordered = list(values)
    for module in dict.fromkeys(piece.module for piece in pool):
        mine = [i for i, piece in enumerate(pool) if piece.module == module]  # in prior order
        for i, value in zip(mine, sorted(values[i] for i in mine), strict=True):
            ordered[i] = value
    return ordered


Array = NDArray[np.float64]

#: candidates for lambda, in units of trace(K) / n
GRID = np.logspace(-3, 3, 13)


@dataclass(frozen=True)
class Fit:
    """A fitted utility.

    Attributes:
        beta: value of keeping each piece, `(pieces,)`.
        penalty: the lambda that held-out pairs chose.
        tau: Kendall rank correlation between utilities and their held-out predictions.
        unusable: evaluations whose utility was not finite; they were ranked worst.
    """

    beta: Array
    penalty: float
    tau: float
    unusable: int


def fit_values(masks: Array, utilities: Array) -> Fit:
    """Ridge regression of utilities on keep-vectors.

    beta = X^T (K + lambda I)^-1 y with X centred, K = X X^T. lambda minimises the
    leave-one-*pair*-out error: rows 2r and 2r+1 are a mask and its complement, and leaving out only
    one of them would leak the other.

    Args:
        masks: `(n, pieces)`, 1 where a piece was kept; consecutive rows are complements on the
            pool.
        utilities: `(n,)`, larger is better; not-finite ones count as worse than the worst.
    """
    y, unusable = _finite(utilities)
    x = masks - masks.mean(0)
    centred = y - y.mean()
    n = len(y)
    kernel = x @ x.T
    scale = np.trace(kernel) / n or 1.0
    values, vectors = np.linalg.eigh(kernel)
    values = values.clip(0)
    errors, predictions = [], []
    for factor in GRID:
        shrink = values / (values + factor * scale)
        # the hat matrix of ridge with a free intercept
        hat = (vectors * shrink) @ vectors.T + 1 / n
        held_out = _leave_pair_out(hat, centred)
        predictions.append(centred - held_out)
        errors.append(float(np.square(held_out).mean()))
    best = int(np.argmin(errors))
    penalty = float(GRID[best] * scale)
    beta = x.T @ (vectors @ ((vectors.T @ centred) / (values + penalty)))
    return Fit(beta, penalty, kendall_tau(centred, predictions[best]), unusable)


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


def _leave_pair_out(hat: Array, y: Array) -> Array:
    """Residuals of every pair under the fit without it: (I - H_SS)^-1 r_S."""
    residual = y - (hat - 1 / len(y)) @ y
    pairs = np.arange(len(y)).reshape(-1, 2)
    blocks = np.eye(2) - hat[pairs[:, :, None], pairs[:, None, :]]
    solved = np.linalg.solve(blocks + 1e-12 * np.eye(2), residual[pairs][..., None])
    return np.asarray(solved.reshape(-1), dtype=np.float64)


def kendall_tau(a: Array, b: Array) -> float:
    """Kendall's tau-b of two equally long vectors; 0 when either is constant."""
    upper = np.triu_indices(len(a), 1)
    da = np.sign(a[:, None] - a[None, :])[upper]
    db = np.sign(b[:, None] - b[None, :])[upper]
    norm = np.sqrt(np.square(da).sum() * np.square(db).sum())
    return float((da * db).sum() / norm) if norm else 0.0


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


def prune(
    model: str | Path | PreTrainedModel,
    data: str | Path | Dataset | DatasetDict,
    *,
    budget: str | Budget,
    output_dir: str | Path | None = None,
    method: Method = "bonsai",
    layout: Layout = "per_layer",
    config: BonsaiConfig = BonsaiConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    metric: Metric | None = None,
    text_column: str = "text",
    data_config: str | None = None,
    eval_tokens: int = 50_000,
    resume: bool = False,
) -> Run:
    """Prune a model to a budget and write it as a Hugging Face checkpoint with its record and plan.

    Args:
        model: folder, Hub name, or a loaded model, which is then cut down *in place*.
        data: text to calibrate on (its train split) and to report quality on (its test split); see
            `attar.data.load_text`.
        budget: such as ``"params<=50%"``; see `Budget.parse`.
        output_dir: where the artefact goes; None keeps it in memory (with a loaded model).
        method: `bonsai`, or a baseline: `random`, `magnitude`, `wanda`, `flap`, `blockwise`.
        layout: `per_layer` (best quality; `attar.load` or its modelling file), `uniform` (stock
            class), `depth` (whole layers, stock class), `padded` (original shapes with zeros, for
            other tools).
        config: how the search goes.
        tokenizer: needed with a loaded model; None reads the one that lies beside the model.
        metric: a function of the model to keep high; None takes the likelihood of the text, or for
            an encoder, how close its hidden states stay to the parent's.
        text_column: column of the text in `data`.
        data_config: configuration of a data set on the Hub.
        eval_tokens: tokens of the test split, in passages spread over it, that quality is reported
            on.
        resume: go on with an unfinished run of the same settings.

    Returns:
        The record; `run.budget["met"]` says whether every limit holds.

    Raises:
        BudgetError: the budget is malformed or out of reach.
        CompatibilityError: model, tokenizer or layout do not fit.
        ConfigError: the output folder is taken, or an option is out of range.
        DataError: model or text are missing or damaged.
    """
    wanted = Budget.parse(budget)
    if output_dir is None and not isinstance(model, PreTrainedModel):
        raise ConfigError("give an output_dir: a model that was named by its folder would be lost")
    job = _Job(
        model, data, wanted, method, layout, config, metric, eval_tokens, text_column, data_config
    )
    if output_dir is None:
        return job.run(tokenizer, None)
    with artefacts.workspace(output_dir, settings=job.settings(), resume=resume) as space:
        record = job.run(tokenizer, space.state)
        job.save(space.path, record)
    return record
