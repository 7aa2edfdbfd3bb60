"""Pre-train a small T5 by span corruption with transformers' own Trainer.

    python examples/span_corruption.py

The text is Python's own source code, its tokenizer is trained on it. Takes about half a minute of
two processor cores; the model then tries to fill a gap. Everything goes to a new temporary folder.
"""

import tempfile

import torch
from transformers import T5Config, T5ForConditionalGeneration, Trainer, TrainingArguments

from attar.data.text import load_text
from attar.data.tokens import pack, train_bpe
from attar.train.corruption import T5SpanCorruptionCollator


def main() -> None:
    torch.manual_seed(0)
    texts = load_text("python-stdlib")["train"].select(range(200))
    tokenizer = train_bpe(texts, vocab_size=2048, context=128)
    tokenizer.add_tokens([f"<extra_id_{i}>" for i in range(20)], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    collator = T5SpanCorruptionCollator(tokenizer, input_length=128)
    rows = pack(texts, tokenizer, context=collator.lengths.raw)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=128,
            d_ff=256,
            d_kv=32,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=collator.pad,
            eos_token_id=collator.end,
            decoder_start_token_id=collator.pad,
        )
    )
    arguments = TrainingArguments(
        tempfile.mkdtemp(prefix="attar-example-"),
        max_steps=400,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        logging_steps=100,
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )
    Trainer(model, arguments, train_dataset=rows, data_collator=collator).train()
    gap = tokenizer("import <extra_id_0>\n", return_tensors="pt").to(model.device)
    print(tokenizer.decode(model.generate(**gap, max_new_tokens=8)[0]))


if __name__ == "__main__":
    main()
