"""`attar pretrain`."""

from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.data import Text, TextOptions, words_of
from attar.cli.output import (
    ExitCode,
    Output,
    Recipe,
    command,
    noun,
    require_folder_option,
    show,
    show_pairs,
)
from attar.evaluation.model import bits_lines
from attar.methods.spactor import SpacTorConfig
from attar.pretraining.arms import CompareConfig
from attar.pretraining.compare import compare_objectives
from attar.pretraining.config import PretrainConfig
from attar.pretraining.pretrain import pretrain as train_model
from attar.pretraining.tables import comparison_table, reached_lines, stage_lines
from attar.report.record import recorded_data

_TRAINING = Group("Model and training options", sort_key=3)
_SPACTOR = Group("First stage (SpacTor)", sort_key=4)
_COMPARED = Group("Comparison", sort_key=2)


def pretrain(
    model: str | None = None,
    *,
    data: Text = TextOptions(),
    tokenizer: str | None = None,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    spactor: Annotated[SpacTorConfig, Parameter(name="*", group=_SPACTOR)] = SpacTorConfig(),
    config: Annotated[PretrainConfig, Parameter(name="*", group=_TRAINING)] = PretrainConfig(),
) -> int:
    """Train a language model on plain text: a decoder, or a T5 by span corruption or SpacTor.

    Example: `attar pretrain --config pocket/6m --data python-stdlib -o pocket-6m`

    The data may also be a folder that `attar tokenizer encode` wrote.

    Parameters
    ----------
    model
        Folder or Hub name of a model to train further; when not given, a new one is made, with a
        tokenizer of its own.
    tokenizer
        Folder or Hub name of the tokenizer to use; when not given, the model's, or one of
        --vocab-size entries that is trained on the same text.
    output_dir
        Where the model goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = train_model(
        model,
        data.whole(),
        tokenizer=tokenizer,
        spactor=spactor,
        config=config,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(str(run))
    if "flops" in run.details:
        show_pairs([("", ""), *stage_lines(run)])
        show(
            f"\nWritten to {folder}. It restores spans: fine-tune it for a task with "
            "AutoModelForSeq2SeqLM before you score or serve it."
        )
        return ExitCode.DONE
    if tokenizer is not None:
        show("")
        show_pairs(bits_lines(run.details["bits_per_byte"]))
    source = words_of(recorded_data(data.data)) or data.words()  # ids are no text to prune on
    after = [*source, "--budget", "blocks<=50%", "-o", f"{folder}-half"]
    show(f"\nWritten to {folder}. Next: {command('prune', folder, *after)}")
    return ExitCode.DONE


def compare(
    model: str | None = None,
    *,
    data: Text = TextOptions(),
    probes: tuple[str, ...] = (),
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    compare: Annotated[CompareConfig, Parameter(name="*", group=_COMPARED)] = CompareConfig(),
    spactor: Annotated[SpacTorConfig, Parameter(name="*", group=_SPACTOR)] = SpacTorConfig(),
    config: Annotated[PretrainConfig, Parameter(name="*", group=_TRAINING)] = PretrainConfig(),
) -> int:
    """Train a T5 by span corruption, by SpacTor and by its first stage alone, side by side.

    Example: `attar pretrain compare --config spactor/cpu-tiny --probes reviews.csv -o compared`

    All see the same spans. The table has them by step, by FLOPs and by seconds.

    Parameters
    ----------
    model
        Folder or Hub name of a T5 to train further; when not given, new ones are made.
    probes
        Tables with the columns source and target: each model that is scored is fine-tuned on them.
        A file, or a folder with a file for each split; may be given several times, as may
        --learning-rates and --arms.
    output_dir
        Where the record goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = compare_objectives(
        model,
        data.whole(),
        probes=probes,
        compare=compare,
        spactor=spactor,
        config=config,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(comparison_table(run).text())
    for line in reached_lines(run):
        show(line)
    show(f"\nWritten to {folder}.")
    return ExitCode.DONE


def __getattr__(name: str) -> App:
    """`app`: a new one each time, as the command line that takes it in changes it."""
    if name != "app":
        raise AttributeError(name)
    app = noun("pretrain", str(pretrain.__doc__), {"compare": compare})
    app.default(pretrain)
    return app
