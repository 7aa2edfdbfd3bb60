"""Batches of labelled rows: as wide as they must be, and counted without padding."""

from typing import Any

import torch
from datasets import Dataset

import encoders
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from tasks import TASKS, batch_of, bert


def test_a_batch_holds_what_its_rows_hold() -> None:
    batch = batch_of("question_answering", bert(), multiple=8)
    assert batch["rows"].tolist() == [0, 1, 2]
    assert batch["source"].tolist() == [7, 8, 9]
    assert not {"offsets", "context", "answers"} & batch.keys()
    assert batch["input_ids"].shape[1] % 8 == 0
    assert batch["token_type_ids"].dtype == batch["input_ids"].dtype == torch.int64
    assert batch_of("regression", bert())["labels"].dtype == torch.float32
    tags = batch_of("token_classification", bert())
    padding = tags["attention_mask"] == 0
    assert padding.any()
    assert (tags["labels"][padding] == -100).all()


def test_a_batch_is_as_wide_as_its_longest_row_and_padding_counts_nothing() -> None:
    words = [text.split() for text in encoders.documents(21)["train"]["text"]]
    data = Dataset.from_dict({"words": words, "label": [[0] * len(row) for row in words]})
    tokenizer, task = encoders.tokenizer(), TASKS["token_classification"]
    source = Examples(encode(data, tokenizer, task=task), task=task, tokenizer=tokenizer)
    batch = source.batch([0, 4, 9])
    lengths = [source.length(row) for row in (0, 4, 9)]
    assert batch["input_ids"].shape == (3, max(lengths))
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    counts = source.counts(batch)
    assert counts["rows"] == 3
    assert counts["tokens"] == sum(lengths)
    assert counts["items"] == counts["labelled"] == sum(lengths) - 6  # without [CLS] and [SEP]


def test_copies_come_into_the_batch_of_their_row() -> None:
    texts = [f"{word} film" for word in encoders.GOOD]
    data = Dataset.from_dict({"text": texts, "label": [1] * 8, "source": [0, 1, 2, 3] * 2})
    tokenizer, task = encoders.tokenizer(), encoders.BINARY
    encoded = encode(data, tokenizer, task=task)
    source = Examples(encoded, task=task, tokenizer=tokenizer, copies=1)
    assert len(source) == 4
    batch = source.batch([2, 0])
    assert batch["source"].tolist() == [2, 2, 0, 0]
    assert batch["rows"].tolist() == [2, 6, 0, 4]
    alone = Examples(encoded, task=task, tokenizer=tokenizer)
    assert torch.equal(batch["input_ids"], alone.batch([2, 6, 0, 4])["input_ids"])


def test_the_fingerprint_sees_ids_labels_and_sources() -> None:
    tokenizer, task = encoders.tokenizer(), encoders.BINARY
    base = {"text": ["the film", "a story"], "label": [0, 1], "source": [0, 1]}
    changes: list[dict[str, Any]] = [
        {},
        {"text": ["the film", "the story"]},
        {"label": [1, 1]},
        {"source": [0, 0]},
    ]
    found = set()
    for change in changes:
        encoded = encode(Dataset.from_dict(base | change), tokenizer, task=task)
        found.add(Examples(encoded, task=task, tokenizer=tokenizer).fingerprint())
    assert len(found) == 4
