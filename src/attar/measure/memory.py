"""How much memory tensors hold on the device that computes."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Peak:
    """The most bytes held in a `watch_memory` block, and those at its start."""

    start: int = 0
    bytes: int = 0


@contextmanager
def watch_memory(model: nn.Module) -> Iterator[Peak]:
    """Measure the peak memory of tensors during the block, on the device of the model.

    On a CUDA device it is what the allocator has given out. On a processor it is the model and the
    tensors that operations in the block make, as long as they live, and not the process, most of
    which is Python, libraries, and memory that is free but was not given back. What a kernel takes
    and frees inside itself is not seen there.
    """
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        peak = Peak(start=torch.cuda.memory_allocated(device))
        try:
            yield peak
        finally:
            peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    with _LiveTensors() as live:
        for tensor in chain(model.parameters(), model.buffers()):
            live.count(tensor)
        peak = Peak(start=live.bytes)
        try:
            yield peak
        finally:
            peak.bytes = live.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors from the operation that makes them until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.count(tensor)
        return made

    def count(self, tensor: Tensor) -> None:
        """Count what holds a tensor's values, once for all its views."""
        storage = tensor.untyped_storage()
        place = storage._cdata
        if tensor.is_meta or place in self._known:
            return
        self._known[place] = storage.nbytes()
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._freed, place).atexit = False

    def _freed(self, place: int) -> None:
        self.bytes -= self._known.pop(place)
