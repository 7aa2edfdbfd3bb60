"""Which divergence and whose texts: a short training of each, judged on held-out prompts.

The paper finds that the best divergence depends on the task and on the temperature (section 5.2),
so that it is searched for: every cell of divergence x source of the texts is trained from the same
draft for as many steps, and ranked by the tokens it gives for a pass of the target.
"""

import copy
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from optuna.trial import FrozenTrial
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.data.prompts import Prompt
from attar.decode.agreement import Texts
from attar.decode.pair import Pair, load_pair
from attar.divergences import DivergenceName
from attar.errors import check_types, require
from attar.methods.distillspec.config import DistillSpecConfig, TextSource
from attar.methods.distillspec.distill import PAPER
from attar.methods.distillspec.loop import fit_draft
from attar.methods.distillspec.texts import Prompts, prompts_of
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.report.tables import NONE, Table
from attar.search.search import Search, run_search
from attar.search.space import ChoiceSpace
from attar.search.statistics import NORMAL_95
from attar.search.storage import check_folder
from attar.search.summary import State, Summary, state_of
from attar.search.trials import Outcome, PlannedTrial, RunningTrial

logger = logging.getLogger(__name__)

#: source of the texts -> shares of steps whose texts draft and target write
SHARES: Mapping[TextSource, tuple[float, float]] = MappingProxyType(
    {"draft": (1.0, 0.0), "target": (0.0, 1.0), "data": (0.0, 0.0)}
)


@dataclass(frozen=True)
class Cell:
    """One choice, and how good the draft was after it.

    Attributes:
        source: of the texts.
        block_efficiency: tokens for each pass of the target, the best on the way; None where the
            training failed.
        alpha: acceptance rate of a token, of the same weights.
        seconds: of the training.
        state: how it ended.
        error: standard error of the block efficiency; None where it is not known.
    """

    divergence: DivergenceName
    source: TextSource
    block_efficiency: float | None
    alpha: float | None
    seconds: float
    state: State = "complete"
    error: float | None = None

    @property
    def score(self) -> float | None:
        """What cells are ranked by."""
        return self.block_efficiency

    @property
    def test_score(self) -> None:
        """Cells are not scored on the test split."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON values, one line of the study."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DraftSearchConfig:
    """What is tried, and where the study is stored."""

    divergences: tuple[DivergenceName, ...] | None = None
    """Divergences to try, separated by commas; unset: all."""
    sources: tuple[TextSource, ...] | None = None
    """Sources of training texts to try, separated by commas: draft, target, data. Unset: all, but
    data only where prompts have completions."""
    storage: str | None = None
    """URL of a database that many machines share, such as postgresql://...; unset: a journal file
    in the study's folder, for workers on one machine."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("divergences", "sources"):
            values = getattr(self, name)
            require(values is None or len(values) > 0, name, values, "at least one")


