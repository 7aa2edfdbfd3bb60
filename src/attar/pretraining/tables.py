"""What is printed of a training by span corruption, and of a comparison."""

from collections.abc import Mapping
from statistics import mean

from attar.pretraining.crossings import COSTS
from attar.report.record import Run
from attar.report.tables import Table


def stage_lines(run: Run) -> list[tuple[str, str]]:
    """Labels and texts: what was computed, and how well replaced tokens were found."""
    flops, found, tau = (run.details[name] for name in ("flops", "first_stage", "tau"))
    lines = [("compute", f"{flops['total']:.3g} FLOPs")]
    if found is None:
        none = ("first stage", "none, as tau or mlm_probability is 0")
        return [*lines, none] if run.method == "spactor" else lines
    share = f"{100 * flops['overhead']:.0f}% more than of span corruption alone"
    lines.append(("first stage", f"{tau:,} {'step,' if tau == 1 else 'steps, each'} {share}"))
    if found["auc"] is None:
        lines.append(("replaced tokens", "nothing is replaced in the held-out text"))
    else:
        precision = "none" if found["precision"] is None else f"{100 * found['precision']:.0f}%"
        lines += [
            ("replaced tokens", f"{100 * found['replaced']:.1f}% of text; AUC {found['auc']:.3f}"),
            ("found", f"{100 * found['recall']:.0f}%; of what is flagged, {precision} is replaced"),
        ]
    nats = f"{found['nats']:.3f} nats, {found['nats_replaced']:.3f} with replaced tokens"
    return [*lines, ("span loss then", nats)]


def comparison_table(run: Run) -> Table:
    """All arms of a comparison, point by point; figures are means over seeds."""
    arms = run.details["arms"]
    points = next(arm["points"] for arm in arms.values() if arm["points"])
    probes = [name for name in points[0] if name not in (*COSTS, "span_nats")]
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
    """What each arm needs to reach the last figure of span corruption, a sentence each, and what
    cannot be concluded."""
    arms, lines = run.details["arms"], list[str]()
    for arm, results in arms.items():
        lines += [f"{arm} diverged {reason}." for reason in results.get("diverged", ())]
    for figure, found in run.details["reached"].items():
        name = f"{figure.replace('_', ' ')} of span corruption at its end"
        first, *_, last = (point["step"] for point in arms["span"]["points"])
        own = found["span"]["step"]
        if first < last and own <= first / last:
            lines.append(
                f"Nothing can be concluded from {figure.replace('_', ' ')}: span corruption is as "
                "good at its first point as at its end."
            )
            continue
        lines += [_sentence(arm, name, costs) for arm, costs in found.items() if arm != "span"]
        if own < 1:
            lines.append(_sentence("span itself", name, found["span"]))
    return lines


def _sentence(arm: str, name: str, shares: Mapping[str, float | None]) -> str:
    """What an arm needs."""
    if shares["flops"] is None:
        return f"{arm} does not reach the {name}."
    words = zip(COSTS, ("steps", "FLOPs", "seconds"), strict=True)
    parts = [f"{100 * (shares[cost] or 0):.0f}% of its {word}" for cost, word in words]
    return f"{arm} reaches the {name} with {', '.join(parts[:-1])} and {parts[-1]}."
