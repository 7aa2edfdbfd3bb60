"""Checkpoints of an unfinished run: complete or deleted, and never mixed up with other data."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attar.artefacts import write_text
from attar.errors import ConfigError, DataError
from attar.foreign import read_json

logger = logging.getLogger(__name__)


KEEP = 2  # newest checkpoints
WEIGHTS = "weights.safetensors"
MARKER = "complete.json"  # written into a checkpoint after everything else


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write the tensors that training changes, under the module's own names.

    Any model that trains can be resumed so, whatever form its finished checkpoint will have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: v.contiguous() for n, v in _trained(model).items()}, folder / WEIGHTS)


def load_weights(model: nn.Module, folder: Path) -> None:
    """Copy what `save_weights` wrote into the same model, all of it."""
    stored = load_file(folder / WEIGHTS)
    with torch.no_grad():
        for name, value in _trained(model).items():
            value.copy_(stored[name])


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters, tied ones once, and stored buffers."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    stored = model.state_dict()
    return parameters | {name: b for name, b in model.named_buffers() if name in stored}


def mark_complete(checkpoint: Path, *, step: int, data: str) -> None:
    """Declare a checkpoint whole; `data` says which windows it was trained on. Older ones go."""
    write_text(checkpoint / MARKER, json.dumps({"step": step, "data": data}))
    for folder in _sorted(checkpoint.parent)[:-KEEP]:
        shutil.rmtree(folder)


def newest_checkpoint(state_dir: Path) -> Path | None:
    """The newest complete checkpoint in `state_dir`, or None."""
    return next((f for f in reversed(_sorted(state_dir)) if marker(f) is not None), None)


def marker(checkpoint: Path) -> dict[str, Any] | None:
    """`step` and `data` of a complete checkpoint, None for a half-written one."""
    try:
        return read_json(checkpoint / MARKER, "the marker")
    except DataError:
        return None


def step_of(checkpoint: Path) -> int:
    """How many steps it was trained for."""
    return int(checkpoint.name.rpartition("-")[2])


def tidy(state_dir: Path, *, keep: bool) -> None:
    """Delete the half-written checkpoints of a killed run; with `keep` false, all of them."""
    for folder in _sorted(state_dir):
        if not keep or marker(folder) is None:
            logger.warning("Deleting the checkpoint %s.", folder)
            shutil.rmtree(folder)


def check_data(checkpoint: Path, data: str) -> None:
    """Refuse to go on with other data.

    Raises:
        ConfigError: the checkpoint was trained on other windows.
    """
    if (marker(checkpoint) or {}).get("data") != data:
        raise ConfigError(
            f"cannot resume from {checkpoint}: it was trained on other windows than those given "
            "now; give the same data and tokenizer, or start afresh in another folder"
        )


def _sorted(state_dir: Path) -> list[Path]:
    return sorted(state_dir.glob("checkpoint-*"), key=step_of)
