"""A codec from disk, and the signals that it is made for."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attar.artefacts import disk_is_full
from attar.checkpoint.claims import check_files, check_numbers, check_size, quantised
from attar.checkpoint.gguf import located
from attar.checkpoint.sources import bars_on_terminals, read_from
from attar.coding.wavelets import wavelet_filters
from attar.data.data import DataLike
from attar.data.media import MediaRows, open_splits
from attar.errors import CompatibilityError, ConfigError, DataError, ResourceError
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig
from attar.runtime import place

_HELD_OUT = ("validation", "test")
_TENTH = 10


def load_codec(model: str | Path | WaveletCodec) -> WaveletCodec:
    """A codec in evaluation mode.

    Args:
        model: its folder, its name on the Hub, or itself.

    Raises:
        DataError: there is none, or its files are damaged.
        CompatibilityError: it is another model.
    """
    if isinstance(model, WaveletCodec):
        return model.eval()
    path = located(model)

    def read_config() -> WaveletCodecConfig:
        check_files(Path(path))
        facts, _ = WaveletCodecConfig.get_config_dict(path)
        kind = facts.get("model_type", "no model")
        if kind != WaveletCodecConfig.model_type:
            raise CompatibilityError(
                f"expected a codec that attar codec train made, found {kind} in {str(model)!r}; "
                "give another folder"
            )
        if facts.get("quantization_config") is not None:
            raise quantised(path, "quantization_config in its config.json")
        # else a config could have transformers fetch a kernel, for attention that no codec has
        facts = {n: v for n, v in facts.items() if not n.endswith("_implementation")}
        try:
            config = WaveletCodecConfig.from_dict(facts)
            wavelet_filters(config.wavelet)
            return config
        except ConfigError as error:
            raise DataError(
                f"the config.json of the codec {str(model)!r} says what cannot be ({error}); take "
                "another copy of the folder"
            ) from error

    def read_weights() -> Any:
        check_numbers(Path(path))
        check_size(path, WaveletCodec, config=config)
        return WaveletCodec.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused below, in words that help
        )

    config = read_from("codec", path, read_config)
    codec, info = read_from("weights", path, read_weights)
    wrong = [*info["missing_keys"], *info["unexpected_keys"]]
    wrong += [str(key[0]) for key in info["mismatched_keys"]]
    if wrong:
        raise DataError(
            f"the weights of the codec {str(model)!r} do not fit its config.json: {len(wrong)} "
            f"tensors are missing, too many, or of another shape, such as {min(wrong)!r}; take "
            "another copy of the folder"
        )
    bad = [n for n, v in codec.state_dict().items() if not bool(v.isfinite().all())]
    if not bool((codec.steps > 0).all()):
        bad.append("steps")
    if bad:
        raise DataError(
            f"expected finite weights and steps above zero in the codec {str(model)!r}, found "
            f"others in {len(bad)} tensors, such as {min(bad)!r}; take another copy of the folder, "
            "or train it again"
        )
    return codec.eval()


def to_encode(codec: WaveletCodec) -> AbstractContextManager[WaveletCodec]:
    """Hold a codec where it encodes: on a GPU, if there is one, and the encoder has a network. A
    linear one is faster than files are read, and its integers are those of every processor.
    """
    # asked of torch: a process that writes shards is none of the launch's, which it would wait for
    network = codec.encoder is not None and torch.cuda.is_available()
    return placed(codec, "cuda" if network else "cpu")


@contextmanager
def placed(codec: WaveletCodec, device: torch.device | str | None = None) -> Iterator[WaveletCodec]:
    """Hold a codec on a device for the length of the block; None: on that of this process."""
    before = codec.device
    place(codec, device)
    try:
        yield codec
    finally:
        place(codec, before)


def save_codec(codec: WaveletCodec, folder: Path) -> None:
    """Write a codec as `from_pretrained` reads it; what was written is loaded and compared.

    Raises:
        ResourceError: the disk is full.
    """
    try:
        with bars_on_terminals():
            codec.save_pretrained(folder)
        again = load_codec(folder)
    except Exception as error:
        if not disk_is_full(error):
            raise
        raise ResourceError(
            f"cannot save the codec to {str(folder)!r}, as the disk is full; make room and go on "
            "with --resume"
        ) from error
    before, after = codec.state_dict(), again.state_dict()
    if any(not torch.equal(value.cpu(), after[name]) for name, value in before.items()):
        raise CompatibilityError(
            f"the codec in {str(folder)!r} is not what was to be saved; please report this"
        )


def train_and_held_out(data: DataLike) -> tuple[MediaRows, MediaRows]:
    """The rows to fit a codec to, and others to measure it on: the split `validation` or `test`,
    or every tenth row where there is neither; of a single row, that row.

    Raises:
        DataError: the data cannot be read.
    """
    splits = open_splits(data)
    train = splits.get("train") or next(iter(splits.values()))
    for name in _HELD_OUT:
        if name in splits and splits[name] is not train:
            return train, splits[name]
    held = range(0, len(train), _TENTH)
    rest = [row for row in range(len(train)) if row not in held]
    return (train.select(rest), train.select(held)) if rest else (train, train)


def spread(rows: MediaRows, count: int) -> MediaRows:
    """So many rows at most, spread evenly."""
    if len(rows) <= count:
        return rows
    return rows.select(np.linspace(0, len(rows) - 1, count).round().astype(int).tolist())


def common_form(rows: MediaRows, *, sample: int = 64) -> tuple[int, int]:
    """Axes and channels of a codec for these rows: the most channels that one of them has.

    Raises:
        DataError: pictures and sound, or recordings of several channel counts, are mixed.
    """
    found = {(s.values.dim() - 1, s.channels) for s in spread(rows, sample)}
    axes = {ndim for ndim, _ in found}
    if len(axes) > 1:
        raise DataError(
            f"expected pictures or sound in {rows.origin}, found both; make a codec for each"
        )
    return axes.pop(), max(channels for _, channels in found)
