"""Charts are repeatable, and their front is that of brute force."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.report.charts import (
    Point,
    Speed,
    importance_plot,
    pareto_front,
    pareto_plot,
    speed_plot,
    widths_plot,
)
from attar.report.verdict import pareto_points, speeds
from records import make

CLOUD = [Point("a", 1e6, 2.0), Point("b", 2e6, 1.0), Point("", 2e6, 3.0), Point("", 3e6, 9.0)]
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
        "cloud": pareto_plot(CLOUD[:2], cloud=CLOUD),
        "widths": widths_plot(runs[0].details["widths"], title="Widths"),
        "importance": importance_plot(runs[0].details["importance"]),
        "speed": speed_plot(next(iter(speeds(runs, phase="decode").values())), title="Speed"),
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


def test_a_cloud_has_dots_and_no_names() -> None:
    """It is seen whole, and leaves the front alone."""
    many = [Point(f"tried {i}", 1e6 * (2 + i % 7), 3.0 + i % 11) for i in range(500)]
    bare, clouded = pareto_plot(CLOUD[:2]), pareto_plot(CLOUD[:2], cloud=many)
    assert {"a", "b", "tried"} <= {*shown(clouded)}
    assert "tried" not in shown(bare)
    assert not any(text.startswith("tried ") for text in shown(clouded))
    assert clouded.count("<use ") - bare.count("<use ") >= len({(p.x, p.y) for p in many})
    assert "14" in shown(clouded)  # the axis reaches the worst of them


def shown(svg: str) -> list[str]:
    """The texts of a chart."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_axes_start_at_zero_or_are_marked_as_broken() -> None:
    close = [Point("a", 100.0, 2.2), Point("b", 50.0, 2.6)]
    far = [Point("a", 100.0, 0.1), Point("b", 50.0, 2.6)]
    broken, whole = (pareto_plot(points, x_format=str) for points in (close, far))
    stroke = "M -4.5 2.7 \nL 4.5 -2.7"
    assert (shown(broken).count("0.0"), stroke in broken) == (1, True)  # the cost starts there
    assert (shown(whole).count("0.0"), stroke in whole) == (2, False)
    assert "0" in shown(speed_plot([Speed("a", 90.0, 0.01), Speed("b", 95.0, 0.01)]))


def test_models_on_one_spot_share_a_dot_and_names_are_no_mathematics() -> None:
    points = [Point("a", 100.0, 2.2), Point("b", 50.0, 2.6), Point("c", 100.01, 2.201, "baseline")]
    assert {"a, c", "b"} <= set(shown(pareto_plot(points)))
    odd = r"$\\frac$ at $5"
    assert odd in shown(pareto_plot([Point(odd, 1.0, 1.0)], title=odd))
    assert odd in shown(speed_plot([Speed(odd, 1.0, 0.1)]))


@pytest.mark.parametrize("name", ["a$b", "a_$x_1$", "$\\frac{", "\\$x$ $", "名前", "x" * 3000])
def test_a_name_in_a_chart_is_no_formula(name: str) -> None:
    for svg in (
        pareto_plot([Point(name, 1, 2), Point("b", 2, 1)], x_label=name, title=name),
        speed_plot([Speed(name, 1, 0.1), Speed("b", 2, 0.1)]),
        widths_plot({name: {"after": [1, 2]}}),
        importance_plot({name: [0.1, 0.2]}),
    ):
        assert name[:50] in "".join(ElementTree.fromstring(svg).itertext())


def test_of_many_points_those_of_the_front_are_named() -> None:
    points = [Point(f"p{i}", i, abs(i - 30)) for i in range(200)]
    text = "".join(ElementTree.fromstring(pareto_plot(points)).itertext())
    assert "p30" in text
    assert "p199" not in text
