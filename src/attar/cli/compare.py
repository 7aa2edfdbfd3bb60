"""`attar compare`: several runs in one table."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from attar.cli.output import note, show, write_json


def compare(
    runs: list[Path],
    /,
    *,
    html: Path | None = None,
    title: str = "Attar report",
    markdown: bool = False,
    json_to: Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
) -> int:
    """Put runs side by side: cost, quality, speed, and their ratios to the parent.

    Reads nothing but the `attar.json` of each run.

    Parameters
    ----------
    runs
        Folders that attar commands wrote, or their `attar.json` files.
    html
        Write a self-contained page with charts to this file.
    title
        The heading of that page.
    markdown
        Print the table as Markdown.
    json_to
        Write the figures as JSON to this file; `-` prints JSON instead of the table.
    """
    from attar.report.pages import html_report
    from attar.report.record import FILE_NAME, Run
    from attar.report.tables import comparison, scored_apart

    loaded = [Run.load(path) for path in runs]
    folders = [path.resolve().parent if path.name == FILE_NAME else path.resolve() for path in runs]
    names = _distinct(folders)
    table = comparison(loaded, names=names)
    if markdown:
        show(table.markdown())
    elif json_to != "-":
        text = table.text()
        if sys.stdout.isatty() and len(text.split("\n")[0]) > shutil.get_terminal_size().columns:
            text = comparison(
                loaded, names=names, ratios=False
            ).text()  # a folded table is no table
        show(text)
    if warning := scored_apart(loaded):
        note(f"Warning: {warning}.")
    if json_to:
        write_json(json_to, table.records)
    if html:
        note(f"report written to {html_report(loaded, html, title=title, names=names)}")
    return 0


def _distinct(folders: list[Path]) -> list[str]:
    """Folder names, with as many parents as it takes to tell them apart."""
    depth = 1
    names = [folder.name for folder in folders]
    while len(set(names)) < len(set(folders)) and depth < max(len(f.parts) for f in folders):
        depth += 1
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
    return names
