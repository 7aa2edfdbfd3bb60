"""Learning curves as pictures."""

import re

from attar.report.learning import Mark, Stretch, curve_picture, curve_plot, ranges

FIRST = Stretch("random", [(100.0, 0.7, 0.65, 0.75), (200.0, 0.8, 0.78, 0.82)])
OTHER = Stretch("active", [(150.0, 0.72, None, None), (260.0, 0.83, 0.8, 0.86)])
LATER = Stretch("random", [(300.0, 0.6, 0.5, 0.7), (400.0, 0.85, 0.8, 0.9)])
LABELS = {"x_label": "characters", "y_label": "word F1"}


def lines(svg: str) -> list[int]:
    """How many corners the line of each stretch has."""
    found = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: none;[^"]*', svg)
    return sorted(len(re.findall(r"[ML]", path)) for path in found)


def test_a_line_joins_the_points_of_a_stretch_and_no_others() -> None:
    apart = curve_plot([FIRST, OTHER, LATER], **LABELS)
    together = curve_plot([Stretch("random", [*FIRST.points, *LATER.points]), OTHER], **LABELS)
    assert max(lines(apart)) == 2
    assert max(lines(together)) == 4


def test_each_arm_is_named_once_and_each_mark_by_its_number() -> None:
    marks = [Mark("random", 250.0, 7), Mark("active", 255.0, 7)]
    svg = curve_plot([FIRST, OTHER, LATER], marks=marks, title="Thai words", **LABELS)
    texts = re.findall(r">([^<>]+)</text>", svg)
    for name, count in (("random", 1), ("active", 1), ("7", 2), ("characters", 1), ("word F1", 1)):
        assert texts.count(name) == count, name
    assert "Thai words" in texts


def test_marks_at_the_same_cost_are_one() -> None:
    assert ranges([]) == ""
    assert ranges([3, 1, 2, 2, 5]) == "1-3, 5"
    assert ranges([7]) == "7"
    marks = [Mark("random", 250.0, number) for number in (1, 2, 3)]
    svg = curve_plot([FIRST], marks=marks, **LABELS)
    assert re.findall(r">([^<>]+)</text>", svg).count("1-3") == 1


def test_a_picture_is_a_png_and_the_same_on_every_run() -> None:
    first, again = (curve_picture([FIRST, OTHER], **LABELS) for _ in range(2))
    assert first[:8] == b"\x89PNG\r\n\x1a\n"
    assert first == again
    assert first != curve_picture([FIRST], **LABELS)
    assert curve_picture([], **LABELS)[:4] == b"\x89PNG"
