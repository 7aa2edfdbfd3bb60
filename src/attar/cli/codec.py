"""`attar codec`: train, encode, decode and evaluate."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.data import Media, MediaOptions
from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    command,
    note,
    noun,
    parse_list,
    require_folder_option,
    require_target,
    show,
    show_or_write,
)
from attar.codec.config import CodecConfig
from attar.codec.decoding import decode as decode_latents
from attar.codec.decoding import is_latent_file
from attar.codec.encoding import encode as encode_signals
from attar.codec.encoding import is_one
from attar.codec.evaluating import REPORT, EvaluateCodecConfig, score_table
from attar.codec.evaluating import evaluate as evaluate_codec
from attar.codec.training import train as train_codec
from attar.data.shards import Engine

FileOrFolder = Annotated[Path | None, Parameter(name=("--output-dir", "--output-file"), alias="-o")]
"""One option under both of Python's names: which of them is meant follows from the data."""

_CODEC = Group("Codec options", sort_key=3)
_MEASURED = Group("Evaluation options", sort_key=3)


def train(
    model: str | None = None,
    *,
    data: Media = MediaOptions(),
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[CodecConfig, Parameter(name="*", group=_CODEC)] = CodecConfig(),
) -> int:
    """Fit a codec to your pictures or sound in closed form, and train a decoder on top of it.

    Example: `attar codec train --data photos --reduction 16 -o my-codec`

    Parameters
    ----------
    model
        Folder of a codec to train further; a new one when not given.
    output_dir
        Where the codec goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = train_codec(
        model, data.whole(), config=config, output_dir=folder, recipe=recipe, resume=resume
    )
    show(score_table(run).text())
    after = command("codec", "evaluate", folder, *data.words())
    show(f"\nWritten to {folder}. Next: {after}")
    return ExitCode.DONE


def encode(
    model: str,
    *,
    data: Media = MediaOptions(),
    container: str | None = None,
    columns: str | None = None,
    skip_broken: bool = False,
    workers: int = 1,
    engine: Engine = "processes",
    output: FileOrFolder = None,
    resume: bool = False,
    recipe: Recipe = None,
) -> int:
    """Store a picture or a recording as one small file, or a data set as a folder that models
    train on.

    Example: `attar codec encode my-codec --data photos --workers 2 -o photos-latents`

    Parameters
    ----------
    model
        Folder or Hub name of a codec.
    container
        How integers are stored: jpegls, webp, png, zstd, or auto. Default: auto for one file, zstd
        for a data set, which is read fastest.
    columns
        Columns of a data set that are kept, separated by commas; all when not given.
    skip_broken
        Leave out what cannot be read or does not suit the codec, and name it; otherwise it ends
        the run.
    workers
        Processes; the result does not depend on it.
    engine
        What runs them: processes of this machine, or a cluster of Ray's.
    output
        The folder of a data set, or the file of one picture or recording; the file's name with
        .walloc when not given.
    resume
        Continue an interrupted run of a data set.
    """
    one = is_one(data.whole())
    run = encode_signals(
        model,
        data.whole(),
        container=container,
        columns=None if columns is None else parse_list(columns),
        skip_broken=skip_broken,
        workers=workers,
        engine=engine,
        output_dir=None if one else require_folder_option(output),
        output_file=output if one else None,
        recipe=recipe,
        resume=resume,
    )
    details = run.details
    if one:
        show(
            f"{details['bytes']:,} bytes, {details['bits']:.3f} bits for each number, "
            f"{details['reduction']:.3g} times fewer numbers: {run.settings['output_file']}"
        )
        return ExitCode.DONE
    for name in details.get("broken", []):
        note(f"left out: {name}")
    show(f"Written to {output}. In Python: attar.codec.LatentLoader({str(output)!r})")
    return ExitCode.DONE


def decode(
    model: str | None = None,
    *,
    data: str,
    stages: int | None = None,
    output: FileOrFolder = None,
    resume: bool = False,
    recipe: Recipe = None,
) -> int:
    """Restore a picture, a recording, or the files of a data set.

    Example: `attar codec decode my-codec --data photo.walloc -o photo.png`

    Parameters
    ----------
    model
        Folder or Hub name of the codec that encoded them; the one inside the folder of a data set
        when not given.
    data
        A .walloc file, or a folder that `attar codec encode` wrote.
    stages
        Decode so many stages of the quantiser, the coarse ones; all when not given.
    output
        The file, whose ending says the format, or the folder of a data set.
    resume
        Continue an interrupted run of a data set.
    """
    one = is_latent_file(data)
    run = decode_latents(
        model,
        data,
        stages=stages,
        output_dir=None if one else require_folder_option(output),
        output_file=output if one else None,
        recipe=recipe,
        resume=resume,
    )
    where = run.settings.get("output_file", output)
    count = run.details["files"]
    show(f"{count:,} {'file' if count == 1 else 'files'} written: {where}")
    return ExitCode.DONE


def evaluate(
    model: str,
    *,
    data: Media = MediaOptions(),
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[
        EvaluateCodecConfig, Parameter(name="*", group=_MEASURED)
    ] = EvaluateCodecConfig(),
) -> int:
    """Compare a codec with smaller pictures or sound of as many numbers, and with known formats.

    Parameters
    ----------
    model
        Folder or Hub name of a codec.
    output_dir
        Write the record (attar.json) and a page with pictures or players (report.html) into this
        folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = evaluate_codec(model, data.whole(), config=config, output_dir=output_dir, recipe=recipe)
    text = "\n".join([score_table(run).text(), *run.details["missing"]])
    if output_dir is not None:
        text += f"\n\nWith pictures or players: {output_dir / REPORT}"
    show_or_write(run.to_dict(), text, target=json_to)
    return ExitCode.DONE


def __getattr__(name: str) -> App:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return noun(
        "codec",
        "Make and use a codec whose latents models train on (WaLLoC).",
        {"train": train, "encode": encode, "decode": decode, "evaluate": evaluate},
    )
