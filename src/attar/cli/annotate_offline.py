"""`attar annotate convert` and `simulate`: what needs no project."""

import re
from typing import Annotated

from cyclopts import Group, Parameter

from attar import annotate
from attar.annotate import printing
from attar.annotate.config import SimulateConfig
from attar.cli.output import (
    ExitCode,
    File,
    Json,
    Output,
    Overwrite,
    Recipe,
    note,
    require_target,
    show,
    show_or_write,
)
from attar.data.segments.streams import Offsets, OnPipe
from attar.errors import ConfigError
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import DrawConfig

_SIMULATION = Group("Simulation options", sort_key=2)
_DRAWING = Group("Drawing options", sort_key=3)
_SEGMENTER = Group("Segmenter options", sort_key=4)
#: the strategies of a simulation are its arms, and its seed is the segmenter's
_OF_DRAWING = re.compile(r"^(?!strategy$)")
_OF_SEGMENTER = re.compile(r"^(?!seed$)")


def convert(
    data: str,
    *,
    format: str | None = None,
    to: str | None = None,
    on_pipe: OnPipe = "error",
    offsets: Offsets = "auto",
    output_file: File = None,
) -> int:
    """Write segmented text in another format; no project is needed.

    Example: `attar annotate convert gold.txt --to conllu -o gold.conllu`

    Parameters
    ----------
    data
        A file, a folder of files, or a pattern such as 'corpus/*.txt'.
    format
        Its format. Default: told by name and contents.
    to
        The format to write. Default: told by the name of the new file.
    on_pipe
        What is done about bars in a text, in formats with bars between words: an error, or written
        in full width.
    offsets
        What the offsets in the data count: code points, units of UTF-16, or as the texts tell.
    output_file
        The new file; must not exist.
    """
    run = annotate.convert(
        data, output_file=output_file, format=format, to=to, on_pipe=on_pipe, offsets=offsets
    )
    show(f"{run.details['sentences']:,} sentences written to {output_file}")
    for warning in run.details["warnings"]:
        note(warning)
    return ExitCode.DONE


def simulate(
    *,
    data: str = "",
    format: str | None = None,
    output_dir: Output = None,
    resume: bool = False,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[SimulateConfig, Parameter(name="*", group=_SIMULATION)] = SimulateConfig(),
    drawing: Annotated[
        DrawConfig, Parameter(name="*", group=_DRAWING, parse=_OF_DRAWING)
    ] = DrawConfig(),
    segmenter: Annotated[
        SegmenterConfig, Parameter(name="*", group=_SEGMENTER, parse=_OF_SEGMENTER)
    ] = SegmenterConfig(),
) -> int:
    """Replay a project on text whose words are known: the live code, with answers from a file.

    Example: `attar annotate simulate --data gold.txt --format best -o my-simulation`

    Parameters
    ----------
    data
        Segmented text: a file, a folder of files, or a pattern such as 'corpus/*.txt'.
    format
        Its format. Default: told by names and contents.
    output_dir
        Write the record (attar.json), the points (points.csv) and the curves (curves.png) into
        this folder, which must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    if not data:
        raise ConfigError("say what to replay: --data with segmented text")
    run = annotate.simulate(
        data,
        format=format,
        config=config,
        drawing=drawing,
        segmenter=segmenter,
        output_dir=output_dir,
        recipe=recipe,
        resume=resume,
    )
    show_or_write(run.to_dict(), printing.simulate_text(run), target=json_to)
    for warning in run.details["warnings"]:
        note(warning)
    return ExitCode.DONE
