"""The public verb: train a draft for a target, and say what it promises."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.artefacts import shared_workspace
from attar.data.data import Data
from attar.data.prompts import Prompt
from attar.decode.agreement import Texts, agreement
from attar.decode.bench import profile
from attar.decode.pair import Pair, load_pair
from attar.decode.speculation import write_speculation
from attar.errors import ConfigError
from attar.measure.cost import cost_of
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.loop import Measured, train_draft
from attar.methods.distillspec.texts import prompts_of
from attar.report.pages import save_card
from attar.report.record import Paper, Run
from attar.runtime import broadcast, place, processes
from attar.train.trainer import FLOAT, Training

PAPER = Paper(
    title="DistillSpec: Improving Speculative Decoding via Knowledge Distillation",
    authors=(
        "Yongchao Zhou",
        "Kaifeng Lyu",
        "Ankit Singh Rawat",
        "Aditya Krishna Menon",
        "Afshin Rostamizadeh",
        "Sanjiv Kumar",
        "Jean-François Kagy",
        "Rishabh Agarwal",
    ),
    year=2023,
    arxiv="2310.08461",
)
#: prompts that parts are timed and outlooks told on
_PROFILED = 16


def distill_draft(
    draft: str | Path | PreTrainedModel,
    data: str | Path | Dataset | DatasetDict,
    *,
    target: str | Path | PreTrainedModel,
    output_dir: str | Path,
    config: DistillSpecConfig = DistillSpecConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    resume: bool = False,
) -> Run:
    """Train a draft until it agrees with its target, and save it as a checkpoint.

    Under `torchrun` all processes train together and the first one writes.

    Args:
        draft: folder or Hub name of a small model with the target's tokenizer; or a model, which is
            then trained in place.
        data: whatever `attar.data.prompts.load_prompts` takes. The training split trains, the
            validation split selects the weights, and the test split is scored before and after.
        target: folder or Hub name, or a model; it stays as it is.
        output_dir: where the draft goes; it appears when it is complete.
        config: how it is trained.
        tokenizer: None: the target's.
        resume: go on with an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: cost of the draft, its acceptance rate and block
        efficiency before and after, greedy and at temperature 1, and the training log. Beside it
        `speculation.json` says what the draft promises on this machine.

    Raises:
        ConfigError: the output folder is taken, the texts do not fit the models, or training
            diverged.
        CompatibilityError: the draft cannot serve the target.
        DataError: a model or the data cannot be read.
    """
    settings = {
        "draft": checkpoint.name_of(draft),
        "target": checkpoint.name_of(target),
        "data": Data.of(data).name,
        "processes": processes().num_processes,
        **asdict(config),
    }
    with shared_workspace(Path(output_dir), settings=settings, resume=resume) as space:
        began = time.perf_counter()
        pair = load_pair(target, draft, tokenizer=tokenizer)
        stored = pair.draft.dtype  # the artefact keeps it; training needs float32
        prompts = prompts_of(pair, data, config=config)
        main = processes().is_main_process
        written = _written(pair, prompts["test"], config) if main else []
        before = quality(pair, written, length=config.draft_tokens) if main else {}
        nn.Module.to(pair.draft, FLOAT)
        try:
            training, measured = train_draft(
                pair.draft,
                pair.target,
                prompts=prompts["train"],
                held_out=pair.texts(
                    prompts["validation"], config=config, temperature=config.temperature
                ),
                config=config,
                stops=pair.stops,
                state_dir=space.state,
                resume=space.resuming,
            )
        except ConfigError:
            if main:  # a diverged run leaves nothing to resume
                shutil.rmtree(space.state, ignore_errors=True)
            raise
        if not main:
            return broadcast(None)
        nn.Module.to(pair.draft, stored)
        after = quality(pair, written, length=config.draft_tokens)
        run = _record(pair, prompts, settings, config, (training, measured), (before, after), began)
        _save(space.path, pair, prompts["test"], run, config)
        return broadcast(run)


def _written(pair: Pair, prompts: list[Prompt], config: DistillSpecConfig) -> list[Texts]:
    """What the target writes greedily, at temperature 1, and where the draft is to serve."""
    return [
        pair.texts(prompts, config=config, temperature=temperature)
        for temperature in sorted({0.0, 1.0, config.temperature})
    ]


def quality(pair: Pair, written: Sequence[Texts], *, length: int) -> dict[str, float]:
    """Acceptance rate, and block efficiency with drafts of `length`, on the target's texts at each
    temperature."""
    place(pair.target)
    place(pair.draft)
    found: dict[str, float] = {}
    for texts in written:
        agreed = agreement(pair.target, pair.draft, texts=texts)
        found[f"tau at {texts.temperature:g}"] = agreed.block_efficiency(length)
        found[f"alpha at {texts.temperature:g}"] = agreed.alpha
    return found


def _record(
    pair: Pair,
    prompts: dict[str, list[Prompt]],
    settings: dict[str, Any],
    config: DistillSpecConfig,
    done: tuple[Training, list[Measured]],
    scores: tuple[dict[str, float], dict[str, float]],
    began: float,
) -> Run:
    training, measured = done
    before, after = scores
    place(pair.draft, "cpu")
    place(pair.target, "cpu")
    cost = cost_of(pair.draft).to_dict()
    best = max(measured, key=lambda one: one.tau) if config.select_best else measured[-1]
    return Run(
        command="draft distill",
        method="distillspec",
        paper=PAPER,
        model=settings["draft"],
        data=settings["data"],
        settings=settings,
        cost={"before": cost, "after": cost},
        quality={"before": before, "after": after},
        details={
            "target": {"name": settings["target"], "cost": cost_of(pair.target).to_dict()},
            "prompts": {split: len(rows) for split, rows in prompts.items()},
            "split": "test",
            "draft_tokens": config.draft_tokens,
            "best_step": best.step,
            "measured": [asdict(one) for one in measured],
            **asdict(training),
        },
        seed=config.seed,
        seconds=time.perf_counter() - began,
    )


def _save(
    folder: Path, pair: Pair, prompts: list[Prompt], run: Run, config: DistillSpecConfig
) -> None:
    some = [prompt.ids for prompt in prompts[:: max(1, len(prompts) // _PROFILED)][:_PROFILED]]
    place(pair.target)
    place(pair.draft)
    temperatures = [config.temperature, *({0.0, 1.0} - {config.temperature})]
    profiles = [
        profile(
            pair.target,
            pair.draft,
            prompts=some,
            temperature=temperature,
            max_new_tokens=config.max_new_tokens,
            rounds=0,
            stops=pair.stops,
            seed=config.seed,
        )
        for temperature in temperatures
    ]
    place(pair.draft, "cpu")
    best = profiles[0].best
    run.details["best_length"], run.details["predicted_speedup"] = best.length, best.predicted
    assert pair.draft.generation_config is not None
    pair.draft.generation_config.num_assistant_tokens = best.length
    pair.draft.generation_config.num_assistant_tokens_schedule = "constant"
    checkpoint.save(pair.draft, folder, tokenizer=pair.tokenizer)
    trained = {
        name: run.settings[name]
        for name in ("divergence", "student_share", "target_share", "data", "max_steps")
    }
    write_speculation(folder, pair, profiles=profiles, trained=trained)
    kind = None if pair.draft.config.is_encoder_decoder else "text-generation"
    save_card(folder, run, pipeline_tag=kind)
    run.save(folder)
