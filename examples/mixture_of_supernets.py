"""Does a mixture of experts help the networks of a supernet? One answer, with its control.

    python examples/mixture_of_supernets.py                   # makes a small model first
    python examples/mixture_of_supernets.py MODEL_FOLDER      # or a name on the Hub

Takes about a minute of processor time without an argument. Differences after so short a training
are noise. Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar import EvaluateSupernetConfig, MixtureConfig, PretrainConfig, SupernetConfig

DATA = "python-stdlib"  # or a text file, a folder, a name on the Hub
MODEL = PretrainConfig(
    vocab_size=512,
    context=64,
    hidden_size=64,
    intermediate_size=176,
    num_hidden_layers=2,
    max_steps=60,
    per_device_train_batch_size=8,
    eval_tokens=2_000,
)
TRAINING = SupernetConfig(
    max_steps=40,
    per_device_train_batch_size=8,
    learning_rate=1e-3,
    context=64,
    n_random=1,
    eval_sequences=32,
)
SPACE = {
    "num_hidden_layers": [1, 2],
    "hidden_size": [32, 48, 64],
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "intermediate_size": [64, 128, 176],
}


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    if len(sys.argv) > 1:
        model: str | Path = sys.argv[1]
    else:
        model = folder / "model"
        attar.pretrain(data=DATA, config=MODEL, output_dir=model)
    for name, experts in (("plain", 1), ("mixture", 2)):
        attar.supernet.train(
            str(model),
            DATA,
            method="mixture-of-supernets",
            space=SPACE,
            mixture=MixtureConfig(experts=experts),
            config=TRAINING,
            output_dir=folder / name,
        )
        report = attar.supernet.evaluate(
            folder / name, DATA, config=EvaluateSupernetConfig(n_random=4)
        )
        for network in report.details["networks"]:
            print(f"{name}, {network['which']}: {network['loss']:.4f} nats per token")
    attar.supernet.export(folder / "mixture", arch="smallest", output_dir=folder / "smallest")
    print(f"Supernets, and the smallest network as a model: {folder}")


if __name__ == "__main__":
    main()
