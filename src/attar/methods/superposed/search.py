"""The verb `ngrams search`: which options suit a store of n-grams, a model and a kind of text."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.data.text import load_text
from attar.decode.choosing import COLD
from attar.decode.ngram_evaluation import passages
from attar.decode.ngrams import NGramStore
from attar.errors import DataError, check_types, require
from attar.methods.superposed.config import SuperposedConfig
from attar.methods.superposed.generate import PAPER, load_decoder
from attar.methods.superposed.tune import trial, tune
from attar.models import computing
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.report.tables import Table

#: tokens of a piece of held-out text, at least: a prompt, and more for the weights
_PIECE = 64


@dataclass(frozen=True, kw_only=True)
class NGramSearchConfig:
    """What is tried, and on what."""

    drafts: int = 3
    """Drafts of a prompt."""
    max_new_tokens: int = 10
    """Tokens of a draft."""
    prompts: int = 100
    """Prompts from the validation split, and as many from the test split."""
    prompt_tokens: int = 15
    """Tokens of a prompt. Give as many as your prompts have: the best options depend on it."""
    alphas: tuple[float, ...] = (0.1, 0.25, 0.4, 0.54, 0.65)
    """Weights of the n-grams to try, separated by commas."""
    temperatures: tuple[float, ...] = (0.04, 0.06, 0.1, 0.2)
    """Temperatures to try, separated by commas; each with every alpha."""
    batch_size: int = 8
    """Prompts per forward pass."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("drafts", "max_new_tokens", "prompts", "prompt_tokens", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        fine = bool(self.alphas) and all(0 < one <= 1 for one in self.alphas)
        require(fine, "alphas", self.alphas, "one or more, each above 0 and 1 at most")
        fine = bool(self.temperatures) and min(self.temperatures) >= COLD
        require(fine, "temperatures", self.temperatures, f"one or more, each at least {COLD:g}")


@takes_recipe("ngrams search")
def search_options(
    store: str | Path,
    data: DataLike = STDLIB,
    *,
    target: str | Path | PreTrainedModel,
    config: NGramSearchConfig | str = NGramSearchConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Tune Superposed Decoding with a store of n-grams: the weights of the n-grams, alpha and the
    temperature, by the drafts that the model finds likeliest.

    They are written into the store, as `superposed.json`, where `attar.generate` and `attar.serve`
    find them when they are given the store and the same model.

    Args:
        store: folder that `attar ngrams train` wrote.
        data: whatever `attar.data.load_text` takes; options are tuned on its validation split, and
            its test split is measured. Give text that neither the store nor the model was made of.
        target: folder, GGUF file or Hub name of the model that is to write, or a model.
        config: what is tried; or the name or path of a recipe.
        tokenizer: None: the model's own.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: `details["options"]`, `details["trials"]` with the best first, and
        `quality["test"]`, perplexities of the drafts under the model with these options, with the
        paper's, and without n-grams.

    Raises:
        ConfigError: an option is out of range, or the output folder is taken.
        CompatibilityError: the store or superposed decoding cannot serve the model.
        DataError: the model, the store or the text cannot be read, or the text is too short.
    """
    config, recipe = configured(config, NGramSearchConfig, recipe=recipe)
    data = Data.of(data)
    settings = {"model": str(store), "target": checkpoint.name_of(target), **data.settings()}
    with artefact(
        output_dir,
        command="ngrams search",
        method="superposed",
        paper=PAPER,
        settings=settings | asdict(config),
        recipe=recipe,
    ) as work:
        if work.main:
            loaded = NGramStore.load(store)
            documents = load_text(data)
            start = SuperposedConfig(
                k=config.drafts, max_new_tokens=config.max_new_tokens, tuned=False
            )
            decoder = load_decoder(target, tokenizer=tokenizer, store=loaded, config=start)
            held_out, test = (
                _pieces(documents[split]["text"], decoder.words.tokenizer, config=config)
                for split in ("validation", "test")
            )
            with computing(decoder.model):
                found = tune(
                    decoder,
                    held_out,
                    alphas=config.alphas,
                    temperatures=config.temperatures,
                    prompt_tokens=config.prompt_tokens,
                    batch_size=config.batch_size,
                )
                prompts = [piece[: config.prompt_tokens] for piece in test]
                ways = {
                    "tuned": found.config,
                    "paper": start,
                    "no n-grams": replace(start, alpha=0.0),
                }
                for name, way in ways.items():
                    way = replace(way, min_hit_rate=0.0)
                    one = trial(decoder, prompts, config=way, batch_size=config.batch_size)
                    figures = {"mean": math.exp(one.nll), "best": math.exp(one.best_nll)}
                    work.run.quality.setdefault("test", {})[name] = figures
            options = ("alpha", "temperature", "lambdas")
            work.run.details = {
                "options": {name: getattr(found.config, name) for name in options},
                "trials": [asdict(one) for one in found.trials],
                "prompts": {"validation": len(held_out), "test": len(test)},
                "written": str(found.save(loaded.folder)),
            }
    return work.run


def options_table(run: Run) -> str:
    """What `search_options` found, as text."""
    options, test = run.details["options"], run.quality["test"]
    rows = [[name, f"{row['mean']:.2f}", f"{row['best']:.2f}"] for name, row in test.items()]
    weights = ", ".join(f"{one:.3f}" for one in options["lambdas"])
    return (
        f"alpha {options['alpha']:g}, temperature {options['temperature']:g}, lambdas {weights}: "
        f"the best of {len(run.details['trials'])} trials on "
        f"{run.details['prompts']['validation']} prompts of the validation split.\n\n"
        f"{Table(['Options', 'Perplexity, mean of drafts', 'Best draft'], rows)}\n\n"
        f"Perplexities of the drafts under the model itself, on {run.details['prompts']['test']} "
        "prompts of the test split. They are lower for drafts that dare less: read some."
    )


def _pieces(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, config: NGramSearchConfig
) -> list[list[int]]:
    """Token ids of pieces from all over a split, each with room for a prompt.

    Raises:
        DataError: no piece has.
    """
    size = max(_PIECE, 2 * config.prompt_tokens)
    rows = passages(texts, tokenizer, tokens=config.prompts * size)
    pieces = [row[at : at + size] for row in rows for at in range(0, len(row), size)]
    pieces = [piece for piece in pieces if len(piece) >= config.prompt_tokens]
    if not pieces:
        raise DataError(
            f"expected held-out text with prompts of {config.prompt_tokens} tokens, found only "
            "shorter lines; give other text, or lower prompt_tokens"
        )
    count = min(config.prompts, len(pieces))
    return [pieces[i * len(pieces) // count] for i in range(count)]
