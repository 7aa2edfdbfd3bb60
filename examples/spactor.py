"""Pre-train a small T5 by SpacTor, and the same one by span corruption alone.

    python examples/spactor.py

The text is Python's own source code, on which a tokenizer is trained. Takes about a minute of two
processor cores. After so short a training the encoder tells some replaced tokens from others, and
the two losses differ by chance. Everything goes to a new temporary folder.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from transformers import AutoModelForSeq2SeqLM

import attar
from attar import PretrainConfig, SpacTorConfig

DATA = "python-stdlib"  # or a text file, a folder, a name on the Hub
TRAINING = PretrainConfig(
    objective="spactor",
    vocab_size=512,
    context=64,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_steps=300,
    per_device_train_batch_size=8,
    weight_decay=0.0,
    eval_tokens=5_000,
)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    for name, config in (("span", replace(TRAINING, objective="span")), ("spactor", TRAINING)):
        run = attar.pretrain(
            data=DATA, spactor=SpacTorConfig(tau=0.5), config=config, output_dir=folder / name
        )
        nats, flops = run.quality["after"]["span_nats"], run.details["flops"]["total"]
        print(f"{name}: {nats:.3f} nats per target token, {flops:.2g} FLOPs")
        if (stage := run.details["first_stage"]) is not None:
            print(f"replaced tokens at the end of the first stage: AUC {stage['auc']:.2f}")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "spactor")  # an ordinary T5
    print(f"{model.num_parameters():,} parameters: {folder / 'spactor'}")


if __name__ == "__main__":
    main()
