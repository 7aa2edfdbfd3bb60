"""`attar codec decode`: pictures and sound from their latents."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict

from attar.artefacts import expanded, write_text
from attar.checkpoint.identity import name_of
from attar.codec.compressing import LATENTS, NAME, SIZE
from attar.codec.encoding import SUFFIX
from attar.codec.opening import load_codec, placed
from attar.codec.source import codec_of, open_latents
from attar.coding.latent_file import form_of
from attar.data.media.reading import suffixes_of, write_signal
from attar.errors import ConfigError, DataError
from attar.methods.walloc import PAPER
from attar.methods.walloc.codec import WaveletCodec
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.runtime import Bar

logger = logging.getLogger(__name__)

_METADATA = "metadata.jsonl"
_LONGEST = 200  # bytes of a name of a file
_ENDINGS = (".png", ".wav", ".npy")


def decode(
    model: str | Path | WaveletCodec | None,
    data: str | Path | Dataset | DatasetDict,
    *,
    stages: int | None = None,
    output_dir: str | Path | None = None,
    output_file: str | Path | None = None,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Decode a file of latents into a picture or a recording, or a data set into a folder of them.

    Pictures become .png, sound .wav and arrays .npy files. Those of a data set lie in a folder for
    each split and, where they have classes, for each class, as `datasets` reads them with
    `imagefolder` and `audiofolder`; other columns go into `metadata.jsonl`.

    Args:
        model: the codec that encoded them; None: the one in the folder of the data set.
        data: a .walloc file, or a data set, as for `LatentLoader`.
        stages: decode so many residual stages, the coarse ones; None: all.
        output_dir: where the files of a data set go.
        output_file: the file of a picture or recording, in a format that its name tells; must not
            exist. None: the name of the latents, without .walloc and with the usual ending.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of a data set; files that are there stay.

    Returns:
        The record: `details["files"]` says how many were written.

    Raises:
        ConfigError: the output is taken or missing, or no codec is given for a file.
        DataError: a file is damaged, or of another codec.
        ResourceError: the disk is full.
    """
    path = expanded(data) if isinstance(data, str | Path) else None
    one = is_latent_file(data)
    if path is not None and one and output_dir is None:
        return _decode_one(model, path, stages=stages, output_file=output_file, recipe=recipe)
    if one or output_dir is None or output_file is not None:
        raise ConfigError(
            f"expected {'output_file for a file' if one else 'output_dir for a data set'} of "
            "latents, found another output; give that one"
        )
    folder, splits = open_latents(data)
    codec = codec_of(model, folder)
    settings = {
        "model": name_of(model) or None,
        "data": str(data) if path is not None else None,
        "codec": codec.fingerprint,
        "stages": stages,
    }
    with artefact(
        output_dir,
        command="codec decode",
        method="walloc",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        resume=resume,
    ) as work:
        if work.main:
            assert work.state is not None
            write_text(work.state / "began", "")
            with placed(codec):
                for split, rows in splits.items():
                    _decode_rows(codec, rows, work.folder / str(split), stages=stages)
            work.run.details = {"files": sum(map(len, splits.values()))}
    return work.run


def is_latent_file(data: Any) -> bool:
    """Whether this is one file of latents, or the name of one."""
    path = expanded(data) if isinstance(data, str | Path) else None
    return path is not None and (path.is_file() or (path.suffix == SUFFIX and not path.is_dir()))


def _decode_one(
    model: str | Path | WaveletCodec | None,
    path: Path,
    *,
    stages: int | None,
    output_file: str | Path | None,
    recipe: str | None,
) -> Run:
    if model is None:
        raise ConfigError(f"expected the codec that encoded {str(path)!r}, found none; give model")
    settings = {"model": name_of(model) or None, "data": str(path), "stages": stages}
    with artefact(
        None, command="codec decode", method="walloc", paper=PAPER, settings=settings, recipe=recipe
    ) as work:
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"cannot read {str(path)!r}: {error.strerror}; correct the path"
            ) from error
        with placed(load_codec(model)) as codec:
            signal = codec.decompress(raw, name=str(path), stages=stages)
        if output_file is None:
            plain = path.with_name(path.name.removesuffix(SUFFIX))
            output_file = plain.with_suffix(suffixes_of(signal.form)[0])
        write_signal(signal, output_file)
        work.run.details = {"files": 1}
        work.run.settings["output_file"] = str(output_file)
    return work.run


