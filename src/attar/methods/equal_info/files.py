"""The verbs that compress files with a tokenizer of windows, by `attar.coding.archive`."""

from pathlib import Path

from attar.coding.archive import compress_file, decompress_file
from attar.errors import ConfigError
from attar.methods.equal_info.config import PAPER
from attar.methods.equal_info.tokenizer import load_equal_info
from attar.report.artefact import artefact
from attar.report.record import Run

SUFFIX = ".eqiw"
"""Of compressed files."""


def compress(model: str | Path, file: str | Path, *, output_file: str | Path | None = None) -> Run:
    """Compress any file into windows, checked while it is written; xz usually compresses better.

    Args:
        model: folder of a tokenizer of windows; it is needed to get the file back.
        file: what to compress.
        output_file: where it goes; None: the file's name with .eqiw behind it.

    Returns:
        A record, kept in memory: `bytes_before` and `bytes_after` in `details`.

    Raises:
        DataError: the tokenizer or the file cannot be read, or the disk is full.
        ConfigError: the output file exists.
    """
    target = Path(f"{file}{SUFFIX}") if output_file is None else Path(output_file)
    with artefact(
        None,
        command="tokenizer compress",
        method="equal_info",
        paper=PAPER,
        settings={"model": str(model), "file": str(file), "output_file": str(target)},
    ) as work:
        before, after = compress_file(file, tokenizer=load_equal_info(model), output_file=target)
        work.run.details = {"bytes_before": before, "bytes_after": after}
    return work.run


def decompress(
    model: str | Path,
    file: str | Path,
    *,
    output_file: str | Path | None = None,
    recover: bool = False,
) -> Run:
    """Restore a file that `compress` wrote.

    Args:
        model: folder of the tokenizer that it was written with.
        file: the compressed file.
        output_file: where the original goes; None: the name without .eqiw.
        recover: of a damaged file write all that can be read.

    Returns:
        A record, kept in memory: `bytes_before`, `bytes_after` and `damage` in `details`, the last
        one sentence for each thing that is wrong.

    Raises:
        DataError: the file is damaged and `recover` is false, or was written with another
            tokenizer, or the disk is full.
        ConfigError: the output file exists, or has no name.
    """
    source = Path(file)
    if output_file is None and source.suffix != SUFFIX:
        raise ConfigError(
            f"say where the result goes (--output-file): {str(file)!r} does not end in {SUFFIX}, "
            "so that the original's name is not known"
        )
    target = source.with_suffix("") if output_file is None else Path(output_file)
    options = {"model": str(model), "file": str(file), "output_file": str(target)}
    with artefact(
        None,
        command="tokenizer decompress",
        method="equal_info",
        paper=PAPER,
        settings=options | {"recover": recover},
    ) as work:
        tokenizer = load_equal_info(model)
        restored = decompress_file(source, tokenizer=tokenizer, output_file=target, recover=recover)
        work.run.details = {
            "bytes_before": source.stat().st_size,
            "bytes_after": restored.bytes,
            "damage": list(restored.damage),
        }
    return work.run
