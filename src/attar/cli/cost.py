"""`attar cost`."""

from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    paired,
    require_target,
    show_or_write,
)
from attar.measure.model import CostConfig, cost_lines
from attar.measure.model import cost as cost_model

_TIMING = Group("Timing options", sort_key=3)


def cost(
    model: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[CostConfig, Parameter(name="*", group=_TIMING)] = CostConfig(),
) -> int:
    """Count a model's parameters, bytes, operations and cache, and time it on this machine.

    Works for any transformers model; one without a key/value cache has no decoding to time.

    Parameters
    ----------
    model
        A folder, a GGUF file or a name on the Hugging Face Hub.
    revision
        Branch, tag or commit on the Hub.
    trust_remote_code
        Run modelling code that comes with the checkpoint.
    output_dir
        Write the record (attar.json) into this folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = cost_model(
        model,
        config=config,
        revision=revision,
        trust_remote_code=trust_remote_code,
        output_dir=output_dir,
        recipe=recipe,
    )
    show_or_write(run.to_dict(), paired(cost_lines(run)), target=json_to)
    return ExitCode.DONE
