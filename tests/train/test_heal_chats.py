"""Healing on conversations: only the assistant's tokens count, however rows are made and split."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import talk
import tiny
from attar import checkpoint
from attar.data.chats import load_documents
from attar.data.data import Data
from attar.data.packing import Conversations
from attar.evaluation.documents import score_documents
from attar.evaluation.model import EvaluateConfig, evaluate
from attar.train.heal import HealConfig, heal, heal_model
from attar.train.teachers import CachedTeacher

CONFIG = HealConfig(
    max_steps=3,
    per_device_train_batch_size=8,
    learning_rate=2e-3,
    warmup_steps=0,
    logging_steps=1,
    context=64,
    teacher_cache="none",
)
DOCUMENTS = load_documents(talk.rows(120), talk.tokenizer())["train"]
ROWS = Conversations(DOCUMENTS, context=64, packed=True)


def student(family: str = "llama") -> PreTrainedModel:
    return tiny.model(family, num_hidden_layers=1, vocab_size=talk.VOCAB)


def teacher(family: str = "llama") -> PreTrainedModel:
    return tiny.model(family, num_hidden_layers=2, vocab_size=talk.VOCAB, seed=1)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def healed(rows: Conversations = ROWS, **changes: Any) -> tuple[PreTrainedModel, Any]:
    model = student()
    training = heal_model(model, rows, teacher=teacher(), config=replace(CONFIG, **changes))
    return model, training


def test_how_a_step_is_split_makes_no_difference_under_masks() -> None:
    whole, _ = healed(max_grad_norm=0.0)
    halves, _ = healed(
        max_grad_norm=0.0, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    torch.testing.assert_close(weights(whole), weights(halves), atol=1e-5, rtol=0)


def test_the_loss_is_the_mean_over_the_assistant_s_tokens() -> None:
    everything = ROWS.select(range(8))
    model = student()
    line = heal_model(
        model, everything, teacher=None, config=replace(CONFIG, max_steps=1, kl_weight=0.0)
    ).log[0]
    batch = everything.batch(range(8))
    with torch.no_grad():
        logits = student()(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
    log_probs = logits[:, :-1].log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    assert line["ce"] == pytest.approx(float(-log_probs[batch["mask"][:, 1:]].mean()), rel=1e-5)


def test_rows_of_one_conversation_teach_the_same() -> None:
    """A step over all conversations does not depend on how they lie in rows."""
    some = DOCUMENTS.select(range(12))
    packed, single = (Conversations(some, context=64, packed=value) for value in (True, False))
    assert len(packed) < len(single) == 12
    one, _ = healed(packed, max_steps=1, per_device_train_batch_size=len(packed))
    other, _ = healed(single, max_steps=1, per_device_train_batch_size=12)
    torch.testing.assert_close(weights(one), weights(other), atol=1e-4, rtol=0)


def test_a_cache_of_the_whole_vocabulary_is_the_live_teacher(tmp_path: Path) -> None:
    live, _ = healed()
    stored = student()
    cache = CachedTeacher.build(teacher(), ROWS, path=tmp_path, k=talk.VOCAB)
    heal_model(stored, ROWS, teacher=cache, config=CONFIG)
    torch.testing.assert_close(weights(live), weights(stored), atol=2e-3, rtol=0)


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_the_verb_heals_and_scores_conversations(tmp_path: Path, family: str) -> None:
    for name, model in (("student", student(family)), ("teacher", teacher(family))):
        checkpoint.save(model, tmp_path / name, tokenizer=talk.tokenizer())
    file = tmp_path / "talk.jsonl"
    lines = [json.dumps({"chat": one}) for one in talk.conversations(80)]
    file.write_text("\n".join(lines))
    data = Data(file, prompt_column="chat")
    run = heal(
        tmp_path / "student",
        data,
        teacher=tmp_path / "teacher",
        config=replace(CONFIG, max_steps=20, learning_rate=1e-2, teacher_cache=None),
        output_dir=tmp_path / "out",
    )
    assert run.details["conversations"]["train"] == 72
    assert run.settings["prompt_column"] == "chat"
    before, after = run.quality["before"], run.quality["after"]
    assert after["nll"] < before["nll"]
    test = load_documents(data, talk.tokenizer())["test"]
    expected = score_documents(student(family), talk.tokenizer(), documents=test)
    assert before["tokens"] == expected.tokens
    assert before["nll"] == pytest.approx(expected.nll, rel=1e-5)
    judged = evaluate(tmp_path / "out", data, config=EvaluateConfig(speed=False))
    assert judged.quality["after"]["nll"] == pytest.approx(after["nll"], rel=1e-5)
    assert checkpoint.load_tokenizer(tmp_path / "out").chat_template == talk.CHATML
