"""What a draft is worth to its target on this machine, at several temperatures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.decode.bench import Profile, profile
from attar.decode.forced import Ids
from attar.decode.pair import Pair, load_pair
from attar.decode.settings import SpecConfig
from attar.errors import check_types, require
from attar.measure.cost import cost_of
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.texts import prompts_of
from attar.models import computing
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.runtime import place


def profile_pair(
    pair: Pair,
    prompts: Sequence[Ids],
    *,
    temperatures: Sequence[float] = (0.0, 1.0),
    longest: int = 8,
    rounds: int = 3,
    max_new_tokens: int = 64,
    decoding: SpecConfig = SpecConfig(),
    seed: int = 0,
) -> list[Profile]:
    """Profile a pair in memory, once at each temperature.

    Args:
        pair: the target and its draft.
        prompts: token ids.
        temperatures: 0 is greedy.
        longest: drafts of 1 up to so many tokens are looked at.
        rounds: of the races against plain decoding; 0: none.
        max_new_tokens: of a text, at most.
        decoding: how drafts are verified in the races.
        seed: of what the target writes.

    Raises:
        ConfigError: there is no prompt, or no length.
    """
    place(pair.target)
    place(pair.draft)
    with computing(pair.target), computing(pair.draft):
        return [
            profile(
                pair.target,
                pair.draft,
                prompts=prompts,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                lengths=range(1, longest + 1),
                rounds=rounds,
                stops=pair.stops,
                config=decoding,
                seed=seed,
            )
            for temperature in temperatures
        ]


@dataclass(frozen=True, kw_only=True)
class EvaluateDraftConfig:
    """What is measured of a draft, and on how many prompts."""

    temperatures: tuple[float, ...] = (0.0, 1.0)
    """Sampling temperatures to measure at, separated by commas; 0 is greedy."""
    longest: int = 8
    """Longest draft length to consider, in tokens."""
    rounds: int = 3
    """Timed rounds against plain decoding; 0: none, so that speed-ups are only predicted."""
    eval_prompts: int = 16
    """Number of prompts, drawn from the test split."""
    prompt_tokens: int = 32
    """Maximum length of a prompt, in tokens."""
    max_new_tokens: int = 64
    """Maximum number of generated tokens per prompt."""
    seed: int = 0
    """Random seed of the choice of prompts and of sampling."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.longest >= 1, "longest", self.longest, "at least 1")
        require(self.rounds >= 0, "rounds", self.rounds, "0 or more")
        require(self.eval_prompts >= 2, "eval_prompts", self.eval_prompts, "at least 2")
        fine = bool(self.temperatures) and min(self.temperatures) >= 0
        expected = "numbers of 0 or more, at least one"
        require(fine, "temperatures", list(self.temperatures), expected)


@takes_recipe("draft evaluate")
def evaluate_draft(
    model: str | Path | PreTrainedModel,
    data: DataLike = STDLIB,
    *,
    target: str | Path | PreTrainedModel,
    config: EvaluateDraftConfig | str = EvaluateDraftConfig(),
    decoding: SpecConfig = SpecConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Measure whether a draft pays on this machine: acceptance rate, times, predicted and measured
    speed-up.

    Args:
        model: the draft: folder or Hub name, or a model.
        data: whatever `attar.data.prompts.load_prompts` takes; the test split is read.
        target: folder or Hub name, or a model.
        config: what is measured; or the name or path of a recipe.
        decoding: how drafts are verified in the races; their lengths are set here.
        tokenizer: None: the target's.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: acceptance rate, block efficiency of the best length and speed-up at each
        temperature as `quality`, the profiles (`Profile.to_dict()`) as `details["profiles"]`.

    Raises:
        CompatibilityError: the draft cannot serve the target.
        ConfigError: an option is out of range, the texts do not fit the models, or the output
            folder is taken.
        DataError: a model or the data cannot be read.
    """
    config, recipe = configured(config, EvaluateDraftConfig, recipe=recipe)
    drawn = DistillSpecConfig(
        eval_prompts=config.eval_prompts,
        prompt_tokens=config.prompt_tokens,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
    )
    data = Data.of(data)
    settings = {
        "model": checkpoint.name_of(model),
        "target": checkpoint.name_of(target),
        **data.settings(),
        **asdict(config),
        "decoding": asdict(decoding),
    }
    with artefact(
        output_dir, command="draft evaluate", settings=settings, recipe=recipe, seed=config.seed
    ) as work:
        if work.main:
            pair = load_pair(target, model, tokenizer=tokenizer)
            tested = prompts_of(pair, data, config=drawn)["test"]
            profiles = profile_pair(
                pair,
                [prompt.ids for prompt in tested],
                temperatures=config.temperatures,
                longest=config.longest,
                rounds=config.rounds,
                max_new_tokens=config.max_new_tokens,
                decoding=decoding,
                seed=config.seed,
            )
            work.run.cost["after"] = cost_of(pair.draft).to_dict()
            work.run.quality["after"] = {
                name: value for one in profiles for name, value in _figures(one).items()
            }
            work.run.details = {
                "target": {"name": settings["target"], "cost": cost_of(pair.target).to_dict()},
                "split": "test",
                "profiles": [one.to_dict() for one in profiles],
            }
    return work.run


def _figures(profile: Profile) -> dict[str, float]:
    """What `attar compare` shows of a profile."""
    at = f"T={profile.temperature:g}"
    return {
        f"block efficiency at {at}": profile.best.block_efficiency,
        f"acceptance rate at {at}": profile.alpha,
        f"speed-up at {at}": profile.speedup,
    }


def profile_text(run: Run) -> str:
    """The record of an evaluated draft for people, a paragraph for each temperature."""
    lossy = run.settings["decoding"]["lossy"]
    profiles = [Profile.from_dict(one) for one in run.details["profiles"]]
    return "\n\n".join(profile.text(lossy) for profile in profiles)
