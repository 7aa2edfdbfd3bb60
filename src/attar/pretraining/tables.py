"""What is printed of a training by span corruption."""

from attar.report.record import Run


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
