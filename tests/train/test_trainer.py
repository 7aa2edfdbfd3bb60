"""The training loop: equal steps however a batch is split, and a resume that changes nothing."""

import copy
import json
import os
import signal
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

import processes
import tiny
from attar.data.sources import Order, Windows, fingerprint
from attar.errors import ConfigError
from attar.train import callbacks, trainer
from attar.train.resume import MARKER, WEIGHTS, newest_checkpoint
from attar.train.trainer import Term, TrainConfig, fit, next_token_loss

WINDOWS = tiny.ids(13, 16)
CONFIG = TrainConfig(
    max_steps=8,
    per_device_train_batch_size=4,
    learning_rate=3e-3,
    warmup_steps=2,
    save_steps=3,
    logging_steps=2,
    seed=3,
)


def student(*, attention_dropout: float = 0.2) -> PreTrainedModel:
    """With dropout, so that a random state lost on resume shows."""
    return tiny.model("llama", num_hidden_layers=2, attention_dropout=attention_dropout)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_batch_may_be_accumulated_from_smaller_ones() -> None:
    whole, parts = student(attention_dropout=0.0), student(attention_dropout=0.0)
    config = replace(CONFIG, per_device_train_batch_size=8)
    first = fit(whole, WINDOWS, config=config)
    second = fit(
        parts,
        WINDOWS,
        config=replace(config, per_device_train_batch_size=2, gradient_accumulation_steps=4),
    )
    assert (weights(whole) - weights(student())).abs().max() > 1e-3
    torch.testing.assert_close(weights(whole), weights(parts), atol=2e-5, rtol=0)
    for a, b in zip(first.log, second.log, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], abs=1e-3)


def test_the_logged_loss_is_nats_per_target_token() -> None:
    model = student(attention_dropout=0.0)
    rows = WINDOWS[:4]
    with torch.no_grad():
        expected = next_token_loss(model, {"input_ids": rows})["loss"].values.mean()
    found = fit(model, rows, config=replace(CONFIG, max_steps=1, logging_steps=1)).log[0]["loss"]
    assert found == pytest.approx(expected.item(), abs=1e-4)


