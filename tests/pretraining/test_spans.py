"""T5s of `attar pretrain`: ordinary checkpoints, resumed and trained further; what is refused."""

import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

import scene
import spans
import tiny
from attar.data.tokens import pack, train_bpe
from attar.errors import AttarError, CompatibilityError, ConfigError, DataError
from attar.methods.spactor import SpacTorConfig
from attar.methods.spactor import training as room
from attar.pretraining.config import PretrainConfig
from attar.pretraining.pretrain import pretrain
from attar.report.record import Run
from attar.train.corruption import T5SpanCorruptionCollator, sentinel_ids
from spans import texts

BRIEF = replace(spans.CONFIG, objective="spactor")
CONFIG = replace(BRIEF, max_steps=60, save_steps=20, per_device_train_batch_size=8)
FURTHER = PretrainConfig(
    context=32, max_steps=4, per_device_train_batch_size=4, save_steps=2, eval_tokens=600
)
STAGE = SpacTorConfig(tau=0.5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user gets."""
    out = tmp_path_factory.mktemp("spans") / "t5"
    pretrain(data=texts(), spactor=STAGE, config=CONFIG, output_dir=out)
    return out


def test_the_result_is_an_ordinary_t5(trained: Path) -> None:
    loaded: Any = AutoModelForSeq2SeqLM.from_pretrained(trained, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert type(model) is T5ForConditionalGeneration
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert len(tokenizer) == model.config.vocab_size
    assert model.config.decoder_start_token_id == tokenizer.pad_token_id
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert len(sentinel_ids(tokenizer)) == 100
    prompt = tokenizer("alpha <extra_id_0> beta", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=4)[0]  # pyright: ignore[reportAttributeAccessIssue]
    assert tokenizer.decode(written).startswith("<pad><extra_id_0>")


def test_targets_are_the_text_that_inputs_lack(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    collator = T5SpanCorruptionCollator(tokenizer, input_length=32)
    rows = pack(texts()["train"], tokenizer, context=collator.lengths.raw)
    batch = collator([{"input_ids": ids} for ids in rows["input_ids"]])
    for ids, read, written in zip(
        rows["input_ids"], batch["input_ids"], batch["labels"], strict=True
    ):
        read, target = (tokenizer.decode(i[i >= 0]).removesuffix("</s>") for i in (read, written))
        cut = re.split(r"(<extra_id_\d+>)", target)[1:]
        for mark, span in zip(cut[::2], cut[1::2], strict=True):
            assert read.count(mark) == 1
            read = read.replace(mark, span)
        assert read == tokenizer.decode(ids)


def test_the_record_says_what_both_stages_did(trained: Path) -> None:
    run = Run.load(trained)
    assert (run.command, run.method) == ("pretrain", "spactor")
    assert run.paper is not None
    assert run.paper.arxiv == "2401.13160"
    assert run.quality["after"]["span_nats"] < run.quality["before"]["span_nats"]
    details = run.details
    assert details["tau"] == 30
    assert details["first_stage"]["replaced"] > 0
    assert details["flops"]["total"] == 30 * (
        details["flops"]["first_stage"] + details["flops"]["span"]
    )
    assert ["loss_rtd" in line for line in details["log"]] == [True, True, False, False]
    assert run.settings["mlm_probability"] == 0.15
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(trained)
    assert run.cost["after"]["params"] == model.num_parameters()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brief training without interruption."""
    out = tmp_path_factory.mktemp("spans") / "whole"
    pretrain(data=texts(), spactor=STAGE, config=BRIEF, output_dir=out)
    return out


@pytest.mark.parametrize("at", [3, 5])  # in either stage
def test_an_interrupted_run_resumes_to_the_same_file(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    def interrupting(compute: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGINT)
            return compute(*args, **kwargs)

        return call

    calls: list[int] = []
    cut = tmp_path / "cut"
    options: Any = {"data": texts(), "spactor": STAGE, "config": BRIEF}
    with monkeypatch.context() as patch:
        for name in ("joint_loss", "span_loss"):
            patch.setattr(room, name, interrupting(getattr(room, name)))
        patch.setattr(room, "detection_quality", lambda *_, **__: spans.QUALITY)
        with pytest.raises(KeyboardInterrupt):
            pretrain(**options, output_dir=cut)
    assert not cut.exists()
    changed = options | {"spactor": replace(STAGE, w_rtd=2.0)}
    with pytest.raises(ConfigError, match="w_rtd"):
        pretrain(**changed, output_dir=cut, resume=True)
    pretrain(**options, output_dir=cut, resume=True)
    first, second = (load_file(folder / "model.safetensors") for folder in (cut, whole))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("objective", [None, "spactor"])
def test_training_goes_on_where_it_ended(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, objective: Any
) -> None:
    config = replace(FURTHER, objective=objective)
    run = pretrain(trained, texts(), spactor=STAGE, config=config, output_dir=tmp_path / "out")
    before, after = Run.load(trained), run.quality
    assert after["before"]["span_nats"] == pytest.approx(before.quality["after"]["span_nats"])
    assert run.method == (objective or "span")
    assert run.details["tau"] == (2 if objective else 0)
    assert ("do nothing here" in caplog.text) == (objective is None)
    assert "fine-tune it again" not in caplog.text


def test_a_t5_that_begins_without_a_sentinel_is_told(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    head = model.lm_head.weight.detach().clone()
    answer, sentinel = tokenizer.convert_tokens_to_ids(["a", "<extra_id_0>"])
    head[[answer, sentinel]] = head[[sentinel, answer]]
    model.lm_head.weight = torch.nn.Parameter(head)
    out = tmp_path / "out"
    pretrain(model, texts(), tokenizer=trained, config=FURTHER, output_dir=out)
    assert re.search(
        r"first sentinel with a probability of 0\.\d\d, as a T5.*fine-tune", caplog.text
    )


def test_a_t5_that_was_hardly_trained_is_not_taken_for_fine_tuned(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretrain(whole, texts(), config=FURTHER, output_dir=tmp_path / "out")
    assert "first sentinel" not in caplog.text
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(whole)  # which may have changed since
    pretrain(model, texts(), tokenizer=whole, config=FURTHER, output_dir=tmp_path / "more")
    assert "first sentinel" in caplog.text


def test_much_noise_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = replace(BRIEF, noise_density=0.6, max_steps=1, objective="span")
    pretrain(data=texts(), config=config, output_dir=tmp_path / "out")
    assert "more than half of the text: inputs of 32 tokens get targets of" in caplog.text


def test_options_that_do_nothing_are_told(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(FURTHER, objective="span", hidden_size=64, intermediate_size=96)
    pretrain(
        trained, texts(), spactor=SpacTorConfig(tau=9), config=config, output_dir=tmp_path / "out"
    )
    assert "leave out hidden_size, intermediate_size, which are of a new model" in caplog.text
    assert "options of the first stage, such as tau, do nothing here" in caplog.text


def test_a_model_keeps_its_own_output_table(tmp_path: Path) -> None:
    words = tokenizer()
    apart = t5(len(words))
    apart.lm_head.weight = torch.nn.Parameter(apart.lm_head.weight.detach() * 0.5)
    pretrain(
        apart, texts(), tokenizer=_saved(words, tmp_path), config=FURTHER, output_dir=tmp_path / "o"
    )
    again: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "o")
    assert torch.equal(again.lm_head.weight, apart.lm_head.weight)
    assert not torch.equal(again.lm_head.weight, again.shared.weight)


def test_special_tokens_that_are_spelt_out_are_text(tmp_path: Path) -> None:
    odd = texts(odd="<pad> <extra_id_0> </s> ")
    run = pretrain(data=odd, spactor=STAGE, config=BRIEF, output_dir=tmp_path / "out")
    assert run.details["rows"] > 0


# ------------------------------------------------------------------------------- what is refused


def tokenizer(*, sentinels: int = 40) -> Any:
    return train_bpe(
        texts()["train"], vocab_size=256 + 2 + sentinels, context=32, sentinels=sentinels
    )


def t5(vocab_size: int, **changes: Any) -> Any:
    shape: dict[str, Any] = {"decoder_start_token_id": 0} | changes
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocab_size, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, **shape
        )
    )


def _saved(made: Any, folder: Path) -> Path:
    """A tokenizer, or a model with the tokenizer of `tokenizer()`."""
    made.save_pretrained(folder / "made")
    if isinstance(made, PreTrainedModel):
        tokenizer().save_pretrained(folder / "made")
    return folder / "made"


def _ids(folder: Path) -> Path:
    """As `attar tokenizer encode` writes it."""
    for name in ("train-00000-of-00001.parquet", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder


#: what is given besides text, and the error
REFUSED: dict[str, tuple[Callable[[Path], dict[str, Any]], type[AttarError], str]] = {
    "a tokenizer without sentinels": (
        lambda folder: {"tokenizer": _of_a_decoder(folder)},
        CompatibilityError,
        "2 spans, each of which needs a sentinel of its own.* has 0",
    ),
    "a tokenizer with too few": (
        lambda folder: {"tokenizer": _saved(tokenizer(sentinels=1), folder)},
        CompatibilityError,
        "2 spans, each of which needs a sentinel of its own.* has 1",
    ),
    "a tokenizer without padding": (
        lambda folder: {"tokenizer": _saved(spans.tokenizer(pad_token=None), folder)},
        CompatibilityError,
        "has no pad_token",
    ),
    "a text of less than one row": (
        lambda _: {"data": DatasetDict({n: Dataset.from_dict({"text": ["a b"]}) for n in SPLITS})},
        DataError,
        "at least one block of 34 tokens.*give more text, or lower the context",
    ),
    **{
        f"a context of {context}": (
            lambda _, context=context: {"config": replace(BRIEF, context=context)},
            ConfigError,
            f"context must be 4 or more.*found {context}",
        )
        for context in (1, 2, 3)
    },
    "a tau outside the run": (
        lambda _: {"spactor": SpacTorConfig(tau=7)},
        ConfigError,
        "tau within the run, a whole number of steps up to 6",
    ),
    "a share of too few steps": (
        lambda _: {"spactor": SpacTorConfig(tau=0.05)},
        ConfigError,
        "tau=0.05 as a share of 6 steps leaves the first stage none, as it rounds to 0; give tau",
    ),
    "a share of all steps but none": (
        lambda _: {"spactor": SpacTorConfig(tau=0.99)},
        ConfigError,
        "tau=0.99 as a share of 6 steps leaves the second stage none, as it rounds to 6",
    ),
    "a T5 in float16": (
        lambda folder: {
            "model": t5(298).half(),
            "tokenizer": _saved(tokenizer(), folder),
            "config": FURTHER,
        },
        CompatibilityError,
        "overflow in float16",
    ),
    "a decoder for spans": (
        lambda folder: {
            "model": _saved(tiny.model("llama", vocab_size=298), folder),
            "config": replace(FURTHER, objective="span"),
        },
        CompatibilityError,
        "the model is a LlamaForCausalLM; give a T5, or choose the objective causal",
    ),
    "another encoder-decoder": (
        lambda folder: {
            "model": _saved(tiny.encoder_decoder("marian", vocab_size=298), folder),
            "config": FURTHER,
        },
        CompatibilityError,
        "expected a T5 .* found MarianMTModel",
    ),
    "a T5 for the next token": (
        lambda folder: {
            "model": _saved(t5(298), folder),
            "config": replace(FURTHER, objective="causal"),
        },
        CompatibilityError,
        "the model is a T5ForConditionalGeneration; choose the objective span or spactor",
    ),
    "ids in place of text": (
        lambda folder: {"data": _ids(folder)},
        ConfigError,
        "holds ids without sentinels, made by attar tokenizer encode; give the text",
    ),
    "a table shorter than the tokenizer": (
        lambda folder: {
            "model": t5(120),
            "tokenizer": _saved(spans.tokenizer(), folder),  # sentinels end at 139
            "config": FURTHER,
        },
        CompatibilityError,
        "of id 139, but the model's table has 120 rows",
    ),
}
SPLITS = ("train", "validation", "test")


def _of_a_decoder(folder: Path) -> Path:
    """Of a decoder."""
    return _saved(train_bpe(texts()["train"], vocab_size=290, context=32), folder)


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    given, error, sentence = REFUSED[what]
    (tmp_path / "in").mkdir()
    options: dict[str, Any] = {"data": texts(), "spactor": STAGE, "config": BRIEF}
    options |= given(tmp_path / "in")
    if "tokenizer" in options or "model" in options:
        config = options["config"]
        options["config"] = replace(config, vocab_size=PretrainConfig.vocab_size)
    with pytest.raises(error, match=sentence) as told:
        pretrain(**options, output_dir=tmp_path / "out")
    assert "\n" not in str(told.value)
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--objective", "span", "--fp16"], "Unknown option: --fp16. Did you mean --bf16?"),
        (
            ["--objective", "span", "--no-tie-word-embeddings"],
            "tie_word_embeddings must be true for a T5",
        ),
        (["TEXT", "--objective", "span"], "expected a folder with a model, found the file"),
        (["--objective", "spactor", "--tau", "-1"], "tau must be 0 or more; found -1"),
        (["compare", "sp1", "span1"], "found span1 as well: `attar compare RUN RUN` puts finished"),
        (["compare", "--objective", "causal"], "leave out objective=causal, and choose among them"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_is_mistyped_is_told(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("alpha beta")
    words = [str(text) if word == "TEXT" else word for word in words]
    assert scene.run(["pretrain", *words, "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert "\n" not in told
    assert not (tmp_path / "out").exists()
