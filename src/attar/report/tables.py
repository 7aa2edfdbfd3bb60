"""Tables of runs as text, Markdown and HTML, with figures in units that people read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from os.path import normpath
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol

from attar.report.charts import Point
from attar.report.units import amount, count, duration, fixed, size

NONE = "-"
_Figures = tuple[Mapping[str, Any], Mapping[str, Any]]  # cost and quality


class Record(Protocol):
    """What tables read of a run (see `attar.report.record.Run`)."""

    command: str
    method: str | None
    paper: Any
    model: str | None
    data: str | None
    budget: dict[str, Any] | None
    cost: dict[str, Any]
    quality: dict[str, Any]
    baselines: list[dict[str, Any]]
    details: dict[str, Any]
    seed: int | None
    versions: dict[str, str]
    hardware: dict[str, Any]
    seconds: float | None
    date: str


class Column(NamedTuple):
    """One figure of a model: its name and heading, how it is read and shown.

    `ratio` is the heading of its ratio to the parent; None leaves that out.
    """

    name: str
    heading: str
    read: Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]
    show: Callable[[float], str]
    ratio: str | None = None


def _speed(phase: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]:
    def read(cost: Mapping[str, Any], quality: Mapping[str, Any]) -> float | None:
        return tokens_per_second(cost, phase)

    return read


def tokens_per_second(cost: Mapping[str, Any], phase: str) -> float | None:
    """Tokens a second, all sequences together, of `prefill` or `decode` in `Cost.to_dict()`.

    None where it was not timed.
    """
    latency, timed = cost.get(phase), cost.get("timed") or {}
    if not latency or not latency.get("median"):
        return None
    tokens = timed.get("batch_size", 1) * (
        timed.get("prompt_tokens", 0) if phase == "prefill" else 1
    )
    return tokens * 1000 / latency["median"] or None


def _kv_bytes(cost: Mapping[str, Any], quality: Mapping[str, Any]) -> float | None:
    return cost.get("kv_bytes") or None  # an encoder stores nothing


COLUMNS = (
    Column("params", "params", lambda c, q: c.get("params"), count),
    Column("block_params", "block params", lambda c, q: c.get("block_params"), count),
    Column("bytes", "bytes", lambda c, q: c.get("bytes"), size, "bytes ratio"),
    Column("macs", "MACs", lambda c, q: c.get("macs"), count, "MACs ratio"),
    Column("kv_bytes", "KV bytes/token", _kv_bytes, size, "KV ratio"),
    Column("peak_memory", "peak memory", lambda c, q: c.get("peak_memory"), size),
    Column("bits_per_byte", "bits per byte", lambda c, q: q.get("bits_per_byte"), fixed),
    Column("perplexity", "perplexity", lambda c, q: q.get("perplexity"), fixed),
    Column("prefill", "prefill tok/s", _speed("prefill"), count, "prefill ratio"),
    Column("decode", "decode tok/s", _speed("decode"), count, "decode ratio"),
)
_SCORE = {"nll", "tokens", "bytes", "perplexity", "bits_per_byte"}


def columns_for(qualities: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The known columns, and one for every other figure of quality, such as a task's accuracy."""
    numbers = [(k, v) for quality in qualities for k, v in quality.items() if k not in _SCORE]
    keys = {k: None for k, v in numbers if isinstance(v, int | float)}
    return [*COLUMNS, *(Column(key, key, _quality(key), fixed) for key in keys)]


def _quality(key: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]:
    return lambda cost, quality: quality.get(key)


@dataclass
class Table:
    """Cells ready to show, the first column left-aligned; `records` holds the same as numbers."""

    columns: list[str]
    rows: list[list[str]]
    records: list[dict[str, Any]] = field(default_factory=list)

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


def side(record: Mapping[str, Any] | None, which: str) -> dict[str, Any]:
    """`before` or `after` of a cost or quality; of a baseline's, which has neither, the whole."""
    record = record or {}
    if "before" in record or "after" in record:
        return dict(record.get(which) or {})
    return dict(record) if which == "after" else {}


