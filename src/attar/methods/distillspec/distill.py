"""The public verb: train a draft for a target, and say what it promises."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.data.prompts import Prompt
from attar.decode.agreement import Texts, agreement
from attar.decode.draft_vocabulary import sufficient_vocabulary
from attar.decode.pair import Pair, load_pair
from attar.decode.speculation import write_speculation
from attar.measure.cost import cost_of
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.loop import fit_draft
from attar.methods.distillspec.profile import profile_pair
from attar.methods.distillspec.texts import prompts_of
from attar.models import computing, has_cache
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import Artefact, artefact
from attar.report.record import Paper, Run
from attar.runtime import place

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
#: prompts that parts are timed and speed-ups predicted on
_PROFILED = 16


@takes_recipe("draft train")
def train_draft(
    model: str | Path | PreTrainedModel,
    data: DataLike = STDLIB,
    *,
    target: str | Path | PreTrainedModel,
    config: DistillSpecConfig | str = DistillSpecConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train a draft on its target's distribution, and save it as a checkpoint.

    Under `torchrun` all processes train together and the first one writes.

    Args:
        model: the draft: folder or Hub name of a small model with the target's tokenizer; or a
            model, which is then trained in place.
        data: whatever `attar.data.prompts.load_prompts` takes. The training split trains, the
            validation split selects the weights, and the test split is scored before and after.
        target: folder or Hub name, or a model; it stays as it is.
        config: how it is trained; or the name or path of a recipe.
        tokenizer: None: the target's.
        output_dir: where the draft goes; it appears when it is complete.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: cost of the draft, its acceptance rate and block
        efficiency before and after, greedy and at temperature 1, and the training log. Next to it
        `speculation.json` has acceptance rates, times and the predicted speed-up on this machine.

    Raises:
        ConfigError: the output folder is taken, the texts do not fit the models, or training
            diverged.
        CompatibilityError: the draft cannot serve the target.
        DataError: a model or the data cannot be read.
    """
    config, recipe = configured(config, DistillSpecConfig, recipe=recipe)
    data = Data.of(data)
    settings = {
        "model": checkpoint.name_of(model),
        "target": checkpoint.name_of(target),
        **data.settings(),
        **asdict(config),
    }
    with artefact(
        output_dir,
        command="draft train",
        method="distillspec",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        pair = load_pair(target, model, tokenizer=tokenizer)
        _train_in(work, pair, prompts=prompts_of(pair, data, config=config), config=config)
    return work.run


def _train_in(
    work: Artefact, pair: Pair, *, prompts: dict[str, list[Prompt]], config: DistillSpecConfig
) -> None:
    """Everything between opening and closing the work folder."""

    def texts(split: str, temperature: float) -> Texts:
        return pair.texts(
            prompts[split],
            temperature=temperature,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
        )

    run = work.run
    tested: list[Texts] = []
    if work.main:
        tested = [texts("test", t) for t in sorted({0.0, 1.0, config.temperature})]
        run.quality["before"] = quality(pair, tested, length=config.draft_tokens)
    training, measured = fit_draft(
        pair.draft,
        pair.target,
        prompts=prompts["train"],
        held_out=texts("validation", config.temperature),
        config=config,
        stops=pair.stops,
        state_dir=work.state,
        resume=work.resuming,
    )
    if not work.main:
        return
    run.quality["after"] = quality(pair, tested, length=config.draft_tokens)
    served = next(one for one in tested if one.temperature == config.temperature)
    size = sufficient(pair, served, length=config.draft_tokens)
    if size or hasattr(pair.draft.config, "draft_vocabulary"):
        pair.draft.config.draft_vocabulary = size
    place(pair.draft, "cpu")
    place(pair.target, "cpu")
    cost = cost_of(pair.draft).to_dict()
    run.cost = {"before": cost, "after": cost}
    best = measured[-1]
    if config.select_best:
        best = max(measured, key=lambda one: one.block_efficiency)
    run.details = {
        "target": {"name": run.settings["target"], "cost": cost_of(pair.target).to_dict()},
        "prompts": {split: len(rows) for split, rows in prompts.items()},
        "split": "test",
        "draft_tokens": config.draft_tokens,
        "draft_vocabulary": size,
        "best_step": best.step,
        "measured": [asdict(one) for one in measured],
        **asdict(training),
    }
    _save(work, pair, prompts=prompts["test"], config=config)


def quality(pair: Pair, written: Sequence[Texts], *, length: int) -> dict[str, float]:
    """Block efficiency with drafts of `length` tokens, and acceptance rate, on what the target
    wrote at each temperature."""
    place(pair.target)
    place(pair.draft)
    figures: dict[str, float] = {}
    for texts in written:
        with computing(pair.target), computing(pair.draft):
            agreed = agreement(pair.target, pair.draft, texts=texts)
        at = f"T={texts.temperature:g}"
        figures[f"block efficiency at {at}"] = agreed.block_efficiency(length)
        figures[f"acceptance rate at {at}"] = agreed.alpha
    return figures


def sufficient(pair: Pair, written: Texts, *, length: int) -> int | None:
    """The part of its vocabulary that the draft needs; None: all of it."""
    with computing(pair.target), computing(pair.draft):
        return sufficient_vocabulary(pair.target, pair.draft, texts=written, length=length)


def _save(work: Artefact, pair: Pair, *, prompts: list[Prompt], config: DistillSpecConfig) -> None:
    """Write the draft, and what it promises on this machine at the temperature it will serve at."""
    run, draft = work.run, pair.draft
    some = [prompt.ids for prompt in prompts[:: max(1, len(prompts) // _PROFILED)][:_PROFILED]]
    profiles = profile_pair(
        pair,
        some,
        temperatures=[config.temperature, *({0.0, 1.0} - {config.temperature})],
        rounds=0,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
    )
    place(draft, "cpu")
    best = profiles[0].best
    run.details |= {"best_length": best.length, "predicted_speedup": best.predicted}
    assert draft.generation_config is not None
    draft.generation_config.num_assistant_tokens = best.length
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    checkpoint.save(draft, work.folder, tokenizer=pair.tokenizer)
    names = ("divergence", "draft_share", "target_share", "data", "max_steps")
    trained = {name: run.settings[name] for name in names}
    write_speculation(work.folder, pair, profiles=profiles, trained=trained)
    work.card = {"pipeline_tag": "text-generation" if has_cache(draft) else None}
