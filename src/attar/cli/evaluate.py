"""`attar evaluate`."""

from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.data import Scored, ScoredOptions
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
from attar.evaluation.model import EvaluateConfig, evaluation_lines
from attar.evaluation.model import evaluate as evaluate_model

_SCORING = Group("Scoring options", sort_key=3)


def evaluate(
    model: str,
    *,
    data: Scored = ScoredOptions(),
    revision: str | None = None,
    trust_remote_code: bool = False,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[EvaluateConfig, Parameter(name="*", group=_SCORING)] = EvaluateConfig(),
) -> int:
    """Measure perplexity, bits per byte and speed of a causal language model, or how well an
    encoder that was trained for a task does on labelled data.

    Compare models with different tokenizers by bits per byte only.

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
    run = evaluate_model(
        model,
        data.whole(),
        config=config,
        revision=revision,
        trust_remote_code=trust_remote_code,
        output_dir=output_dir,
        recipe=recipe,
    )
    show_or_write(run.to_dict(), paired(evaluation_lines(run)), target=json_to)
    return ExitCode.DONE
