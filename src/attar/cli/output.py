"""What the verbs share: how they end, how they print, and checks of what is typed."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from attar.artefacts import expanded, require_new_file, write_text
from attar.errors import ConfigError, printable
from attar.report.record import FILE_NAME, json_text

#: how a record begins, as `--json` writes it
RECORD = rb'\{\n  "command": '


class ExitCode(IntEnum):
    """What a script can tell from the end of a run."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BUDGET_NOT_MET = 3
    INTERRUPTED = 130


Output = Annotated[Path | None, Parameter(alias="-o")]
"""Where a result goes."""
File = Annotated[Path | None, Parameter(alias="-o")]
"""A file where a result goes."""
Json = Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)]
"""A file for JSON, or `-`."""
Overwrite = Annotated[
    bool,
    Parameter(negative="", help="Replace a file that the same option wrote before, and no other."),
]
"""Whether a named file may be replaced."""
Recipe = Annotated[str | None, Parameter(show=False)]
"""The recipe that options came from: `--config` fills it in."""


def noun(name: str, text: str, verbs: Mapping[str, Callable[..., int]]) -> App:
    """A command that has commands of its own: a new one each time, as the command line that takes
    it in changes it.

    Args:
        name: what is typed.
        text: what it is for.
        verbs: functions by what is typed.
    """
    app = App(name=name, help=text)
    for word, function in verbs.items():
        app.command(function, name=word)
    return app


def command(*words: object) -> str:
    """A command as it can be pasted into a shell."""
    return shlex.join(["attar", *map(str, words)])


def show(text: str) -> None:
    """Print a result: it goes to stdout, as it is, without folding or markup.

    Under `torchrun` only the first process prints.
    """
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(f"{for_stdout(text)}\n")


def for_stdout(text: str) -> str:
    """A text as it is; on a terminal, what would move its cursor, but for tabs and ends of lines,
    becomes an escape.
    """
    if not sys.stdout.isatty():
        return text
    return re.sub(r"[^\n\t]+", lambda part: printable(part[0]), text)


def show_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print `paired` lines."""
    show(paired(pairs))


def require_target(target: str | None, *, overwrite: bool = False, begins: bytes = RECORD) -> None:
    """Refuse a file for JSON that is there or cannot be written, before the work is done.

    Args:
        target: the file.
        overwrite: replace one that the same option wrote.
        begins: how such a file begins, as a pattern.

    Raises:
        ConfigError: it is there already, or its folder is missing or closed.
    """
    if target is None or target == "-":
        return
    beside_model = Path(target).name == FILE_NAME  # the record of what lies there
    require_new_file(
        target,
        overwrite=overwrite,
        kind="a file that --json of this command wrote",
        own=lambda head: bool(re.match(begins, head)) and not beside_model,
    )
    folder = Path(target).absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ConfigError(
            f"cannot write --json {target!r}: {str(folder)!r} is not a folder that you may write "
            "to; make it or give another file"
        )


def paired(pairs: Iterable[tuple[str, str]]) -> str:
    """Lines of a label and a text, with the texts under each other."""
    lines = list(pairs)
    width = max((len(label) for label, _ in lines), default=0)
    return "\n".join(printable(f"{label:<{width}}  {text}".rstrip()) for label, text in lines)


def show_or_write(value: Any, text: str, *, target: str | None) -> None:
    """Print a result as text, and write it as JSON where `--json` asks for it: to a new file
    besides, or for `-` to stdout instead.

    Raises:
        ConfigError: the file cannot be written.
    """
    if target != "-":
        show(text)
    if target is not None:
        write_json(target, value)


def write_json(target: str, value: Any) -> None:
    """Write JSON to a file, or to stdout for `-`.

    Raises:
        ConfigError: the file cannot be written.
    """
    text = json_text(value)
    if target == "-":
        show(text)
        return
    try:
        write_text(Path(target), text + "\n")
    except OSError as error:
        raise ConfigError(
            f"cannot write --json {target!r}: {error.strerror}; give a file elsewhere"
        ) from error
    note(f"JSON written to {target}")


def note(text: str) -> None:
    """Say something that is not a result: it goes to stderr."""
    for line in text.split("\n"):
        sys.stderr.write(f"{printable(line)}\n")


def parse_list(text: str | None) -> list[str]:
    """Split a comma-separated option."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def require_folder_option(output_dir: Path | None) -> Path:
    """The output folder, which the command line must name."""
    if output_dir is None:
        raise ConfigError("say where the result goes: --output-dir FOLDER")
    return expanded(output_dir)
