"""What a store of n-grams answers."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class NGrams(Protocol):
    """Counts of n-grams of tokens, from 2 to `order`, in some text."""

    @property
    def order(self) -> int:
        """The longest n-grams that are counted."""
        ...

    def probabilities(self, context: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float64]:
        """`(order - 1, C)`: row n - 2 is count(context, token) / count(context), with the last
        n - 1 tokens of the context; 0 where the context was never seen or is too short."""
        ...

    def seen(self, context: Sequence[int]) -> NDArray[np.bool_]:
        """`(order - 1,)`: whether the last n - 1 tokens of the context were seen."""
        ...
