"""Layer maps: those of the paper, and the laws of transport."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tiny
from attar.errors import ConfigError
from attar.train.features import hidden_mse
from attar.train.layer_map import Features, LayerMap, emd_flow


def draw(seed: int, *size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_the_maps_of_the_paper() -> None:
    assert LayerMap.skip(4, 12).pairs == ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))
    assert LayerMap.last(4, 12).pairs == ((0, 8), (1, 9), (2, 10), (3, 11), (4, 12))
    assert LayerMap.skip(4, 12, features="attention").pairs == ((0, 2), (1, 5), (2, 8), (3, 11))
    assert LayerMap.last(4, 12, features="attention").pairs == ((0, 8), (1, 9), (2, 10), (3, 11))
    assert LayerMap.skip(3, 5).pairs == ((0, 0), (1, 1), (2, 3), (3, 5))
    for student in (2, 7):  # the deeper one may be the student
        assert LayerMap.final(student, 5).pairs == ((student, 5),)
        assert LayerMap.final(student, 5, features="attention").pairs == ((student - 1, 4),)
    emd = LayerMap.emd(2, 3)
    assert (emd.pairs, emd.blocks) == (((0, 0),), (range(1, 3), range(1, 4)))
    emd = LayerMap.emd(2, 3, features="attention")
    assert (emd.pairs, emd.blocks) == ((), (range(2), range(3)))


@pytest.mark.parametrize("features", ["hidden", "attention"])
@given(student=st.integers(1, 30), extra=st.integers(0, 30))
def test_every_map_ends_on_the_last_layer(features: Features, student: int, extra: int) -> None:
    teacher = student + extra
    skip, last = (f(student, teacher, features=features) for f in (LayerMap.skip, LayerMap.last))
    for found in (skip, last):
        assert (
            found.pairs[-1]
            == ((student, teacher), (student - 1, teacher - 1))[features == "attention"]
        )
        assert [s for s, _ in found.pairs] == list(range(len(found.pairs)))
        teachers = [t for _, t in found.pairs]
        assert teachers == sorted(set(teachers))
    if extra == 0:
        assert skip == last
        assert all(s == t for s, t in skip.pairs)


def test_indices_are_those_of_the_models() -> None:
    student, teacher = tiny.model("bert", num_hidden_layers=2), tiny.model("bert")
    outputs = [
        model(input_ids=tiny.ids(), output_hidden_states=True) for model in (student, teacher)
    ]
    found = LayerMap.skip(2, 3)
    assert len(outputs[0].hidden_states) == len(found.pairs)
    own = LayerMap.skip(3, 3)
    states = [o.hidden_states for o in outputs]
    total = own.total(lambda s, t: hidden_mse(states[1][s], states[1][t]))
    assert torch.equal(total, torch.zeros(2, 12))
    assert (found.total(lambda s, t: hidden_mse(states[0][s], states[1][t])) > 0).all()


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, unique=True),
    space=st.sampled_from(["", " "]),
)
def test_what_is_written_is_read(pairs: list[tuple[int, int]], space: str) -> None:
    text = f",{space}".join(f"{s}{space}:{t}" for s, t in pairs)
    found = LayerMap.parse(text, student_layers=4, teacher_layers=9)
    assert found == LayerMap.explicit(pairs, student_layers=4, teacher_layers=9)
    assert found.pairs == tuple(pairs)
    assert not found.transport


@pytest.mark.parametrize("features", ["hidden", "attention"])
@pytest.mark.parametrize("name", ["skip", "last", "final", "emd"])
def test_names_are_read(name: str, features: Features) -> None:
    found = LayerMap.parse(f" {name} ", student_layers=2, teacher_layers=6, features=features)
    assert found == getattr(LayerMap, name)(2, 6, features=features)


@pytest.mark.parametrize(
    ("text", "features", "match"),
    [
        ("middle", "hidden", "skip, last, final, emd or pairs"),
        ("", "hidden", "skip, last, final, emd or pairs"),
        ("0:0,", "hidden", "skip, last, final, emd or pairs"),
        ("0:-1", "hidden", "skip, last, final, emd or pairs"),
        ("0:0,1:2,0:0", "hidden", "0:0,1:2,0:0; leave out"),
        ("3:0", "hidden", "of the student are 0 to 2, .* names 3"),
        ("2:5", "hidden", "of the teacher are 0 to 4, .* names 5"),
        ("2:0", "attention", "of the student are 0 to 1, .* names 2"),
        ("1:4", "attention", "of the teacher are 0 to 3, .* names 4"),
        ("skip", "logits", "features"),
    ],
)
def test_maps_that_fit_nothing_are_refused(text: str, features: Features, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        LayerMap.parse(text, student_layers=2, teacher_layers=4, features=features)


def test_impossible_depths_are_refused() -> None:
    for make in (LayerMap.skip, LayerMap.last, LayerMap.final, LayerMap.emd):
        with pytest.raises(ConfigError, match="student with at least 1 layer"):
            make(0, 4)
        with pytest.raises(ConfigError, match="teacher with at least 1 layer"):
            make(4, 0)
    with pytest.raises(ConfigError, match=r"teacher are 0 to 2, .* names -2"):
        LayerMap.last(4, 2)
    with pytest.raises(ConfigError, match="at least one pair"):
        LayerMap.explicit([], student_layers=1, teacher_layers=1)


# --- transport --------------------------------------------------------------------------------


def emd_loss(cost: Tensor) -> Tensor:
    return (emd_flow(cost) * cost).sum()


@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    seed=st.integers(0, 999),
    shift=st.floats(-100, 100, width=32),
)
def test_laws_of_transport(rows: int, columns: int, seed: int, shift: float) -> None:
    cost = draw(seed, rows, columns)
    flow, loss = emd_flow(cost), emd_loss(cost)
    assert flow.dtype == torch.float32
    assert (flow >= 0).all()
    torch.testing.assert_close(flow.sum(1), torch.full((rows,), 1 / rows))
    torch.testing.assert_close(flow.sum(0), torch.full((columns,), 1 / columns))
    assert loss <= cost.mean() + 1e-6
    torch.testing.assert_close(emd_loss(cost + shift), loss + shift, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(emd_loss(3 * cost), 3 * loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(emd_loss(cost.T), loss, atol=1e-5, rtol=1e-5)


def test_transport_between_as_many_layers_is_the_best_assignment() -> None:
    from scipy.optimize import linear_sum_assignment

    for seed in range(5):
        cost = draw(seed, 6, 6)
        best = cost.numpy()[linear_sum_assignment(cost.numpy())].mean()
        assert emd_loss(cost).item() == pytest.approx(float(best), abs=1e-6)
    assert emd_loss(1 - torch.eye(4)[[2, 0, 3, 1]]).item() == 0


def test_the_plan_is_a_constant_in_the_backward_pass() -> None:
    cost = draw(0, 3, 5).requires_grad_()
    flow = emd_flow(cost)
    assert not flow.requires_grad
    (gradient,) = torch.autograd.grad(emd_loss(cost), cost)
    assert torch.equal(gradient, flow)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_cost_that_is_not_finite_shows_in_the_loss(bad: float) -> None:
    cost = draw(0, 2, 4)
    cost[1, 2] = bad
    assert torch.equal(emd_flow(cost), torch.full((2, 4), 1 / 8))
    assert not emd_loss(cost).isfinite()


def test_the_total_of_a_map() -> None:
    values = draw(0, 3, 4, 2, 5)  # (student, teacher, B, T)
    pairs = LayerMap.last(2, 3).total(lambda s, t: values[s, t])
    torch.testing.assert_close(pairs, values[0, 1] + values[1, 2] + values[2, 3])
    every = LayerMap.emd(2, 3).total(lambda s, t: values[s, t])
    assert every.shape == (2, 5)
    cost = values.sum((2, 3))
    torch.testing.assert_close(every.sum(), cost[0, 0] + emd_loss(cost[1:, 1:]))
    scalar = LayerMap.emd(3, 4, features="attention").total(lambda s, t: cost[s, t])
    torch.testing.assert_close(scalar, emd_loss(cost))
