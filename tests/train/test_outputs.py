"""A teacher's outputs from disk are those of the live teacher, for every kind of task."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

import encoders
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.data.labelled.task import Task
from attar.errors import CompatibilityError, DataError
from attar.train import outputs as room
from attar.train.outputs import CachedOutputs, LiveOutputs, Outputs, Wanted

TASKS = {
    "single_label": Task("single_label", ("0", "1")),
    "regression": Task("regression"),
    "multi_label": Task("multi_label", ("a", "b", "c")),
    "token_classification": Task("token_classification", ("O", "B-x", "I-x")),
    "question_answering": Task("question_answering", pair=True),
}


def rows(kind: str, count: int = 21) -> Dataset:
    texts = encoders.documents(count)["train"]["text"]
    if kind == "token_classification":
        words = [text.split() for text in texts]
        return Dataset.from_dict({"words": words, "label": [[0] * len(w) for w in words]})
    if kind == "question_answering":
        answers = [{"text": [t.split()[0]], "answer_start": [0]} for t in texts]
        return Dataset.from_dict(
            {"question": ["the story"] * count, "context": texts, "answers": answers}
        )
    label: Any = {"regression": 0.5, "multi_label": [0, 2]}.get(kind, 1)
    return Dataset.from_dict({"text": texts, "label": [label] * count})


def examples(kind: str, count: int = 21) -> Examples:
    encoded = encode(rows(kind, count), encoders.tokenizer(), task=TASKS[kind])
    return Examples(encoded, task=TASKS[kind], tokenizer=encoders.tokenizer())


def close(one: Outputs, other: Outputs, mask: torch.Tensor) -> None:
    """Equal but for half precision; hidden states and logits of padding are free."""
    if one.logits.ndim == 3:
        words = mask[:, None] if one.logits.shape[1] == 2 else mask[..., None]
        torch.testing.assert_close(one.logits * words, other.logits * words)
    else:
        torch.testing.assert_close(one.logits, other.logits)
    assert one.hidden.keys() == other.hidden.keys()
    for i in one.hidden:
        a, b = (x.hidden[i] * mask[..., None] for x in (one, other))
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)
    for i in one.pooled:
        torch.testing.assert_close(one.pooled[i], other.pooled[i], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_the_cache_says_what_the_model_says(kind: str, pool: Any, tmp_path: Path) -> None:
    source, model = examples(kind), encoders.encoder(task=TASKS[kind])
    wanted = Wanted(hidden=(0, 2), pooled=(1, 3), pool=pool)
    live = LiveOutputs(model, task=TASKS[kind], wanted=wanted)
    cached = CachedOutputs.build(
        model, source, path=tmp_path / "c", task=TASKS[kind], wanted=wanted, batch_size=4
    )
    for some in ([0, 1, 2], [20, 3, 7, 7], [5]):
        batch = source.batch(some)
        close(cached(batch), live(batch), batch["attention_mask"])


def test_a_cut_build_goes_on_and_makes_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SHARD", 8)
    source, task = examples("single_label"), TASKS["single_label"]
    model, wanted = encoders.encoder(), Wanted(hidden=(1,))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for path in (whole, cut):
        CachedOutputs.build(model, source, path=path, task=task, wanted=wanted)
    (cut / "00001.safetensors").rename(cut / "00001.partial")
    with pytest.raises(DataError, match="lacks 1 of its 3"):
        CachedOutputs(cut, task=task, wanted=wanted)
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    CachedOutputs.build(model, source, path=cut, task=task, wanted=wanted, batch_size=8)
    hook.remove()
    assert len(calls) == 1
    for file in whole.glob("*.safetensors"):
        assert (cut / file.name).read_bytes() == file.read_bytes()


def test_another_teacher_other_rows_or_features_are_refused(tmp_path: Path) -> None:
    source, task = examples("single_label"), TASKS["single_label"]
    model, wanted = encoders.encoder(), Wanted(pooled=(1,))
    options: dict[str, Any] = {"path": tmp_path / "c", "task": task, "wanted": wanted}
    CachedOutputs.build(model, source, **options)
    with pytest.raises(CompatibilityError, match="teacher"):
        CachedOutputs.build(encoders.encoder(seed=1), source, **options)
    with pytest.raises(CompatibilityError, match="source"):
        CachedOutputs.build(model, examples("single_label", 20), **options)
    for other in (Wanted(pooled=(2,)), Wanted(hidden=(1,)), Wanted(pooled=(1,), pool="mean")):
        with pytest.raises(DataError, match="features"):
            CachedOutputs(tmp_path / "c", task=task, wanted=other)
    with pytest.raises(DataError, match="not a teacher cache"):
        CachedOutputs(tmp_path, task=task, wanted=wanted)


# --------------------------------------------------------------------------------------- examples


def test_a_batch_is_as_wide_as_its_longest_row_and_padding_counts_nothing() -> None:
    source = examples("token_classification")
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
    tokenizer, task = encoders.tokenizer(), TASKS["single_label"]
    encoded = encode(data, tokenizer, task=task)
    source = Examples(encoded, task=task, tokenizer=tokenizer, copies=1)
    assert len(source) == 4
    batch = source.batch([2, 0])
    assert batch["source"].tolist() == [2, 2, 0, 0]
    assert batch["rows"].tolist() == [2, 6, 0, 4]
    alone = Examples(encoded, task=task, tokenizer=tokenizer)
    assert torch.equal(batch["input_ids"], alone.batch([2, 6, 0, 4])["input_ids"])


def test_the_fingerprint_sees_ids_labels_and_sources() -> None:
    tokenizer, task = encoders.tokenizer(), TASKS["single_label"]
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
