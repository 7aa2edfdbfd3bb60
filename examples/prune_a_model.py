"""Prune a model to half of its blocks, heal it, and compare it with a one-shot baseline.

    python examples/prune_a_model.py              # trains a tiny model first
    python examples/prune_a_model.py MODEL_FOLDER

Takes under a minute of processor time without an argument. The tiny model is then trained so little
that healing makes it better than its parent. Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar import BonsaiConfig, HealConfig, PretrainConfig

DATA = "python-stdlib"  # or a .txt, .jsonl, .parquet or .csv file, a folder of them, a Hub name

TINY = PretrainConfig(
    vocab_size=512,
    context=64,
    hidden_size=64,
    intermediate_size=176,
    num_hidden_layers=3,
    max_steps=100,
    eval_tokens=5_000,
)
SEARCH = BonsaiConfig(context=64, windows=8, step=0.25)
HEALING = HealConfig(max_steps=40, learning_rate=1e-3, context=64, eval_tokens=5_000)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    if len(sys.argv) > 1:
        parent = Path(sys.argv[1])
    else:
        parent = folder / "parent"
        attar.pretrain(data=DATA, config=TINY, output_dir=parent)

    for method in ("bonsai", "wanda"):
        attar.prune(
            parent,
            DATA,
            budget="blocks<=50%",
            method=method,
            config=SEARCH,
            eval_tokens=5_000,
            output_dir=folder / method,
        )
    healed = folder / "bonsai-healed"
    run = attar.heal(folder / "bonsai", DATA, teacher=parent, config=HEALING, output_dir=healed)

    print(attar.compare([folder / "bonsai", folder / "wanda"]).table)
    print(run)
    print(f"attar.load({str(healed)!r})")


if __name__ == "__main__":
    main()
