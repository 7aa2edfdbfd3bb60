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
from attar.train.outputs import CachedOutputs, FeatureRequest, LiveOutputs, Outputs

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
    request = FeatureRequest(hidden=(0, 2), pooled=(1, 3), pool=pool)
    live = LiveOutputs(model, task=TASKS[kind], request=request)
    cached = CachedOutputs.build(
        model, source, path=tmp_path / "c", task=TASKS[kind], request=request, batch_size=4
    )
    for some in ([0, 1, 2], [20, 3, 7, 7], [5]):
        batch = source.batch(some)
        close(cached(batch), live(batch), batch["attention_mask"])


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_what_is_stored_are_logits(kind: str, tmp_path: Path) -> None:
    """A softmax over probabilities would be nearly uniform."""
    source, model, request = examples(kind), encoders.encoder(task=TASKS[kind]), FeatureRequest()
    built = CachedOutputs.build(
        model, source, path=tmp_path / "c", task=TASKS[kind], request=request
    )
    batch = source.batch(range(8))
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(built(batch).logits, logits)
    assert (built(batch).logits.sum(-1) - 1).abs().min() > 1e-3


def test_a_cut_build_goes_on_and_makes_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SHARD", 8)
    source, task = examples("single_label"), TASKS["single_label"]
    model, request = encoders.encoder(), FeatureRequest(hidden=(1,))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for path in (whole, cut):
        CachedOutputs.build(model, source, path=path, task=task, request=request)
    (cut / "00001.safetensors").rename(cut / "00001.partial")
    with pytest.raises(DataError, match="lacks 1 of its 3"):
        CachedOutputs(cut, task=task, request=request)
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    CachedOutputs.build(model, source, path=cut, task=task, request=request, batch_size=8)
    hook.remove()
    assert len(calls) == 1
    for file in whole.glob("*.safetensors"):
        assert (cut / file.name).read_bytes() == file.read_bytes()


def test_another_teacher_other_rows_or_features_are_refused(tmp_path: Path) -> None:
    source, task = examples("single_label"), TASKS["single_label"]
    model, request = encoders.encoder(), FeatureRequest(pooled=(1,))
    options: dict[str, Any] = {"path": tmp_path / "c", "task": task, "request": request}
    CachedOutputs.build(model, source, **options)
    with pytest.raises(CompatibilityError, match="teacher"):
        CachedOutputs.build(encoders.encoder(seed=1), source, **options)
    with pytest.raises(CompatibilityError, match="source"):
        CachedOutputs.build(model, examples("single_label", 20), **options)
    others = ({"pooled": (2,)}, {"hidden": (1,)}, {"pooled": (1,), "pool": "mean"})
    for features in others:
        with pytest.raises(DataError, match="features"):
            CachedOutputs(tmp_path / "c", task=task, request=FeatureRequest(**features))  # pyright: ignore
    with pytest.raises(DataError, match="not a teacher cache"):
        CachedOutputs(tmp_path, task=task, request=request)


def test_a_teacher_without_finite_logits_is_refused(tmp_path: Path) -> None:
    model: Any = encoders.encoder()
    model.classifier.weight.data[0, 0] = float("nan")
    task, request = TASKS["single_label"], FeatureRequest()
    with pytest.raises(DataError, match=r"damaged, classifier\.weight holds NaN"):
        CachedOutputs.build(
            model, examples("single_label"), path=tmp_path / "cache", task=task, request=request
        )
