"""Plans and reports of students of a budget, for people."""

from collections.abc import Mapping
from typing import Any

from attar.methods.compressor import StudentPlan
from attar.report.record import Run
from attar.report.tables import Table
from attar.report.units import count, milliseconds, size


def plans_table(run: Run) -> Table:
    """The plans of a run side by side, best first, with the numbers that `rank` takes."""
    plans = [StudentPlan.from_dict(plan) for plan in run.details["plans"]]
    columns = ["plan", "layers", "width", "heads", "neurons", "vocabulary", "parameters", "bytes"]
    columns += ["MACs of a text", "time", "text read"]
    rows = []
    for number, plan in enumerate(plans, 1):
        shape, time, read = plan.shape, plan.milliseconds, plan.read
        widths = (shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads)
        rows.append(
            [
                str(number),
                *map(str, widths),
                f"{shape.intermediate_size:,}",
                f"{shape.vocab_size:,}",
                count(plan.parameters),
                size(plan.bytes),
                count(plan.macs),
                "" if time is None else milliseconds(time),
                "" if read is None else f"{read:.0%}",
            ]
        )
    return Table(columns, rows, [plan.to_dict() for plan in plans])


def reasons(run: Run) -> list[str]:
    """Why each of the plans has its place, a sentence each."""
    return [f"{number}. {plan['why']}" for number, plan in enumerate(run.details["plans"], 1)]


def report_lines(run: Run) -> list[tuple[str, str]]:
    """What a student kept of its teacher, and its bytes, as labels and texts."""
    report: Mapping[str, Any] = run.details["report"]
    lines = [("agreement", f"{report['agreement']:.1%} of {report['rows']:,} test rows")]
    if report.get("kept") is not None:
        text = f"{report['kept']:.1%} of the teacher's {run.details['primary'].replace('_', ' ')}"
        if "chance" in report:
            above = report["kept_above_chance"]
            level = f"above chance, {report['chance']:.1%}"
            share = "none" if above is None else f"{above:.1%}"
            text += f"; {share} of what is {level}"
        lines.append(("kept", text))
    if "flips" in report:
        lines.append(("flips", _flips(report["flips"])))
    parts = [f"{name} {size(held)}" for name, held in report["bytes"].items() if held]
    lines.append(("on disk", f"{size(sum(report['bytes'].values()))}  ({', '.join(parts)})"))
    for row in report.get("latency", ()):
        text = ", ".join(
            f"{side} {milliseconds(row[side]['p50'])} (p95 {milliseconds(row[side]['p95'])})"
            for side in ("student", "teacher")
        )
        threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
        lines.append((f"one text, {threads}", text))
    return lines


def _flips(flips: Mapping[str, Any]) -> str:
    return (
        f"{flips['student']:.1%} of the student's predictions change where identifiers are "
        f"renamed, {flips['teacher']:.1%} of the teacher's"
    )
