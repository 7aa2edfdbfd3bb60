"""`attar ngrams`: train, evaluate and search."""

from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.data import Text, TextOptions
from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    command,
    noun,
    require_folder_option,
    require_target,
    show,
    show_or_write,
)
from attar.decode.ngram_build import train_ngrams
from attar.decode.ngram_evaluation import evaluate_ngrams, evaluation_table
from attar.decode.ngram_index import SHARD_TOKENS
from attar.decode.ngrams import ORDER
from attar.methods.superposed import NGramSearchConfig, search_options
from attar.methods.superposed.search import options_table

_SEARCH = Group("Search options", sort_key=2)


def train(
    model: str,
    *,
    data: Text = TextOptions(),
    order: int = ORDER,
    workers: int = 1,
    shard_tokens: int = SHARD_TOKENS,
    licence: str | None = None,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
) -> int:
    """Count the n-grams of a text, for drafts that cost no forward pass.

    Example: `attar ngrams train my-model --data python-stdlib -o my-store`

    The store takes about 7 bytes a token. It serves all models with this tokenizer:
    `attar generate my-model --draft ngrams:my-store`.

    Parameters
    ----------
    model
        Folder, GGUF file or Hub name of a model or a tokenizer.
    order
        The longest n-gram, 2 to 8 tokens.
    workers
        Threads; the store does not depend on it.
    shard_tokens
        Tokens that each thread sorts at a time, about 30 bytes each; the store does not depend on
        it.
    licence
        Licence of the text, for the record.
    output_dir
        Where the store goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = train_ngrams(
        model,
        data.whole(),
        order=order,
        workers=workers,
        shard_tokens=shard_tokens,
        licence=licence,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    counted = run.quality["train"]
    show(
        f"{counted['tokens']:,} tokens of {counted['documents']:,} documents, "
        f"{counted['bytes_per_token']:.2f} bytes per token"
    )
    after = command("ngrams", "evaluate", folder, *data.words())
    show(f"\nWritten to {folder}. Next: {after}")
    return ExitCode.DONE


def evaluate(
    store: str,
    *,
    data: Text = TextOptions(),
    eval_tokens: int = 10_000,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
) -> int:
    """How well a store knows held-out text, the best weights of its lengths, and what it costs.

    Parameters
    ----------
    store
        Folder that `attar ngrams train` wrote.
    eval_tokens
        Tokens that are read of the validation split, for the weights, and of the test split.
    output_dir
        Write the record (attar.json) into this folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = evaluate_ngrams(
        store,
        data.whole(),
        eval_tokens=eval_tokens,
        output_dir=output_dir,
        recipe=recipe,
    )
    show_or_write(run.to_dict(), evaluation_table(run), target=json_to)
    return ExitCode.DONE


def search(
    store: str,
    *,
    data: Text = TextOptions(),
    target: str,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[NGramSearchConfig, Parameter(name="*", group=_SEARCH)] = NGramSearchConfig(),
) -> int:
    """Find the options under which drafts with a store are best (Superposed Decoding).

    Example: `attar ngrams search my-store --target my-model --data my-texts`

    They are written into the store, as superposed.json, where attar generate --drafts and attar
    serve find them for this model.

    Parameters
    ----------
    store
        Folder that `attar ngrams train` wrote.
    target
        Folder, GGUF file or Hub name of the model that is to write the drafts.
    output_dir
        Write the record (attar.json) into this folder, too.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = search_options(
        store, data.whole(), target=target, config=config, output_dir=output_dir, recipe=recipe
    )
    after = command("generate", target, "PROMPT", "--drafts", config.drafts, "--store", store)
    text = f"{options_table(run)}\n\nWritten to {run.details['written']}. Next: {after}"
    show_or_write(run.to_dict(), text, target=json_to)
    return ExitCode.DONE


def __getattr__(name: str) -> App:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return noun(
        "ngrams",
        "Count which tokens follow which in a text, for drafts without a forward pass.",
        {"train": train, "evaluate": evaluate, "search": search},
    )
