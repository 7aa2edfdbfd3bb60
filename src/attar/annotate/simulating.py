"""The verb `annotate simulate`: a study replayed with gold labels in place of people."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from attar.annotate.changes import read_happenings
from attar.annotate.charts import write_curves
from attar.annotate.config import SimulateConfig
from attar.artefacts import write_text
from attar.data.segments.cuts import Segmented
from attar.data.segments.formats import read_segments
from attar.errors import DataError, require
from attar.methods.active_segmentation import PAPER
from attar.methods.active_segmentation.annotators import Annotator
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.curves import difference, rows
from attar.methods.active_segmentation.drawing import DrawConfig
from attar.methods.active_segmentation.points import AXES, Point, comparable
from attar.methods.active_segmentation.simulate import Happening, Replay, replay
from attar.methods.active_segmentation.study import UNION, StudyConfig
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run

logger = logging.getLogger(__name__)

POINTS, CURVES = "points.csv", "curves.png"


@takes_recipe("annotate simulate")
def simulate(
    data: str | Path,
    *,
    format: str | None = None,
    config: SimulateConfig | str = SimulateConfig(),
    drawing: DrawConfig = DrawConfig(),
    segmenter: SegmenterConfig = SegmenterConfig(),
    output_dir: str | Path | None = None,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Replay a study on text whose words are known: the functions of the live service, with answers
    from a file.

    Args:
        data: segmented text: a file, a folder of files or a pattern.
        format: of the data; None: told by names and contents.
        config: what is simulated; or the name or path of a recipe.
        drawing: how batches are drawn; the strategy is each arm's.
        segmenter: what is trained.
        output_dir: where the record, the points and the curves go; None: they are only returned.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run in the same folder, seed by seed.

    Returns:
        The record: `details` has `points`, `summary` and `differences`.

    Raises:
        ConfigError: options do not fit together.
        DataError: the data cannot be read, or too few of them are segmented.
        MissingExtraError: the dictionary needs a package that is not installed.
    """
    config, recipe = configured(config, SimulateConfig, recipe=recipe)
    arms = {name: replace(drawing, strategy=name) for name in config.arms}
    require(UNION not in arms, "arms", config.arms, f"strategies, none of them {UNION}")
    happenings = read_happenings(config.events) if config.events else []
    settings = {"data": str(data), "format": format, **asdict(config)}
    settings |= {"drawing": asdict(drawing), "segmenter": asdict(segmenter)}
    with artefact(
        output_dir,
        command="annotate simulate",
        method="active_segmentation",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        gold = list(read_segments(data, format=format))
        results = []
        for number in range(config.seeds):
            kept = work.sub_state(f"seed-{number}.json")
            if kept is not None and kept.is_file():
                results.append(json.loads(kept.read_text(encoding="utf-8")))
                continue
            study = StudyConfig(
                arms={name: _salted(one, config.seed + number) for name, one in arms.items()},
                segmenter=segmenter,
                seed_sentences=config.seed_sentences,
                seed=config.seed + number,
            )
            results.append(_one_seed(gold, study, config=config, happenings=happenings))
            if kept is not None:
                write_text(kept, json.dumps(results[-1]))
        work.run.details = {
            "points": [
                {"seed": number, **row} for number, one in enumerate(results) for row in one["rows"]
            ],
            "summary": _summary(results, config.arms),
            "differences": _differences(results),
            "warnings": sorted({line for one in results for line in one["warnings"]}),
            "sentences": len(gold),
        }
        if work.path is not None:
            for name in (POINTS, CURVES):
                write_curves(work.run.details["points"], work.path / name, x=drawing.unit)
    return work.run


def _one_seed(
    gold: Sequence[Segmented],
    study: StudyConfig,
    *,
    config: SimulateConfig,
    happenings: Sequence[Happening],
) -> dict[str, Any]:
    """One replay, as plain values."""
    people = [
        Annotator(name=f"a{number + 1}", flip=config.mistakes)
        for number in range(config.annotators)
    ]
    made = Replay.of(
        gold,
        config=study,
        fraction=config.reserve_fraction,
        minimum=config.reserve_minimum,
        annotators=people,
        prefill=config.prefill,
        refits=config.refits,
        by=config.by,
    )

    def say(_: Replay, points: list[Point]) -> None:
        scores = ", ".join(f"{point.arm} {point.word_f1:.4f}" for point in points)
        logger.info("seed %d, batch %d: %s", study.seed, points[0].batch, scores)

    budgets = dict.fromkeys(study.arms, config.spend)
    made = replay(made, budgets=budgets, happenings=happenings, report=say)
    points = comparable(made.points)  # text that joined the corpus made the test set grow
    return {
        "rows": rows(points, seed=study.seed),
        "differences": _against_first(points, config),
        "warnings": made.warnings,
    }


def _against_first(points: Sequence[Point], config: SimulateConfig) -> list[dict[str, Any]]:
    """Of each other arm and axis, in the last epoch: how much higher its curve lies."""
    last = max(point.epoch for point in points)
    lines = {arm: [p for p in points if p.arm == arm and p.epoch == last] for arm in config.arms}
    found = []
    for arm in config.arms[1:]:
        for axis in AXES:
            try:
                gap = difference(lines[arm], lines[config.arms[0]], axis=axis, seed=config.seed)
            except DataError:  # the curves have no such costs in common
                continue
            found.append({"arm": arm, "against": config.arms[0], **gap.to_dict()})
    return found


def _summary(results: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[dict[str, Any]]:
    """The last point of each arm: means over the seeds."""
    found = []
    for arm in (*arms, UNION):
        last = [[row for row in one["rows"] if row["arm"] == arm] for one in results]
        ends = [line[-1] for line in last if line]
        if not ends:
            continue
        scores = [row["word_f1"] for row in ends]
        found.append(
            {
                "arm": arm,
                "word_f1": mean(scores),
                "spread": stdev(scores) if len(scores) > 1 else None,
                **{axis: mean(row[axis] for row in ends) for axis in AXES},
            }
        )
    return found


def _differences(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each arm and axis: the mean over the seeds, and each seed's interval."""
    by_axis: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in results:
        for gap in one["differences"]:
            by_axis[gap["arm"], gap["against"], gap["axis"]].append(gap)
    return [
        {
            "arm": arm,
            "against": against,
            "axis": axis,
            "value": mean(gap["value"] for gap in gaps),
            "intervals": [[gap["low"], gap["high"]] for gap in gaps],
        }
        for (arm, against, axis), gaps in by_axis.items()
    ]


def _salted(config: DrawConfig, seed: int) -> DrawConfig:
    """With a random order of its own, for each seed but the first."""
    return replace(config, salt=f"{config.salt}-{seed}") if seed else config