def names_of(runs: Sequence[Record]) -> list[str]:
    """A short, distinct name for each run: its method or command, numbered where that repeats."""
    plain = [run.method or run.command for run in runs]
    return [
        n if plain.count(n) == 1 else f"{n} {plain[: i + 1].count(n)}" for i, n in enumerate(plain)
    ]


def short(model: str | None) -> str:
    """The last part of a model's name or path."""
    return PurePath(model).name or model if model else "parent"


def comparison(
    runs: Sequence[Record], *, names: Sequence[str] | None = None, ratios: bool = True
) -> Table:
    """One row a model: each parent once, then each run's result and its baselines.

    Columns that no row can fill are left out. `blocks` is the share of the parent's block
    parameters that is left, and the ratio columns compare to the parent (of speeds: above 1
    is faster). `records` holds the numbers, with role parent, result or baseline.
    """
    models: list[tuple[str, str, _Figures, _Figures]] = []  # name, role, own figures, parent's
    parents: list[Any] = []
    for run, name in zip(runs, names or names_of(runs), strict=True):
        before = side(run.cost, "before"), side(run.quality, "before")
        pruned = _result_among(models, run.model, before[0])
        if pruned is not None:  # a healed model is compared with the parent of what was pruned
            before = pruned
        # Timings of one parent differ from run to run; what it is does not.
        identity = run.model, *(before[0].get(key) for key in ("params", "bytes")), before[1]
        if pruned is None and run.model is not None and any(before) and identity not in parents:
            parents.append(identity)
            models.append((short(run.model), "parent", before, before))
        after = side(run.cost, "after"), side(run.quality, "after")
        models.append((name, "result", after, before))
        for baseline in run.baselines:
            own = side(baseline.get("cost"), "after"), side(baseline.get("quality"), "after")
            models.append((str(baseline.get("name", "baseline")), "baseline", own, before))
    columns = columns_for([own[1] for _, _, own, _ in models])
    records = [
        {"run": name, "role": role, **_figures(own, parent, columns=columns)}
        for name, role, own, parent in models
    ]
    return _table(records, columns, ratios=ratios)


def conclusion(runs: Sequence[Record], *, names: Sequence[str] | None = None) -> str | None:
    """What came out, in a sentence for each result that has a parent: `half is 37% smaller than its
    parent and has 0.8% more bits per byte`. None where no result has one.
    """
    said = []
    for record in comparison(runs, names=names).records:
        parts = []
        if (size := record["bytes_ratio"]) is not None:
            parts.append(_size_said(size))
        if (loss := record["bits_per_byte_ratio"]) is not None:
            parts.append(_loss_said(loss))
        if parts and record["role"] == "result":
            said.append(f"{record['run']} {' and '.join(parts)}.")
    return " ".join(said) or None


def _size_said(ratio: float) -> str:
    if not (percent := _percent(ratio)):
        return "is as large as its parent"
    return f"is {percent} {'larger' if ratio > 1 else 'smaller'} than its parent"


def _loss_said(ratio: float) -> str:
    if not (percent := _percent(ratio)):
        return "has as many bits per byte"
    return f"has {percent} {'more' if ratio > 1 else 'fewer'} bits per byte"


def _percent(ratio: float) -> str:
    """How far a ratio is from 1; empty where no digit would show it."""
    percent = 100 * abs(ratio - 1)
    return "" if percent < 0.05 else f"{percent:.{0 if percent >= 10 else 1}f}%"


def _result_among(
    models: Sequence[tuple[str, str, _Figures, _Figures]], model: str | None, cost: dict[str, Any]
) -> _Figures | None:
    """The parent of an earlier run's result, if that result is this model; the result itself if it
    has none, as a teacher that was made from labels."""
    for name, role, own, parent in models:
        same = short(name) == short(model) and own[0].get("params") == cost.get("params")
        if role == "result" and same:
            return parent if any(parent) else own
    return None


def scored_apart(runs: Sequence[Record]) -> str | None:
    """A warning if the results were not all scored on the same text; None if they were."""
    seen: dict[str, None] = {}
    for run in runs:
        data = normpath(run.data) if run.data else "some text"
        split = run.details.get("split", "test")
        data = data if split == "test" else f"the {split} split of {data}"
        size = side(run.quality, "after").get("bytes")
        examples = run.details.get("test_rows")
        if size is not None:
            seen[f"{int(size):,} bytes of {data}"] = None
        elif examples is not None:
            seen[f"{int(examples):,} examples of {data}"] = None
    if len(seen) < 2:
        return None
    texts = ", ".join(seen)
    return f"not all runs were scored on the same data ({texts}): compare their scores with care"


