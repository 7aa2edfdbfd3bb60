"""`attar draft`: init, train, search and evaluate."""

import re
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.data import PromptOptions, Prompts, words_of
from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    command,
    noun,
    parse_list,
    require_folder_option,
    require_target,
    show,
    show_or_write,
)
from attar.decode.settings import SpecConfig
from attar.errors import ConfigError
from attar.methods.distillspec import (
    DistillSpecConfig,
    evaluate_draft,
    init_draft,
    search_drafts,
    train_draft,
)
from attar.methods.distillspec.profile import EvaluateDraftConfig, profile_text
from attar.methods.distillspec.search import DraftSearchConfig, conclusion, search_table
from attar.report.record import recorded_data
from attar.search.search import RECIPE
from attar.train.students import StudentInit

_SEARCH = Group("Search options", sort_key=2)
_TRAINING = Group("Training options", sort_key=3)
_MEASURING = Group("Measuring options", sort_key=3)
_DRAFTING = Group("Drafting options", sort_key=4)
#: the options of decoding that an evaluation leaves open
_VERIFYING = re.compile("^(draft_temperature|draft_vocabulary|verification|lossy|epsilon)$")


def init(
    model: str,
    *,
    layers: str = "2",
    width: int | None = None,
    init: StudentInit = "cut",
    seed: int = 0,
    output_dir: Output = None,
    recipe: Recipe = None,
) -> int:
    """Make a draft of some of a model's own layers.

    Example: `attar draft init my-model --layers 2 -o my-draft`

    It has the model's embeddings, head and tokenizer. Untrained, its acceptance rate is low:
    train it next, with `attar draft train`.

    Parameters
    ----------
    model
        Folder, GGUF file or Hub name of the target: the model that is to generate faster.
    layers
        Number of layers, evenly spread from the first to the last; or their indices, as in 0,5.
    width
        With --init random: hidden size of the draft; the target's when not given.
    init
        cut copies the weights of the target's layers; random starts from random weights.
    seed
        Random seed of the weights.
    output_dir
        Where the draft goes; must be new or empty.
    """
    folder = require_folder_option(output_dir)
    run = init_draft(
        model,
        layers=_layers(layers),
        width=width,
        init=init,
        seed=seed,
        output_dir=folder,
        recipe=recipe,
    )
    show(str(run))
    named = words_of(recorded_data(model))  # the target's own data, where its record names them
    after = ["--target", model, *named, "-o", f"{folder}-trained"]
    show(f"\nWritten to {folder}. Next: {command('draft', 'train', folder, *after)}")
    return ExitCode.DONE


def train(
    model: str,
    *,
    data: Prompts = PromptOptions(),
    target: str,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[
        DistillSpecConfig, Parameter(name="*", group=_TRAINING)
    ] = DistillSpecConfig(),
) -> int:
    """Train a draft on its target's distribution, for a higher acceptance rate (DistillSpec).

    Example: `attar draft train my-draft --target my-model --data python-stdlib -o my-draft-trained`

    Give prompts like those of later use, and the --temperature of later use.

    Parameters
    ----------
    model
        Folder or Hub name of the draft: a small model with the target's tokenizer; `attar draft
        init` makes one.
    target
        Folder, GGUF file or Hub name of the target: the model that is to generate faster.
    output_dir
        Where the trained draft goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = train_draft(
        model,
        data.whole(),
        target=target,
        config=config,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(str(run))
    details = run.details
    show(
        f"\nBlock efficiency: tokens per forward pass of the target, with drafts of "
        f"{details['draft_tokens']}; best after {details['best_step']} steps. Predicted on this "
        f"machine: {details['predicted_speedup']:.2f} times plain decoding with drafts of "
        f"{details['best_length']}."
    )
    if not details["best_step"]:
        show("Training did not improve the draft: train longer, or try other options.")
    after = ["--target", target, *data.words()]
    for name in ("prompt_tokens", "max_new_tokens"):  # prompts and texts as in the training
        if getattr(config, name) != getattr(EvaluateDraftConfig, name):
            after += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    show(f"Written to {folder}. Next: {command('draft', 'evaluate', folder, *after)}")
    return ExitCode.DONE


def search(
    model: str,
    *,
    data: Prompts = PromptOptions(),
    target: str,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[DraftSearchConfig, Parameter(name="*", group=_SEARCH)] = DraftSearchConfig(),
    training: Annotated[
        DistillSpecConfig, Parameter(name="*", group=_TRAINING)
    ] = DistillSpecConfig(max_steps=60),
) -> int:
    """Try divergences and sources of texts in short trainings, and write the best as a recipe.

    Example: `attar draft search my-draft --target my-model --data prompts.jsonl -o search`

    Run the same command again to continue a search. Started several times at once, on one machine
    or with --storage on many, it divides the trainings among the processes.

    Parameters
    ----------
    model
        Folder or Hub name of the draft; it is not changed.
    target
        Folder, GGUF file or Hub name of the target.
    output_dir
        Folder of the study: a new one, or that of a study to continue. It gets study.jsonl, a
        line for each training, best.yaml and the record.
    resume
        Not needed: the same command continues a search with or without it.
    """
    folder = require_folder_option(output_dir)
    run = search_drafts(
        model,
        data.whole(),
        target=target,
        config=config,
        training=training,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    if run.details["cells"]:
        show(f"{conclusion(run)}\n")
    show(search_table(run).text())
    after = ["--target", target, *data.words(), "-o", f"{folder}-best"]
    show(
        f"\nBlock efficiency was measured on held-out prompts at temperature "
        f"{training.temperature:g}. Next: repeat the best training (longer with --max-steps): "
        f"{command('run', folder / RECIPE, model, *after)}"
    )
    return ExitCode.DONE


def evaluate(
    model: str,
    *,
    data: Prompts = PromptOptions(),
    target: str,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[
        EvaluateDraftConfig, Parameter(name="*", group=_MEASURING)
    ] = EvaluateDraftConfig(),
    decoding: Annotated[
        SpecConfig, Parameter(name="*", group=_DRAFTING, parse=_VERIFYING)
    ] = SpecConfig(),
) -> int:
    """Measure acceptance rate, block efficiency and speed-up of a draft on this machine.

    Example: `attar draft evaluate my-draft --target my-model --data prompts.jsonl`

    Parameters
    ----------
    model
        Folder or Hub name of the draft.
    target
        Folder, GGUF file or Hub name of the target: the model that is to generate faster.
    output_dir
        Write the record (attar.json) into this folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = evaluate_draft(
        model,
        data.whole(),
        target=target,
        config=config,
        decoding=decoding,
        output_dir=output_dir,
        recipe=recipe,
    )
    show_or_write(run.to_dict(), profile_text(run), target=json_to)
    return ExitCode.DONE


def __getattr__(name: str) -> App:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return noun(
        "draft",
        "Make, train and evaluate a draft for speculative decoding.",
        {"init": init, "train": train, "search": search, "evaluate": evaluate},
    )


def _layers(text: str) -> int | list[int]:
    try:
        numbers = [int(part) for part in parse_list(text)]
    except ValueError:
        raise ConfigError(
            f"--layers is a number of layers, or their indices, as in 0,5; found {text!r}"
        ) from None
    return numbers if "," in text else numbers[0] if numbers else []
