"""Train a family of students from one encoder, and take the best within a budget.

    python examples/autodistil.py                     # makes a small encoder first
    python examples/autodistil.py ENCODER_FOLDER      # or a name on the Hub

Takes about a minute of processor time without an argument; such a small untrained teacher shows how
it works, and no more. Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

from transformers import BertConfig, BertModel, BertTokenizer

import attar
from attar import AutoDistilConfig, EvaluateSupernetConfig, SupernetConfig
from attar.data.text import load_text

DATA = "python-stdlib"  # or a text file, a folder, a name on the Hub
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TRAINING = SupernetConfig(
    max_steps=40,
    per_device_train_batch_size=8,
    learning_rate=1e-3,
    context=32,
    eval_sequences=32,
)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    teacher = sys.argv[1] if len(sys.argv) > 1 else small_encoder(folder / "encoder")
    text = some_text(folder / "text")
    attar.supernet.train(
        str(teacher),
        str(text),
        k=1,  # one coarse grid; 3 sub-spaces, as published, take three times as long
        config=TRAINING,
        distillation=AutoDistilConfig(relation="mse"),
        output_dir=folder / "supernets",
    )
    run = attar.supernet.search(
        folder / "supernets", str(text), budget="params<=60%", output_dir=folder / "search"
    )
    best = run.details
    print(f"The best of {best['scored']} students has loss {best['loss']:.3f}:")
    print(f"  {best['params']} parameters, {best['published_params']} by the paper's formula")
    report = attar.supernet.evaluate(
        folder / "supernets", str(text), config=EvaluateSupernetConfig(n_random=3)
    )
    print(f"Rank correlation of loss with parameters: {report.details['rank_correlation']:.2f}")
    print(f"Student, ranking and supernets: {folder}")


def some_text(folder: Path) -> Path:
    """A few files of Python's standard library, as three splits."""
    folder.mkdir()
    for split, rows in load_text(DATA).items():
        texts = rows[: 20 if split == "train" else 4]["text"]
        (folder / f"{split}.txt").write_text("\n".join(texts), encoding="utf-8")
    return folder


def small_encoder(folder: Path) -> Path:
    """An encoder with random weights and a tokenizer for the text."""
    texts = load_text(DATA)["train"][:50]["text"]
    plain = BertTokenizer(vocab={token: i for i, token in enumerate(SPECIAL)})
    tokenizer = plain.train_new_from_iterator(texts, vocab_size=1000)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
