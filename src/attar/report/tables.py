"""Tables of runs as text, Markdown and HTML, with figures in units that people read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from attar.errors import printable
from attar.report.figures import NONE, NOT_MEASURED, Column, Figures, Record, columns_for
from attar.report.rows import Row, figures_of, reference, rows_of
from attar.report.units import amount, duration


@dataclass
class Table:
    """Cells ready to show, the first column left-aligned; `records` holds the same as numbers, with
    names as they are.
    """

    columns: list[str]
    rows: list[list[str]]
    records: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = [printable(cell) for cell in self.columns]
        self.rows = [[printable(cell) for cell in row] for row in self.rows]

    def text(self) -> str:
        """Aligned plain text."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
        return "\n".join(
            "  ".join(
                c.rjust(w) if i else c.ljust(w)
                for i, (c, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in ruled
        )

    __str__ = text

    def markdown(self) -> str:
        """A GitHub-style table."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "\n".join(
            "| " + " | ".join(_markdown_cell(cell) for cell in line) + " |" for line in lines
        )

    def html(self) -> str:
        """A `<table>`; every cell is escaped."""
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.columns)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td>{escape(c)}</td>" for c in row[1:])
            + "</tr>"
            for row in self.rows
        )
        return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    _repr_html_ = html


def _markdown_cell(cell: str) -> str:
    text = escape(cell, quote=False).replace("|", "\\|")
    return " ".join(text.split()) if "\n" in text else text


def names_of(runs: Sequence[Record]) -> list[str]:
    """A short, distinct name for each run: its method or command, numbered where that repeats."""
    plain = [run.method or run.command for run in runs]
    return [
        n if plain.count(n) == 1 else f"{n} {plain[: i + 1].count(n)}" for i, n in enumerate(plain)
    ]


def comparison(
    runs: Sequence[Record], *, names: Sequence[str] | None = None, ratios: bool = True
) -> Table:
    """One row a model: each parent once, then each run's result and its baselines.

    Columns that no row can fill are left out. `blocks` is the share of the parent's block
    parameters that is left, and the ratio columns compare to the parent (of speeds: above 1
    is faster), scores only where both are of the same text. `records` holds the numbers, with role
    parent, result or baseline.
    """
    rows = rows_of(runs, names=names or names_of(runs))
    columns = columns_for([row.own[1] for row in rows])
    records = [
        {"run": row.name, "role": row.role, "scored_on": row.text}
        | _figures(row.own, row.parent, columns=columns)
        for row in rows
    ]
    cells: dict[str, list[str]] = {}
    cells["run"] = _marked(rows)
    for column in columns:
        if column.name == "block_params":
            kept = _ratios(column, records, show=lambda share: f"{100 * share:.0f}%")
            if set(kept) - {NONE}:
                cells["blocks"] = kept
        elif column.name != "peak_memory":
            shown = [column.cell(*row.own) for row in rows]
            if set(shown) - {NONE, NOT_MEASURED}:
                cells[column.heading] = shown
    for column in columns:
        if ratios and column.ratio:
            shown = _ratios(column, records, show=lambda ratio: f"{ratio:.2f}")
            if set(shown) - {NONE}:
                cells[column.ratio] = shown
    return Table(list(cells), [list(row) for row in zip(*cells.values(), strict=True)], records)


def _marked(rows: Sequence[Row]) -> list[str]:
    """Names of the rows, where baselines are set off; after a result without figures, such as a
    training of supernets, they are what it consists of."""
    marked, mark = list[str](), "  vs "
    for row in rows:
        if row.role == "result":
            mark = "  vs " if any(row.own) else "  "
        marked.append((mark if row.role == "baseline" else "") + row.name)
    return marked


def _figures(own: Figures, parent: Figures, *, columns: Sequence[Column]) -> dict[str, Any]:
    """What each column reads off a model, its ratio to the parent's, and the spread of timings."""
    record: dict[str, Any] = {}
    for column in columns:
        value, base = column.read(*own), column.read(*parent)
        record[column.name] = value
        record[f"{column.name}_ratio"] = value / base if value is not None and base else None
        if column.spread:
            record[f"{column.name}_spread"] = column.spread(own[0])
    return record


def _ratios(
    column: Column, records: Sequence[dict[str, Any]], *, show: Callable[[float], str]
) -> list[str]:
    """A figure's ratio to the parent's in every row."""
    values = [record[f"{column.name}_ratio"] for record in records]
    return [NONE if value is None else show(value) for value in values]


def run_table(run: Record) -> Table:
    """Before, after and ratio of every figure that a run holds; the ratio is to what it was before,
    or to the teacher or target of a model that had one.
    """
    before, after, held = figures_of(run, "before"), figures_of(run, "after"), reference(run)
    rows = []
    for column in columns_for([before[1], after[1]]):
        old, new = column.read(*before), column.read(*after)
        if old is not None or new is not None:
            base = column.read(*(held.figures if held else before))
            ratio = NONE if new is None or not base else f"{new / base:.2f}"
            rows.append([column.heading, column.cell(*before), column.cell(*after), ratio])
    table = Table(["", "before", "after", f"ratio to {held.kind}" if held else "ratio"], rows)
    if not any(before):  # a model made from nothing has no before
        table = Table(["", "result"], [[row[0], row[2]] for row in rows])
    elif not any(after):  # nor has what became of no single model an after
        table = Table(["", "before"], [row[:2] for row in rows])
    return table


def budget_lines(run: Record) -> list[tuple[str, str]]:
    """The budget as `(label, text)`: what was asked and one line a constraint."""
    if not run.budget:
        return []
    lines = [
        (
            "budget",
            f"{run.budget.get('asked', '')}: {'met' if run.budget.get('met') else 'NOT met'}",
        )
    ]
    for row in run.budget.get("constraints") or []:
        key, sign = str(row["key"]), "<=" if row["met"] else ">"
        achieved, limit = amount(key, row["achieved"]), amount(key, row["limit"])
        if achieved == limit:  # rounding would hide which is larger
            achieved, limit = f"{row['achieved']:,.10g}", f"{row['limit']:,.10g}"
        lines.append((f"  {key}", f"{achieved} {sign} {limit}"))
    return [(printable(label), printable(text)) for label, text in lines]


def facts(run: Record) -> list[tuple[str, str]]:
    """What a run was, as `(label, text)`."""
    lines = [("model", run.model), ("data", run.data), ("paper", run.paper and str(run.paper))]
    lines += [
        ("seed", None if run.seed is None else str(run.seed)),
        ("time", run.seconds and duration(run.seconds)),
    ]
    where, tools = (
        ", ".join(f"{key} {value}" for key, value in section.items())
        for section in (run.hardware, run.versions)
    )
    lines += [("date", run.date), ("made on", where), ("made with", tools)]
    return [(printable(label), printable(text)) for label, text in lines if text]


def run_text(run: Record) -> str:
    """A run for the terminal."""
    title = (
        run.command
        if not run.method or run.method in run.command
        else f"{run.command} ({run.method})"
    )
    parts = [printable(title)]
    if run_table(run).rows:
        parts.append(run_table(run).text())
    if run.baselines:
        parts.append(comparison([run], ratios=False).text())
    lines = budget_lines(run) + facts(run)
    width = max(len(label) for label, _ in lines)
    parts.append("\n".join(f"{label:<{width}}  {text}" for label, text in lines))
    return "\n\n".join(parts)
