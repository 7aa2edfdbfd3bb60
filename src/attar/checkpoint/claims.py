"""What the files of a checkpoint claim, held against what they hold, before they are used."""

import copy
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, __version__
from transformers.initialization import no_init_weights

from attar.arch.space import LAYERS
from attar.errors import CompatibilityError, DataError
from attar.foreign import read_json
from attar.portable.configuration_elastic_marian import ElasticMarianConfig

#: bytes of a config, an index of shards, or the header of a shard; of large models they take 6 MB
DESCRIPTION = 2**24
#: elements that a model may have beyond one for every byte of its weights, such as a new head
SPARE = 2**25

#: types of numbers in safetensors that need no scale
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
#: what a header says of the file, beside its tensors
_ABOUT = "__metadata__"

_COUNTS = re.compile(r"(layers?|blocks|experts|depth)$")


def check_files(folder: Path) -> None:
    """Refuse a folder whose descriptions are too long to be true, or name files outside it.

    Raises:
        DataError: one is.
    """
    for file in folder.glob("*.json"):
        if file.name.endswith(("config.json", ".index.json")):
            _require_short(file, file.stat().st_size)
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as raw:
            size = raw.read(8)
        if len(size) == 8:  # a shorter file is refused by safetensors
            _require_short(file, struct.unpack("<Q", size)[0])
    for file in folder.glob("*.safetensors.index.json"):
        index = read_json(file, "the index of shards")
        shards = index.get("weight_map") if isinstance(index, dict) else None
        for name in set(map(str, shards.values())) if isinstance(shards, dict) else [repr(shards)]:
            if Path(name).name != name or not (folder / name).is_file():
                raise DataError(
                    f"expected names of files beside it in {str(file)!r}, found {name[:100]!r}, "
                    "which is none; fetch the whole checkpoint again"
                )


def check_numbers(folder: Path) -> None:
    """Refuse weights that are stored as whole numbers or in 8 bits: transformers would read them
    without the scales that belong to them.

    Raises:
        CompatibilityError: some are.
    """
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as raw:
            size = raw.read(8)
            header = raw.read(struct.unpack("<Q", size)[0]) if len(size) == 8 else b""
        try:
            tensors = json.loads(header)
            kinds = {name: facts["dtype"] for name, facts in tensors.items() if name != _ABOUT}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # safetensors says what is wrong with it
        for name, kind in kinds.items():
            if name.endswith(".weight") and kind not in _FLOATS:
                raise quantised(folder, f"{name} is {kind} in {file.name}")


def quantised(path: str | Path, found: str) -> CompatibilityError:
    """What to raise for weights that are not those of training."""
    return CompatibilityError(
        f"expected weights in float32, bfloat16 or float16; those of {str(path)!r} are quantised "
        f"({found}): give the model before quantisation"
    )


def _require_short(file: Path, size: int) -> None:
    if size > DESCRIPTION:
        raise DataError(
            f"expected at most {DESCRIPTION:,} bytes that describe the model in {str(file)!r}, "
            f"found {size:,}; it is damaged, fetch it again"
        )


def check_config(config: Mapping[str, Any], path: str | Path, *, trusted: bool) -> None:
    """Refuse the content of a `config.json` for what can be told before a class reads it.

    Raises:
        CompatibilityError: no class of transformers is of its type.
        DataError: more layers than there can be.
    """
    kind = config.get("model_type")
    known = kind in CONFIG_MAPPING or kind == ElasticMarianConfig.model_type
    if isinstance(kind, str) and not known and not trusted:
        raise needs_code(path, f"its model_type {kind!r} is none of transformers {__version__}")
    for name, value in config.items():
        if isinstance(value, dict):
            check_config(value | {"model_type": None}, path, trusted=trusted)
        elif isinstance(value, int) and value > LAYERS and _COUNTS.search(name):
            raise DataError(
                f"expected at most {LAYERS} for {name} in the config.json of {str(path)!r}, found "
                f"{float(value):.4g}; it is damaged, fetch it again"
            )


def needs_code(path: str | Path, reason: str) -> CompatibilityError:
    """What to raise for a checkpoint that transformers alone cannot read."""
    return CompatibilityError(
        f"needs custom code: {str(path)!r} cannot be loaded, as {reason}; where you trust the code "
        "that comes with it, allow it with trust_remote_code (--trust-remote-code of evaluate and "
        "cost)"
    )


def check_size(path: str | Path, loader: Any, *, config: Any) -> None:
    """Refuse a config that describes a far larger model than the weights beside it can fill.

    Args:
        path: only folders are looked at.
        loader: the class that is going to read it.
        config: is left as it is.

    Raises:
        DataError: it does.
    """
    held = sum(file.stat().st_size for file in Path(path).glob("*.safetensors"))
    if not held:
        return
    build = getattr(loader, "_from_config", None) or loader.from_config
    with torch.device("meta"), no_init_weights():
        model = build(copy.deepcopy(config))
    size = sum(tensor.numel() for tensor in {*model.parameters(), *model.buffers()})
    if size > held + SPARE:
        raise DataError(
            f"the checkpoint {str(path)!r} does not fit its config, which describes a model of "
            f"{size:.3g} parameters, while its weights have {held:.3g} bytes; fetch or save it "
            "again"
        )
