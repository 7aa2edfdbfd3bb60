"""Make a model generate faster: a draft of its own layers, trained until it agrees, and measured.

    python examples/faster_generation.py                  # trains a tiny model first
    python examples/faster_generation.py MODEL_FOLDER     # or a name on the Hub

Takes one to two minutes of processor time without an argument. Whether a draft pays depends on the
model: a tiny one gains nothing, as its draft is not much cheaper, and both are hardly trained here.
Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar import GenerateConfig, PretrainConfig

DATA = "python-stdlib"  # or your own prompts: a .jsonl with a column prompt or messages

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
TRAINING = attar.DistillSpecConfig(
    max_steps=10,
    eval_steps=10,
    target_share=1.0,  # learn from texts of the target
    draft_share=0.0,
    temperature=0.0,  # for greedy decoding
    max_new_tokens=32,
    eval_prompts=8,
)
MEASURING = attar.EvaluateDraftConfig(eval_prompts=2, max_new_tokens=16, rounds=1)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    if len(sys.argv) > 1:
        model: str | Path = sys.argv[1]
    else:
        model = folder / "model"
        attar.pretrain(data=DATA, config=MODEL, output_dir=model)

    cut, trained = folder / "cut", folder / "draft"
    attar.draft.init(model, layers=2, output_dir=cut)
    print(attar.draft.train(cut, DATA, target=model, config=TRAINING, output_dir=trained))
    print(attar.draft.evaluate(trained, DATA, target=model, config=MEASURING))

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
