"""The verb `compare`: the records of several runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.artefacts import require_new_file
from attar.errors import require
from attar.report.pages import html_report, is_report
from attar.report.record import FILE_NAME, Run
from attar.report.tables import Table, comparison, names_of
from attar.report.verdict import scored_apart


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
    runs: Sequence[str | Path | Run] | str | Path | Run,
    *,
    html: str | Path | None = None,
    title: str = "Attar report",
    overwrite: bool = False,
) -> Comparison:
    """Put runs side by side: cost, quality, speed, and their ratios to the parent.

    Reads nothing but the `attar.json` of each run.

    Args:
        runs: folders that Attar's commands wrote, their `attar.json` files, or records.
        html: write a self-contained page with charts to this file.
        title: the heading of that page.
        overwrite: replace an earlier report; no other file is replaced.

    Raises:
        DataError: a record is missing or damaged.
        ConfigError: the page is there already, or cannot be written.
    """
    if html is not None:
        require_new_file(html, overwrite=overwrite, kind="a report of Attar", own=is_report)
    given = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    require(bool(given), "runs", len(given), "one folder or more")
    records = [run if isinstance(run, Run) else Run.load(run) for run in given]
    paths = [Path(run).resolve() for run in given if not isinstance(run, Run)]
    folders = iter(_distinct([path.parent if path.name == FILE_NAME else path for path in paths]))
    plain = names_of(records)
    names = [
        name if isinstance(run, Run) else next(folders)
        for run, name in zip(given, plain, strict=True)
    ]
    page = None if html is None else html_report(records, html, title=title, names=names)
    return Comparison(
        comparison(records, names=names),
        comparison(records, names=names, ratios=False),
        scored_apart(records, names=names),
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
