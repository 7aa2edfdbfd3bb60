"""Charts are repeatable, and their front is that of brute force."""

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from attar.report.charts import Point, importance_plot, pareto_front, pareto_plot, widths_plot
from attar.report.tables import pareto_points
from records import make

GRID = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(GRID, GRID), max_size=12))
def test_pareto_front_is_that_of_brute_force(pairs: list[tuple[float, float]]) -> None:
    points = [Point(str(i), x, y) for i, (x, y) in enumerate(pairs)]
    beaten = {
        p.label
        for p in points
        for q in points
        if (q.x <= p.x and q.y <= p.y) and (q.x < p.x or q.y < p.y)
    }
    front = pareto_front(points)
    assert {(p.x, p.y) for p in front} == {(p.x, p.y) for p in points if p.label not in beaten}
    assert len({(p.x, p.y) for p in front}) == len(front)
    assert [p.x for p in front] == sorted(p.x for p in front)


def charts() -> dict[str, str]:
    runs = [make("bonsai", 0.5), make("flap <&>", 0.25)]
    return {
        "pareto": pareto_plot(pareto_points(runs), title="Loss & size"),
        "empty": pareto_plot([]),
        "widths": widths_plot(runs[0].details["widths"], title="Widths"),
        "importance": importance_plot(runs[0].details["importance"]),
    }


def test_charts_are_repeatable_svg_with_the_pages_ink() -> None:
    first = charts()
    assert first == charts()
    for svg in first.values():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "<script" not in svg
        inks = re.findall(r"<text[^>]*fill: ([^;\"]+)", svg)
        assert set(inks) <= {"currentColor", "#ffffff", "#10243a"}
    text = "".join(ElementTree.fromstring(first["pareto"]).itertext())
    for label in ("parent-1m", "bonsai", "flap <&>", "random", "Loss & size", "bits per byte"):
        assert label in text
