"""`attar pretrain`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.app import ExitCode, require_folder_option
from attar.cli.output import show
from attar.train.pretrain import PretrainConfig
from attar.train.pretrain import pretrain as train_model

_TRAINING = Group("Model and training options", sort_key=1)


def pretrain(
    *,
    data: str = "python-stdlib",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    tokenizer: str | None = None,
    resume: bool = False,
    options: Annotated[PretrainConfig, Parameter(name="*", group=_TRAINING)] = PretrainConfig(),
) -> int:
    """Train a small language model and its tokenizer on plain text.

    Example: `attar pretrain --config pocket/6m --data python-stdlib -o pocket-6m`

    Parameters
    ----------
    data
        A Hub name, a .txt, .jsonl, .parquet, .csv or .tsv file (also .gz), a folder of them, a
        folder that `attar tokenizer encode` wrote, or python-stdlib.
    output_dir
        Where the model goes; must be new or empty.
    tokenizer
        Folder or Hub name of the tokenizer to use; when not given, one of --vocab-size entries is
        trained on the same text.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = train_model(data, config=options, output_dir=folder, tokenizer=tokenizer, resume=resume)
    show(str(run))
    show(
        f'\nWritten to {folder}. Next: attar prune {folder} --budget "blocks<=50%" -o {folder}-half'
    )
    return ExitCode.DONE
