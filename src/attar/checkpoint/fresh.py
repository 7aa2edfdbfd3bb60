"""Models that are not trained yet: a folder with a config and no weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from attar.artefacts import expanded
from attar.checkpoint.loading import model_classes, read_config

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.gguf")


def lacks_weights(path: str | Path) -> bool:
    """Whether this is a folder with a config.json and no weights of any format."""
    folder = expanded(path)
    if not (folder / "config.json").is_file():
        return False
    return not any(True for kind in _WEIGHTS for _ in folder.glob(kind))


def fresh(path: str | Path, *, seed: int = 0) -> PreTrainedModel:
    """A model with random weights of its class, in float32 and in evaluation mode.

    Args:
        path: a folder with a config.json, or a name on the Hub, of which only the config is read.
            Its first architecture names the class; without one it is a language model.
        seed: of the weights.

    Raises:
        DataError: there is no config, or it is damaged.
    """
    config = read_config(path)
    config.dtype = None
    made: Any = model_classes(config)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = made(config)
    model.name_or_path = model.config.name_or_path = str(path)
    return model.float().eval()
