"""`LatentLoader`: batches for training on latents, or on what they decode to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from attar.codec.batches import Batch, Rows, batches_of, numeric_columns
from attar.codec.compressing import LATENTS, SIZE
from attar.codec.source import codec_of, file_of, open_latents, recorded_rms, split_of
from attar.coding.latent_file import describe, from_bytes
from attar.errors import ConfigError, DataError, check_types, did_you_mean, require
from attar.methods.walloc.codec import WaveletCodec
from attar.methods.walloc.padding import crop as cut
from attar.methods.walloc.padding import grid_of
from attar.runtime import processes

Output = Literal["features", "latents", "signal"]

_SAMPLE = 256  # rows by which the scale is measured where no record tells it


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What can be told of a loader's options before anything is read."""

    output: Output
    split: str
    batch_size: int
    crop: int | tuple[int, ...] | None
    shuffle: bool
    seed: int
    drop_last: bool
    num_workers: int
    columns: tuple[str, ...] | None
    scale: float | None

    def __post_init__(self) -> None:
        check_types(self)
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.num_workers >= 0, "num_workers", self.num_workers, "0 or more")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.scale is None or self.scale > 0, "scale", self.scale, "above 0")


def _listed(values: Any) -> Any:
    """A sequence as a tuple; text, and what is none, as it is, to be refused."""
    plain = isinstance(values, str | bytes) or not isinstance(values, Sequence)
    return values if plain else tuple(values)


