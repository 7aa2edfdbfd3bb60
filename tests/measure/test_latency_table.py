"""The latency table: what it predicts when the clock is known, and what it must keep to."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from attar.arch import Arch, LayerShape
from attar.measure import latency_table as latency
from attar.measure.latency_table import LatencyTable, measure_table

PARENT = Arch(tuple(LayerShape(8, 4, 48) for _ in range(3)))
WIDTHS = st.tuples(st.integers(1, 4), st.integers(1, 48))
ARCHS = st.lists(WIDTHS, min_size=3, max_size=3).map(
    lambda rows: Arch(tuple(LayerShape(2 * g, g, n) for g, n in rows))
)


def made(
    groups: tuple[tuple[int, float], ...] = ((1, 1.0), (2, 1.5), (4, 3.0)),
    neurons: tuple[tuple[int, float], ...] = ((8, 1.0), (24, 2.0), (48, 3.0)),
) -> LatencyTable:
    return LatencyTable("prefill", 9.0, PARENT, groups, neurons, 0.02)


def test_the_parents_own_widths_take_the_parents_time() -> None:
    assert made().predict(PARENT) == 9.0


def test_between_two_widths_the_time_is_on_the_line() -> None:
    table = made()
    assert [table.at("kv_groups", w) for w in (1, 2, 3, 4)] == [1.0, 1.5, 2.25, 3.0]
    assert table.at("neurons", 16) == 1.5
    assert table.at("neurons", 1) == 1.0  # below the grid nothing is promised


def test_a_unit_saves_what_the_way_to_the_next_faster_width_saves() -> None:
    table = made(neurons=((8, 1.0), (24, 2.0), (48, 2.0)))
    assert table.saving("kv_groups", 4) == 0.75
    assert table.saving("kv_groups", 3) == 0.75
    assert table.saving("neurons", 48) == 1 / 40  # flat down to 24
    assert table.saving("neurons", 16) == 0.5 / 8
    assert table.saving("neurons", 8) == 0


@given(ARCHS, st.integers(0, 2), st.sampled_from(["kv_groups", "neurons"]))
def test_a_narrower_network_never_takes_longer(arch: Arch, index: int, unit: str) -> None:
    table, layers = made(), list(arch.layers)
    old = layers[index]
    groups = max(1, old.num_key_value_heads - (unit == "kv_groups"))
    neurons = max(1, old.intermediate_size - 8 * (unit == "neurons"))
    layers[index] = LayerShape(2 * groups, groups, neurons)
    assert table.predict(Arch(tuple(layers))) <= table.predict(arch)


@given(ARCHS)
def test_savings_add_up_over_layers(arch: Arch) -> None:
    table = made()
    alone = [
        table.base - table.predict(Arch((*PARENT.layers[:i], row, *PARENT.layers[i + 1 :])))
        for i, row in enumerate(arch.layers)
    ]
    assert table.base - table.predict(arch) == pytest.approx(sum(alone))


def test_round_trip_through_json() -> None:
    table = made()
    assert LatencyTable.from_dict(table.to_dict()) == table
    assert LatencyTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


# ----------------------------------------------------------------------------------- a known clock


def clock(
    monkeypatch: pytest.MonkeyPatch, milliseconds: Callable[[Arch], float]
) -> list[tuple[int, ...]]:
    """Let time be a known function of the widths; the arguments of every timed call are kept."""
    asked: list[tuple[int, ...]] = []

    def prefill(model: Any, prompt: int, *, batch_size: int = 1) -> Callable[[], float]:
        asked.append((prompt, batch_size))
        return lambda: milliseconds(Arch.of(model))

    def decode(
        model: Any, prompt: int, *, new_tokens: int, batch_size: int = 1
    ) -> Callable[[], float]:
        asked.append((prompt, new_tokens, batch_size))
        return lambda: new_tokens * milliseconds(Arch.of(model))

    monkeypatch.setattr(latency, "prefill_call", prefill)
    monkeypatch.setattr(latency, "decode_call", decode)
    return asked


def linear(arch: Arch) -> float:
    return 2.0 + sum(
        0.5 * row.num_key_value_heads + 0.03 * row.intermediate_size for row in arch.layers
    )


@pytest.mark.parametrize("mode", ["prefill", "latency"])
def test_a_linear_clock_is_predicted_exactly(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, linear)
    table = measure_table(tiny.model("llama"), mode, repeats=1, round_to=8, new_tokens=4)
    assert table.mode == mode
    assert table.base == pytest.approx(linear(PARENT))
    assert table.spread == 0
    assert table.error == pytest.approx(0, abs=1e-9)
    for rows in ([(4, 48)] * 3, [(1, 8), (4, 24), (3, 40)], [(2, 29), (2, 11), (1, 48)]):
        arch = Arch(tuple(LayerShape(2 * g, g, n) for g, n in rows))
        assert table.predict(arch) == pytest.approx(linear(arch), rel=1e-9)


def test_any_additive_clock_is_predicted_exactly_on_the_grid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def steps(arch: Arch) -> float:
        return 1.0 + sum(
            0.1 * row.num_key_value_heads**2 + (row.intermediate_size // 16) ** 0.5
            for row in arch.layers
        )

    clock(monkeypatch, steps)
    table = measure_table(tiny.model("llama"), "prefill", repeats=1)
    for groups, _ in table.groups:
        for neurons, _ in table.neurons:
            mixed = (LayerShape(2 * groups, groups, neurons), *PARENT.layers[1:])
            assert table.predict(Arch(mixed)) == pytest.approx(steps(Arch(mixed)), rel=1e-9)


def test_a_layer_less_saves_one_layers_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def layers_only(arch: Arch) -> float:
        return linear(arch) - 2.0

    clock(monkeypatch, layers_only)
    table = measure_table(tiny.model("llama"), "prefill", repeats=1)
    shorter = Arch(PARENT.layers[:-1])
    assert table.predict(shorter) == pytest.approx(layers_only(shorter), rel=1e-9)


def test_drift_of_the_machine_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = iter(range(10**6))

    def drifting(arch: Arch) -> float:
        return linear(arch) * (1 + 1e-4 * next(turn))

    clock(monkeypatch, drifting)
    table = measure_table(tiny.model("llama"), "prefill", repeats=3)
    arch = Arch(tuple(LayerShape(4, 2, 24) for _ in range(3)))
    assert table.predict(arch) / table.base == pytest.approx(
        linear(arch) / linear(PARENT), rel=1e-3
    )


def test_the_grid_spans_all_widths_in_round_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = clock(monkeypatch, linear)
    model = tiny.model("llama", num_hidden_layers=1, intermediate_size=100)
    table = measure_table(model, "latency", points=4, round_to=8, batch_size=2, new_tokens=32)
    assert [w for w, _ in table.groups] == [1, 2, 3, 4]
    widths = [w for w, _ in table.neurons]
    assert len(widths) <= 5
    assert (widths[0], widths[-1]) == (8, 100)
    assert widths == sorted(set(widths))
    assert all(w % 8 == 0 for w in widths[:-1])
    # a prompt of 256 does not fit a context of 64 with 32 new tokens
    assert set(asked) == {(32, 32, 2)}


@pytest.mark.parametrize(
    ("widest", "points", "step"), [(1, 6, 1), (8, 6, 8), (5, 6, 8), (48, 2, 8)]
)
def test_small_grids(widest: int, points: int, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, linear)
    model = tiny.model("llama", num_hidden_layers=1, intermediate_size=widest)
    table = measure_table(model, "prefill", points=points, round_to=step, repeats=1)
    grid = [width for width, _ in table.neurons]
    assert grid[-1] == widest
    assert grid == sorted(set(grid))
    assert 1 <= grid[0] <= max(step, 1)


def test_heads_that_cannot_go_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, lambda arch: sum(0.1 * row.intermediate_size for row in arch.layers))
    model = tiny.model("gpt2")
    parent = Arch.of(model)
    table = measure_table(model, "prefill", repeats=1)
    assert len(table.groups) == 1
    narrow = Arch(tuple(LayerShape(4, 4, 24) for _ in parent.layers))
    assert table.predict(narrow) == pytest.approx(0.1 * 3 * 24)


def test_timing_leaves_the_model_as_it_was() -> None:
    model = tiny.model("llama", num_hidden_layers=1)
    before = Arch.of(model)
    table = measure_table(model, "latency", repeats=1, points=2, prompt_tokens=8, new_tokens=2)
    assert Arch.of(model) == before
    assert table.base > 0
    assert table.predict(before) == table.base
