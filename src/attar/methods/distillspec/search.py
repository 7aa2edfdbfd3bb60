"""Which divergence and whose texts: a short training of each, judged on held-out prompts.

The paper finds that the best divergence hangs on the task and on the temperature (section 5.2), so
that it is searched for: every cell of divergence x writer is trained from the same draft for as
many steps, and ranked by the tokens it gives for a pass of the target.
"""

import copy
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import yaml
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.data.data import Data
from attar.data.prompts import Prompt
from attar.decode.agreement import Texts
from attar.decode.pair import Pair, load_pair
from attar.divergences import DivergenceName
from attar.errors import ConfigError
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.distill import PAPER
from attar.methods.distillspec.loop import fit_draft
from attar.methods.distillspec.texts import Prompts, prompts_of
from attar.report.record import Run
from attar.runtime import processes

logger = logging.getLogger(__name__)


Author = Literal["draft", "target", "data"]
SHARES: dict[Author, tuple[float, float]] = {
    "draft": (1.0, 0.0),
    "target": (0.0, 1.0),
    "data": (0.0, 0.0),
}
RESULTS, RECIPE = "cells.jsonl", "best.yaml"


@dataclass(frozen=True)
class Cell:
    """One choice, and how good the draft was after it.

    Attributes:
        tau: tokens for each pass of the target, the best on the way.
        alpha: acceptance rate of a token, of the same weights.
        seconds: of the training.
    """

    divergence: DivergenceName
    author: Author
    tau: float
    alpha: float
    seconds: float


@dataclass(frozen=True)
class Found:
    """All cells, best first, with the draft as it was before."""

    cells: list[Cell]
    tau_before: float
    run: Run


def search_drafts(
    draft: str | Path | PreTrainedModel,
    data: str | Path | Dataset | DatasetDict,
    *,
    target: str | Path | PreTrainedModel,
    output_dir: str | Path,
    config: DistillSpecConfig = DistillSpecConfig(max_steps=60),
    divergences: Sequence[DivergenceName] = get_args(DivergenceName),
    authors: Sequence[Author] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    resume: bool = False,
) -> Found:
    """Try every divergence with every writer of the texts, and write the best as a recipe.

    Cells that are finished are kept; an interrupted search goes on with the next one.

    Args:
        draft: as of `train_draft`; it stays as it is.
        data: likewise.
        target: likewise.
        output_dir: for `cells.jsonl` (a line a cell), `best.yaml` (options for `train_draft`)
            and the record.
        config: of each short training; its divergence and shares are set by the search.
        divergences: to try.
        authors: to try; None: all, but for `data` where prompts have nothing that follows.
        tokenizer: None: the target's.
        resume: go on with an interrupted search of the same settings.

    Raises:
        ConfigError: nothing to try, several processes, or the output folder is taken.
        CompatibilityError: the draft cannot serve the target.
        DataError: a model or the data cannot be read.
    """
    if processes().num_processes > 1:
        raise ConfigError(
            f"a search runs in one process, found {processes().num_processes}; start it without "
            "torchrun, and train the best draft with as many as you like"
        )
    if not divergences or authors == []:
        raise ConfigError("a search needs at least one divergence and one writer of texts")
    if wrong := [a for a in authors or () if a not in SHARES]:
        raise ConfigError(f"texts come from {', '.join(SHARES)}; found {wrong[0]!r}")
    settings = {
        "draft": checkpoint.name_of(draft),
        "target": checkpoint.name_of(target),
        "data": Data.of(data).name,
        "divergences": list(divergences),
        "authors": None if authors is None else list(authors),
        **asdict(config),
    }
    with artefacts.workspace(output_dir, settings=settings, resume=resume) as space:
        began = time.perf_counter()
        pair = load_pair(target, draft, tokenizer=tokenizer)
        prompts = prompts_of(pair, data, config=config)
        held_out = pair.texts(
            prompts["validation"],
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
        )
        if authors is None:
            bare = any(not prompt.completion for prompt in prompts["train"])
            authors = [a for a in get_args(Author) if a != "data" or not bare]
            if bare:
                logger.info("texts of the data are not tried, as prompts have nothing that follows")
        for author in authors:  # before the first training
            Prompts(prompts["train"], _with(config, divergences[0], author))
        search = _Search(pair, prompts["train"], held_out, config, space.state / RESULTS)
        for author in authors:
            for divergence in divergences:
                search.run(divergence, author)
        cells = sorted((one for one, _ in search.done.values()), key=lambda one: -one.tau)
        before = next(before for _, before in search.done.values())
        run = Run(
            command="draft search",
            method="distillspec",
            paper=PAPER,
            model=settings["draft"],
            data=settings["data"],
            settings=settings,
            quality={"before": {"tau": before}, "after": {"tau": cells[0].tau}},
            details={"cells": [asdict(one) for one in cells]},
            seed=config.seed,
            seconds=time.perf_counter() - began,
        )
        best = _with(config, cells[0].divergence, cells[0].author)
        names = ("divergence", "draft_share", "target_share", "temperature")
        recipe = {name: getattr(best, name) for name in names}
        artefacts.write_text(space.path / RECIPE, yaml.safe_dump(recipe, sort_keys=False))
        artefacts.write_text(space.path / RESULTS, search.file.read_text(encoding="utf-8"))
        run.save(space.path)
    return Found(cells, before, run)


class _Search:
    """The cells that are done, in memory and in a file."""

    def __init__(
        self,
        pair: Pair,
        prompts: list[Prompt],
        held_out: Texts,
        config: DistillSpecConfig,
        file: Path,
    ) -> None:
        self._pair, self._prompts = pair, prompts
        self._held_out, self._config = held_out, config
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.done = file, _read(file)

    def run(self, divergence: DivergenceName, author: Author) -> None:
        """Train a copy of the draft in this cell, unless that is done."""
        if (divergence, author) in self.done:
            return
        began = time.perf_counter()
        _, measured = fit_draft(
            copy.deepcopy(self._pair.draft).float(),
            self._pair.target,
            prompts=self._prompts,
            held_out=self._held_out,
            config=_with(self._config, divergence, author),
            stops=self._pair.stops,
        )
        best, before = (
            max(measured, key=lambda one: one.block_efficiency),
            measured[0].block_efficiency,
        )
        cell = Cell(
            divergence, author, best.block_efficiency, best.alpha, time.perf_counter() - began
        )
        self.done[divergence, author] = (cell, before)
        lines = [json.dumps({"cell": asdict(c), "before": b}) for c, b in self.done.values()]
        artefacts.write_text(self.file, "\n".join(lines) + "\n")
        logger.info(
            "%s on texts of the %s: tau %.3f, before %.3f",
            divergence,
            author,
            best.block_efficiency,
            before,
        )


def _with(
    config: DistillSpecConfig, divergence: DivergenceName, author: Author
) -> DistillSpecConfig:
    shares = SHARES[author]
    return replace(config, divergence=divergence, draft_share=shares[0], target_share=shares[1])


def _read(file: Path) -> dict[tuple[DivergenceName, Author], tuple[Cell, float]]:
    """Finished cells."""
    found: dict[tuple[DivergenceName, Author], tuple[Cell, float]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        stored = json.loads(line)
        cell = Cell(**stored["cell"])
        found[cell.divergence, cell.author] = (cell, stored["before"])
    return found
