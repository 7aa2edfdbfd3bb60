"""`attar compare`."""

import shutil
import sys
from pathlib import Path

from attar.cli.output import ExitCode, Json, Overwrite, note, require_target, show, write_json
from attar.report.compare import compare as compare_runs

#: how the figures begin, as `--json` writes them
_FIGURES = rb'\[\n  \{\n    "run": '


def compare(
    runs: list[Path],
    /,
    *,
    html: Path | None = None,
    title: str = "Attar report",
    markdown: bool = False,
    json_to: Json = None,
    overwrite: Overwrite = False,
) -> int:
    """Put runs side by side: cost, quality, speed, and their ratios to the parent.

    Reads nothing but the `attar.json` of each run.

    Parameters
    ----------
    runs
        Folders that attar commands wrote, or their `attar.json` files.
    html
        Write a self-contained page with charts to this new file.
    title
        The heading of that page.
    markdown
        Print the table as Markdown.
    json_to
        Write the figures as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite, begins=_FIGURES)
    compared = compare_runs(runs, html=html, title=title, overwrite=overwrite)
    if markdown:
        show(compared.table.markdown())
    elif json_to != "-":
        text = compared.table.text()
        if sys.stdout.isatty() and len(text.split("\n")[0]) > shutil.get_terminal_size().columns:
            text = compared.narrow.text()  # a folded table is no table
        show(text)
    if compared.warning:
        note(f"Warning: {compared.warning}.")
    if json_to:
        write_json(json_to, compared.table.records)
    if compared.page:
        note(f"report written to {compared.page}")
    return ExitCode.DONE
