"""Figures are written for people."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.report import units


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (units.size, 0, "0 B"),
        (units.size, 999, "999 B"),
        (units.size, 1_900_000, "1.90 MB"),
        (units.size, 999_999, "1 MB"),
        (units.count, 1_234_567, "1.23 M"),
        (units.count, 12, "12"),
        (units.milliseconds, 12.345, "12.3 ms"),
        (units.milliseconds, 0.01234, "0.0123 ms"),
        (units.milliseconds, 12_345, "12.3 s"),
        (units.duration, 59.2, "59.2 s"),
        (units.duration, 3599, "59 min 59 s"),
        (units.duration, 7800, "2 h 10 min"),
    ],
)
def test_figures_are_written_for_people(
    show: Callable[[float], str], value: float, text: str
) -> None:
    assert show(value) == text


@given(st.floats(0, 1e15))
def test_written_sizes_are_right_to_three_digits(value: float) -> None:
    number, unit = units.size(value).split()
    factor = 1000 ** ["B", "kB", "MB", "GB", "TB"].index(unit)
    assert float(number.replace(",", "")) * factor == pytest.approx(value, rel=6e-3, abs=1e-9)
