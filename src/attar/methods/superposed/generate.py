"""The public verb: several drafts of each prompt."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.decode.generate import load_model, prompts_of, rendered
from attar.decode.ngrams import NGramStore, StoredNGrams
from attar.errors import ConfigError, require
from attar.methods.superposed.completions import Completions
from attar.methods.superposed.config import SuperposedConfig
from attar.methods.superposed.decoder import SuperposedDecoder
from attar.methods.superposed.tune import tuned_for
from attar.models import computed_in, computing
from attar.report.artefact import artefact
from attar.report.record import Paper, Run

PAPER = Paper(
    title=("Superposed Decoding: Multiple Generations from a Single Autoregressive Inference Pass"),
    authors=(
        "Ethan Shen",
        "Alan Fan",
        "Sarah Pratt",
        "Jae Sung Park",
        "Matthew Wallingford",
        "Sham Kakade",
        "Ari Holtzman",
        "Ranjay Krishna",
        "Ali Farhadi",
        "Aditya Kusupati",
    ),
    year=2024,
    arxiv="2405.18400",
)


def generate_drafts(
    model: str | Path | PreTrainedModel,
    prompts: str | Sequence[str],
    *,
    config: SuperposedConfig = SuperposedConfig(),
    store: str | Path | StoredNGrams | None = None,
    suffix: str | None = None,
    chat: bool = False,
    batch_size: int = 8,
    dtype: Literal["float32"] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    each: Callable[[str, Completions], None] | None = None,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Several drafts of how each text goes on, for the passes of one.

    Args:
        model: folder, Hub name or a model.
        prompts: a text, or several.
        config: how the drafts are made.
        store: folder of n-grams of the same tokenizer, as `attar ngrams train` writes it, or a
            loaded store; None: the model alone. Options that `attar ngrams search` has tuned for
            this model are taken from it.
        suffix: text behind the cursor; for a model that was trained to fill in.
        chat: prompts are messages of a user, and the chat template goes around them.
        batch_size: prompts per forward pass.
        dtype: see `GenerateConfig`.
        tokenizer: None: the model's own.
        each: called with each prompt, once its drafts are there, and with them.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: `details["drafts"]` holds the drafts of each prompt, the best first, and
        `details["texts"]` each prompt with its best one.

    Raises:
        ConfigError: there is no prompt, options do not fit together, or texts are too long.
        CompatibilityError: the model cannot read mixtures of embeddings, or the store is of another
            tokenizer.
        DataError: the model or the store cannot be read.
    """
    prompts = prompts_of(prompts)
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    if chat and suffix is not None:
        raise ConfigError("suffix is for text, and chat for messages; leave one of them out")
    named = str(store) if isinstance(store, str | Path) else store and type(store).__name__
    settings = {"model": checkpoint.name_of(model), "store": named, "suffix": suffix, "chat": chat}
    settings |= {"batch_size": batch_size, "dtype": dtype, **asdict(config)}
    with artefact(
        output_dir,
        command="generate",
        method="superposed",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        seed=config.seed,
    ) as work:
        kind = None if dtype is None else getattr(torch, dtype)
        decoder = load_decoder(model, tokenizer=tokenizer, dtype=kind, store=store, config=config)
        texts: list[str] = []
        drafts: list[Completions] = []
        with ExitStack() as stack:
            if decoder.model is model:  # it stays in the type that it is stored in
                stack.enter_context(computing(decoder.model))
            for start in range(0, len(prompts), batch_size):
                some = prompts[start : start + batch_size]
                given = [_messages(one, decoder) for one in some] if chat else some
                found = decoder.generate_all(given, suffix=suffix)
                for prompt, one in zip(some, found, strict=True):
                    drafts.append(one)
                    best = one.drafts[0].text
                    texts.append(best if chat or suffix is not None else prompt + best)
                    if each is not None:
                        each(prompt, one)
        work.run.details = {
            "texts": texts,
            "drafts": [asdict(one) for one in drafts],
            "options": asdict(decoder.config),  # with what was tuned
            "computed_in": computed_in(decoder.model),
        }
    return work.run


def load_decoder(
    model: str | Path | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | None = None,
    store: str | Path | StoredNGrams | None = None,
    config: SuperposedConfig = SuperposedConfig(),
) -> SuperposedDecoder:
    """A decoder on the device at hand, with the options that were tuned for model and store; see
    `generate_drafts`."""
    words = checkpoint.tokenizer_of(model, tokenizer)
    if isinstance(store, str | Path):
        store = NGramStore.load(store, tokenizer=words)
    loaded = load_model(model, dtype=dtype)
    config = tuned_for(loaded, store, config=config)
    return SuperposedDecoder(loaded, words, config=config, store=store)


def _messages(prompt: str, decoder: SuperposedDecoder) -> list[int]:
    words = decoder.words.tokenizer
    return list(words(rendered(prompt, words), add_special_tokens=False)["input_ids"])
