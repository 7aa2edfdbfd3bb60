"""Several ways to train, a step of each in turn, so that drift of the machine reaches all alike."""

import statistics
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.stats import bootstrap

Way = Callable[[Callable[[], None]], float]
"""Trains, calls what it is given at the start of every step, and returns the mean loss."""


class Turns:
    """A step of each way in turn.

    Args:
        names: of the ways.
        warm: first steps, in which memory is allocated; their times are left out.
        clock: seconds; `time.thread_time`, where one thread does all the work, leaves out those in
            which other programs have the core.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        warm: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._warm, self._clock = warm, clock
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self._order = list(self.seconds)  # whose turn it is comes first
        self._changed = threading.Condition()

    def run(self, ways: dict[str, Way]) -> dict[str, float]:
        """Train in all ways; the losses. `seconds` then has those of each step but the
        first and the last."""
        with ThreadPoolExecutor(len(ways)) as pool:
            started = {name: pool.submit(self._run, name, way) for name, way in ways.items()}
        self.seconds = {name: found[self._warm :] for name, found in self.seconds.items()}
        return {name: one.result() for name, one in started.items()}

    def _run(self, name: str, way: Way) -> float:
        began: list[float] = []

        def tick() -> None:
            if began:
                self.seconds[name].append(self._clock() - began.pop())
                self._end_turn(name, leave=False)
                self._wait(name)
            began.append(self._clock())

        self._wait(name)
        try:
            return way(tick)
        finally:
            self._end_turn(name, leave=True)

    def _wait(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._order[0] == name)

    def _end_turn(self, name: str, *, leave: bool) -> None:
        with self._changed:
            self._order.remove(name)
            self._order += [] if leave else [name]
            self._changed.notify_all()

    def against(self, name: str, other: str) -> tuple[float, float, float]:
        """Median of the ratios of their seconds and its 95% interval: either step of a pair was
        taken on the same rows, one soon after the other."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        ratios = [a / b for a, b in pairs]
        found = bootstrap((ratios,), np.median, rng=0).confidence_interval
        return statistics.median(ratios), float(found.low), float(found.high)
