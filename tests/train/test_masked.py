"""Masked language modelling and relation distillation in the training loop: equal steps however a
batch is split, and runs that resume to the same weights."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel

import encoders
import tiny
from attar.data.sequences import Sequences
from attar.evaluation.masked import masked_loss
from attar.train.masked import masked_lm_loss
from attar.train.relations import PER, RelationKind, projections_of, relation_loss
from attar.train.trainer import Compute, Term, TrainConfig, fit

TEXTS = [row["text"] for row in encoders.documents(120)["train"]]  # pyright: ignore[reportArgumentType, reportCallIssue]
CONFIG = TrainConfig(
    max_steps=4, per_device_train_batch_size=8, learning_rate=3e-3, logging_steps=1, save_steps=2
)


def student(*, dropout: float = 0.0) -> PreTrainedModel:
    return tiny.model(
        "bert",
        auto=AutoModelForMaskedLM,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        num_hidden_layers=1,
    )


def source() -> Sequences:
    return Sequences(TEXTS, encoders.tokenizer(), context=10, mask_probability=0.4)


def related(kind: RelationKind) -> Compute:
    teacher = tiny.model("bert", auto=AutoModelForMaskedLM, seed=1)

    def compute(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Term]:
        mask = batch["attention_mask"]
        inputs = {"input_ids": batch["input_ids"], "attention_mask": mask}
        with projections_of(teacher) as theirs, torch.no_grad():
            teacher(**inputs)
        with projections_of(model) as own:
            model(**inputs)
        values = relation_loss(own, theirs, heads=8, mask=mask, kind=kind, heads_at_once=3)
        return {"relations": Term(values, 0.1, per=PER[kind])} | masked_lm_loss(model, batch)

    return compute  # pyright: ignore[reportReturnType]


LOSSES: list[Callable[[], Compute]] = [
    lambda: masked_lm_loss,
    lambda: related("mse"),
    lambda: related("kl"),
]


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("loss", LOSSES, ids=["masked", "mse", "kl"])
def test_a_batch_may_be_accumulated_from_smaller_ones(loss: Callable[[], Compute]) -> None:
    whole, parts = student(), student()
    first = fit(whole, source(), config=CONFIG, compute=loss())
    split = replace(CONFIG, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    second = fit(parts, source(), config=split, compute=loss())
    assert (weights(whole) - weights(student())).abs().max() > 1e-3
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        # A bias of all keys changes no attention: Adam follows the rounding of its gradient.
        if not (loss is LOSSES[0] and name.endswith("key.bias")):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=0)
    for a, b in zip(first.log, second.log, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


def test_the_logged_loss_is_nats_per_masked_token() -> None:
    model, rows = student(), source().select(range(8))
    want = masked_loss(model, rows)
    found = fit(model, rows, config=replace(CONFIG, max_steps=1), compute=masked_lm_loss)
    assert found.log[0]["loss"] == pytest.approx(want, abs=1e-4)


def test_a_masked_language_model_learns() -> None:
    model, rows = student(), source()
    held_out = Sequences(
        [row["text"] for row in encoders.documents(seed=1)["test"]],  # pyright: ignore[reportArgumentType, reportCallIssue]
        encoders.tokenizer(),
        context=10,
    )
    before = masked_loss(model, held_out)
    fit(
        model,
        rows,
        config=replace(CONFIG, max_steps=60, learning_rate=1e-2),
        compute=masked_lm_loss,
    )
    assert masked_loss(model, held_out) < min(before, 3.5)  # 28 words are log 28 = 3.3 nats apart


def test_a_run_that_was_stopped_sees_the_same_masks(tmp_path: Path) -> None:
    def train(folder: Path | None, *, stop: bool = False, resume: bool = False) -> Tensor:
        model = student(dropout=0.2)
        calls: list[int] = []

        def compute(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
            calls.append(1)
            if stop and len(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return masked_lm_loss(model, batch)

        if stop:
            with pytest.raises(KeyboardInterrupt):
                fit(model, source(), config=CONFIG, compute=compute, state_dir=folder)
        else:
            fit(model, source(), config=CONFIG, compute=compute, state_dir=folder, resume=resume)
        return weights(model)

    train(tmp_path, stop=True)
    assert torch.equal(train(tmp_path, resume=True), train(None))
