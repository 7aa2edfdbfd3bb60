"""A tiny teacher, its text, and supernets of it, for tests."""

from pathlib import Path
from typing import Any

import attar
import scene
from attar.report.record import Run

SPACES: dict[str, dict[str, Any]] = {
    "small": {
        "num_hidden_layers": [1, 2],
        "hidden_size": [8, 16],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "intermediate_size": [16, 24],
    },
    "large": {
        "num_hidden_layers": [2, 3],
        "hidden_size": [24, 32],
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 4,
        "intermediate_size": 32,
    },
}
QUICK = attar.SupernetConfig(
    max_steps=4,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    context=16,
    save_steps=2,
    eval_sequences=8,
)


def write_teacher(folder: Path) -> tuple[Path, Path]:
    """A tiny Llama with its tokenizer, and text: their folders."""
    text = scene.write_text(folder / "text", words=900)
    return scene.write_parent(folder / "teacher", text), text


def train(teacher: Path, text: Path, output_dir: Path, **options: Any) -> Run:
    """Supernets of the spaces above, in a few steps."""
    given: dict[str, Any] = {"space": SPACES, "config": QUICK, **options}
    return attar.supernet.train(str(teacher), str(text), output_dir=output_dir, **given)