def test_what_is_trained_beside_the_model_resumes_with_it(tmp_path: Path) -> None:
    def train(steps: int, folder: Path | None, *, resume: bool = False) -> tuple[Tensor, Tensor]:
        model, scale = student(), nn.Linear(1, 1)
        nn.init.ones_(scale.weight)
        nn.init.zeros_(scale.bias)

        def compute(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
            if len(seen) == 5 and not resume:
                os.kill(os.getpid(), signal.SIGTERM)
            seen.append(1)
            loss = next_token_loss(model, batch)["loss"].values
            return {"ce": Term(loss, 0.5), "scaled": Term(scale(loss[..., None]), 0.25)}

        seen: list[int] = [] if folder else [1] * 9
        config = replace(CONFIG, max_steps=steps)
        try:
            options = {"config": config, "compute": compute, "auxiliary": scale, "resume": resume}
            fit(model, WINDOWS, state_dir=folder, **options)
        except KeyboardInterrupt:
            assert folder
            assert not resume
        return weights(model), weights(scale)

    train(8, tmp_path)
    resumed, whole = train(8, tmp_path, resume=True), train(8, None)
    assert torch.equal(resumed[0], whole[0])
    assert torch.equal(resumed[1], whole[1])
    assert (whole[1] - torch.tensor([1.0, 0.0])).abs().max() > 1e-3


@pytest.mark.parametrize("last", [5, 6])  # between two checkpoints, and at one
def test_a_training_in_two_parts_is_one_whose_loss_changes(tmp_path: Path, last: int) -> None:
    def scaled(scale: nn.Module, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        return {"loss": Term(scale(next_token_loss(model, batch)["loss"].values[..., None]))}

    def at_once(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        seen.append(1)
        if len(seen) <= last:
            return scaled(beside, model, batch)
        if len(seen) == last + 1:
            halve(whole)
        return next_token_loss(model, batch)

    def halve(model: Any) -> None:
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(0.5)

    def finish() -> None:
        newest.append(newest_checkpoint(tmp_path))
        halve(model)

    seen: list[int] = []
    newest: list[Path | None] = []
    whole, model, again = student(), student(), student()
    beside = nn.Linear(1, 1)
    nn.init.constant_(beside.weight, 0.5)
    scale = copy.deepcopy(beside)
    fit(whole, WINDOWS, config=CONFIG, compute=at_once, auxiliary=beside)
    options: Any = {"config": CONFIG, "state_dir": tmp_path}
    first = fit(
        model,
        WINDOWS,
        **options,
        compute=partial(scaled, scale),
        auxiliary=scale,
        last_step=last,
        finish=finish,
    )
    assert first.steps == last
    assert newest == [tmp_path / "checkpoint-3"]  # not yet that of the last step
    assert newest_checkpoint(tmp_path) == (written := tmp_path / f"checkpoint-{last}")
    assert all(name.startswith("model.") for name in load_file(written / WEIGHTS))
    assert fit(again, WINDOWS, **options, resume=True).steps == 8
    assert torch.equal(weights(again), weights(whole))
    assert torch.equal(weights(scale), weights(beside))


def test_parts_are_divided_by_their_own_counts_and_add_up() -> None:
    class Halves(Windows):
        def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
            return {"tokens": batch["input_ids"][:, 1:].numel(), "items": len(batch["rows"])}

    def compute(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        loss = next_token_loss(model, batch)["loss"].values
        return {"mean": Term(loss, 0.5), "per_row": Term(loss.sum(1), 0.1, per="items")}

    config = replace(CONFIG, max_steps=2, logging_steps=1, gradient_accumulation_steps=2)
    for line in fit(student(), Halves(WINDOWS), config=config, compute=compute).log:
        assert line["per_row"] == pytest.approx(15 * line["mean"], rel=1e-5)
        assert line["loss"] == pytest.approx(0.5 * line["mean"] + 0.1 * line["per_row"], rel=1e-4)


def test_training_leaves_the_config_alone() -> None:
    model = student()
    before = model.config.to_dict()
    fit(model, WINDOWS, config=replace(CONFIG, max_steps=1))
    assert model.config.to_dict() == before
    assert not model.training


def test_every_pass_over_the_data_is_a_new_permutation() -> None:
    rows = Order(13, length=3 * 13 + 2, seed=0)
    passes = [rows[i : i + 13] for i in (0, 13, 26)]
    assert all(sorted(one) == list(range(13)) for one in passes)
    assert passes[0] != passes[1]
    assert list(rows) == rows[:] == list(Order(13, length=41, seed=0))
    assert rows[:] != Order(13, length=41, seed=1)[:]


@given(rows=st.integers(1, 50), length=st.integers(1, 200), seed=st.integers(0, 99))
def test_the_rows_of_a_run_are_numpys_permutations(rows: int, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    passes = [rng.permutation(rows) for _ in range(-(-length // rows))]
    assert Order(rows, length=length, seed=seed)[:] == np.concatenate(passes)[:length].tolist()


def test_the_rows_of_a_long_run_take_little_memory() -> None:
    tracemalloc.start()
    Order(1000, length=500_000, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 500_000


def test_a_tensor_and_a_data_set_of_the_same_ids_are_the_same_data() -> None:
    packed = Dataset.from_dict({"input_ids": WINDOWS.tolist()})
    assert fingerprint(packed) == fingerprint(WINDOWS) != fingerprint(WINDOWS[1:])
    first, second = student(), student()
    fit(first, packed, config=CONFIG)
    fit(second, WINDOWS, config=CONFIG)
    assert torch.equal(weights(first), weights(second))


def killed(folder: Path) -> None:
    """Train, and die in the eighth step."""
    calls = 0

    def compute(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        nonlocal calls
        calls += 1
        if calls == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return next_token_loss(model, batch)

    fit(student(), WINDOWS, config=CONFIG, state_dir=folder, compute=compute)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    victim = processes.start(killed, tmp_path)
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    half = tmp_path / "checkpoint-7"  # as if the kill had met the writing of a checkpoint
    half.mkdir()
    (half / "trainer_state.json").write_text("{")

    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-6"
    resumed, whole, unrelated = student(), student(), student()
    training = fit(resumed, WINDOWS, config=CONFIG, state_dir=tmp_path, resume=True)
    fit(whole, WINDOWS, config=CONFIG)
    assert training.steps == 8
    assert not half.exists()
    assert torch.equal(weights(resumed), weights(whole))
    # Going on once more from the last checkpoint trains no step and returns the same weights.
    assert fit(unrelated, WINDOWS, config=CONFIG, state_dir=tmp_path, resume=True).steps == 8
    assert torch.equal(weights(unrelated), weights(whole))


def test_resume_refuses_other_data(tmp_path: Path) -> None:
    fit(student(), WINDOWS, config=CONFIG, state_dir=tmp_path)
    with pytest.raises(ConfigError, match="other windows"):
        fit(student(), WINDOWS + 1, config=CONFIG, state_dir=tmp_path, resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_writes_a_checkpoint_and_loses_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    calls = 0

    def compute(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        nonlocal calls
        calls += 1
        if calls == 5:
            os.kill(os.getpid(), number)
        return next_token_loss(model, batch)

    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        fit(student(), WINDOWS, config=CONFIG, state_dir=tmp_path, compute=compute)
    assert signal.getsignal(number) is handler
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert json.loads((newest / MARKER).read_text())["step"] == 5
    resumed, whole = student(), student()
    fit(resumed, WINDOWS, config=CONFIG, state_dir=tmp_path, resume=True)
    fit(whole, WINDOWS, config=CONFIG)
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, value: float) -> None:
    calls = 0

    def compute(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        nonlocal calls
        calls += 1
        loss = next_token_loss(model, batch)["loss"].values
        return {"loss": Term(loss * (value if calls == 5 else 1.0))}

    state = tmp_path / "state"
    with pytest.raises(ConfigError, match=r"at step 5 .* 0\.003; lower learning_rate"):
        fit(student(), WINDOWS, config=CONFIG, state_dir=state, compute=compute)
    assert not state.exists()


def test_weights_that_are_not_finite_are_no_result() -> None:
    with pytest.raises(ConfigError, match="not finite"):
        fit(
            student(),
            WINDOWS,
            config=replace(CONFIG, max_steps=1, max_grad_norm=0.0),
            compute=_infinite_gradient,
        )


def _infinite_gradient(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
    loss = next_token_loss(model, batch)["loss"]
    loss.values.register_hook(lambda gradient: gradient * float("nan"))
    return {"loss": loss}


@pytest.mark.parametrize(
    "field", ["max_steps", "save_steps", "logging_steps", "per_device_train_batch_size"]
)
def test_options_are_checked(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        replace(CONFIG, **{field: 0})


def test_weights_must_be_float32() -> None:
    with pytest.raises(ConfigError, match="float32"):
        fit(student().bfloat16(), WINDOWS, config=CONFIG)


def test_a_failure_before_the_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    def broken(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fit(student(), WINDOWS, config=CONFIG, state_dir=tmp_path / "state", compute=broken)
    assert list(tmp_path.iterdir()) == []


def test_no_data_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at least one window"):
        Windows(torch.empty(0, 16))


def test_a_watch_counts_the_seconds_of_steps_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def passing(seconds: float, call: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any, **kwargs: Any) -> Any:
            nonlocal now
            now += seconds
            return call(*args, **kwargs)

        return slow

    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now)
    monkeypatch.setattr(trainer, "mark_complete", passing(1e2, trainer.mark_complete))
    told: list[float] = []
    watch = callbacks.Watch(
        passing(1e4, lambda step: told.append(watch.seconds)), steps=(2, 3, CONFIG.max_steps)
    )
    compute = passing(1, next_token_loss)
    options: dict[str, Any] = {"state_dir": tmp_path, "compute": compute, "watch": watch}
    model = student()
    fit(model, WINDOWS, config=CONFIG, **options, last_step=3, finish=passing(1e6, lambda: None))
    monkeypatch.setattr(trainer, "use_bf16", passing(1e8, trainer.use_bf16))  # preparation
    fit(model, WINDOWS, config=CONFIG, **options, resume=True)
    assert told == [2, 3, 8]
