"""Healing: the loss is what it says, LoRA leaves a plain model, two processes equal one."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

import tiny
from attar import checkpoint
from attar.data.tokens import train_bpe
from attar.errors import CompatibilityError, ConfigError
from attar.recipes import configured
from attar.report.record import Run
from attar.slicing import LayerKeep, SlicePlan, slice_model
from attar.train import heal as room
from attar.train.heal import HealConfig, heal, heal_model
from attar.train.teachers import CachedTeacher
from attar.train.trainer import Term, fit

WINDOWS = tiny.ids(12, 16)
CONFIG = HealConfig(
    max_steps=6,
    per_device_train_batch_size=4,
    learning_rate=2e-3,
    save_steps=2,
    logging_steps=1,
    eval_tokens=300,
    teacher_cache="none",
)


def student() -> PreTrainedModel:
    return tiny.model("llama", num_hidden_layers=1, vocab_size=280)


def teacher() -> PreTrainedModel:
    return tiny.model("llama", num_hidden_layers=2, vocab_size=280, seed=1)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def texts() -> DatasetDict:
    rng = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta", "return", "import", "0", "42", "\n"]
    rows = [" ".join(rng.choices(words, k=40)) for _ in range(60)]
    cuts = {"train": rows[:-20], "validation": rows[-20:-10], "test": rows[-10:]}
    return DatasetDict({name: Dataset.from_dict({"text": rows}) for name, rows in cuts.items()})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student and a teacher with one tokenizer, a stranger with another, and text, as files."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = train_bpe(texts()["train"], vocab_size=280, context=64)
    other = train_bpe(
        Dataset.from_dict({"text": ["qwertz uiop " * 50]}), vocab_size=280, context=64
    )
    checkpoint.save(student(), root / "student", tokenizer=tokenizer)
    checkpoint.save(teacher(), root / "teacher", tokenizer=tokenizer)
    checkpoint.save(teacher(), root / "stranger", tokenizer=other)
    for name, rows in texts().items():
        (root / "data").mkdir(exist_ok=True)
        rows.to_parquet(root / "data" / f"{name}.parquet")
    return {path.name: path for path in root.iterdir()}


def test_without_a_teacher_it_is_plain_training() -> None:
    healed, trained = student(), student()
    heal_model(healed, WINDOWS, teacher=None, config=replace(CONFIG, kl_weight=0.0))
    fit(trained, WINDOWS, config=CONFIG)
    assert torch.equal(weights(healed), weights(trained))


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    config = replace(CONFIG, kl_weight=0.7, ce_weight=0.2)
    log = heal_model(student(), WINDOWS, teacher=teacher(), config=config).log
    for line in log:
        expected = 0.2 * line["ce"] + 0.7 * line["kl"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)
    assert log[-1]["kl"] < log[0]["kl"]


def test_a_model_has_nothing_to_learn_from_itself() -> None:
    config = replace(CONFIG, ce_weight=0.0, max_steps=1)
    log = heal_model(student(), WINDOWS, teacher=student(), config=config).log
    assert log[0]["loss"] == pytest.approx(0.0, abs=1e-6)


def test_the_official_weight_counts_per_window() -> None:
    official, ours = student(), student()
    config = replace(CONFIG, kl_weight=0.01, official_kl=True)
    heal_model(official, WINDOWS, teacher=teacher(), config=config)
    heal_model(ours, WINDOWS, teacher=teacher(), config=replace(CONFIG, kl_weight=0.16))
    torch.testing.assert_close(weights(official), weights(ours), atol=1e-4, rtol=0)


def test_a_cache_of_the_whole_vocabulary_is_the_live_teacher(tmp_path: Path) -> None:
    live, stored = student(), student()
    cache = CachedTeacher.build(teacher(), WINDOWS, path=tmp_path, k=280)
    first = heal_model(live, WINDOWS, teacher=teacher(), config=CONFIG)
    second = heal_model(stored, WINDOWS, teacher=cache, config=CONFIG)
    for a, b in zip(first.log, second.log, strict=True):
        assert a["kl"] == pytest.approx(b["kl"], abs=3e-3)


def test_the_teacher_stays_as_it_is() -> None:
    parent = teacher()
    before = weights(parent).clone()
    heal_model(student(), WINDOWS, teacher=parent, config=CONFIG)
    assert torch.equal(weights(parent), before)
    assert all(p.grad is None for p in parent.parameters())


LORA = replace(CONFIG, lora_r=4, lora_alpha=8.0, lora_dropout=0.3)


def test_lora_is_merged_into_a_plain_model() -> None:
    model, untouched = student(), student()
    heal_model(model, WINDOWS, teacher=teacher(), config=LORA)
    after, before = model.state_dict(), untouched.state_dict()
    assert list(after) == list(before)
    assert all(p.requires_grad for p in model.parameters())
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if "_proj" in name}


def test_lora_with_dropout_resumes_to_the_same_weights(tmp_path: Path) -> None:
    cut, resumed, whole = student(), student(), student()
    heal_model(
        cut, WINDOWS, teacher=teacher(), config=replace(LORA, max_steps=6), state_dir=tmp_path
    )
    newest = max(tmp_path.glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[1]))
    assert newest.name == "checkpoint-6"
    (newest / "complete.json").unlink()  # as a kill before the end would have left it
    heal_model(resumed, WINDOWS, teacher=teacher(), config=LORA, state_dir=tmp_path, resume=True)
    heal_model(whole, WINDOWS, teacher=teacher(), config=LORA)
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(weights(cut), weights(whole))


def test_lora_that_fails_is_taken_off_again() -> None:
    model = student()
    with pytest.raises(ConfigError, match="lower learning_rate"):
        heal_model(
            model,
            WINDOWS,
            teacher=teacher(),
            config=replace(LORA, learning_rate=1e30, warmup_steps=0, max_grad_norm=0),
        )
    assert torch.equal(weights(model), weights(student()))


def run(folders: dict[str, Path], out: Path, config: HealConfig = CONFIG, **changes: Any) -> Run:
    return heal(
        **{
            "model": folders["student"],
            "teacher": folders["teacher"],
            "data": folders["data"],
            "config": config,
            "output_dir": out,
        }
        | changes
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher_cache": "none"},
        {"teacher_cache": "topk:16"},
        {"lora_r": 2},
        {"divergence": "js"},
        {"divergence": "lk"},
    ],
    ids=str,
)
def test_heal_writes_a_plain_checkpoint(
    folders: dict[str, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    record = run(folders, tmp_path / "out", replace(CONFIG, **changes))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.use_cache
    assert record.cost["before"] == record.cost["after"]
    assert record.quality["after"]["nll"] < record.quality["before"]["nll"]
    assert record.baselines[0]["name"] == "teacher"
    assert Run.load(tmp_path / "out").to_dict() == record.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_model_with_layers_of_different_width_heals(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    parent = checkpoint.load(folders["teacher"])
    plan = SlicePlan((LayerKeep(0, (0, 2), (1, 5, 7)), LayerKeep(1, (3,), tuple(range(40)))))
    pruned = slice_model(parent, plan)
    tokenizer = checkpoint.load_tokenizer(folders["teacher"])
    checkpoint.save(pruned, tmp_path / "pruned", tokenizer=tokenizer)
    record = run(folders, tmp_path / "out", replace(CONFIG, lora_r=2), model=tmp_path / "pruned")
    healed = checkpoint.load(tmp_path / "out")
    assert [p.shape for p in healed.parameters()] == [p.shape for p in pruned.parameters()]
    assert record.quality["after"]["nll"] < record.quality["before"]["nll"]
    assert record.cost["after"]["params"] < record.baselines[0]["cost"]["params"]


def test_an_interrupted_heal_resumes_to_the_same_file(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, teacher_cache="topk:16")
    plain = room.heal_loss

    def interrupting(*args: Any) -> Any:
        compute, calls = plain(*args), iter(range(100))

        def wrapped(*inputs: Any) -> dict[str, Term]:
            if next(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return compute(*inputs)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(room, "heal_loss", interrupting)
        with pytest.raises(KeyboardInterrupt):
            run(folders, tmp_path / "cut", config)
    assert (tmp_path / "cut.partial" / "state" / "teacher").is_dir()
    run(folders, tmp_path / "cut", config, resume=True)
    run(folders, tmp_path / "whole", config)
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("cut", "whole"))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_heal_that_diverges_leaves_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    wild = replace(
        CONFIG, learning_rate=1e30, warmup_steps=0, max_grad_norm=0, teacher_cache="topk:16"
    )
    with pytest.raises(ConfigError, match="lower learning_rate"):
        run(folders, tmp_path / "out", wild)
    assert list(tmp_path.iterdir()) == []


def test_a_stranger_is_no_teacher(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CompatibilityError, match="one tokenizer"):
        run(folders, tmp_path / "out", teacher=folders["stranger"])
    wide = tiny.model("llama", num_hidden_layers=1, vocab_size=288)
    with pytest.raises(CompatibilityError, match="280 outputs and the teacher 288"):
        run(folders, tmp_path / "out", teacher=wide)
    classifier = tiny.model("llama", auto=AutoModelForSequenceClassification, vocab_size=280)
    with pytest.raises(CompatibilityError, match="the teacher must be a decoder"):
        run(folders, tmp_path / "out", teacher=classifier)
    both = {"model": folders["teacher"], "teacher": folders["student"]}
    with pytest.raises(CompatibilityError, match="swap the two, or set smaller_teacher"):
        run(folders, tmp_path / "out", **both)
    with pytest.raises(ConfigError, match="needs a teacher"):
        run(folders, tmp_path / "out", teacher=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"kl_weight": -1.0},
        {"kl_weight": 0.0, "ce_weight": 0.0},
        {"divergence": "total"},
        {"divergence": "tvd", "teacher_cache": "topk:4"},
        {"divergence": "js", "teacher_cache": "topk:4"},
        {"teacher_cache": "full"},
        {"teacher_cache": "topk:0"},
        {"lora_r": 0},
        {"lora_dropout": 1.0},
        {"context": 1},
    ],
    ids=str,
)
def test_options_are_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        replace(CONFIG, **changes)


@pytest.mark.parametrize("name", ["paper-heal", "cpu-tiny-heal"])
def test_the_shipped_recipes_are_of_this_config(name: str) -> None:
    recipe = yaml.safe_load(files("attar").joinpath(f"recipes/bonsai/{name}.yaml").read_text())
    assert recipe.keys() - {"verb"} <= {field.name for field in fields(HealConfig)}
    assert configured(f"bonsai/{name}", HealConfig, recipe=None)[1] == f"bonsai/{name}"


WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
import test_heal as t
names = ("student", "teacher", "data")
folders = {name: Path(sys.argv[1]) / name for name in names}
config = replace(t.CONFIG, per_device_train_batch_size=2, teacher_cache="topk:16")
t.run(folders, Path(sys.argv[2]), config)
"""