class LatentLoader:
    """Batches of a data set that `compress_dataset` wrote, as dicts of tensors.

    A pass gives every row once. `for batch in loader` is a pass; each has another order, and other
    crops, where `shuffle` is set. Both follow from the seed and the number of the pass alone, so
    that they do not depend on `num_workers`. In several processes (`torchrun`, `accelerate launch`)
    each gets its share of the batches, equally many: where they do not divide, the first ones come
    again at the end.

    Latents have a grid of their own for each size of signal. Without `crop`, the rows of a batch
    have one grid, and batches are smaller where rows of a grid run out. With it, what is smaller
    is filled with zeros behind, and `grid` (B, axes) says how many positions are of the row.

    Args:
        data: a folder that `compress_dataset` wrote, the name of such a data set on the Hub, or
            its rows.
        codec: that made them; None: the one in the folder.
        output: `features` are floats (B, c, *grid) in the units of the encoder, all times one
            factor, so that their mean square in `train` is 1; channels keep their proportions.
            `latents` are the integers, int16 (B, c, *grid), or (B, stages, c, *grid) of a codec
            with residual stages. `signal` is decoded, (B, C, *sizes) in [-0.5, 0.5].
        split: which one.
        batch_size: rows of a batch of one process.
        crop: positions of the grid along each axis; of `signal`, each stands for 2^levels samples.
            At a random place with `shuffle`, or else the middle one.
        shuffle: for training.
        seed: of order and places.
        drop_last: leave out batches that are not full.
        num_workers: processes that read; 0: this one.
        device: of the tensors; None: that of the codec.
        columns: besides; numbers become tensors (B,), all else lists. None: all of numbers.
        scale: factor of the features; None: as above, by the record in the folder, or by the first
            rows where there is none.

    Raises:
        ConfigError: an option is out of range, or a column is not there.
        DataError: the data set cannot be read, or other codecs made its latents.
    """

    def __init__(
        self,
        data: str | Path | Dataset | DatasetDict,
        codec: str | Path | WaveletCodec | None = None,
        *,
        output: Output = "features",
        split: str = "train",
        batch_size: int = 32,
        crop: int | Sequence[int] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 0,
        device: torch.device | str | None = None,
        columns: Sequence[str] | None = None,
        scale: float | None = None,
    ) -> None:
        _Options(
            output=output,
            split=split,
            batch_size=batch_size,
            crop=crop if crop is None or isinstance(crop, int) else _listed(crop),
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            num_workers=num_workers,
            columns=None if columns is None else _listed(columns),
            scale=scale,
        )
        self.output, self.batch_size, self.shuffle, self.seed = output, batch_size, shuffle, seed
        self.drop_last, self.epoch = drop_last, 0
        folder, splits = open_latents(data)
        self.rows = split_of(splits, split)
        self.codec = codec_of(codec, folder, device=device)
        self.device = self.codec.analysis.weight.device
        self.columns = numeric_columns(self.rows) if columns is None else list(columns)
        self._check_columns()
        config = self.codec.config
        if isinstance(crop, int):
            crop = (crop,) * config.ndim
        fine = crop is None or (len(crop) == config.ndim and min(crop) >= 1)
        require(fine, "crop", crop, f"{config.ndim} numbers of positions, each at least 1")
        self.crop = None if crop is None else tuple(crop)
        self._sizes, fingerprint = self._shapes(), self.codec.fingerprint
        from_bytes(file_of(self.rows, 0), name="row 0").require_codec(fingerprint, name="row 0")
        if scale is None and output == "features":
            scale = 1 / (recorded_rms(folder) or self._measured() or 1.0)
        self.scale = 1.0 if scale is None else scale
        self._factors = self._linear()
        self._loader = DataLoader(
            Rows(  # pyright: ignore[reportArgumentType]
                self.rows,
                columns=self.columns,
                crop=self.crop,
                whole=output == "signal",
                fingerprint=fingerprint,
                shape=(config.stages, config.latent_channels),
            ),
            batch_sampler=_Batches(self),
            collate_fn=_as_it_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def __len__(self) -> int:
        """Batches of a pass, of one process."""
        group = processes().num_processes
        return -(-len(self.batches(0)) // group)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches = iter(self._loader)
        self.epoch += 1  # of the next pass, also where this one is left early
        for batch in batches:
            yield self._finished(batch)

    def set_epoch(self, epoch: int) -> None:
        """The number of the next pass; without it they are counted from 0."""
        self.epoch = epoch

    def batches(self, epoch: int) -> list[Batch]:
        """The batches of all processes in a pass."""
        by_grid = self.crop is None or self.output == "signal"
        return batches_of(
            self._sizes if by_grid else np.zeros_like(self._sizes),
            size=self.batch_size,
            seed=[self.seed, epoch] if self.shuffle else None,
            drop_last=self.drop_last,
        )

    # -- a batch ---------------------------------------------------------------------------------

    def _finished(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch as it is given, on the device."""
        # these are read here, and do not travel to a GPU and back
        places, sizes, before = (batch.pop(name).tolist() for name in ("places", "sizes", "before"))
        if self.crop is None:
            del batch["grid"]
        moved = {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        stages = moved.pop(LATENTS)
        if self.output == "latents":
            moved[LATENTS] = stages.squeeze(1) if stages.shape[1] == 1 else stages
        elif self.output == "features":
            moved["features"] = self._features(stages)
        else:
            signal = self._decoded(stages)
            if self.crop is None:
                found = zip(signal, before, sizes, strict=True)
                parts = [cut(one[None], before=b, size=n)[0] for one, b, n in found]
            else:
                parts = [self._part(one, at) for one, at in zip(signal, places, strict=True)]
            moved["signal"] = torch.stack(parts)
        return moved

    @torch.no_grad()
    def _features(self, stages: Tensor) -> Tensor:
        """Scaled floats (B, c, *grid) of integers (B, stages, c, *grid)."""
        if self._factors is None:
            return self.codec.dequantise(list(stages.unbind(1))) * self.scale
        parts = [
            one.float().mul_(factor)
            for one, factor in zip(stages.unbind(1), self._factors, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    @torch.no_grad()
    def _decoded(self, stages: Tensor) -> Tensor:
        """The signals (B, C, *sizes) of integers, with their padding."""
        signal = self.codec.reconstruct(self.codec.dequantise(list(stages.unbind(1))))
        return signal.float().clamp(-0.5, 0.5)

    @torch.no_grad()
    def _linear(self) -> list[Tensor] | None:
        """What each stage of the integers is multiplied by, (c, 1, ...), where that is all there is
        to do."""
        config = self.codec.config
        if self.codec.compander is not None:
            return None
        shape = (1, config.latent_channels, *[1] * config.ndim)
        one, none = (torch.full(shape, n, device=self.device, dtype=torch.int16) for n in (1, 0))
        return [
            self.codec.dequantise([one if i == stage else none for i in range(config.stages)])
            * self.scale
            for stage in range(config.stages)
        ]

    def _part(self, signal: Tensor, place: list[int]) -> Tensor:
        """The crop of a signal (C, *sizes) at a place of its grid, zeros behind where it ends."""
        assert self.crop is not None
        block, fill = self.codec.config.block, list[int]()
        for axis, (at, side) in enumerate(zip(place, self.crop, strict=True), start=1):
            length = min(side * block, signal.shape[axis] - at * block)
            signal = signal.narrow(axis, at * block, length)
            fill = [0, side * block - length, *fill]
        return F.pad(signal, fill)

    # -- checks ----------------------------------------------------------------------------------

    def _shapes(self) -> NDArray[np.int64]:
        """What rows of one batch must share, (N, axes): the grid, or the size where it is decoded
        whole."""
        config = self.codec.config
        if SIZE in self.rows.column_names:
            column: Any = self.rows.select_columns([SIZE]).with_format("arrow")[:][SIZE]
            sizes = column.combine_chunks().flatten().to_numpy().reshape(len(self.rows), -1)
        else:
            files: Any = self.rows.select_columns([LATENTS])
            heads = [describe(one[LATENTS], name=LATENTS)["size"] for one in files]
            sizes = np.array(heads, np.int64)
        if sizes.shape[1] != config.ndim:
            raise DataError(
                f"expected latents of {config.ndim} axes, as the codec makes, found those of "
                f"{sizes.shape[1]}; give the codec that made them"
            )
        if self.output == "signal" and self.crop is None:
            return sizes
        unique, inverse = np.unique(sizes, axis=0, return_inverse=True)
        grids = [grid_of(tuple(size), config=config) for size in unique.tolist()]
        return np.array(grids, np.int64)[inverse.reshape(-1)]

    def _check_columns(self) -> None:
        there = self.rows.column_names
        for name in self.columns:
            if name not in there:
                raise ConfigError(
                    f"expected columns of the data set, which has {', '.join(there)}, found "
                    f"{name!r}; correct columns{did_you_mean(name, there)}"
                )
        taken = {"features", "signal", "grid", "places", "sizes", "before", LATENTS}
        if clash := sorted(taken & set(self.columns)):
            raise ConfigError(
                f"expected no column named {clash[0]!r} beside the latents, as batches have a "
                "value of that name; name the others with columns"
            )

    @torch.no_grad()
    def _measured(self) -> float:
        """Root of the mean square of the features of the first rows."""
        total = count = 0.0
        for row in range(min(_SAMPLE, len(self.rows))):
            stages = from_bytes(file_of(self.rows, row), name=f"row {row}").stages
            whole = [torch.from_numpy(stage)[None].to(self.device) for stage in stages]
            features = self.codec.dequantise(whole)
            total += float(features.square().sum(dtype=torch.float64))
            count += features.numel()
        return (total / count) ** 0.5


class _Batches(Sampler[Any]):
    """What a process reads in a pass: a batch at a time, its rows and where they are cropped."""

    def __init__(self, loader: LatentLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        group, batches = processes(), self._loader.batches(self._loader.epoch)
        steps = range(group.process_index, len(self) * group.num_processes, group.num_processes)
        return iter([batches[step % len(batches)] for step in steps])


def _as_it_is(batch: Any) -> Any:
    return batch
