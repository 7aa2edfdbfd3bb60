"""The verb `annotate convert`: segmented text from one format to another, without a project."""

from pathlib import Path

from attar.annotate.records import recorded
from attar.data.segments.formats import FORMATS
from attar.data.segments.formats import convert as convert_file
from attar.data.segments.guess import suffix
from attar.data.segments.streams import Offsets, OnPipe
from attar.errors import ConfigError
from attar.report.record import Run


def convert(
    data: str | Path,
    *,
    output_file: str | Path | None = None,
    format: str | None = None,
    to: str | None = None,
    on_pipe: OnPipe = "error",
    offsets: Offsets = "auto",
) -> Run:
    """Write segmented text in another format; texts and cuts stay as they are.

    Args:
        data: a file, a folder of files, or a pattern such as `corpus/*.txt`.
        output_file: where it goes; must be given, and must not exist.
        format: of the data; None: told by names and contents.
        to: the format to write; None: told by the name of `output_file`.
        on_pipe: what is done about a `|` in a text, where the new format has bars between words:
            `error` refuses it, `escape` writes U+FF5C in its place.
        offsets: what the offsets in the data count: code points, units of UTF-16, or, `auto`, what
            its texts tell.

    Returns:
        The record: `details` has the number of `sentences`, and `warnings`.

    Raises:
        ConfigError: no file is named, a format is not known, or the file is there already.
        DataError: the data cannot be read, or do not fit into the new format.
        MissingExtraError: a format needs a package that is not installed.
    """
    if output_file is None:
        raise ConfigError("say where the text goes: --output-file FILE")
    to = to or written_as(output_file)
    with recorded("convert", data=data, format=format, to=to, output_file=output_file) as run:
        report = convert_file(
            data,
            output_file,
            to_format=to,
            from_format=format,
            on_pipe=on_pipe,
            offsets=offsets,
        )
        run.data = str(data)
        run.details = {"sentences": report.rows, "warnings": report.warnings}
    return run


def written_as(file: str | Path, *, option: str = "--to") -> str:
    """The format that a new file's name tells: the one that is called so, else the only one.

    Args:
        file: the file.
        option: that says it otherwise.

    Raises:
        ConfigError: it tells none, or several.
    """
    end = suffix(Path(file))
    known = [name for name, form in FORMATS.items() if end in form.suffixes]
    if end[1:] in known or len(known) == 1:
        return end[1:] if end[1:] in known else known[0]
    which = " or ".join(known) if known else f"one of {', '.join(FORMATS)}"
    raise ConfigError(f"cannot tell the format of {str(file)!r} by its name: give {option} {which}")
