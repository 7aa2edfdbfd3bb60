"""What keeping each piece is worth: Bonsai's regression, direct measurement, and the baselines."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from attar.artefacts import write_text
from attar.methods.bonsai.config import BonsaiConfig
from attar.methods.bonsai.pieces import Piece, draw_pairs, switch
from attar.methods.bonsai.priors import Module
from attar.methods.bonsai.regression import fit_values
from attar.slicing import UnitMasks

logger = logging.getLogger(__name__)

#: below this held-out rank correlation the regression has learnt nothing and the prior decides
LEAST_TAU = 0.05
#: sub-models measured in one step unless the options say otherwise
MOST_EVALUATIONS = 200


@dataclass
class Question:
    """The candidates of one step, and what is needed to value them.

    Attributes:
        model: the model as it is now.
        pool: the candidates.
        costs: what removing each saves, in the currency at hand.
        priors: scores of every module's units.
        widths: units that each module had in the parent.
        config: the options.
        generator: the step's random numbers.
        utility: measures the model as it is switched now.
    """

    model: PreTrainedModel
    pool: Sequence[Piece]
    costs: Sequence[float]
    priors: dict[Module, Tensor]
    widths: dict[Module, int]
    config: BonsaiConfig
    generator: torch.Generator
    utility: Callable[[], float]


@dataclass
class Answer:
    """What keeping each piece is worth; how well held-out evaluations were predicted; what failed.

    Attributes:
        values: one per piece, larger means keep.
        tau: mean held-out Kendall correlation of the fits; None where nothing was fitted.
        unusable: evaluations that were not finite.
        fell_back: kinds of pieces that the prior ranked, as their fit predicted nothing.
    """

    values: list[float]
    tau: float | None = None
    unusable: int = 0
    fell_back: list[str] = field(default_factory=list)


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


def blockwise(question: Question) -> Answer:
    """Switch each module's pieces off one after the other and read the damage of each (2.12)."""
    pool, utility = question.pool, question.utility
    values, unusable = [0.0] * len(pool), 0
    with UnitMasks(question.model) as masks:
        whole = utility()
        for module in dict.fromkeys(p.module if p.unit else "layers" for p in pool):
            keep, before = torch.ones(len(pool)), whole
            for i, piece in enumerate(pool):
                if (piece.module if piece.unit else "layers") != module:
                    continue
                if piece.unit is None:  # layers are measured one at a time
                    keep, before = torch.ones(len(pool)), whole
                keep[i] = 0
                switch(masks, question.model, pool, keep)
                after = utility()
                if math.isfinite(after):
                    values[i], before = before - after, after
                else:  # breaks the model: the last to go
                    values[i], unusable = math.inf, unusable + 1
    return Answer(values, unusable=unusable)


def one_shot(question: Question) -> Answer:
    """The baselines: scores standardised within each module and ranked over all of them, as FLAP
    does, or an equal share of every module of the parent; whole layers at random.
    """
    pool, config = question.pool, question.config
    if pool[0].unit is None:
        return Answer(torch.rand(len(pool), generator=question.generator).tolist())
    scores: list[float] = []
    left = {module: len(rho) for module, rho in question.priors.items()}
    for piece in pool:
        assert piece.unit is not None
        module = piece.layer, piece.unit
        rho = question.priors[module]
        if config.allocation == "equal":
            left[module] -= len(piece.members)
            scores.append(1 - left[module] / question.widths[module])
        else:
            standard = (rho - rho.mean()) / rho.std(correction=0).clamp_min(1e-12)
            scores.append(float(standard[list(piece.members)].mean()))
    if config.rank_by == "value_per_cost":
        # a standardised score ranks as it is: removal divides by cost, so that is taken back here
        scores = [s * cost for s, cost in zip(scores, question.costs, strict=True)]
    return Answer(scores)


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