def _figures(own: _Figures, parent: _Figures, *, columns: Sequence[Column]) -> dict[str, Any]:
    """What each column reads off a model, and its ratio to the parent's."""
    record: dict[str, Any] = {}
    for column in columns:
        value, base = column.read(*own), column.read(*parent)
        record[column.name] = value
        record[f"{column.name}_ratio"] = value / base if value is not None and base else None
    return record


def _table(records: list[dict[str, Any]], columns: Sequence[Column], *, ratios: bool) -> Table:
    cells: dict[str, list[str]] = {}

    def add(heading: str, key: str, show: Callable[[float], str]) -> None:
        values = [record[key] for record in records]
        if any(value is not None for value in values):
            cells[heading] = [NONE if value is None else show(value) for value in values]

    marks = {"parent": "", "result": "", "baseline": "  vs "}
    cells["run"] = [marks[record["role"]] + record["run"] for record in records]
    for column in columns:
        if column.name == "block_params":
            add("blocks", "block_params_ratio", lambda share: f"{100 * share:.0f}%")
        elif column.name != "peak_memory":
            add(column.heading, column.name, column.show)
    for column in columns:
        if ratios and column.ratio:
            add(column.ratio, f"{column.name}_ratio", lambda ratio: f"{ratio:.2f}")
    return Table(list(cells), [list(row) for row in zip(*cells.values(), strict=True)], records)


def run_table(run: Record) -> Table:
    """Before, after and ratio of every figure that a run holds; the ratio is to what it was before,
    or to the teacher or target of a model that had one.
    """
    before = side(run.cost, "before"), side(run.quality, "before")
    after = side(run.cost, "after"), side(run.quality, "after")
    above, reference = _reference(run) or ("", before)
    rows = []
    for column in columns_for([before[1], after[1]]):
        old, new = column.read(*before), column.read(*after)
        if old is not None or new is not None:
            base = column.read(*reference)
            ratio = NONE if new is None or not base else f"{new / base:.2f}"
            rows.append(
                [
                    column.heading,
                    *(NONE if v is None else column.show(v) for v in (old, new)),
                    ratio,
                ]
            )
    table = Table(["", "before", "after", f"ratio{above}"], rows)
    if not any(before):  # a model made from nothing has no before
        table = Table(["", "result"], [[row[0], row[2]] for row in rows])
    return table


def _reference(run: Record) -> tuple[str, _Figures] | None:
    """What a trained model is held against, with how the table calls it."""
    for baseline in run.baselines:
        if baseline.get("name") == "teacher":
            own = side(baseline.get("cost"), "after"), side(baseline.get("quality"), "after")
            return " to teacher", own
    target = run.details.get("target")
    if isinstance(target, dict) and target.get("cost"):
        return " to target", (side(target["cost"], "after"), {})
    return None


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
    return lines


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
    return [(label, str(text)) for label, text in lines if text]


def run_text(run: Record) -> str:
    """A run for the terminal."""
    title = (
        run.command
        if not run.method or run.method in run.command
        else f"{run.command} ({run.method})"
    )
    parts = [title, run_table(run).text()] if run_table(run).rows else [title]
    if run.baselines:
        parts.append(comparison([run], ratios=False).text())
    lines = budget_lines(run) + facts(run)
    width = max(len(label) for label, _ in lines)
    parts.append("\n".join(f"{label:<{width}}  {text}" for label, text in lines))
    return "\n\n".join(parts)


def pareto_points(
    runs: Sequence[Record], *, cost: str = "bytes", names: Sequence[str] | None = None
) -> list[Point]:
    """Points (cost, bits per byte) for `pareto_plot`, of all models in the runs that have both."""
    return [
        Point(record["run"], record[cost], record["bits_per_byte"], record["role"])
        for record in comparison(runs, names=names).records
        if record[cost] is not None and record["bits_per_byte"] is not None
    ]
