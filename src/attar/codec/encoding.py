"""`attar codec encode`: a picture, a recording or a whole data set as latents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from attar.artefacts import expanded, new_file
from attar.checkpoint.identity import name_of
from attar.codec.dataset import compress_dataset
from attar.codec.opening import load_codec, to_encode
from attar.coding.containers import choose
from attar.coding.latent_file import to_bytes
from attar.coding.latents import Latents
from attar.data.data import Data, DataLike
from attar.data.media.folders import is_media
from attar.data.media.reading import read_signal
from attar.data.media.recordings import open_recording
from attar.data.shards import Engine
from attar.errors import ConfigError
from attar.methods.walloc import PAPER
from attar.methods.walloc.codec import WaveletCodec
from attar.methods.walloc.streaming import can_stream
from attar.report.artefact import artefact
from attar.report.record import Run

SUFFIX = ".walloc"
"""Of a file of latents."""


def encode(
    model: str | Path | WaveletCodec,
    data: DataLike | Any,
    *,
    container: str | None = None,
    columns: Sequence[str] | None = None,
    skip_broken: bool = False,
    workers: int = 1,
    engine: Engine = "processes",
    output_dir: str | Path | None = None,
    output_file: str | Path | None = None,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Encode a picture or a recording into one file, or a data set into a folder of shards.

    A file, bytes, an array, a tensor or a picture of Pillow's becomes a `.walloc` file; all else,
    and a file too where `output_dir` is given, a data set, as `compress_dataset` writes it.

    Args:
        model: folder or name of a codec, or one that is loaded.
        data: whatever `attar.data.media.read_signal` or `open_splits` takes.
        container: of the integers, jpegls, webp, png or zstd; auto: the smallest that is installed.
            None: auto for a file, and for a data set zstd, which is read fastest.
        columns: as for `compress_dataset`, as the next three.
        skip_broken: leave out rows that cannot be read, or do not suit the codec.
        workers: processes.
        engine: what runs them.
        output_dir: where a data set goes.
        output_file: the file of one picture or recording; must not exist. None: its name, with
            .walloc behind it.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of a data set.

    Returns:
        The record. Of a file it is kept in memory: `details` has `bytes`, `bits` for each number of
        the signal, and `reduction`, how many times fewer the latents are than these.

    Raises:
        ConfigError: the output is taken or missing, or an option does not fit the data.
        DataError: the data or the codec cannot be read, or do not suit each other.
        MissingExtraError: a package of the container, the data or the engine is not installed.
        ResourceError: the disk is full, or a process was ended from outside.
    """
    if output_dir is not None and output_file is not None:
        raise ConfigError(
            "expected one output, found output_dir and output_file; give the first for a data set "
            "and the second for one picture or recording"
        )
    if output_dir is None and is_one(data):
        options = {
            "columns": columns is not None,
            "skip_broken": skip_broken,
            "workers": workers != 1,
            "engine": engine != "processes",
            "resume": resume,
        }
        if without_effect := [name for name, asked in options.items() if asked]:
            raise ConfigError(
                f"expected no {without_effect[0]} with one picture or recording, as it is an "
                "option of data sets; leave it out, or give output_dir"
            )
        return _encode_one(model, data, container=container, output_file=output_file, recipe=recipe)
    if output_dir is None:
        raise ConfigError(
            f"expected a folder for a data set of latents, found {output_file}; give output_dir "
            "(-o), as only one picture or recording becomes a file"
        )
    return compress_dataset(
        model,
        data,
        container=container or "zstd",
        columns=columns,
        skip_broken=skip_broken,
        workers=workers,
        engine=engine,
        output_dir=output_dir,
        recipe=recipe,
        resume=resume,
    )


def is_one(data: Any) -> bool:
    """Whether this is one picture or recording."""
    if isinstance(data, Data):
        data = data.source
    if isinstance(data, str | Path):
        path = expanded(data)
        return is_media(path.name) and not path.is_dir()  # a file that is not there is told later
    return not isinstance(data, Dataset | DatasetDict)


def _encode_one(
    model: str | Path | WaveletCodec,
    data: Any,
    *,
    container: str | None,
    output_file: str | Path | None,
    recipe: str | None,
) -> Run:
    source = data.source if isinstance(data, Data) else data
    named = isinstance(source, str | Path)
    if output_file is None and not named:
        raise ConfigError("expected a file for the latents, found none; give output_file")
    target = expanded(f"{source}{SUFFIX}" if output_file is None else output_file)
    chosen, codec = choose(container or "auto"), load_codec(model)
    settings = {
        "model": name_of(model) or None,
        "data": str(source) if named else None,
        "container": chosen,
        "output_file": str(target),
    }
    with artefact(
        None, command="codec encode", method="walloc", paper=PAPER, settings=settings, recipe=recipe
    ) as work:
        with to_encode(codec):
            latents, numbers = _latents(codec, source)
        raw = to_bytes(latents, container=chosen)
        with new_file(target) as file:
            file.write(raw)
        work.run.details = {
            "codec": codec.fingerprint,
            "bytes": len(raw),
            "bits": 8 * len(raw) / numbers,
            "reduction": numbers / latents.stages[-1].size,
        }
    return work.run


def _latents(codec: WaveletCodec, source: Any) -> tuple[Latents, int]:
    """The latents of a picture or recording, and how many numbers it has; a WAV file is not read
    at once."""
    if isinstance(source, str | Path) and can_stream(codec.config):
        recording = open_recording(expanded(source), name=str(source))
        if recording is not None:
            numbers = recording.samples * (recording.form.channels or 1)
            return codec.encode_recording(recording), numbers
    signal = read_signal(source)
    return codec.encode(signal), signal.values.numel()