@pytest.mark.slow
def test_two_processes_heal_like_one(folders: dict[str, Path], tmp_path: Path) -> None:
    """Under the launcher itself; others of two processes do without it (`processes.in_two`)."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
            *(script, folders["student"].parent, tmp_path / "two"),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    one = run(folders, tmp_path / "one", replace(CONFIG, teacher_cache="topk:16"))
    two = Run.load(tmp_path / "two")
    assert two.quality["after"]["nll"] == pytest.approx(one.quality["after"]["nll"], abs=1e-5)
    for a, b in zip(one.details["log"], two.details["log"], strict=True):
        for part in ("loss", "ce", "kl", "grad_norm"):
            assert a[part] == pytest.approx(b[part], rel=1e-4)
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("one", "two"))
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=2e-5, rtol=0)


def test_a_model_that_healing_made_worse_comes_with_a_warning(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = {"teacher": folders["teacher"]}
    few = replace(CONFIG, max_steps=2, warmup_steps=0)
    heal(folders["student"], folders["data"], output_dir=tmp_path / "good", config=few, **common)
    assert "worse" not in caplog.text
    wild = replace(few, learning_rate=1e3)
    heal(folders["student"], folders["data"], output_dir=tmp_path / "bad", config=wild, **common)
    assert "healing made the model worse" in caplog.text
    assert Run.load(tmp_path / "bad").quality["after"]["nll"] > 10
