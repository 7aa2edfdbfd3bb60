"""What is printed of a training by span corruption, and of a comparison."""

from statistics import mean

from attar.report.record import Run
from attar.report.tables import Table


def stage_lines(run: Run) -> list[tuple[str, str]]:
    """Labels and texts: what was computed, and how well replaced tokens were found."""
    flops, found = run.details["flops"], run.details["first_stage"]
    lines = [("compute", f"{flops['total']:.3g} FLOPs")]
    if found is None:
        return lines
    share = f"{100 * flops['overhead']:.0f}% more than of span corruption alone"
    precision = "none" if found["precision"] is None else f"{100 * found['precision']:.0f}%"
    return [
        *lines,
        ("first stage", f"{run.details['tau']:,} steps, each {share}"),
        ("replaced tokens", f"{100 * found['replaced']:.1f}% of text; AUC {found['auc']:.3f}"),
        ("found", f"{100 * found['recall']:.0f}%; of what is flagged, {precision} is replaced"),
        (
            "span loss then",
            f"{found['nats']:.3f} nats, {found['nats_replaced']:.3f} with replaced tokens",
        ),
    ]


def comparison_table(run: Run) -> Table:
    """All arms of a comparison, point by point; figures are means over seeds."""
    arms = run.details["arms"]
    points = next(iter(arms.values()))["points"]
    probes = [name for name in points[0] if name not in ("step", "flops", "seconds", "span_nats")]
    columns = ["arm", "learning rate", "step", "FLOPs", "seconds", "span nats", *probes]
    rows, records = [], []
    for arm, results in arms.items():
        for point in results["points"]:
            means = {name: mean(point[name]) for name in ("seconds", "span_nats", *probes)}
            rows.append(
                [
                    arm,
                    f"{results['learning_rate']:g}",
                    f"{point['step']:,}",
                    f"{point['flops']:.3g}",
                    f"{means['seconds']:.0f}",
                    f"{means['span_nats']:.4f}",
                    *(f"{100 * means[name]:.1f}%" for name in probes),
                ]
            )
            records.append({"arm": arm, "step": point["step"], "flops": point["flops"], **means})
    return Table(columns, rows, records)


def reached_lines(run: Run) -> list[str]:
    """What each arm needs to reach the last figure of span corruption, a sentence each."""
    lines = []
    for figure, arms in run.details["reached"].items():
        for arm, shares in arms.items():
            if arm == "span":
                continue
            name = f"{figure.replace('_', ' ')} of span corruption at its end"
            if shares["flops"] is None:
                lines.append(f"{arm} does not reach the {name}.")
                continue
            parts = [f"{100 * shares[cost]:.0f}% of its {word}" for cost, word in _COSTS]
            lines.append(f"{arm} reaches the {name} with {', '.join(parts[:-1])} and {parts[-1]}.")
    return lines


_COSTS = (("step", "steps"), ("flops", "FLOPs"), ("seconds", "seconds"))