@takes_recipe("draft search")
def search_drafts(
    model: str | Path | PreTrainedModel,
    data: DataLike = STDLIB,
    *,
    target: str | Path | PreTrainedModel,
    config: DraftSearchConfig | str = DraftSearchConfig(),
    training: DistillSpecConfig = DistillSpecConfig(max_steps=60),
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Try every divergence with every source of texts, and write the best as a recipe.

    Call it again, or from other processes at the same time, to continue the same study. The
    folder gets `study.jsonl`, a line for each training that has ended, `best.yaml`, options of
    `attar.draft.train` that repeat the best one, and `attar.json`.

    Args:
        model: the draft, as in `attar.draft.train`; it is not changed.
        data: as in `attar.draft.train`.
        target: as in `attar.draft.train`.
        config: what is tried; or the name or path of a recipe.
        training: options of each training; its divergence and shares are set by the search.
        tokenizer: None: the target's.
        output_dir: folder of the study: a new one, or that of a study to continue.
        recipe: name of the recipe that the options came from, for the record.
        resume: not needed: a search is continued with or without it.

    Returns:
        The record: block efficiency of the draft before and after the best training, and all
        trainings, best first, in `details.cells`.

    Raises:
        ConfigError: nothing to try, several processes, or the folder holds something else or a
            study of other settings.
        CompatibilityError: the draft cannot serve the target.
        DataError: a model or the data cannot be read.
        AttarError: no training came to its end.
    """
    config, recipe = configured(config, DraftSearchConfig, recipe=recipe)
    data = Data.of(data)
    settings = {
        "model": checkpoint.name_of(model),
        "target": checkpoint.name_of(target),
        **data.settings(),
    }
    with artefact(
        output_dir,
        command="draft search",
        method="distillspec",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        seed=training.seed,
        shared=True,
    ) as work:
        check_folder(work.folder)
        pair = load_pair(target, model, tokenizer=tokenizer)
        prompts = prompts_of(pair, data, config=training)
        cells = _cells(prompts["train"], config, training=training)
        held_out = pair.texts(
            prompts["validation"],
            temperature=training.temperature,
            max_new_tokens=training.max_new_tokens,
            seed=training.seed,
        )
        divergences, sources = cells.choices["divergence"], cells.choices["source"]
        search = Search(
            settings={
                **settings,
                "divergences": list(divergences),
                "sources": list(sources),
                "training": asdict(training),
                "weights": [
                    checkpoint.fingerprint(pair.draft),
                    checkpoint.fingerprint(pair.target),
                ],
                "prompts": [
                    Prompts(prompts[split], _with(training, divergences[0], "draft")).fingerprint()
                    for split in ("train", "validation")
                ],
            },
            names=("model", "target", "data"),
            space=cells,
            plan=[
                PlannedTrial(json.dumps(values), cells.stored(values), "listed")
                for values in cells.enumerate_all()
            ],
            run_one=_Trainer(pair, prompts["train"], held_out, training).run,
            convert=cell_of,
            record=partial(_record, training=training),
            recipe=partial(_recipe, training=training),
        )
        run_search(search, work, storage=config.storage)
    return work.run


def _cells(
    prompts: Sequence[Prompt], config: DraftSearchConfig, *, training: DistillSpecConfig
) -> ChoiceSpace:
    """What is tried; texts that prompts cannot give are refused before the first training."""
    sources: Sequence[TextSource] | None = config.sources
    if sources is None:
        bare = any(not prompt.completion for prompt in prompts)
        if bare:
            logger.info("the source data is not tried, as not every prompt has a completion")
        sources = tuple(source for source in SHARES if source != "data" or not bare)
    for source in sources:
        Prompts(prompts, _with(training, training.divergence, source))
    divergences = config.divergences or get_args(DivergenceName)
    return ChoiceSpace({"source": sources, "divergence": divergences}, noun="a cell")


@dataclass(frozen=True)
class _Trainer:
    """What all cells of a worker share."""

    pair: Pair
    prompts: list[Prompt]
    held_out: Texts
    training: DistillSpecConfig

    def run(self, values: dict[str, Any], trial: RunningTrial) -> Outcome:
        """Train a copy of the draft in this cell."""
        _, measured = fit_draft(
            copy.deepcopy(self.pair.draft),
            self.pair.target,
            prompts=self.prompts,
            held_out=self.held_out,
            config=_with(self.training, values["divergence"], values["source"]),
            stops=self.pair.stops,
        )
        before, best = measured[0], max(measured, key=lambda one: one.block_efficiency)
        trial.study.set_user_attr("before", before.block_efficiency)  # the same for all cells
        trial.study.set_user_attr("before_error", before.error)
        return Outcome(best.block_efficiency, details={"alpha": best.alpha, "error": best.error})


def cell_of(stored: FrozenTrial, attrs: Mapping[str, Any]) -> Cell:
    """The cell of a search, from a trial as it lies in the storage."""
    planned = PlannedTrial.of(stored)
    assert planned is not None
    return Cell(
        **json.loads(planned.payload),
        block_efficiency=stored.user_attrs.get("score"),
        alpha=stored.user_attrs.get("alpha"),
        seconds=stored.user_attrs.get("seconds", 0.0),
        state=state_of(stored),
        error=stored.user_attrs.get("error"),
    )


def _record(
    run: Run,
    attrs: Mapping[str, Any],
    summary: Summary[Cell] | None,
    *,
    training: DistillSpecConfig,
) -> None:
    """What the search has found so far."""
    run.details = {"split": "validation", "draft_tokens": training.draft_tokens, "cells": []}
    if summary is not None:
        run.details["cells"] = [cell.to_dict() for cell, _ in summary.ranked]
        run.details["before_error"] = attrs.get("before_error")
        run.quality = {
            "before": {"block_efficiency": attrs["before"]},
            "after": {"block_efficiency": summary.best.block_efficiency},
        }


def _recipe(
    attrs: Mapping[str, Any], summary: Summary[Cell], *, training: DistillSpecConfig
) -> tuple[dict[str, Any], str]:
    """The best cell, as options of `attar draft train`."""
    best = summary.best
    comment = (
        f"The best of {summary.ended} short trainings: {best.block_efficiency:.3f} tokens per "
        f"forward pass of the target on held-out prompts, {attrs['before']:.3f} before."
    )
    chosen = _with(training, best.divergence, best.source)
    return {"verb": "draft train", **asdict(chosen)}, comment


def conclusion(run: Run) -> str:
    """One sentence: whether the best training made the draft better by more than chance, and how
    many others are as good as it within that."""
    best, *others = run.details["cells"]
    score, before = (run.quality[side]["block_efficiency"] for side in ("after", "before"))
    error, before_error = best.get("error"), run.details.get("before_error")
    if error is None or before_error is None:
        return f"The best training gave a block efficiency of {score:.3f}, from {before:.3f}."
    noise = NORMAL_95 * math.hypot(error, before_error)
    said = (
        f"The best training, {best['divergence']} on texts of the {best['source']}, made the draft "
        "better by more than the noise"
        if score - before > noise
        else "No training made the draft better by more than the noise"
    )
    near = [one for one in others if score - (one["block_efficiency"] or -math.inf) <= noise]
    ties = f"; {len(near)} of the {len(others)} others are as good within it" if near else ""
    return (
        f"{said}: block efficiency {score:.3f} against {before:.3f}, a difference of "
        f"{score - before:+.3f} +- {noise:.3f} (95%){ties}."
    )


def search_table(run: Run) -> Table:
    """The cells of a search, best first, and the draft as it was."""
    rows = [
        [
            cell["divergence"],
            cell["source"],
            f"{cell['block_efficiency']:.3f}",
            f"{cell['alpha']:.3f}",
            f"{cell['seconds']:.0f}",
        ]
        for cell in run.details["cells"]
    ]
    if "before" in run.quality:
        before = f"{run.quality['before']['block_efficiency']:.3f}"
        rows.append(["(before)", NONE, before, NONE, NONE])
    return Table(
        ["divergence", "source of texts", "block efficiency", "acceptance rate", "seconds"], rows
    )


def _with(
    training: DistillSpecConfig, divergence: DivergenceName, source: TextSource
) -> DistillSpecConfig:
    draft, target = SHARES[source]
    return replace(training, divergence=divergence, draft_share=draft, target_share=target)
