"""`attar pretrain`."""

from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.data import Text, TextOptions, words_of
from attar.cli.output import (
    ExitCode,
    Output,
    Recipe,
    command,
    require_folder_option,
    show,
    show_pairs,
)
from attar.evaluation.model import bits_lines
from attar.report.record import recorded_data
from attar.train.pretrain import PretrainConfig
from attar.train.pretrain import pretrain as train_model

_TRAINING = Group("Model and training options", sort_key=3)


def pretrain(
    *,
    data: Text = TextOptions(),
    tokenizer: str | None = None,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[PretrainConfig, Parameter(name="*", group=_TRAINING)] = PretrainConfig(),
) -> int:
    """Train a small language model and its tokenizer on plain text.

    Example: `attar pretrain --config pocket/6m --data python-stdlib -o pocket-6m`

    The data may also be a folder that `attar tokenizer encode` wrote.

    Parameters
    ----------
    tokenizer
        Folder or Hub name of the tokenizer to use; when not given, one of --vocab-size entries is
        trained on the same text.
    output_dir
        Where the model goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = train_model(
        data.whole(),
        config=config,
        tokenizer=tokenizer,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(str(run))
    if tokenizer is not None:
        show("")
        show_pairs(bits_lines(run.details["bits_per_byte"]))
    source = words_of(recorded_data(data.data)) or data.words()  # ids are no text to prune on
    after = [*source, "--budget", "blocks<=50%", "-o", f"{folder}-half"]
    show(f"\nWritten to {folder}. Next: {command('prune', folder, *after)}")
    return ExitCode.DONE
