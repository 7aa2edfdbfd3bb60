"""What a codec costs: bytes, numbers and seconds of one item, and curves of quality over rate."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from attar.errors import DataError, require

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Coded(Generic[T]):
    """One item, coded and decoded.

    Attributes:
        bytes: of what is stored.
        decoded: the item as it comes back.
        total: numbers of the item: pixels, or samples of one channel, times channels.
        kept: numbers that a model would read: those of the reduced item, or all of them where the
            file holds no smaller grid.
        encode_seconds: to the bytes, median.
        decode_seconds: from the bytes to the whole item in memory, median.
    """

    bytes: int
    decoded: T
    total: int
    kept: int
    encode_seconds: float
    decode_seconds: float

    @property
    def ratio(self) -> float:
        """By how much there are fewer numbers: 4.0 where both sides of a picture are halved."""
        return self.total / self.kept


def stopwatch(call: Callable[[], T], *, repeats: int = 1) -> tuple[T, float]:
    """What a call returns, and the median of its seconds. With three repeats or more, a first call
    that is not timed comes before them.

    Raises:
        ConfigError: `repeats` is below 1.
    """
    require(repeats > 0, "repeats", repeats, "above 0")
    if repeats > 2:
        call()
    seconds = []
    while True:
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
        if len(seconds) == repeats:
            return result, statistics.median(seconds)


class RatePoint(NamedTuple):
    """One setting of a codec: bits per pixel or sample, and a quality, better when larger."""

    rate: float
    quality: float


def front(points: Sequence[RatePoint]) -> list[RatePoint]:
    """The settings that are worth using, by rising rate and quality: without those that another
    equals or beats in quality for as few bits.
    """
    best: list[RatePoint] = []
    for point in sorted(points, key=lambda one: (one.rate, -one.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def bd_rate(curve: Sequence[RatePoint], *, anchor: Sequence[RatePoint]) -> float | None:
    """Bjontegaard's mean difference in rate at equal quality (VCEG-M33, 2001): -0.25 says that
    the codec takes a quarter fewer bits than the anchor.

    `exp(mean over quality of (ln rate - ln rate of the anchor)) - 1`, over the qualities that both
    reach. Each curve is interpolated along its `front` by PCHIP instead of the cubic fit of 2001,
    as is usual since.

    Args:
        curve: settings of the codec, in any order.
        anchor: those of the codec that it is compared to.

    Returns:
        None where the two have no range of quality in common.

    Raises:
        DataError: a rate or quality is not finite, a rate not above 0, or the front has fewer than
            two points (four are customary).
    """
    own, other = _curve(curve), _curve(anchor)
    low, high = max(own[0][0], other[0][0]), min(own[0][-1], other[0][-1])
    if not low < high:
        return None
    areas = [float(PchipInterpolator(*one).integrate(low, high)) for one in (own, other)]
    return math.expm1((areas[0] - areas[1]) / (high - low))


def _curve(points: Sequence[RatePoint]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Qualities, rising, and the natural logarithm of their rates."""
    fine = all(math.isfinite(rate) and math.isfinite(quality) for rate, quality in points)
    fine = fine and all(rate > 0 for rate, _ in points)
    used = front(points) if fine else []
    if len(used) < 2:
        raise DataError(
            "a rate-distortion curve needs two settings at least, of finite quality, more bits of "
            f"which bring more quality; found {[tuple(point) for point in points]}"
        )
    return np.array([one.quality for one in used]), np.log([one.rate for one in used])
