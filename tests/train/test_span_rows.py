"""Rows whose spans are corrupted: what identifies them."""

import hashlib
import tracemalloc

import pytest

import spans
from attar.data.sources import Order, fingerprint
from attar.train import span_rows as room


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 40])
def test_a_fingerprint_is_of_ids_corruption_and_places(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_AT_A_TIME", 8)
    rows = spans.source(spans.t5(), places=Order(8, length=length, seed=0))
    parts = (fingerprint(rows.data), rows.collator.settings, list(rows.places))
    assert rows.fingerprint() == hashlib.sha256(repr(parts).encode()).hexdigest()


def test_the_fingerprint_of_a_long_run_takes_little_memory() -> None:
    rows = spans.source(spans.t5(), places=range(300_000))
    rows.fingerprint()  # what is loaded once
    tracemalloc.start()
    rows.fingerprint()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20
