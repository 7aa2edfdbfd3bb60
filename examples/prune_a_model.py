"""Prune a model to half of its blocks, heal it, and compare it with a one-shot baseline.

    python examples/prune_a_model.py              # trains a tiny model first
    python examples/prune_a_model.py MODEL_FOLDER

Takes a minute or two without an argument; the tiny model is then far from trained, so that healing
can take it past its parent. Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar.methods.bonsai import BonsaiConfig
from attar.report.tables import comparison
from attar.train.heal import HealConfig
from attar.train.pretrain import PretrainConfig

DATA = "python-stdlib"  # or a .txt, .jsonl, .parquet or .csv file, a folder of them, a Hub name

TINY = PretrainConfig(
    vocab_size=512,
    context=64,
    hidden_size=64,
    intermediate_size=176,
    num_hidden_layers=3,
    max_steps=150,
)
SEARCH = BonsaiConfig(context=64, step=0.1)
HEALING = HealConfig(max_steps=60, learning_rate=1e-3, block_size=64)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    if len(sys.argv) > 1:
        parent = Path(sys.argv[1])
    else:
        parent = folder / "parent"
        attar.pretrain(DATA, config=TINY, output_dir=parent)

    runs = {}
    for method in ("bonsai", "wanda"):
        runs[method] = attar.prune(
            parent,
            DATA,
            budget="blocks<=50%",
            method=method,
            config=SEARCH,
            output_dir=folder / method,
        )
    healed = folder / "bonsai-healed"
    attar.heal(folder / "bonsai", teacher=parent, data=DATA, config=HEALING, output_dir=healed)

    print(comparison(list(runs.values()), names=list(runs)))
    print(attar.Run.load(healed))
    print(f"attar.load({str(healed)!r})")


if __name__ == "__main__":
    main()
