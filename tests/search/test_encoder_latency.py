"""Milliseconds of encoders: a law of work is found again, and more work never takes less."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import DataError
from attar.measure.text_latency import torch_threads
from attar.search.encoder_latency import EncoderLatency, measure_encoders, work
from attar.search.latency import fit_latency

RNG = np.random.default_rng(0)
SHAPES = np.column_stack(
    [
        RNG.choice([1, 2, 4, 8], 30),
        RNG.integers(1, 25, 30) * 16,
        RNG.integers(1, 50, 30) * 32,
        RNG.integers(1, 13, 30),
    ]
)
KEYS = ("heads", "hidden", "intermediate", "layers")
LAW = np.array([0.4, 3e-9, 2e-9, 5e-9, 1e-8, 0.0, 2e-7])
sizes = st.tuples(
    st.sampled_from([1, 2, 4, 8]), st.integers(1, 48), st.integers(1, 95), st.integers(1, 12)
)


def of(shapes: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(KEYS, shapes.T, strict=True))


def fitted(noise: float = 0.0) -> EncoderLatency:
    features = work(**of(SHAPES), tokens=400)
    times = (2.0 + features @ LAW) * (1 + noise * RNG.normal(size=len(features)))
    surrogate = fit_latency(features.tolist(), times.tolist(), model="non_negative")
    return EncoderLatency(400, 1, surrogate)


def test_the_work_of_a_shape_is_counted_by_hand() -> None:
    found = work(heads=2, hidden=16, intermediate=32, layers=3, tokens=10)
    assert found.tolist() == [3, 7680, 15360, 4800, 600, 480, 960]


def test_an_exact_law_is_found_again_for_shapes_beyond() -> None:
    latency = fitted()
    assert latency.error.mape < 1e-6
    largest = {"heads": 12, "hidden": 768, "intermediate": 3072, "layers": 12}
    expected = 2.0 + work(**largest, tokens=400) @ LAW
    assert latency(**largest) == pytest.approx(expected, rel=1e-5)


@given(sizes, sizes)
def test_more_work_never_takes_less(one, other) -> None:
    latency = NOISY
    (a, h, i, n), (b, g, j, m) = one, other
    small = latency(
        heads=min(a, b),
        hidden=16 * min(h, g),
        intermediate=32 * min(i, j),
        layers=min(n, m),
    )
    large = latency(heads=a, hidden=16 * h, intermediate=32 * i, layers=n)
    assert 0 < small <= large


NOISY = fitted(noise=0.2)


def test_arrays_of_any_shape_are_predicted_at_once() -> None:
    latency = fitted()
    grid = latency(heads=[[1], [8]], hidden=[16, 32, 64], intermediate=64, layers=12)
    assert grid.shape == (2, 3)
    one = latency(heads=8, hidden=32, intermediate=64, layers=12)
    assert one.shape == ()
    assert grid[1, 1] == pytest.approx(float(one))


def test_encoders_are_timed_and_nothing_else_changes() -> None:
    shapes = [(2, 16 * width, 32, layers) for width in (1, 2, 3, 4, 5) for layers in (1, 3)]
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with torch_threads(2):
        latency = measure_encoders(shapes, tokens=24, threads=1, repeats=2)
        assert torch.get_num_threads() == 2
    assert torch.equal(torch.rand(1), expected)
    assert (latency.tokens, latency.threads, latency.error.rows) == (24, 1, 10)
    assert latency(heads=2, hidden=48, intermediate=32, layers=2) > 0
    with pytest.raises(DataError, match="at least 10 measured architectures; found 9"):
        measure_encoders(shapes[:9], tokens=4, repeats=1)
