"""A draft for those who have none: some layers of the target itself."""

import time
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from attar import artefacts, checkpoint
from attar.errors import ConfigError
from attar.measure.cost import cost_of
from attar.models import require_generator
from attar.report.pages import save_card
from attar.report.record import Run
from attar.train.students import StudentInit, depth, evenly_spaced_layers, make_student


def init_draft(
    target: str | Path,
    *,
    layers: int | Sequence[int],
    output_dir: str | Path,
    width: int | None = None,
    init: StudentInit = "cut",
    seed: int = 0,
) -> Run:
    """Make a draft of the target's own layers, and save it as a checkpoint with its tokenizer.

    Args:
        target: folder or Hub name.
        layers: how many, evenly spread from the first to the last, or which, counted from 0.
        output_dir: where the draft goes.
        width: of its hidden states, for a draft with random weights.
        init: `cut` copies embeddings, head and layers; `random` only the shape.
        seed: of random weights.

    Returns:
        The record, also written to `attar.json`.

    Raises:
        ConfigError: there are no such layers, or the output folder is taken.
        CompatibilityError: the layers of this model cannot be found.
        DataError: the target cannot be read.
    """
    began = time.perf_counter()
    settings = {"target": str(target), "layers": layers, "width": width, "init": init}
    with artefacts.workspace(output_dir, settings=settings) as space:
        model = checkpoint.load(target)
        require_generator("target", model)
        kept = (
            evenly_spaced_layers(layers, depth(model)) if isinstance(layers, int) else list(layers)
        )
        if len(kept) >= depth(model) and width is None:
            raise ConfigError(
                f"a draft must have fewer layers than its target's {depth(model)}, but it would "
                f"have {len(kept)}; take fewer"
            )
        draft = make_student(model, layers=kept, width=width, init=init, seed=seed)
        tokenizer = checkpoint.load_tokenizer(target)
        run = Run(
            command="draft init",
            model=str(target),
            settings=settings,
            cost={"before": cost_of(model).to_dict(), "after": cost_of(draft).to_dict()},
            seed=seed,
            seconds=time.perf_counter() - began,
        )
        checkpoint.save(_in(draft, model), space.path, tokenizer=tokenizer)
        kind = None if model.config.is_encoder_decoder else "text-generation"
        save_card(space.path, run, pipeline_tag=kind)
        run.save(space.path)
    return run


def _in(draft: PreTrainedModel, target: PreTrainedModel) -> PreTrainedModel:
    """The draft in the type of the target's weights."""
    return draft.to(target.dtype)  # pyright: ignore[reportArgumentType]
