"""The verb `compare`: the records of several runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.artefacts import require_new_file
from attar.errors import require
from attar.report.pages import html_report
from attar.report.record import FILE_NAME, Run
from attar.report.tables import Table, comparison, scored_apart


@dataclass(frozen=True)
class Comparison:
    """Runs in one table.

    Attributes:
        table: a row a model, with ratios to the parent.
        narrow: the same without ratios.
        warning: why scores may not compare; None where they do.
        page: the HTML page, if one was written.
    """

    table: Table
    narrow: Table
    warning: str | None
    page: Path | None


def compare(
    runs: Sequence[str | Path] | str | Path,
    *,
    html: str | Path | None = None,
    title: str = "Attar report",
) -> Comparison:
    """Put runs side by side: cost, quality, speed, and their ratios to the parent.

    Reads nothing but the `attar.json` of each run.

    Args:
        runs: folders that Attar's commands wrote, or their `attar.json` files.
        html: write a self-contained page with charts to this file, which must be new.
        title: the heading of that page.

    Raises:
        DataError: a record is missing or damaged.
        ConfigError: the page is there already, or cannot be written.
    """
    if html is not None:
        require_new_file(html)
    paths = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    require(bool(paths), "runs", len(paths), "one folder or more")
    records = [Run.load(path) for path in paths]
    folders = [
        path.resolve().parent if path.name == FILE_NAME else path.resolve() for path in paths
    ]
    names = _distinct(folders)
    page = None if html is None else html_report(records, html, title=title, names=names)
    return Comparison(
        comparison(records, names=names),
        comparison(records, names=names, ratios=False),
        scored_apart(records),
        page,
    )


def _distinct(folders: Sequence[Path]) -> list[str]:
    """Folder names, with as many parents as it takes to tell them apart."""
    depth = 1
    names = [folder.name for folder in folders]
    while len(set(names)) < len(set(folders)) and depth < max(len(f.parts) for f in folders):
        depth += 1
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
    return names
