"""How candidates are valued without Bonsai's regression: scores alone, or direct measurement."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.pruning.config import Method, PruneConfig
from attar.pruning.importance import Module, Prior
from attar.pruning.pieces import UnitGroup, switch
from attar.slicing import UnitMasks


@dataclass(frozen=True, kw_only=True)
class ScoringTask:
    """The candidates of one step, and what is needed to value them.

    Attributes:
        model: the model as it is now.
        pool: the candidates.
        costs: what removing each saves, in the constraint at hand.
        importance: scores of every module's units.
        widths: units that each module had in the parent.
        share: of what may go, this step removes so much.
        config: the options.
        generator: the step's random numbers.
        utility: measures the model as it is switched now.
    """

    model: PreTrainedModel
    pool: Sequence[UnitGroup]
    costs: Sequence[float]
    importance: dict[Module, Tensor]
    widths: dict[Module, int]
    share: float
    config: PruneConfig
    generator: torch.Generator
    utility: Callable[[], float]


@dataclass
class GroupScores:
    """What keeping each group is worth; how well held-out evaluations were predicted; what failed.

    Attributes:
        values: one per group, larger means keep.
        kendall_tau: mean held-out rank correlation of the fits; None where nothing was fitted.
        unusable: evaluations that were not finite.
        fell_back: kinds of groups that the prior ranked, as their fit predicted nothing.
    """

    values: list[float]
    kendall_tau: float | None = None
    unusable: int = 0
    fell_back: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Strategy:
    """How a method values candidates, and what it does besides.

    Attributes:
        name: the method's.
        score: values the candidates of a step.
        prior: the score that a one-shot method ranks units by; None for a method that measures
            sub-models, whose candidates are picked by the options' prior.
        compensates: whether biases make up for what is removed, as in FLAP.
    """

    name: Method
    score: Callable[[ScoringTask], GroupScores]
    prior: Prior | None = None
    compensates: bool = False

    @property
    def one_shot(self) -> bool:
        """Whether everything goes at once by scores alone, as published."""
        return self.prior is not None


def blockwise(task: ScoringTask) -> GroupScores:
    """Switch each module's groups off one after the other and read the damage of each: Attar's own
    alternative to Bonsai's regression."""
    pool, utility = task.pool, task.utility
    values, unusable = [0.0] * len(pool), 0
    with UnitMasks(task.model) as masks:
        whole = utility()
        for module in dict.fromkeys(p.module if p.unit else "layers" for p in pool):
            keep, before = torch.ones(len(pool)), whole
            for i, group in enumerate(pool):
                if (group.module if group.unit else "layers") != module:
                    continue
                if group.unit is None:  # layers are measured one at a time
                    keep, before = torch.ones(len(pool)), whole
                keep[i] = 0
                switch(masks, task.model, pool=pool, keep=keep)
                after = utility()
                if not math.isfinite(after):  # breaks the model: the last to go
                    values[i], unusable = math.inf, unusable + 1
                    continue
                if math.isfinite(before):  # else there is nothing to compare with
                    values[i] = before - after
                before = after
    return GroupScores(values, unusable=unusable)


def one_shot(task: ScoringTask) -> GroupScores:
    """Scores standardised within each module and ranked over all of them, as FLAP does, or an equal
    share of every module of the parent; whole layers at random.
    """
    pool, config = task.pool, task.config
    if pool[0].unit is None:
        return GroupScores(torch.rand(len(pool), generator=task.generator).tolist())
    scores: list[float] = []
    left = {module: len(rho) for module, rho in task.importance.items()}
    for group in pool:
        assert group.unit is not None
        module = group.layer, group.unit
        rho = task.importance[module].cpu()  # many groups are looked up in it
        if config.allocation == "equal":
            left[module] -= len(group.members)
            scores.append(1 - left[module] / task.widths[module])
        else:
            scores.append(float(rho[list(group.members)].mean()))
    if config.rank_by == "value_per_cost":
        # a standardised score ranks as it is: removal divides by cost, so that is taken back here
        scores = [s * cost for s, cost in zip(scores, task.costs, strict=True)]
    return GroupScores(scores)


BASELINES: Mapping[Method, Strategy] = MappingProxyType(
    {
        "blockwise": Strategy("blockwise", blockwise),
        "random": Strategy("random", one_shot, "random"),
        "magnitude": Strategy("magnitude", one_shot, "magnitude"),
        "wanda": Strategy("wanda", one_shot, "wanda"),
        "flap": Strategy("flap", one_shot, "fluctuation", compensates=True),
    }
)
