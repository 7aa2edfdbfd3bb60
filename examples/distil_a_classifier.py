"""Train a small classifier where few texts have a label: on the labels, and from a teacher.

    python examples/distil_a_classifier.py                     # makes a small encoder first
    python examples/distil_a_classifier.py ENCODER_FOLDER      # or a name on the Hub

The task is made from Python's own source code: which package is this function from? Takes about a
minute of processor time without an argument. Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

from transformers import BertConfig, BertModel, BertTokenizer

import attar
from attar import DistillConfig
from attar.data.labelled.load import load_labelled

DATA = "python-stdlib:package"  # or a .csv, .tsv, .jsonl or .parquet file, a folder, a Hub name
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: only so many labels; the other texts are used through the teacher's outputs
FEW = {"limit_labels": 100, "max_steps": 150, "context": 32, "learning_rate": 2e-3}


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    encoder = sys.argv[1] if len(sys.argv) > 1 else small_encoder(folder / "encoder")
    attar.distill(
        encoder,
        DATA,
        teacher=None,  # the labels alone, all of them
        config=DistillConfig(hard_weight=1.0, max_steps=200, context=32, learning_rate=2e-3),
        output_dir=folder / "teacher",
    )
    ways = {
        "labels": DistillConfig(intermediate="none", pred_weight=0.0, hard_weight=1.0, **FEW),
        "teacher": DistillConfig(intermediate="none", pred_loss="kl", **FEW),
    }
    for name, config in ways.items():
        run = attar.distill(
            None,  # the student is made from the teacher
            DATA,
            teacher=folder / "teacher",
            student_layers=1,
            student_init="random",
            config=config,
            output_dir=folder / f"student-{name}",
        )
        accuracy, best = run.quality["after"]["accuracy"], run.quality["before"]["accuracy"]
        print(f"{name}: accuracy {accuracy:.3f}, teacher {best:.3f}")
    print(f"Teacher and students: {folder}")


def small_encoder(folder: Path) -> Path:
    """An encoder with random weights and a tokenizer for the task's texts."""
    texts = load_labelled(DATA)[0]["train"]["text"]
    plain = BertTokenizer(vocab={token: i for i, token in enumerate(SPECIAL)})
    tokenizer = plain.train_new_from_iterator(texts, vocab_size=4000)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
