"""`attar heal`."""

from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.data import PromptOptions, Prompts
from attar.cli.output import ExitCode, Output, Recipe, command, require_folder_option, show
from attar.train.heal import HealConfig
from attar.train.heal import heal as heal_model

_HEALING = Group("Healing options", sort_key=3)


def heal(
    model: str,
    *,
    data: Prompts = PromptOptions(),
    teacher: str,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[HealConfig, Parameter(name="*", group=_HEALING)] = HealConfig(),
) -> int:
    """Repair a pruned model: train it on text and on its parent's distribution (distillation).

    Example: `attar heal my-model-half --teacher my-model --data python-stdlib -o my-model-healed`

    Parameters
    ----------
    model
        Folder or Hub name of the pruned model.
    teacher
        Folder, GGUF file or Hub name of its parent.
    output_dir
        Where the healed model goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = heal_model(
        model,
        data.whole(),
        teacher=teacher,
        config=config,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(str(run))
    after = [*data.words(), "--eval-tokens", config.eval_tokens]
    show(f"\nWritten to {folder}. Next: {command('evaluate', folder, *after)}")
    return ExitCode.DONE
