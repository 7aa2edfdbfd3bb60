"""SpacTor's two stages are one training, whatever interrupts it and however many share it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

import processes
import spans
from attar import checkpoint
from attar.data.sources import Order
from attar.errors import ConfigError
from attar.evaluation.pairs import pair_loss
from attar.methods.spactor import (
    FirstStage,
    SpacTorConfig,
    detect_and_restore,
    train,
    training_cost,
)
from attar.methods.spactor import training as room
from attar.train.resume import WEIGHTS, newest_checkpoint, step_of
from attar.train.span_rows import SpanRows, span_loss
from attar.train.trainer import TrainConfig, fit

CONFIG = TrainConfig(
    max_steps=9,
    per_device_train_batch_size=4,
    learning_rate=1e-2,
    warmup_steps=2,
    save_steps=2,
    logging_steps=2,
    bf16=False,
)
STAGE = SpacTorConfig(tau=5, mlm_probability=0.2)


def rows(model: PreTrainedModel, config: TrainConfig = CONFIG, **options: Any) -> SpanRows:
    return spans.source(model, places=Order(8, length=config.rows_seen, seed=0), **options)


def trained(
    folder: Path,
    *,
    spactor: SpacTorConfig = STAGE,
    config: TrainConfig = CONFIG,
    resume: bool = False,
    model: PreTrainedModel | None = None,
    **options: Any,
) -> PreTrainedModel:
    model = model or spans.t5()
    train(
        model,
        rows(model, config, **options),
        held_out=spans.source(model),
        config=config,
        spactor=spactor,
        state_dir=folder,
        resume=resume,
    )
    return model


def equal(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("optim", ["adamw", "adafactor", "adamw_rms"])
def test_a_tau_of_zero_is_plain_training_bit_for_bit(tmp_path: Path, optim: Any) -> None:
    config = replace(CONFIG, optim=optim)
    ours = trained(tmp_path, spactor=SpacTorConfig(tau=0), config=config)
    theirs = spans.t5()
    fit(theirs, rows(theirs, mask_share=0.0), config=config, compute=span_loss)
    assert equal(ours, theirs)
    assert equal(
        ours, trained(tmp_path / "b", spactor=SpacTorConfig(mlm_probability=0.0), config=config)
    )
    assert not equal(ours, trained(tmp_path / "c", config=config))


class Killed(Exception):
    """As if the process had ended."""


@pytest.mark.parametrize(
    ("embedding", "optim", "at"),
    [
        ("tied", "adamw", 3),  # before the switch
        ("tied", "adamw", 5),  # the checkpoint of the switch is the newest
        ("tied", "adamw", 7),  # after it
        ("gdes", "adamw", 4),
        ("gdes", "adamw", 5),
        ("none", "adafactor", 5),
        ("none", "adamw_rms", 5),
    ],
)
def test_resumed_across_the_switch_is_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedding: Any, optim: Any, at: int
) -> None:
    spactor = replace(STAGE, generator_embedding=embedding)
    config = replace(CONFIG, optim=optim)
    whole = trained(tmp_path / "whole", spactor=spactor, config=config)
    calls = 0

    def dying(compute: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > at:
                raise Killed
            return compute(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(room, "joint_loss", dying(room.joint_loss))
        patch.setattr(room, "span_loss", dying(room.span_loss))
        patch.setattr(room, "detection_quality", lambda *_, **__: spans.QUALITY)
        with pytest.raises(Killed):
            trained(tmp_path / "cut", spactor=spactor, config=config)
    newest = newest_checkpoint(tmp_path / "cut")
    assert newest is not None
    assert step_of(newest) == {3: 2, 4: 4, 5: 5, 7: 6}[at]
    assert equal(trained(tmp_path / "cut", spactor=spactor, config=config, resume=True), whole)


def test_nothing_of_the_first_stage_is_left(tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=6, save_steps=4)
    spactor = replace(STAGE, generator_embedding="gdes")
    model = trained(tmp_path, spactor=spactor, config=config)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    at_the_switch = load_file(tmp_path / "checkpoint-5" / WEIGHTS)
    assert all(name.startswith("model.") for name in at_the_switch)
    state = torch.load(newest / "optimizer.pt", weights_only=True)
    assert sum(len(group["params"]) for group in state["param_groups"]) == len(state["state"])
    assert len(state["state"]) == len(list(model.parameters()))
    log = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    assert [("loss_rtd" in line, line["step"]) for line in log if "loss" in line] == [
        (True, 2), (True, 4), (True, 5), (False, 6),
    ]  # fmt: skip
    checkpoint.save(model, tmp_path / "model", tokenizer=spans.tokenizer())
    again, info = AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    batch = rows(model).batch(range(4))
    assert torch.equal(*(span_loss(m, batch)["loss"].values for m in (model, again.eval())))


def test_the_first_stage_to_the_end(tmp_path: Path) -> None:
    hybrid = trained(tmp_path, spactor=replace(STAGE, tau=9))
    assert not any("parametrizations" in name for name in hybrid.state_dict())
    assert not equal(hybrid, trained(tmp_path / "b"))


def in_a_process(folder: Path, embedding: Any) -> None:
    config = replace(CONFIG, per_device_train_batch_size=2, max_grad_norm=0.0)
    model = trained(folder, config=config, spactor=replace(STAGE, generator_embedding=embedding))
    torch.save(model.state_dict(), folder / f"{torch.distributed.get_rank()}.pt")


@pytest.mark.parametrize("embedding", ["gdes"])
def test_two_processes_are_one(tmp_path: Path, embedding: Any) -> None:
    processes.in_two(in_a_process, tmp_path / "two", embedding)
    one = trained(
        tmp_path / "one",
        config=replace(CONFIG, max_grad_norm=0.0),
        spactor=replace(STAGE, generator_embedding=embedding),
    )
    start, end = spans.t5().state_dict(), one.state_dict()
    for rank in range(2):
        weights = torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True)
        # Adam steps by the sign of a gradient that is all rounding
        apart = sum((weights[n] - end[n]).square().sum() for n in end)
        moved = sum((start[n] - end[n]).square().sum() for n in end)
        assert apart < 1e-4 * moved


def test_what_is_found_is_measured() -> None:
    model = spans.t5()
    held_out = spans.source(model)
    stage = FirstStage(model, config=STAGE, text=held_out.text)  # pyright: ignore[reportArgumentType]
    found = room.detection_quality(model, held_out, stage=stage, batch_size=3)
    with torch.no_grad():
        parts = detect_and_restore(model, held_out.batch(range(8)), stage=stage)
    scores, truth = parts.rtd_logits[parts.scored], parts.is_replaced[parts.scored]
    pairs = scores[truth][:, None] - scores[~truth][None]
    auc = (pairs > 0).float().mean() + 0.5 * (pairs == 0).float().mean()
    assert found.auc == pytest.approx(auc.item(), abs=1e-4)
    assert found.replaced == pytest.approx(truth.float().mean().item())
    assert found.recall == pytest.approx((scores[truth] > 0).float().mean().item(), abs=0.02)
    assert found.precision == pytest.approx(truth[scores > 0].float().mean().item(), abs=0.02)
    assert found.nats == pytest.approx(pair_loss(model, held_out), rel=1e-5)
    labels = held_out.counts(held_out.batch(range(8)))["labels"]
    assert found.nats_replaced == pytest.approx(parts.loss_sc.sum().item() / labels, rel=1e-5)
    assert found.nats_replaced != found.nats


def test_where_nothing_is_replaced_there_is_nothing_to_find() -> None:
    model = spans.t5()
    held_out = spans.source(model, mask_share=0.001)  # which rounds to no place
    stage = FirstStage(model, config=STAGE, text=held_out.text)  # pyright: ignore[reportArgumentType]
    found = room.detection_quality(model, held_out, stage=stage)
    assert (found.auc, found.recall, found.replaced) == (None, None, 0.0)


@pytest.mark.parametrize("tau", [10.0, 2.5])
def test_a_tau_outside_the_run_is_refused(tmp_path: Path, tau: float) -> None:
    with pytest.raises(ConfigError, match=f"whole number of steps up to 9.*found {tau:g}"):
        trained(tmp_path, spactor=replace(STAGE, tau=tau))


def test_flops_are_those_of_both_stages() -> None:
    model = spans.t5()
    cost = training_cost(model, rows(model), config=CONFIG, spactor=STAGE)
    assert cost.span < cost.first_stage < cost.all_positions
    assert cost.until(0) == 0
    assert cost.until(5) == 5 * cost.first_stage
    assert cost.until(9) == 5 * cost.first_stage + 4 * cost.span
    plain = training_cost(
        model, rows(model, mask_share=0.0), config=CONFIG, spactor=replace(STAGE, tau=0)
    )
    assert plain.until(9) == 9 * cost.span
    assert plain.overhead == 0


def test_a_table_that_begins_at_zero_needs_adamw(tmp_path: Path) -> None:
    config = replace(CONFIG, optim="adamw_rms")
    with pytest.raises(ConfigError, match=r"begins at zero.*take optim adamw"):
        trained(tmp_path, config=config, spactor=replace(STAGE, generator_embedding="gdes"))
