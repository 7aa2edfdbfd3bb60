"""Train a small model on equal-information windows and on BPE, and compare bits per byte.

    python examples/train_on_windows.py              # Python's standard library, 8 minutes
    python examples/train_on_windows.py books.txt    # or any text

Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import load_equal_info, train_tokenizer
from attar.train.pretrain import PretrainConfig, pretrain

SHAPE = PretrainConfig(
    vocab_size=2**12 + 1,  # of BPE; the windows have as many
    hidden_size=192,
    intermediate_size=512,
    num_hidden_layers=4,
    max_steps=300,
)


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "python-stdlib"
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    train_tokenizer(data, config=EqualInfoConfig(window_bits=12), output_dir=folder / "tokenizer")
    tokenizer = load_equal_info(folder / "tokenizer")
    ids = tokenizer("import os")["input_ids"]
    print("windows of 'import os':", tokenizer.convert_ids_to_tokens(ids))
    for name, given in (("windows", folder / "tokenizer"), ("bpe", None)):
        run = pretrain(data, config=SHAPE, tokenizer=given, output_dir=folder / name)
        found = run.details["bits_per_byte"]
        print(
            f"{name:8} {found['bits_per_byte']:.3f} bits per byte (all ids equal: "
            f"{found['uniform']:.3f}), {found['steps_per_kilobyte']:.0f} steps for a kilobyte"
        )
    print(f"\nEverything is in {folder}")


if __name__ == "__main__":
    main()
