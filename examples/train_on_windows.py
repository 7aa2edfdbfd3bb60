"""Train a small model on equal-information windows and on BPE, and compare bits per byte.

    python examples/train_on_windows.py              # Python's standard library
    python examples/train_on_windows.py books.txt    # or any text

Takes about a minute of processor time, in which a model learns little, and from windows less than
from BPE. Everything goes to a new temporary folder.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import attar
from attar import PretrainConfig

SHAPE = PretrainConfig(
    context=128,
    hidden_size=64,
    intermediate_size=176,
    num_hidden_layers=2,
    max_steps=40,
    per_device_train_batch_size=8,
    eval_tokens=5_000,
)


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "python-stdlib"
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    windows = attar.EqualInfoConfig(window_bits=12, fit_bytes=2_000_000)
    attar.tokenizer.train(data, config=windows, output_dir=folder / "tokenizer")
    tokenizer = attar.load_tokenizer(folder / "tokenizer")
    ids = tokenizer("import os")["input_ids"]
    print("windows of 'import os':", tokenizer.convert_ids_to_tokens(ids))
    bpe = replace(SHAPE, vocab_size=2**12 + 1)  # as many ids as there are windows
    for name, given, config in (("windows", folder / "tokenizer", SHAPE), ("bpe", None, bpe)):
        run = attar.pretrain(data=data, config=config, tokenizer=given, output_dir=folder / name)
        bits = run.details["bits_per_byte"]
        print(
            f"{name:8} {bits['bits_per_byte']:.3f} bits per byte (uniform baseline: "
            f"{bits['uniform']:.3f}), {bits['steps_per_kilobyte']:.0f} steps per kilobyte"
        )
    print(f"\nEverything is in {folder}")


if __name__ == "__main__":
    main()
