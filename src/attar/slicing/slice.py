"""Where the parameters of a child lie in its parent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from attar.slicing.cut import scale_queries


@dataclass(frozen=True)
class Slice:
    """Where one parameter of a child lies in its parent.

    Attributes:
        name: the parent's parameter.
        axes: the indices that stay along each axis, int64; axes that are not listed stay whole.
        queries: what the queries of a fused projection are multiplied by.
    """

    name: str
    axes: Mapping[int, Tensor] = field(default_factory=dict)
    queries: float = 1.0

    def of(self, tensor: Tensor) -> Tensor:
        """The slice of the parent's tensor, or of one of its shape; a view, where a range stays
        along every axis."""
        for axis, kept in self.axes.items():
            start, length = int(kept[0]), len(kept)
            if int(kept[-1]) - start + 1 == length:
                tensor = tensor.narrow(axis, start, length)
            else:
                tensor = tensor.index_select(axis, kept.to(tensor.device))
        return tensor if self.queries == 1 else scale_queries(tensor, self.queries)


Take = Callable[[Slice], Tensor]
"""A slice -> the weight of the child there."""
