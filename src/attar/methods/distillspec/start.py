"""A draft for those who have none: some layers of the target itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from attar import checkpoint
from attar.errors import ConfigError
from attar.measure.cost import cost_of
from attar.models import has_cache, require_generator
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.train.students import StudentInit, depth, evenly_spaced_layers, make_student


def init_draft(
    model: str | Path,
    *,
    layers: int | Sequence[int] = 2,
    width: int | None = None,
    init: StudentInit = "cut",
    seed: int = 0,
    output_dir: str | Path,
    recipe: str | None = None,
) -> Run:
    """Make a draft of the target's own layers, and save it as a checkpoint with its tokenizer.

    Args:
        model: the target: folder or Hub name.
        layers: how many, evenly spaced from the first to the last, or which, counted from 0.
        width: of its hidden states, for a draft with random weights; None: the target's.
        init: `cut` copies embeddings, head and layers; `random` only the shape.
        seed: of random weights.
        output_dir: where the draft goes.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record, also written to `attar.json`: the cost of the target and of the draft.

    Raises:
        ConfigError: there are no such layers, or the output folder is taken.
        CompatibilityError: the layers of this model cannot be found.
        DataError: the target cannot be read.
    """
    settings: dict[str, Any] = {
        "model": str(model),
        "layers": layers if isinstance(layers, int) else list(layers),
        "width": width,
        "init": init,
        "seed": seed,
    }
    with artefact(
        output_dir, command="draft init", settings=settings, recipe=recipe, seed=seed
    ) as work:
        if work.main:
            target = checkpoint.load(model)
            draft = _cut(target, layers, width=width, init=init, seed=seed)
            costs = cost_of(target), cost_of(draft)
            work.run.cost = {"before": costs[0].to_dict(), "after": costs[1].to_dict()}
            work.card = {"pipeline_tag": "text-generation" if has_cache(draft) else None}
            checkpoint.save(draft, work.folder, tokenizer=checkpoint.load_tokenizer(model))
    return work.run


def _cut(
    target: PreTrainedModel,
    layers: int | Sequence[int],
    *,
    width: int | None,
    init: StudentInit,
    seed: int,
) -> PreTrainedModel:
    """The draft, in the target's type."""
    require_generator("target", target)
    whole = depth(target)
    kept = evenly_spaced_layers(layers, whole) if isinstance(layers, int) else list(layers)
    if len(kept) >= whole and width is None:
        raise ConfigError(
            f"a draft must have fewer layers than its target's {whole}, but it would have "
            f"{len(kept)}; take fewer"
        )
    return make_student(target, layers=kept, width=width, init=init, seed=seed)
