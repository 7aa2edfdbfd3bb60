"""`attar heal`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.app import ExitCode, require_folder_option
from attar.cli.output import show
from attar.train.heal import HealConfig
from attar.train.heal import heal as heal_model

_HEALING = Group("Healing options", sort_key=1)


def heal(
    model: str,
    *,
    teacher: str,
    data: str = "python-stdlib",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    resume: bool = False,
    options: Annotated[HealConfig, Parameter(name="*", group=_HEALING)] = HealConfig(),
) -> int:
    """Repair a pruned model: train it on text and on what its parent says of that text.

    Example: `attar heal my-model-half --teacher my-model --data python-stdlib -o my-model-healed`

    Parameters
    ----------
    model
        Folder or Hub name of the pruned model.
    teacher
        Folder or Hub name of its parent.
    data
        A Hub name, a .txt, .jsonl, .parquet, .csv or .tsv file (also .gz), a folder of them, or
        python-stdlib.
    output_dir
        Where the healed model goes; must be new or empty.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = heal_model(
        model, teacher=teacher, data=data, config=options, output_dir=folder, resume=resume
    )
    show(str(run))
    show(f"\nWritten to {folder}. Next: attar evaluate {folder} --data {data}")
    return ExitCode.DONE
