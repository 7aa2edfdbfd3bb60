"""What a bug report should say about the machine."""

import os
import platform

import torch

from attar.report.record import hardware, version_of
from attar.runtime import native_bfloat16

_PACKAGES = (
    "attar",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "safetensors",
    "huggingface-hub",
    "peft",
    "cyclopts",
    "numpy",
    "lm-eval",
)
_VARIABLES = ("HF_HUB_OFFLINE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "ATTAR_HOME", "HF_HOME")


def environment() -> dict[str, str]:
    """Versions and hardware, without paths and tokens."""
    machine = hardware()
    versions = {name: version_of(name) for name in _PACKAGES}
    return {
        "attar": versions.pop("attar"),
        "python": platform.python_version(),
        **versions,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{machine['processor']}, {os.cpu_count()} cores",
        "torch threads": str(machine["threads"]),
        "gpu": machine.get("gpu", "none"),
        "bfloat16 on CPU": "native" if native_bfloat16() else "emulated",
        "cuda in torch": str(torch.version.cuda or "none"),
        **{name: _value(name) for name in _VARIABLES if name in os.environ},
    }


def _value(name: str) -> str:
    return "set" if name.endswith("HOME") else os.environ[name]
