"""The processes of one `torchrun` or `accelerate launch`, and the device of each."""

import atexit
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn
from tqdm.auto import tqdm

# One process may build a teacher cache or score a model while the others wait for it at a barrier.
PATIENCE = timedelta(hours=12)
#: seconds between two lines of progress where there is no terminal for a bar
_EVERY = 5.0

logger = logging.getLogger(__name__)


class Bar(tqdm):
    """Progress: a bar on a terminal; elsewhere, every few seconds, a line of what is done and the
    time that is left."""

    def __init__(self, *args: Any, desc: str, unit: str, **kwargs: Any) -> None:
        super().__init__(*args, desc=desc, unit=unit, disable=None, **kwargs)
        self.began = self.said = time.monotonic()
        self.what, self.first, self.each = desc, kwargs.get("initial", 0), unit
        self.n = self.first  # which tqdm leaves at 0 where it shows no bar

    def __iter__(self) -> Iterator[Any]:
        if not self.disable:
            yield from super().__iter__()
            return
        for item in () if self.iterable is None else self.iterable:
            yield item
            self.update()

    def update(self, n: float | None = 1) -> bool | None:
        """Count what was done."""
        if not self.disable:
            return super().update(n)
        self.n += n or 0
        now, done = time.monotonic(), self.n - self.first
        if now - self.said >= _EVERY and done and self.total and self.n < self.total:
            left = (self.total - self.n) * (now - self.began) / done
            plural = "es" if self.each.endswith("ch") else "s"
            count = f"{self.n:.0f} of {self.total:.0f} {self.each}{plural}"
            if self.each == "%":
                count = f"{self.n:.0f}% done"
            logger.info("%s: %s, about %.0f s left", self.what, count, left)
            self.said = now
        return None


def processes() -> PartialState:
    """The processes of this launch, one when there was none; the first call joins their group."""
    joined = dist.is_initialized()
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    if dist.is_initialized() and not joined:
        # Left to the interpreter's end, the threads of the group may abort the process.
        atexit.register(_leave)
    return state


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def place(model: nn.Module, device: torch.device | str | None = None) -> None:
    """Move a model to `device`; None: to the one of this process."""
    model.to(device or processes().device)


@cache
def native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; emulation would be slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(
        capabilities.get(flag)
        for flag in ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "arm_bf16")
    )


@cache
def native_float16() -> bool:
    """Whether this CPU multiplies float16 in hardware."""
    capabilities = torch.cpu.get_capabilities()
    return any(
        capabilities.get(flag)
        for flag in ("avx512_fp16", "amx_fp16", "avx10_2", "fp16", "arm_fp16")
    )


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def broadcast(value: Any) -> Any:
    """The first process's `value`, on every process. Small plain objects only."""
    if processes().num_processes == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(values: Tensor) -> Tensor:
    """The rows of all processes, `(B, ...)` -> `(P B, ...)`, this one's with a gradient.

    Each process computes the same function of all rows and answers for a share 1 / P of it. The
    gradient of its own rows, which no other process has, is therefore taken P times.
    """
    group = processes()
    if group.num_processes == 1:
        return values
    rows = [torch.empty_like(values) for _ in range(group.num_processes)]
    dist.all_gather(rows, values.detach().contiguous())
    if values.requires_grad:
        scaled = values * group.num_processes
        rows[group.process_index] = scaled - (scaled - values).detach()
    return torch.cat(rows)
