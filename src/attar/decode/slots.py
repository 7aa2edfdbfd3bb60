"""Rows of a static cache that texts take and leave independently, with a cache of prompt prefixes.

A row keeps what it holds when its text leaves. A new text goes on from the longest prefix that any
row holds of it, and reads only what is behind that.

The rows and tokens of a pass are rounded up, with padding, so that passes have few shapes. For each
shape of a product in bfloat16 on a processor, oneDNN generates code and keeps it: half a megabyte.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.decode.captured import obstacle
from attar.decode.static import Passes
from attar.errors import CompatibilityError


class Slots:
    """A model and the rows of its cache.

    Args:
        model: in evaluation mode.
        count: of rows.

    Raises:
        CompatibilityError: the model cannot be read with a static cache.
    """

    def __init__(self, model: PreTrainedModel, count: int) -> None:
        if (reason := obstacle(model)) is not None:
            raise CompatibilityError(
                f"continuous batching needs a decoder with a static cache, and "
                f"{model.config.model_type} cannot be served that way: {reason}; use attar "
                "generate, or serve another model"
            )
        self.model = model
        self._passes = Passes(model)
        self._passes.start(count)
        #: the tokens whose keys and values each row holds
        self.held: list[list[int]] = [[] for _ in range(count)]
        self._free = dict.fromkeys(range(count))  # those that were left longest ago come first

    @property
    def free(self) -> int:
        """How many rows no text has."""
        return len(self._free)

    def reusable(self, tokens: Sequence[int]) -> int:
        """How many of these tokens need not be read again; the last one always is."""
        return max(shared(row, tokens[:-1]) for row in self.held)

    def take(self, tokens: Sequence[int], *, reuse: bool = True) -> int:
        """A free row that holds as long a prefix of the tokens as any row does.

        A row that mostly holds this prefix is taken itself. Otherwise the prefix is copied, so that
        a short one, such as a system prompt, does not cost a conversation its row.
        """
        held = [shared(row, tokens[:-1]) if reuse else 0 for row in self.held]
        best = max(range(len(held)), key=held.__getitem__)
        if best in self._free and held[best] and 2 * held[best] >= len(self.held[best]):
            row = best
        else:
            row = next(iter(self._free))
            if held[best] and best != row:
                self._passes.copy(best, row, count=held[best])
        del self._free[row]
        self.held[row] = list(tokens[: held[best]])
        return row

    def leave(self, row: int) -> None:
        """Free a row, which keeps what it holds."""
        self._free[row] = None

    def score(self, new: Mapping[int, Sequence[int]], *, last: int = 1) -> Tensor:
        """Read new tokens in some rows.

        Args:
            new: row -> tokens behind those that it holds, at least one.
            last: logits are needed behind this many of the last tokens.

        Returns:
            `(B, last, V)`, in the order of `new`, aligned at the end.
        """
        idle = [row for row in range(len(self.held)) if row not in new]
        rows = sorted([*new, *idle[: rounded(len(new)) - len(new)]])
        width = rounded(max(map(len, new.values())))
        ids, places = [], []
        for row in rows:
            tokens, first = new.get(row, ()), len(self.held[row])
            gap = width - len(tokens)
            ids.append([*[0] * gap, *tokens])
            places.append([*[-1] * gap, *range(first, first + len(tokens))])
        logits = self._passes(torch.tensor([ids, places], device="cpu"), last=last, rows=rows)
        for row, tokens in new.items():
            self.held[row] += tokens
        if rows == list(new):
            return logits
        return logits[torch.tensor([rows.index(row) for row in new], device=logits.device)]


def rounded(count: int) -> int:
    """The next of 1, 2, ..., 8, 10, 12, 14, 16, 20, 24, ...: at most a quarter more."""
    step = 1 << max(0, (count - 1).bit_length() - 3)
    return -(-count // step) * step


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))
