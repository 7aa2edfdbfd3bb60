"""A local network over a large grid, tile by tile: the same values with bounded memory."""

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor


def in_tiles(
    network: Callable[[Tensor], Tensor], latents: Tensor, *, tile: int, halo: int
) -> Tensor:
    """What `network(latents)` gives, (B, c, *grid) to (B, C, *grid), computed on tiles.

    Each tile is read with `halo` positions around it, as far as the grid goes; where it ends, the
    network pads as it does for the whole. Exact for a network whose output at a position depends
    on `halo` positions on each side.
    """
    grid = latents.shape[2:]
    if all(side <= tile + 2 * halo for side in grid):
        return network(latents)
    out: Tensor | None = None
    for parts in product(*(list(tiles_of(side, tile=tile, halo=halo)) for side in grid)):
        read = (..., *(part[0] for part in parts))
        done = network(latents[read])[(..., *(part[1] for part in parts))]
        if out is None:
            out = torch.empty(done.shape[:2] + grid, dtype=done.dtype, device=done.device)
        out[(..., *(part[2] for part in parts))] = done
    assert out is not None
    return out


def tiles_of(side: int, *, tile: int, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    """What to read, what of the result to keep, and where it belongs, for each tile of a side.

    Args:
        side: positions.
        tile: of them in a tile.
        halo: read so many around it, as far as the side goes.
    """
    for start in range(0, side, tile):
        end = min(start + tile, side)
        first, last = max(0, start - halo), min(side, end + halo)
        yield slice(first, last), slice(start - first, end - first), slice(start, end)
