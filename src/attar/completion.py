"""`attar generate` in Python: texts go on in one way, or in several at once."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.decode.generate import GenerateConfig
from attar.decode.generate import generate as generate_texts
from attar.decode.ngrams import StoredNGrams
from attar.decode.settings import SpecConfig
from attar.decode.stats import SpecStats
from attar.errors import ConfigError, require
from attar.methods.superposed.completions import Completions
from attar.methods.superposed.config import SuperposedConfig
from attar.methods.superposed.generate import generate_drafts
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.record import Run

#: options that are the same for one text and for several drafts: the command line has them once
SHARED = ("max_new_tokens", "temperature", "stop")


@takes_recipe("generate")
def generate(
    model: str | Path | PreTrainedModel,
    prompts: str | Sequence[str],
    *,
    draft: str | Path | PreTrainedModel | None = None,
    drafts: int | None = None,
    store: str | Path | StoredNGrams | None = None,
    suffix: str | None = None,
    config: GenerateConfig | str = GenerateConfig(),
    decoding: SpecConfig = SpecConfig(),
    superposed: SuperposedConfig = SuperposedConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    each: Callable[[str, SpecStats | Completions | None], None] | None = None,
    stream: Callable[[str], object] | None = None,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Continue texts: each in one way, or with `drafts` in several short ones at once.

    A draft model makes one text faster and keeps the output. Several drafts cost about as much as
    one (Superposed Decoding), but none of them is what the model alone would sample.

    Args:
        model: folder, Hub name or a model.
        prompts: a text, or several.
        draft: a small model that speeds up one text; see `Generator.load`.
        drafts: how many drafts of each prompt; None: one text.
        store: with `drafts`: n-grams that tell them apart; see `generate_drafts`.
        suffix: with `drafts`: text behind the cursor; see `generate_drafts`.
        config: how texts are continued; or the name or path of a recipe.
        decoding: how a draft model is used. Its seed also seeds plain sampling.
        superposed: how several drafts are made. What `config` sets goes first.
        tokenizer: None: the model's own.
        each: called with each text as it is finished, and what drafting did in its batch; with
            `drafts`, with each prompt and its drafts.
        stream: called with each piece of the text as it is written; with one prompt only.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record; see `attar.decode.generate.generate`, and with `drafts` `generate_drafts`.

    Raises:
        ConfigError: there is no prompt, options do not fit together, or texts are too long.
        CompatibilityError: the draft or the store cannot serve the model, or the model cannot be
            given several drafts.
        DataError: a model or the store cannot be read.
    """
    config, recipe = configured(config, GenerateConfig, recipe=recipe)
    if drafts is None:
        _require_drafts(store=store, suffix=suffix, superposed=superposed)
        return generate_texts(
            model,
            prompts,
            draft=draft,
            config=config,
            decoding=decoding,
            tokenizer=tokenizer,
            each=each,
            stream=stream,
            output_dir=output_dir,
            recipe=recipe,
        )
    require(drafts >= 1, "drafts", drafts, "at least 1")
    _require_plain(draft=draft, stream=stream, config=config, decoding=decoding)
    return generate_drafts(
        model,
        prompts,
        config=drafting(drafts, config=config, decoding=decoding, superposed=superposed),
        store=store,
        suffix=suffix,
        chat=config.chat,
        batch_size=config.batch_size,
        dtype=config.dtype,
        tokenizer=tokenizer,
        each=each,
        output_dir=output_dir,
        recipe=recipe,
    )


def drafting(
    drafts: int, *, config: GenerateConfig, decoding: SpecConfig, superposed: SuperposedConfig
) -> SuperposedConfig:
    """The options of `drafts` drafts: what `config` and `decoding` set goes first."""
    asked = {name: getattr(config, name) for name in SHARED}
    given = {name: value for name, value in asked.items() if value not in (None, ())}
    if decoding.seed is not None:
        given["seed"] = decoding.seed
    return replace(superposed, k=drafts, **given)


def _require_drafts(*, store: object, suffix: str | None, superposed: SuperposedConfig) -> None:
    """Refuse options of several drafts where one text is asked for.

    Raises:
        ConfigError: there is one.
    """
    given = {"store": store, "suffix": suffix}
    names = [name for name, value in given.items() if value is not None]
    usual = SuperposedConfig()
    names += [
        o.name for o in fields(usual) if getattr(superposed, o.name) != getattr(usual, o.name)
    ]
    if names:
        raise ConfigError(
            f"{names[0]} is an option of several drafts; ask for them, as with --drafts 3, or "
            f"leave {names[0]} out"
        )


def _require_plain(
    *, draft: object, stream: object, config: GenerateConfig, decoding: SpecConfig
) -> None:
    """Refuse options of one text where several drafts are asked for.

    Raises:
        ConfigError: there is one.
    """
    given = {
        "draft": draft,
        "stream": stream,
        "top_k": config.top_k or None,
        "top_p": config.top_p if config.top_p < 1 else None,
        "repetition_penalty": config.repetition_penalty,
        "compile": config.compile or None,
    }
    if decoding != SpecConfig(seed=decoding.seed):
        given["an option of drafting with a model"] = decoding
    if names := [name for name, value in given.items() if value is not None]:
        raise ConfigError(
            f"several drafts are ranked, and not sampled, streamed or sped up by a draft model; "
            f"found {names[0]}, so leave it out, or leave drafts out"
        )
