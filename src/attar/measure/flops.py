"""What a step of training computes, counted operation by operation while nothing is computed.

A loss runs forward and backward on tensors that have shapes but no values, so that a model of 16B
parameters, built on the meta device, takes seconds and no memory.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attar.data.sources import Batch
from attar.errors import CompatibilityError


def training_flops(loss: Callable[[Batch], Tensor], batch: Batch) -> int:
    """FLOPs of one forward and backward pass: 2 for each multiply-accumulate of a matrix product,
    a convolution or attention. Element-wise work is not counted.

    The modules of the loss may lie on any device, meta among them, and may share weights; weights,
    gradients and the random state stay as they are. In the backward pass only what has a gradient
    counts, not frozen weights or what lies behind a `detach`. What gradient checkpointing computes
    again counts again, as does padding.

    Args:
        loss: a batch -> the loss, a scalar. What it does must depend on shapes alone: to index by a
            mask, or to read a number off a tensor, is refused.
        batch: inputs, of which only shapes, types and device count. All tensors that the loss uses
            besides weights should be here or be made within it.

    Raises:
        CompatibilityError: the loss reads values.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    shapes: Batch = {name: fake.from_tensor(value) for name, value in batch.items()}
    counter = FlopCounterMode(display=False)
    try:
        # not every kernel of attention is known to the counter: none on a CPU is
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), fake, counter:
            value = loss(shapes)
            with _own_gradients(_leaves(value)):
                value.backward()
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise CompatibilityError(
            f"FLOPs are counted without values, but the loss reads some ({error.func}); use fixed "
            "shapes in it, such as gather in place of indexing by a mask"
        ) from error
    return counter.get_total_flops()


@contextmanager
def _own_gradients(weights: Iterable[Tensor]) -> Iterator[None]:
    """Keep the gradients that weights have from those of the block."""
    before = [(weight, weight.grad) for weight in weights]
    for weight, _ in before:
        weight.grad = None
    try:
        yield
    finally:
        for weight, grad in before:
            weight.grad = grad


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """The weights that a loss has gradients for."""
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            yield leaf
        waiting += [one for one, _ in node.next_functions]
