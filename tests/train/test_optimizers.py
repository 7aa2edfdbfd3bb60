"""Optimizers whose steps are in proportion to the weights take the steps that were published."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from attar.train.optimizers import OptimizerName, optimizer_class

Array = NDArray[np.float64]
SHAPES = {"vector": (7,), "matrix": (5, 7)}


def optimizer(
    name: OptimizerName, weight: Tensor, *, learning_rate: float = 0.01, **changes: Any
) -> Optimizer:
    made = optimizer_class(name, learning_rate=learning_rate, adam_beta2=0.95)
    assert made is not None
    kind, options = made
    return kind([weight], **(options | changes))


def random(shape: tuple[int, ...], *, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def step(optimizer: Optimizer, weight: Tensor, gradient: Tensor) -> Tensor:
    """What one step adds to the weights."""
    before = weight.detach().clone()
    weight.grad = gradient.clone()
    optimizer.step()
    return weight.detach() - before


def published(
    weight: Array, gradients: list[Array], *, first: int = 1, spread: Array | None = None
) -> list[Array]:
    """Steps of Adafactor as T5 is trained with: algorithms 4 to 6 of arXiv 1804.04235, without
    momentum or decay, at the rate 1 / sqrt(max(step, 10,000)).

    Args:
        weight: a vector or a matrix.
        gradients: of each step.
        first: number of the first of them.
        spread: the second moments before it, whole; None: 0.
    """
    v = np.zeros_like(weight) if spread is None else spread
    steps = []
    for t, g in enumerate(gradients, start=first):
        decay = 1 - t**-0.8
        v = decay * v + (1 - decay) * (g * g + 1e-30)
        # sums are linear: those of rows and columns alone need to be kept
        estimate = np.outer(v.sum(1), v.sum(0)) / v.sum() if g.ndim == 2 else v
        u = g / np.sqrt(estimate)
        u = u / max(1.0, float(np.sqrt(np.mean(u * u))))
        size = max(1e-3, float(np.sqrt(np.mean(weight * weight))))
        steps.append(-size / np.sqrt(max(t, 10_000)) * u)
        weight = weight + steps[-1]
    return steps


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_adafactor_steps_as_published(shape: tuple[int, ...], scale: float) -> None:
    """Also where gradients are tiny, of which torch's own default takes those below 1e-7 for equal:
    they shrink on the way, and so must the steps."""
    weight = nn.Parameter(random(shape, seed=0))
    gradients = [random(shape, seed=1 + i) * scale * 0.3**i for i in range(6)]
    expected = published(weight.detach().double().numpy(), [g.double().numpy() for g in gradients])
    ours = optimizer("adafactor", weight)
    for gradient, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(step(ours, weight, gradient), right, rtol=2e-4, atol=2e-7)
    assert np.abs(expected[-1]).max() < 0.3 * np.abs(expected[0]).max()


@pytest.mark.parametrize("before", [99, 9_999, 39_999, 999_999])
def test_a_constant_rate_of_a_hundredth_is_that_of_t5(before: int) -> None:
    weight, gradient = nn.Parameter(random((7,), seed=0)), random((7,), seed=1)
    ours = optimizer("adafactor", weight)
    step(ours, weight, gradient)
    state = ours.state[weight]
    state["step"].fill_(before)
    right = published(
        weight.detach().double().numpy(),
        [gradient.double().numpy()],
        first=before + 1,
        spread=state["variance"].double().numpy(),
    )[0]
    taken = step(ours, weight, gradient)
    np.testing.assert_allclose(taken, right, rtol=1e-3, atol=2e-7)


@pytest.mark.parametrize("scale", [1.0, 0.02, 1e-5])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_rms_steps_in_proportion_to_the_weights(scale: float, decay: float) -> None:
    weight = nn.Parameter(random((5, 7), seed=0) * scale)
    ours = optimizer("adamw_rms", weight, weight_decay=decay)
    plain = nn.Parameter(torch.empty(5, 7))
    theirs = AdamW([plain], lr=0.01, betas=(0.9, 0.95), weight_decay=decay)
    for i in range(4):
        with torch.no_grad():
            plain.copy_(weight)  # the moments depend on the gradients alone
        size = max(1e-3, float(weight.detach().square().mean().sqrt()))
        gradient = random((5, 7), seed=1 + i)
        right = size * step(theirs, plain, gradient)
        taken = step(ours, weight, gradient)
        torch.testing.assert_close(taken, right, rtol=1e-3, atol=2e-7 * max(scale, 1e-2))
        assert 0.003 * size < taken.abs().max() < 0.03 * size


def test_each_tensor_steps_by_its_own_size_and_those_without_a_gradient_stay() -> None:
    large, small, still = (nn.Parameter(torch.full((3,), size)) for size in (8.0, 0.5, 2.0))
    ours = optimizer("adamw_rms", large, weight_decay=0.0)
    ours.add_param_group({"params": [small, still]})
    large.grad = small.grad = torch.ones(3)
    ours.step()
    # the first step of Adam is the sign of the gradient, times the learning rate
    assert torch.allclose(large, torch.full((3,), 8.0 - 0.08))
    assert torch.allclose(small, torch.full((3,), 0.5 - 0.005))
    assert torch.equal(still, torch.full((3,), 2.0))


@pytest.mark.parametrize("name", ["adafactor", "adamw_rms"])
def test_a_tensor_of_zeros_moves(name: OptimizerName) -> None:
    weight = nn.Parameter(torch.zeros(3, 4))
    taken = step(optimizer(name, weight), weight, torch.ones(3, 4))
    torch.testing.assert_close(taken, torch.full((3, 4), -1e-5))


@pytest.mark.parametrize("name", ["adafactor", "adamw_rms"])
def test_a_step_is_in_proportion_to_the_learning_rate(name: OptimizerName) -> None:
    gradient = random((5, 7), seed=1)
    taken = []
    for rate in (0.008, 0.002):
        weight = nn.Parameter(random((5, 7), seed=0))
        taken.append(
            step(optimizer(name, weight, learning_rate=rate, weight_decay=0.0), weight, gradient)
        )
    torch.testing.assert_close(taken[0], 4 * taken[1], rtol=1e-3, atol=1e-6)


def test_plain_adamw_is_left_to_the_trainer() -> None:
    assert optimizer_class("adamw", learning_rate=0.01, adam_beta2=0.95) is None
