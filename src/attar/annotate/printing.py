"""What the records of `attar annotate` say, as lines of text for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from attar.report.record import Run
from attar.report.tables import Table

_CONDITIONAL = (
    "test ±: another evaluation set; training ±: other sentences of the same kind. For the active "
    "arm the second takes what was selected as given."
)
_NOT_YET = "The arms cannot be compared yet: both need two measured points in this epoch."
_COSTS = ("sentences", "characters", "decisions", "corrections", "seconds")


def score(value: float | None) -> str:
    """A share as people read it; a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def simulate_text(run: Run) -> str:
    """The end of each arm, and how far their curves lie apart."""
    rows = [
        [
            str(row["arm"]),
            score(row["word_f1"]),
            score(row["spread"]),
            *(f"{row[axis]:,.0f}" for axis in _COSTS),
        ]
        for row in run.details["summary"]
    ]
    lines = [Table(["arm", "word F1", "over seeds", *_COSTS], rows).text()]
    for gap in run.details["differences"]:
        bounds = "; ".join(f"{low:+.4f} to {high:+.4f}" for low, high in gap["intervals"])
        lines.append(
            f"{gap['arm']} over {gap['against']} at equal {gap['axis']}: "
            f"{gap['value']:+.4f} of word F1 (each seed: {bounds})"
        )
    return "\n".join(lines)


def curve_text(run: Run) -> str:
    """The points, and the difference of the arms."""
    details = run.details
    x, metric = details["x"], details["metric"]
    rows = [
        [
            str(row["arm"]),
            str(row["epoch"]),
            str(row["batch"]),
            f"{row[x]:,.0f}",
            score(row.get(metric)),
            score(row.get("test_half_width")) if metric == "word_f1" else "-",
            score(row.get("training_half_width")) if metric == "word_f1" else "-",
        ]
        for row in details["points"]
    ]
    shown = metric.replace("_", " ").replace("f1", "F1")
    lines = [Table(["arm", "epoch", "batch", x, shown, "test ±", "training ±"], rows).text()]
    if metric == "word_f1":
        lines.append(_CONDITIONAL)
    lines += [_gap_text(gap) for gap in details["differences"]] or [_NOT_YET]
    return "\n".join(lines)


def _gap_text(gap: Mapping[str, Any]) -> str:
    low, high = gap["low"], gap["high"]
    says = (
        "it covers zero, so nothing is shown"
        if low <= 0 <= high
        else f"the {'active' if low > 0 else 'random'} arm is ahead"
    )
    whole = "" if gap["training"] is not None else ", without the training interval"
    return (
        f"active over random at equal {gap['axis']}: {gap['value']:+.4f} of word F1, {low:+.4f} to "
        f"{high:+.4f}{whole}: {says}"
    )


def transfer_text(run: Run) -> str:
    """What another segmenter learns from each sample."""
    rows = [
        [row["arm"], score(row["word_f1"]), score(row["low"]), score(row["high"])]
        for row in run.details["points"]
    ]
    return Table(["trained on", "word F1", "from", "to"], rows).text()


def agree_text(run: Run) -> str:
    """How far people agree, by group."""
    figures = ("kappa", "alpha", "boundary_similarity", "word_f1")
    rows = [
        {**one["group"], "pairs": one["pairs"], **{name: score(one[name]) for name in figures}}
        for one in run.details["groups"]
    ]
    return table((*run.details["groups"][0]["group"], "pairs", *figures), rows)


def import_text(run: Run) -> str:
    """What an import brought."""
    details = run.details
    counts = ("new", "duplicate", "too_long", "refused", "reserved", "answers")
    parts = [f"{details[name]:,} {name.replace('_', ' ')}" for name in counts if details.get(name)]
    return f"snapshot {details['snapshot']}: {', '.join(parts) or 'nothing'}"


def draw_text(run: Run) -> str:
    """The batches that were drawn."""
    columns = ("arm", "batch", "picks", "tasks", "spent")
    return table(columns, run.details["batches"])


def train_text(run: Run) -> str:
    """How a training ended."""
    job = run.details["job"]
    if job["state"] == "queued":
        return "The worker trains as soon as it can; attar annotate status says when."
    if job["kind"] == "history":
        return f"Trained. {job['result']['points']} points of the past were measured again."
    scores = (job["result"] or {}).get("scores") or {}
    if not scores:
        return "Trained. Nothing is measured yet: no evaluation sentence is labelled."
    rows = [[arm, score(found.get("word_f1"))] for arm, found in scores.items()]
    return Table(["trained on", "word F1"], rows).text()


def worker_text(run: Run) -> str:
    """What a worker did."""
    done = run.details["jobs"]
    return f"{done} {'job' if done == 1 else 'jobs'} done"


def status_text(run: Run) -> str:
    """How far a project is."""
    details = run.details
    lines = [
        f"{details['name']}: guideline {details['guideline']}, "
        f"snapshot {details['snapshot'] or '-'}, {details['sentences']:,} sentences, "
        f"{details['annotations']:,} annotations"
        f"{', paused' if details['paused'] else ''}",
        f"evaluation: {details['evaluated']:,} of {details['reserved']:,} reserved sentences "
        "labelled",
        f"at work now: {details['at_work']}",
        "",
        table(("name", "drawn", "answered", "open"), details["arms"]),
    ]
    if details["people"]:
        columns = ("name", "role", "answers", "skipped", "flagged", "hours")
        people = [one | {"hours": f"{one['hours']:.2f}"} for one in details["people"]]
        lines += ["", table(columns, people)]
    if details["models"]:
        lines += ["", *(f"model of {arm}: {path}" for arm, path in details["models"].items())]
        lines.append(f"annotations since the corpus was scored: {details['staleness']:,}")
    if details["jobs"]:
        last = details["jobs"][0]
        lines.append(f"last job: {last['kind']}, {last['state']} {last['error']}".rstrip())
    lines += [f"{one['level']}: {one['text']}" for one in details["advice"]]
    lines += [f"look: {warning}" for warning in details["warnings"]]
    return "\n".join(lines)


def event_added_text(run: Run) -> str:
    """What was logged."""
    event = run.details["event"]
    change = f" {event['before']} -> {event['after']}" if event["after"] else ""
    return f"logged: {event['kind']}{change}, policy {event['policy']}"


def events_text(run: Run) -> str:
    """The log."""
    rows = [
        {**event, "time": event["time"][:16].replace("T", " "), "at": event["sequence"]}
        for event in run.details["events"]
    ]
    columns = ("mark", "time", "kind", "before", "after", "policy", "scope", "author", "note")
    return table(columns, rows)


def users_text(run: Run) -> str:
    """Who may log in."""
    return table(("name", "role", "active", "acknowledged"), run.details["users"])


def upgrade_text(run: Run) -> str:
    """What an upgrade did."""
    details = run.details
    if details["before"] == details["after"]:
        return f"The tables are those of this version already ({details['after']})."
    copy = f"; the database before it: {details['backup']}" if details["backup"] else ""
    return f"The tables went from {details['before']} to {details['after']}{copy}"


def doctor_text(run: Run) -> str:
    """What the checks found."""
    rows = [
        one | {"check": one["check"], "fine": "fine" if one["fine"] else "WRONG"}
        for one in run.details["checks"]
    ]
    return table(("check", "fine", "text"), rows)


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under their columns; a dash where there is nothing."""
    return Table(
        [name.replace("_", " ") for name in columns],
        [[_cell(row.get(name)) for name in columns] for row in rows],
    ).text()


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
