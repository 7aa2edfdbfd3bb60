"""Make a model generate faster: a draft of its own layers, trained until it agrees, and measured.

    python examples/faster_generation.py                  # trains a small model first; 6 minutes
    python examples/faster_generation.py MODEL_FOLDER     # or a name on the Hub

Whether it pays depends on the model: a small one gains little, as its draft is not much cheaper.
Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar import GenerateConfig, PretrainConfig

DATA = "python-stdlib"  # or your own prompts: a .jsonl with a column prompt or messages

MODEL = PretrainConfig(
    vocab_size=2048,
    context=256,
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=8,
    max_steps=200,
    per_device_train_batch_size=8,
    learning_rate=2e-3,
)
TRAINING = attar.DistillSpecConfig(max_steps=100, temperature=0.0)  # for greedy decoding


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    if len(sys.argv) > 1:
        model: str | Path = sys.argv[1]
    else:
        model = folder / "model"
        attar.pretrain(DATA, config=MODEL, output_dir=model)

    cut, trained = folder / "cut", folder / "draft"
    attar.draft.init(model, layers=2, output_dir=cut)
    print(attar.draft.train(cut, DATA, target=model, config=TRAINING, output_dir=trained))
    print(attar.draft.evaluate(trained, DATA, target=model))

    options = GenerateConfig(max_new_tokens=64)
    attar.generate(
        model,
        "def main(",
        draft=str(trained),
        config=options,
        each=lambda text, stats: print(text, stats, sep="\n"),
    )


if __name__ == "__main__":
    main()
