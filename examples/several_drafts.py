"""Three drafts of a line for the forward passes of one, with n-grams of one's own text.

    python examples/several_drafts.py                  # trains a tiny model first
    python examples/several_drafts.py MODEL_FOLDER     # or a name on the Hub

Takes under a minute of processor time without an argument, and a tiny model of that age writes
nonsense: look at how the drafts follow from each other, and at the passes. Everything goes to a new
temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar import PretrainConfig, SuperposedConfig, SuperposedDecoder
from attar.data.text import stdlib_files
from attar.decode.ngram_build import build_store

MODEL = PretrainConfig(
    vocab_size=512,
    context=128,
    hidden_size=64,
    intermediate_size=176,
    num_hidden_layers=4,
    max_steps=60,
    per_device_train_batch_size=8,
    eval_tokens=2_000,
)
FILES = 20  # of Python's standard library, which n-grams are counted in


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    if len(sys.argv) > 1:
        source: str | Path = sys.argv[1]
    else:
        source = folder / "model"
        attar.pretrain(data="python-stdlib", config=MODEL, output_dir=source)
    model, words = attar.load(source), attar.load_tokenizer(source)

    files = [text for _, split, text in stdlib_files() if split == "train"][:FILES]
    store = build_store(files, words, output_dir=folder / "store")

    decoder = SuperposedDecoder(model, words, config=SuperposedConfig(k=3), store=store)
    found = decoder.generate("    def __init__(self, ")
    print(found)
    for draft in found.drafts:
        print(repr(draft.text))

    stream = decoder.open("import os\nimport ")
    print([draft.text for draft in stream.drafts().drafts])
    stream.commit(0, n_tokens=1)  # take a token of the first draft, and go on from there
    print(repr(stream.text), [draft.text for draft in stream.drafts().drafts])


if __name__ == "__main__":
    main()
