"""A data set of pictures or sound with latents in their place: Parquet shards, and the codec that
made them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from datasets import DatasetDict

from attar import artefacts
from attar.checkpoint.identity import name_of
from attar.codec.compressing import (
    LATENTS,
    CompressJob,
    compress_shard,
    kept_columns,
    sizes_of,
)
from attar.codec.opening import load_codec, save_codec
from attar.coding.containers import choose
from attar.data.data import Data, DataLike
from attar.data.media.rows import open_splits
from attar.data.shards import Engine, Shard, cut, facts_of, load_shards, write_shards
from attar.data.text import SPLITS
from attar.errors import DataError, require
from attar.methods.walloc import PAPER
from attar.methods.walloc.codec import WaveletCodec
from attar.report.artefact import artefact
from attar.report.record import Run

FOLDER = "codec"
"""The folder of the codec in that of a data set."""

SHARD_BYTES = 16_000_000
"""Bytes of pictures or sound in a shard, as they came."""
_SHOWN = 20  # names of broken rows in a record


def compress_dataset(
    model: str | Path | WaveletCodec,
    data: DataLike,
    *,
    container: str = "zstd",
    columns: Sequence[str] | None = None,
    skip_broken: bool = False,
    workers: int = 1,
    engine: Engine = "processes",
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Write a data set of pictures or sound anew, with latents in their place.

    `datasets.load_dataset(output_dir)` reads the folder, `LatentLoader` feeds a training from it.
    Of each row the column `latents` has the file, `signal_size` height and width, or length, and
    `file_name` what the picture was called; all other columns stay as they are. The codec
    lies in the folder, in `codec`.

    Args:
        model: folder or name of a codec, or one that is loaded.
        data: whatever `attar.data.media.open_splits` takes.
        container: zstd, which is read fastest, or jpegls, webp or png, which are smaller; auto: the
            smallest that is installed.
        columns: that are kept besides these; None: all.
        skip_broken: leave out rows whose picture or sound cannot be read, or does not suit the
            codec, and name them in the record; otherwise the first one ends the run.
        workers: processes; the result does not depend on it.
        engine: processes of this machine, or a cluster of Ray's (`ray`), whose machines share the
            disks of the data and of the output.
        output_dir: where the shards go.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run; finished shards stay.

    Returns:
        The record, also written to `attar.json`: rows, bytes before and after, and numbers for
        each split.

    Raises:
        ConfigError: the output folder is taken, or a column is not there or of a name that is
            needed.
        DataError: the data, an item of it or the codec cannot be read; names it.
        MissingExtraError: a package of the container, the data or the engine is not installed.
        ResourceError: the disk is full, or a process was ended from outside.
    """
    require(workers >= 1, "workers", workers, "1 or more")
    chosen, codec, data = choose(container), load_codec(model), Data.of(data)
    settings = {
        "model": name_of(model) or None,
        **data.settings(),
        "codec": codec.fingerprint,
        "container": chosen,
        "columns": None if columns is None else list(columns),
        "skip_broken": skip_broken,
    }
    with artefact(
        output_dir,
        command="codec encode",
        method="walloc",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        resume=resume,
    ) as work:
        if work.main:
            assert work.state is not None
            folder = work.folder / FOLDER
            save_codec(codec, folder)
            splits = open_splits(data)
            job = CompressJob(
                codec=folder.absolute(),
                fingerprint=codec.fingerprint,
                container=chosen,
                column={split: rows.column for split, rows in splits.items()},
                columns={split: kept_columns(rows, columns) for split, rows in splits.items()},
                origin=data.origin,
                archives={split: rows.archive for split, rows in splits.items()},
                skip_broken=skip_broken,
                state=work.state.absolute(),
            )
            sizes = {split: sizes_of(rows) for split, rows in splits.items()}
            plan = cut(sizes, size=SHARD_BYTES, folder=work.folder.absolute())
            write_shards(
                plan,
                DatasetDict({split: rows.table for split, rows in splits.items()}),
                write=partial(compress_shard, job=job),
                state=work.state,
                workers=workers,
                engine=engine,
                desc="compressing",
                what="the data",
            )
            _record(work.run, plan, codec)
            artefacts.write_text(work.folder / "README.md", _card(work.run))
    return work.run


def is_compressed(source: object) -> bool:
    """Whether this is a folder that `compress_dataset` wrote."""
    if not isinstance(source, str | Path):
        return False
    folder = artefacts.expanded(source)
    return (folder / FOLDER / "config.json").is_file() and any(folder.glob("*-of-*.parquet"))


def load_compressed(source: str | Path) -> DatasetDict:
    """The rows of a folder that `compress_dataset` wrote, by split.

    Raises:
        DataError: it is none, or a file of it is missing or damaged.
    """
    if not is_compressed(source):
        raise DataError(
            f"expected a folder that attar codec encode wrote, found none at {str(source)!r}; give "
            "such a folder"
        )
    splits = _splits_in(Path(source))
    return load_shards(
        source, splits, what="the latents", again="encode the data again", unchecked=LATENTS
    )


def _splits_in(folder: Path) -> list[str]:
    """The splits of a folder, the usual ones first."""
    files = sorted(artefacts.expanded(folder).glob("*-of-*.parquet"))
    there = dict.fromkeys(file.name.rsplit("-", 3)[0] for file in files)
    usual = [split for split in SPLITS if split in there]
    return [*usual, *(split for split in there if split not in usual)]


# --------------------------------------------------------------------------------------- record


def _record(run: Run, plan: Sequence[Shard], codec: WaveletCodec) -> None:
    """Put what was counted into the record.

    Raises:
        DataError: nothing is left of a split.
    """
    broken = list[str]()
    for split in dict.fromkeys(shard.split for shard in plan):
        facts = [facts_of(shard.file) for shard in plan if shard.split == split]
        total = {key: sum(one[key] for one in facts) for key in facts[0] if key != "broken"}
        broken += [name for one in facts for name in one["broken"]]
        if not total["rows"]:
            raise DataError(
                f"expected at least one row of the split {split} that can be read, found none: "
                f"{broken[0]}"
            )
        run.quality[split] = {
            "rows": total["rows"],
            "bytes before": total["bytes before"],
            "bytes": total["bytes"],
            "numbers": total["numbers"],
            "latents": total["latents"],
            "rms": (total["squares"] / total["latents"]) ** 0.5,
        }
    run.details = {
        "codec": codec.fingerprint,
        "shards": len(plan),
        "skipped": len(broken),
        "broken": broken[:_SHOWN],
    }


def _card(run: Run) -> str:
    """A README for people.

    It names no files: a data set whose README does is read from the cache of `datasets` when it has
    long become another one.
    """
    rows = ", ".join(f"{counts['rows']:,} {split}" for split, counts in run.quality.items())
    return (
        "---\ntags:\n- attar\n---\n# Latents\n\n"
        f"Rows: {rows}. The column `{LATENTS}` holds a file of integer latents for each "
        f"row; the codec that made them, and decodes them, lies in `{FOLDER}/`.\n\n"
        "```python\nfrom attar.codec import LatentLoader\n\n"
        'for batch in LatentLoader("this folder", split="train", batch_size=64):\n'
        '    batch["features"]  # (B, channels, *grid)\n```\n'
    )
