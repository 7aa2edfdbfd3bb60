"""Cutting a model by a plan that an earlier run wrote, without a search."""

import json
import logging
from pathlib import Path

from attar import artefacts, checkpoint
from attar.checkpoint.companions import keep_companions
from attar.errors import CompatibilityError, DataError
from attar.families import UNITS
from attar.foreign import read_json
from attar.measure.cost import cost_of
from attar.pruning.config import Layout
from attar.pruning.loop import kept_widths
from attar.pruning.run import PLAN_FILE
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.slicing import SlicePlan, slice_model, zero_out

logger = logging.getLogger(__name__)


def apply_plan(
    model: str | Path,
    plan: str | Path,
    *,
    output_dir: str | Path,
    layout: Layout = "per_layer",
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Cut a fresh parent by a plan that an earlier run wrote; the same parent gives the same
    weights, bit for bit.

    Args:
        model: folder or Hub name of the parent.
        plan: `plan.json`, or the folder that holds it.
        output_dir: where the artefact goes.
        layout: `padded` keeps the shapes and writes zeros; `uniform` and `depth` refuse a plan that
            does not give them; see `attar.prune`.
        recipe: name of the recipe that the options came from, for the record.
        resume: do again what an interrupted run left unfinished.

    Raises:
        CompatibilityError: the plan was made for a model of other shapes, or for another layout.
        DataError: model or plan are missing or damaged.
    """
    file = Path(plan) / PLAN_FILE if Path(plan).is_dir() else Path(plan)
    if not file.exists():
        raise DataError(
            f"no plan at {str(file)!r}: expected the {PLAN_FILE} that attar prune writes"
        )
    stored = read_json(file, "the plan")
    kept = SlicePlan.from_dict(stored)
    if stored.get("compensated"):
        logger.warning(
            "the model of this plan has biases that make up for what is gone, and a plan holds "
            "none, so the result is without them; prune with --method flap to have them"
        )
    made_for = stored.get("parent_hash")
    settings = {"model": str(model), "plan": str(plan), "layout": layout}
    with artefact(
        output_dir, command="prune --apply", settings=settings, recipe=recipe, resume=resume
    ) as work:
        parent = checkpoint.load(model)
        _check_layout(kept, layout, widths=kept_widths(parent))
        same = made_for in (None, checkpoint.fingerprint(parent))
        work.run.cost["before"] = cost_of(parent).to_dict()
        if layout == "padded":
            zero_out(parent, kept)
        else:
            parent = slice_model(parent, kept, in_place=True)
        work.run.cost["after"] = cost_of(parent).to_dict()
        form = checkpoint.save(parent, work.folder, tokenizer=checkpoint.load_tokenizer(model))
        keep_companions(model, work.folder)
        artefacts.write_text(work.folder / PLAN_FILE, json.dumps(stored))
        work.run.details = {"form": form, "same_parent": same}
    return work.run


def _check_layout(plan: SlicePlan, layout: Layout, *, widths: list[dict[str, int]]) -> None:
    """Refuse a layout that cutting by a plan does not give."""
    kept = [{unit: len(keep.kept(unit)) for unit in UNITS} for keep in plan.layers]
    even = all(widths_of == kept[0] for widths_of in kept)
    whole = kept == [widths[keep.layer] for keep in plan.layers if keep.layer < len(widths)]
    if (layout == "uniform" and not even) or (layout == "depth" and not whole):
        other = "every layer its own widths" if layout == "uniform" else "narrower layers"
        raise CompatibilityError(
            f"expected a plan for the layout {layout}, found one that gives {other}; leave the "
            f"layout out, or prune to a budget with layout {layout}"
        )
