"""A pocket model with a draft that was cut out of it and trained, kept under ATTAR_HOME."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import parent

from attar import checkpoint
from attar.methods.distillspec import DistillSpecConfig, distill_draft, init_draft

#: of the draft that the benchmarks of speed use
STEPS = 600


def draft_of(size: str, *, layers: int, data: str | Path, config: DistillSpecConfig) -> Path:
    """The trained draft of a pocket model, and beside it the one it began as (`-cut`)."""
    target = parent(size)
    home = checkpoint.home() / "benchmarks" / "drafts"
    label = "-".join(str(value) for value in _key(config))
    folder = home / f"{size}-{layers}-{Path(str(data)).name}-{label}"
    cut = cut_of(size, layers=layers)
    if not (folder / "attar.json").exists():
        distill_draft(cut, data, target=target, output_dir=folder, config=config, resume=True)
    return folder


def cut_of(size: str, *, layers: int) -> Path:
    """The draft before any training."""
    folder = checkpoint.home() / "benchmarks" / "drafts" / f"{size}-{layers}-cut"
    if not (folder / "attar.json").exists():
        init_draft(parent(size), layers=layers, output_dir=folder)
    return folder


def _key(config: DistillSpecConfig) -> list[Any]:
    default = asdict(DistillSpecConfig())
    return [f"{k[:12]}{v}" for k, v in asdict(config).items() if v != default[k]]
