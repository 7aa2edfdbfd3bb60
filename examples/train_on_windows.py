"""Train a small model on equal-information windows and on BPE, and compare bits per byte.

    python examples/train_on_windows.py              # Python's standard library, 8 minutes
    python examples/train_on_windows.py books.txt    # or any text

Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar import PretrainConfig

SHAPE = PretrainConfig(
    vocab_size=2**12 + 1,  # of BPE: as many ids as there are windows
    hidden_size=192,
    intermediate_size=512,
    num_hidden_layers=4,
    max_steps=300,
)


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "python-stdlib"
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    windows = attar.EqualInfoConfig(window_bits=12)
    attar.tokenizer.train(data, config=windows, output_dir=folder / "tokenizer")
    tokenizer = attar.load_tokenizer(folder / "tokenizer")
    ids = tokenizer("import os")["input_ids"]
    print("windows of 'import os':", tokenizer.convert_ids_to_tokens(ids))
    for name, given in (("windows", folder / "tokenizer"), ("bpe", None)):
        run = attar.pretrain(data, config=SHAPE, tokenizer=given, output_dir=folder / name)
        bits = run.details["bits_per_byte"]
        print(
            f"{name:8} {bits['bits_per_byte']:.3f} bits per byte (uniform baseline: "
            f"{bits['uniform']:.3f}), {bits['steps_per_kilobyte']:.0f} steps per kilobyte"
        )
    print(f"\nEverything is in {folder}")


if __name__ == "__main__":
    main()
