"""Exact search within a budget is brute force, and says what it chose and why."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import BudgetError, ConfigError
from attar.methods.compressor import (
    EncoderShape,
    EncoderSpace,
    Limits,
    PlanConfig,
    ShapeArrays,
    ShapeCosts,
    StudentCosts,
    StudentPlan,
    search_shapes,
)
from attar.search.grid import CHUNK
from attar.search.pareto import Direction, pareto_front
from attar.search.statistics import Array

SPACE = EncoderSpace(
    vocab_size=(300, 400, 600),
    num_attention_heads=(1, 2, 3),
    hidden_size=(16, 24, 33, 64),
    intermediate_size=(16, 48, 96),
    num_hidden_layers=(1, 2, 4),
    context=30,
)


def milliseconds(shapes: ShapeArrays) -> Array:
    width = shapes.hidden_size + 2.0 * shapes.num_attention_heads
    return shapes.num_hidden_layers * (0.1 + 1e-3 * width)


TEACHER = EncoderShape(500, 4, 64, 200, 5)
OBJECTIVES = ("flops", "-flops", "latency", "uniform")
COSTS = StudentCosts(
    outputs=3,
    tokenizer_bytes=lambda vocabulary: 1000.5 + 20 * vocabulary,
    config_bytes=700,
    overhead_bytes=50,
    layer_overhead_bytes=10,
    milliseconds=milliseconds,
    read=lambda vocabulary: np.minimum(1.0, vocabulary / 500),
)


def every() -> list[tuple[EncoderShape, ShapeCosts]]:
    """All encoders of the space, counted one by one."""
    shapes = [
        EncoderShape(v, a, h, i, n)
        for v, a, h, i, n in itertools.product(*SPACE.axes)
        if h % a == 0
    ]
    return [(shape, COSTS.of(ShapeArrays.of([shape]), SPACE)) for shape in shapes]


EVERY = every()
BYTES = sorted(float(costs.bytes.max()) for _, costs in EVERY)


def usual() -> list[tuple[EncoderShape, ShapeCosts]]:
    return [
        (shape, costs)
        for shape, costs in EVERY
        if shape.num_attention_heads == SPACE.usual_heads(shape.hidden_size)
    ]


def left(shape: EncoderShape) -> float:
    """The smallest share of the teacher, but for what is as large as the space has."""
    shares = {
        name: value / TEACHER.to_dict()[name]
        for name, value in shape.to_dict().items()
        if name != "num_attention_heads"
    }
    most = dict(
        zip(EncoderShape.__dataclass_fields__, (axis[-1] for axis in SPACE.axes), strict=True)
    )
    return min(max(s, 1) if shape.to_dict()[n] == most[n] else s for n, s in shares.items())


def test_uniform_shrinks_the_teacher_alike() -> None:
    space = replace(
        SPACE,
        vocab_size=tuple(range(300, 3001, 100)),
        num_attention_heads=(1,),
        hidden_size=tuple(range(16, 401, 8)),
        intermediate_size=tuple(range(16, 1601, 16)),
        num_hidden_layers=tuple(range(1, 13)),
    )
    teacher = EncoderShape(3000, 1, 400, 1600, 12)
    config = PlanConfig(objective="uniform", teacher=teacher, count=1)
    quarter = EncoderShape(750, 1, 100, 400, 3)
    limit = float(COSTS.of(ShapeArrays.of([quarter]), space).bytes.max())
    (plan,) = search_shapes(space, Limits(bytes=limit), costs=COSTS, config=config)
    assert 0.22 < plan.fitness <= 0.25
    assert "of its layers, widths and vocabulary" in plan.why
    (whole,) = search_shapes(space, Limits(bytes=1e9), costs=COSTS, config=config)
    assert whole.shape == teacher
    with pytest.raises(ConfigError, match="teacher must be a shape"):
        PlanConfig(objective="uniform")


def within(limit: float, *, floor: float = 0.0) -> list[tuple[EncoderShape, ShapeCosts]]:
    return [row for row in usual() if floor <= float(row[1].bytes.max()) <= limit]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BYTES), st.floats(0.9, 1.1), st.sampled_from(OBJECTIVES))
def test_no_encoder_of_the_space_is_better_and_none_overruns_the_budget(
    size: float, factor: float, objective: Any
) -> None:
    limit = max(size * factor, BYTES[0])
    most = max(float(costs.bytes.max()) for _, costs in within(limit))
    floor = (
        0.0
        if objective in ("flops", "uniform")
        else 0.95 * (limit if most >= 0.95 * limit else most)
    )
    rows = within(limit, floor=floor)
    keys: dict[str, Callable[[EncoderShape, ShapeCosts], float]] = {
        "flops": lambda _, costs: -float(costs.macs.max()),
        "-flops": lambda _, costs: float(costs.macs.max()),
        "latency": lambda _, costs: float(np.max(costs.milliseconds or 0)),
        "uniform": lambda shape, _: -left(shape),
    }
    rows.sort(key=lambda row: (keys[objective](*row), -float(row[1].bytes.max()), row[0]))
    ranked: dict[tuple[int, ...], EncoderShape] = {}
    for shape, _ in rows:
        key = tuple(value for name, value in shape.to_dict().items() if name != "vocab_size")
        ranked.setdefault(key, shape)
    config = PlanConfig(objective=objective, teacher=TEACHER)
    plans = search_shapes(SPACE, Limits(bytes=limit), costs=COSTS, config=config)
    assert [plan.shape for plan in plans] == list(ranked.values())[:5]
    assert all(plan.bytes <= limit for plan in plans)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(BYTES))
def test_a_function_of_ones_own_ranks_every_number_of_heads(limit: float) -> None:
    def score(shapes: ShapeArrays, costs: ShapeCosts) -> Array:
        return shapes.num_attention_heads * 100.0 - costs.macs / 1e6

    config = PlanConfig(objective=score, count=3)
    plans = search_shapes(SPACE, Limits(bytes=limit), costs=COSTS, config=config)
    rows = [row for row in EVERY if float(row[1].bytes.max()) <= limit]
    rows.sort(key=lambda row: (-float(score(ShapeArrays.of([row[0]]), row[1]).max()), row[0]))
    assert [plan.shape for plan in plans] == [shape for shape, _ in rows[:3]]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(BYTES))
def test_pareto_gives_the_front(limit: float) -> None:
    most = max((float(costs.bytes.max()) for _, costs in within(limit)), default=0.0)
    floor = 0.95 * (limit if most >= 0.95 * limit else most)
    rows = [
        {
            "shape": shape,
            "macs": float(costs.macs.max()),
            "ms": float(np.max(costs.milliseconds or 0)),
            "read": float(np.max(costs.read or 0)),
        }
        for shape, costs in within(limit, floor=floor)
    ]
    sides: dict[str, Direction] = {"macs": "maximise", "ms": "minimise", "read": "maximise"}
    front = [row["shape"] for row in pareto_front(rows, sides)]
    limits = Limits(bytes=limit)
    config = PlanConfig(objective="pareto", count=1000)
    plans = search_shapes(SPACE, limits, costs=COSTS, config=config)
    assert [plan.shape for plan in plans] == front
    few = search_shapes(SPACE, limits, costs=COSTS, config=replace(config, count=2))
    assert few[0].shape == front[0]
    assert [plan.shape for plan in few] == [s for s in front if s in {p.shape for p in few}]
    assert len(few) == min(2, len(front))
    assert few[0].why.endswith("has as much compute, is as fast and reads as much")
    (one,) = search_shapes(
        SPACE, limits, costs=replace(COSTS, read=None), config=replace(config, count=1)
    )
    assert one.why.endswith("has as much compute and is as fast")


def test_results_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from attar.search import grid

    def plans() -> list[StudentPlan]:
        limits, config = Limits(bytes=90_000), PlanConfig(objective="-flops")
        return search_shapes(SPACE, limits, costs=COSTS, config=config)

    whole = plans()
    for chunk in (7, 50, CHUNK):
        blocks = grid._blocks
        monkeypatch.setattr(grid, "_blocks", lambda axes, _, b=blocks, c=chunk: b(axes, c))
        assert plans() == whole
        monkeypatch.setattr(grid, "_blocks", blocks)


def test_a_plan_says_what_the_model_will_take_and_survives_json() -> None:
    limits = Limits(bytes=90_000, params=20_000, macs=2e6, milliseconds=0.5)
    plans = search_shapes(SPACE, limits, costs=COSTS)
    for plan in plans:
        costs = COSTS.of(ShapeArrays.of([plan.shape]), SPACE)
        assert plan.parts["weights"] == 4 * plan.parameters
        assert plan.parts["tokenizer"] == 1001 + 20 * plan.shape.vocab_size
        assert plan.parts["overhead"] == 50 + 10 * plan.shape.num_hidden_layers
        assert plan.bytes == sum(plan.parts.values()) == float(costs.bytes.max())
        assert plan.parameters <= 20_000
        assert plan.macs <= 2e6
        assert plan.milliseconds is not None
        assert plan.milliseconds <= 0.5
        assert StudentPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
        assert str(plan.shape) in str(plan)
    assert len({plan.why for plan in plans}) == len(plans)
    assert "more than the next" in plans[0].why
    assert "less than the first" in plans[1].why


def test_fewer_bytes_for_a_number_buy_a_larger_student() -> None:
    limits, config = Limits(bytes=60_000), PlanConfig(count=1)
    macs = []
    for each in (4.0, 2.0, 1.0):
        costs = replace(COSTS, bytes_per_param=each, vector_bytes=4.0, channel_bytes=5.0)
        (plan,) = search_shapes(SPACE, limits, costs=costs, config=config)
        macs.append(plan.macs)
    assert macs[0] < macs[1] < macs[2]


def test_bytes_of_int8_are_those_of_its_parts() -> None:
    shape = EncoderShape(300, 2, 24, 48, 2)
    costs = StudentCosts(bytes_per_param=1, vector_bytes=4, channel_bytes=5)
    counted = costs.of(ShapeArrays.of([shape]), SPACE)
    width, neurons, layers = 24, 48, 2
    biases = layers * (5 * width + neurons) + width + 2
    norms = (2 * layers + 1) * 2 * width
    matrices = counted.parameters.item() - biases - norms
    assert counted.weights.item() == matrices + 4 * (biases + norms) + 5 * biases


@pytest.mark.parametrize("objective", ["flops", "-flops", "latency", "pareto"])
def test_a_budget_that_is_out_of_reach_names_the_smallest_and_its_bytes(objective: Any) -> None:
    with pytest.raises(BudgetError, match=r"bytes<=10 kB.*1 x 16, 1 head,.*300\) takes 37.3 kB"):
        search_shapes(
            SPACE, Limits(bytes=10_000), costs=COSTS, config=PlanConfig(objective=objective)
        )


def test_genetic_and_nsga2_keep_the_budget_and_never_beat_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("attar.methods.compressor.search.NSGA2_TRIALS", 120)
    limits = Limits(bytes=90_000, milliseconds=0.4)
    wide = replace(SPACE, intermediate_size=tuple(range(16, 97, 8)))
    best = search_shapes(wide, limits, costs=COSTS)[0]
    for method in ("ga", "nsga2"):
        config = PlanConfig(method=method, seed=3)
        plans = search_shapes(wide, limits, costs=COSTS, config=config)
        assert all(p.bytes <= 90_000 and (p.milliseconds or 1) <= 0.4 for p in plans)
        assert 0.5 * best.fitness < plans[0].fitness <= best.fitness
        assert plans == search_shapes(wide, limits, costs=COSTS, config=config)
    config = PlanConfig(objective="pareto", method="nsga2")
    plans = search_shapes(wide, limits, costs=COSTS, config=config)
    assert all(plan.bytes <= 90_000 for plan in plans)
    assert [plan.macs for plan in plans] == sorted((p.macs for p in plans), reverse=True)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"objective": "accuracy"}, "objective"),
        ({"method": "guess"}, "method"),
        ({"cost_model": "rough"}, "cost_model"),
        ({"count": 0}, "count"),
        ({"hard": False}, "hard"),
        ({"objective": "latency", "cost_model": "paper"}, "objective"),
        ({"objective": "pareto", "method": "ga"}, "method"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        PlanConfig(**wrong)


def test_what_nobody_can_say_is_asked_for() -> None:
    bare = StudentCosts()
    for objective, limits in (
        ("latency", Limits(bytes=1e6)),
        ("pareto", Limits(bytes=1e6)),
        ("flops", Limits(milliseconds=3.0)),
    ):
        with pytest.raises(ConfigError, match="milliseconds"):
            search_shapes(SPACE, limits, costs=bare, config=PlanConfig(objective=objective))
    with pytest.raises(ConfigError, match="bytes alone"):
        search_shapes(SPACE, Limits(params=9e9), config=PlanConfig(cost_model="paper"))
    with pytest.raises(ConfigError, match="at least one"):
        Limits()
    with pytest.raises(ConfigError, match="bytes_per_param"):
        StudentCosts(bytes_per_param=0)