def _decode_rows(codec: WaveletCodec, rows: Dataset, folder: Path, *, stages: int | None) -> None:
    """Write the files of a split, and its other columns."""
    label = next((n for n, kind in rows.features.items() if isinstance(kind, ClassLabel)), None)
    others = [name for name in rows.column_names if name not in (LATENTS, SIZE, NAME, label)]
    raw = [name for name in others if "binary" in str(rows.features.arrow_schema.field(name).type)]
    if raw:
        logger.warning(
            "left out of %s, which holds no bytes: %s; take them from the data set of latents",
            _METADATA,
            ", ".join(raw),
        )
        others = [name for name in others if name not in raw]
    written = list[dict[str, Any]]()
    named, fingerprint = zip(_names(rows, label), rows, strict=True), codec.fingerprint
    for name, row in Bar(named, total=len(rows), desc="decoding", unit="file"):
        assert isinstance(row, dict)
        raw = row[LATENTS]
        file = f"{name}{suffixes_of(form_of(raw, name=name))[0]}"
        if not (folder / file).exists():  # resumed
            signal = codec.decompress(raw, name=name, stages=stages, fingerprint=fingerprint)
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_signal(signal, folder / file)
        written.append({NAME: file, **{other: row[other] for other in others}})
    if others:
        lines = [json.dumps(_as_json(one), ensure_ascii=False, default=str) for one in written]
        write_text(folder / _METADATA, "\n".join(lines) + "\n")


def _as_json(value: Any) -> Any:
    """Without NaN and infinity, which JSON does not have: nothing stands in their place."""
    if isinstance(value, dict):
        return {name: _as_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _names(rows: Dataset, label: str | None) -> Iterator[str]:
    """A path for each row, without an ending, all different and below the folder of the split."""
    count = len(rows)
    columns: Any = rows.select_columns([n for n in (NAME, label) if n in rows.column_names])
    files = columns[NAME] if NAME in rows.column_names else [None] * count
    classes: Sequence[str | None] = [None] * count
    if label is not None:
        kind: Any = rows.features[label]
        classes = [None if n is None or n < 0 else kind.int2str(n) for n in columns[label]]
    files = [None if name is None else str(name) for name in files]  # numbers name files too
    paths = [_path(name, of) for name, of in zip(files, classes, strict=True)]
    known = Counter("/".join(path).lower() for path in paths)
    for row, path in enumerate(paths):
        if not path[-1] or known["/".join(path).lower()] > 1:
            path[-1] = f"{row:06}-{path[-1]}".removesuffix("-")
            while known["/".join(path).lower()]:  # what another is called already
                path[-1] = f"{row:06}-{path[-1]}"
            known["/".join(path).lower()] = 1
        yield "/".join(path)


def _path(name: str | None, label: str | None) -> list[str]:
    """The folders of a file and its name without an ending; what leads out of them is left out."""
    parts = [_plain(part) for part in PurePosixPath((name or "").replace("\\", "/")).parts]
    parts = [part for part in parts if part] or [""]
    parts[-1] = _plain(PurePosixPath(parts[-1]).stem)
    if label is not None and parts[:-1] != [_plain(label)]:
        parts = [_plain(label) or "unnamed", parts[-1]]
    # a file may have the name of a folder otherwise
    return [f"{p}_" if p.lower().endswith(_ENDINGS) else p for p in parts[:-1]] + parts[-1:]


def _plain(part: str) -> str:
    """A part of a path that every system takes as a name, and none as hidden."""
    kept = "".join(c for c in part if c.isprintable() and c not in '<>:"/\\|?*')
    short = kept.strip(". ").encode()[:_LONGEST].decode(errors="ignore")
    return short.rstrip(". ")
