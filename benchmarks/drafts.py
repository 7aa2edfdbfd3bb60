"""Pocket models with drafts that were cut out of them and trained, kept under ATTAR_HOME."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from attar import artefacts
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.distill import train_draft
from attar.methods.distillspec.start import init_draft

LAYERS = 2


def draft_of(target: Path, data: str | Path, *, config: DistillSpecConfig) -> Path:
    """A draft of some of the target's layers, trained; a killed training goes on."""
    text = json.dumps(asdict(config), sort_keys=True)
    key = hashlib.sha256(f"{data} {text}".encode()).hexdigest()[:8]
    folder = _home() / f"{target.name}-{LAYERS}-{key}"
    if not (folder / "attar.json").exists():
        cut = cut_of(target)
        train_draft(cut, data, target=target, output_dir=folder, config=config, resume=True)
    return folder


def cut_of(target: Path) -> Path:
    """The draft before any training: of two layers, or one where the target has no more."""
    folder = _home() / f"{target.name}-{LAYERS}-cut"
    if not (folder / "attar.json").exists():
        whole = json.loads((target / "config.json").read_text())["num_hidden_layers"]
        init_draft(target, layers=min(LAYERS, whole - 1), output_dir=folder)
    return folder


def _home() -> Path:
    return artefacts.home() / "benchmarks" / "drafts"
