"""Pre-training end to end: an ordinary checkpoint, resumed without a trace; shipped recipes."""

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from attar.errors import ConfigError, DataError
from attar.pretraining import causal as room
from attar.pretraining.config import PretrainConfig
from attar.pretraining.pretrain import pretrain
from attar.pretraining.shapes import build_model
from attar.recipes import configured
from attar.report.record import Run
from attar.train.trainer import Term, fit, next_token_loss

CONFIG = PretrainConfig(
    vocab_size=280,
    context=32,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    max_steps=6,
    per_device_train_batch_size=4,
    save_steps=2,
    logging_steps=2,
    eval_tokens=400,
)


def texts(documents: int = 60) -> DatasetDict:
    rng = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta", "return", "import", "0", "42", "\n"]
    rows = [" ".join(rng.choices(words, k=40)) for _ in range(documents)]
    cuts = {"train": rows[:-20], "validation": rows[-20:-10], "test": rows[-10:]}
    return DatasetDict({name: Dataset.from_dict({"text": rows}) for name, rows in cuts.items()})


def test_text_that_is_read_hundreds_of_times_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(CONFIG, max_steps=1, per_device_train_batch_size=256, save_steps=1)
    pretrain(data=texts(21), config=config, output_dir=tmp_path / "out")
    assert "the model will memorise them; give more text" in caplog.text


def test_the_result_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "model"
    run = pretrain(data=texts(), config=CONFIG, output_dir=out, recipe="pocket/test")
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.config.model_type == "llama"
    assert model.config.tie_word_embeddings
    assert model.config.use_cache
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.num_parameters() == run.cost["after"]["params"]
    assert run.quality["after"]["bits_per_byte"] < run.quality["before"]["bits_per_byte"]
    assert run.details["tokens"] == 6 * 4 * 32
    assert run.settings["recipe"] == "pocket/test"
    assert Run.load(out).to_dict() == run.to_dict()
    assert not (tmp_path / "model.partial").exists()
    text = "alpha  beta\n\tgamma é"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_interrupted_run_resumes_to_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def interrupted(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return next_token_loss(model, batch)

    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr(room, "fit", lambda *a, **k: fit(*a, **k, compute=interrupted))
        with pytest.raises(KeyboardInterrupt):
            pretrain(data=texts(), config=CONFIG, output_dir=cut)
    assert not cut.exists()
    with pytest.raises(ConfigError, match="max_steps"):
        pretrain(data=texts(), config=replace(CONFIG, max_steps=7), output_dir=cut, resume=True)
    pretrain(data=texts(), config=CONFIG, output_dir=cut, resume=True)
    pretrain(data=texts(), config=CONFIG, output_dir=whole)
    first, second = (load_file(folder / "model.safetensors") for folder in (cut, whole))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_diverges_leaves_nothing(tmp_path: Path) -> None:
    wild = replace(CONFIG, learning_rate=1e30, warmup_steps=0, max_grad_norm=0)
    with pytest.raises(ConfigError, match="lower learning_rate"):
        pretrain(data=texts(), config=wild, output_dir=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_too_little_text_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        pretrain(data=texts(), config=replace(CONFIG, context=8192), output_dir=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_seed_alone_decides_the_first_weights() -> None:
    tokenizer = room.train_bpe(texts()["train"], vocab_size=280, context=32)

    def first(seed: int) -> Tensor:
        return build_model(replace(CONFIG, seed=seed), tokenizer).lm_head.weight

    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "changes",
    [{"num_attention_heads": 3}, {"num_key_value_heads": 0}, {"context": 0}],
    ids=str,
)
def test_impossible_shapes_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        replace(CONFIG, **changes)


def test_key_and_value_heads_hold_back_a_llama_alone(tmp_path: Path) -> None:
    config = replace(CONFIG, num_key_value_heads=3)
    with pytest.raises(ConfigError, match="num_key_value_heads must be a divisor of"):
        pretrain(data=texts(), config=config, output_dir=tmp_path / "llama")
    assert not (tmp_path / "llama").exists()
    assert replace(config, objective="span").num_key_value_heads == 3


@pytest.mark.parametrize(("name", "millions"), [("1m", 0.99), ("6m", 6.13), ("30m", 27.8)])
def test_the_shipped_recipes_give_what_they_say(name: str, millions: float) -> None:
    config, _ = configured(f"pocket/{name}", PretrainConfig, recipe=None)
    d, e = config.hidden_size, config.hidden_size // config.num_attention_heads
    heads = 2 * (config.num_attention_heads + config.num_key_value_heads)
    layer = d * e * heads + 3 * d * config.intermediate_size + 2 * d
    total = config.vocab_size * d + config.num_hidden_layers * layer + d
    assert total / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_defaults_are_the_smallest_recipe() -> None:
    assert configured("pocket/1m", PretrainConfig, recipe=None)[0] == PretrainConfig()
