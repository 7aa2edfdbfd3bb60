"""Make a model write faster: a draft of its own layers, trained until it agrees, and measured.

    python examples/faster_generation.py                  # trains a small model first; 6 minutes
    python examples/faster_generation.py MODEL_FOLDER     # or a name on the Hub

Whether it pays depends on the model: one that is itself small gains little, as its draft is not
much cheaper. Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar.decode.bench import Profile
from attar.decode.speculative import SpeculativeDecoder
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.distill import train_draft
from attar.methods.distillspec.profile import evaluate_draft
from attar.methods.distillspec.start import init_draft
from attar.train.pretrain import PretrainConfig

DATA = "python-stdlib"  # or prompts like those to come: a .jsonl with a column prompt or messages

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
TRAINING = DistillSpecConfig(max_steps=100, temperature=0.0)  # for greedy decoding


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    if len(sys.argv) > 1:
        model: str | Path = sys.argv[1]
    else:
        model = folder / "model"
        attar.pretrain(DATA, config=MODEL, output_dir=model)

    init_draft(model, layers=2, output_dir=folder / "cut")
    trained = folder / "draft"
    print(train_draft(folder / "cut", DATA, target=model, output_dir=trained, config=TRAINING))
    run = evaluate_draft(trained, DATA, target=model, temperatures=(0.0,))
    print(Profile.from_dict(run.details["profiles"][0]).text())

    target, draft = attar.load(model), attar.load(trained)
    tokenizer = attar.load_tokenizer(model)
    decoder = SpeculativeDecoder(target, draft)
    ids = tokenizer("def main(", return_tensors="pt")["input_ids"]
    text = decoder.generate(ids, max_new_tokens=64, do_sample=False).sequences[0]
    print(tokenizer.decode(text))
    print(decoder.stats)


if __name__ == "__main__":
    main()
