"""What a draft is worth to its target on this machine, at several temperatures."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.decode.bench import Profile, profile
from attar.decode.pair import load_pair
from attar.decode.settings import SpecConfig
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.texts import prompts_of
from attar.runtime import place


def profile_draft(
    draft: str | Path | PreTrainedModel,
    data: str | Path | Dataset | DatasetDict,
    *,
    target: str | Path | PreTrainedModel,
    temperatures: Sequence[float] = (0.0, 1.0),
    lengths: Sequence[int] = range(1, 9),
    rounds: int = 3,
    config: DistillSpecConfig = DistillSpecConfig(eval_prompts=16),
    decoding: SpecConfig = SpecConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[Profile]:
    """Profile a pair on held-out prompts.

    Args:
        draft: folder or Hub name, or a model.
        data: whatever `attar.data.prompts.load_prompts` takes; the test split is read.
        target: as draft.
        temperatures: one profile each; 0 is greedy.
        lengths: of drafts.
        rounds: of the races against plain decoding; 0: none.
        config: `eval_prompts`, lengths of prompts and texts, columns and seed.
        decoding: how drafts are verified in the races.
        tokenizer: None: the target's.

    Raises:
        CompatibilityError: the draft cannot serve the target.
        ConfigError: the texts do not fit the models.
        DataError: a model or the data cannot be read.
    """
    pair = load_pair(target, draft, tokenizer=tokenizer)
    prompts = [prompt.ids for prompt in prompts_of(pair, data, config=config)["test"]]
    place(pair.target)
    place(pair.draft)
    return [
        profile(
            pair.target,
            pair.draft,
            prompts=prompts,
            temperature=temperature,
            max_new_tokens=config.max_new_tokens,
            lengths=lengths,
            rounds=rounds,
            stops=pair.stops,
            config=decoding,
            seed=config.seed,
        )
        for temperature in temperatures
    ]
