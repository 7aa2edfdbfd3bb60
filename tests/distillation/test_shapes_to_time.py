"""Which shapes are timed before a search that bounds a time."""

import numpy as np
import pytest

from attar.distillation.planning import shapes_to_time
from attar.methods.compressor import EncoderShape, EncoderSpace, Limits, ShapeArrays, StudentCosts

SPACE = EncoderSpace.default(context=64)
COSTS = StudentCosts(tokenizer_bytes=lambda vocabulary: np.multiply(18.0, vocabulary))


def smallest_bytes(shape: tuple[int, int, int, int]) -> float:
    whole = EncoderShape(SPACE.vocab_size[0], *shape)
    return float(COSTS.of(ShapeArrays.of([whole]), SPACE).bytes.max())


@pytest.mark.parametrize("factor", [1.01, 1.5, 30.0])
def test_shapes_are_timed_where_the_budget_is(factor: float) -> None:
    """A few draws, or none, are within a small budget; then those nearest to it are taken."""
    smallest = tuple(SPACE.smallest.to_dict().values())[1:]
    limit = factor * smallest_bytes(smallest)  # pyright: ignore[reportArgumentType]
    limits = Limits(bytes=limit, milliseconds=1.0)
    shapes = shapes_to_time(SPACE, COSTS, limits=limits, seed=0)
    assert len(set(shapes)) == len(shapes) == 25
    assert smallest in shapes
    assert all(hidden % heads == 0 for heads, hidden, _, _ in shapes)
    assert shapes == shapes_to_time(SPACE, COSTS, limits=limits, seed=0)
    held = [smallest_bytes(shape) for shape in shapes]
    assert max(held) <= (limit if factor == 30.0 else 4 * limit)
    everywhere = shapes_to_time(SPACE, COSTS, limits=Limits(milliseconds=1.0), seed=0)
    assert max(map(smallest_bytes, everywhere)) > 100 * smallest_bytes(everywhere[-1])


def test_a_space_of_few_shapes_is_timed_often_enough() -> None:
    space = EncoderSpace((260,), (2,), (8, 16), (16,), (1,))
    shapes = shapes_to_time(space, COSTS, limits=Limits(bytes=1e6), seed=0)
    assert len(shapes) == 10
    assert set(shapes) == {(2, 8, 16, 1), (2, 16, 16, 1)}
