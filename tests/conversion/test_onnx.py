"""ONNX files compute what the encoder does, for every head and for pruned encoders."""

import copy
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import attar
import cuts
import tiny
from attar.cli.app import run
from attar.conversion import onnx
from attar.conversion.export import export_lines, write_onnx
from attar.errors import CompatibilityError, ConfigError, MissingExtraError, ResourceError
from attar.report.record import Run
from attar.slicing import slice_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "auto", "outputs"),
    [
        ("bert", AutoModelForSequenceClassification, ["logits"]),
        ("roberta", AutoModelForQuestionAnswering, ["start_logits", "end_logits"]),
        ("modernbert", None, ["last_hidden_state"]),
    ],
)
def test_onnxruntime_computes_the_same(
    family: str,
    auto: Any,
    outputs: list[str],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parent = tiny.model(family, auto=auto, vocab_size=320, num_hidden_layers=2)
    model = slice_model(parent, cuts.random_plan(parent, seed=1))
    attar.save(model, tmp_path / "small", tokenizer=tokenizer)
    (tmp_path / "small" / "1_Pooling").mkdir()
    (tmp_path / "small" / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "small" / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
    out = tmp_path / "out"
    assert run(["export", str(tmp_path / "small"), "--format", "onnx", "-o", str(out)]) == 0
    assert "model.onnx" in capsys.readouterr().out
    assert json.loads((out / "attar.json").read_text())["details"]["outputs"] == outputs
    assert (out / "1_Pooling" / "config.json").exists()  # of sentence-transformers
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    encoded = tokenizer(["def f(x):", "return"], padding=True, return_tensors="pt")
    given = {each.name: encoded[each.name].numpy() for each in session.get_inputs()}
    theirs = dict(zip(outputs, session.run(None, given), strict=True))
    with torch.no_grad():
        ours = model(**{name: torch.from_numpy(value) for name, value in given.items()})
    for name in outputs:
        text = encoded["attention_mask"].bool().numpy() if name != "logits" else slice(None)
        np.testing.assert_allclose(theirs[name][text], ours[name].numpy()[text], atol=1e-4)
    assert attar.load_tokenizer(out)("def f")["input_ids"] == tokenizer("def f")["input_ids"]
    with torch.no_grad():
        next(model.parameters()).mul_(-1)
    with pytest.raises(CompatibilityError, match="differ"):
        onnx.verify(out / "model.onnx", model, inputs=list(given))


def test_mistakes_are_one_sentence(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"format": "onnx", "tokenizer": tokenizer}
    options["output_dir"] = tmp_path / "out"
    with pytest.raises(CompatibilityError, match="--format gguf"):
        attar.export(tiny.model("llama"), **options)
    shape: Any = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    both = T5ForConditionalGeneration(T5Config(vocab_size=320, **shape))
    with pytest.raises(CompatibilityError, match="no other format"):
        attar.export(both, **options)
    for kind in ("q8_0", "bf16"):
        with pytest.raises(ConfigError, match="f32, f16, int8 where the format is onnx"):
            attar.export(tiny.model("bert"), quantize=kind, **options)
    with pytest.raises(ConfigError, match="where the format is gguf"):
        attar.export(tiny.model("llama"), quantize="int8", **options | {"format": "gguf"})
    monkeypatch.setattr("torch.onnx.export", lambda *_, **__: 1 / 0)
    with pytest.raises(CompatibilityError, match="cannot trace it"):
        attar.export(tiny.model("bert"), **options)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("torch.onnx.export", Mock(side_effect=full))
    with pytest.raises(ResourceError, match="disk is full"):
        attar.export(tiny.model("bert"), quantize="int8", **options)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(ResourceError, match="make room"):
            attar.export(tiny.model("bert"), quantize="int8", **options)
    monkeypatch.setattr("attar.conversion.export.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"\[onnx\]"):
        attar.export(tiny.model("bert"), **options)
    assert not list(tmp_path.iterdir())


TEXTS = ["a fine film", "dull, and too long for anybody who has seen one before", "fine"]
PAIRS = [("a fine film", "a dull one"), ("dull", "dull, and far too long"), ("one", "a")]
EXAMPLE = Path(__file__).parents[2] / "examples" / "answer_with_onnxruntime.py"
ALONE = """
import json, runpy, sys
made = runpy.run_path(sys.argv[1])["Classifier"](sys.argv[2])
texts = json.loads(sys.argv[3])
for given in (texts[0], [tuple(pair) for pair in texts[1]]):
    print(json.dumps([made.logits(given).tolist(), made.classify(given)]))
absent = {"torch", "transformers", "attar"} & set(sys.modules)
assert not absent, absent
"""


@pytest.fixture(scope="module")
def small() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A student as a plan makes it: a tokenizer of its own and random weights."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=letters,
        show_progress=False,
    )
    raw.train_from_iterator(TEXTS * 3, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=48, **names)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=50,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        id2label={0: "good", 1: "bad", 2: "neither"},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RobertaForSequenceClassification(config).eval()
        for weight in model.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
    return model, tokenizer


@pytest.fixture(scope="module")
def exported(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder in eight bits, from a checkpoint in bfloat16."""
    model, tokenizer = small
    folder = tmp_path_factory.mktemp("onnx")
    model.bfloat16()
    attar.save(model, folder / "small", tokenizer=tokenizer)
    model.float()
    words = ["export", str(folder / "small"), "--format", "onnx", "--quantize", "int8"]
    assert run([*words, "-o", str(folder / "out")]) == 0
    return folder / "out"


def test_a_process_without_torch_gives_the_same_answers(small: Any, exported: Path) -> None:
    model, tokenizer = small
    found = subprocess.run(
        [sys.executable, "-c", ALONE, str(EXAMPLE), str(exported), json.dumps([TEXTS, PAIRS])],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": ""},
    )
    for given, line in zip((TEXTS, PAIRS), found.stdout.splitlines(), strict=True):
        logits, classes = json.loads(line)
        first, second = (given, None) if given is TEXTS else zip(*given, strict=True)
        encoded = tokenizer(first, second and list(second), padding=True, return_tensors="pt")
        assert 0 in encoded["attention_mask"]
        with torch.no_grad():
            ours = model(**encoded).logits
        difference = torch.tensor(logits) - ours
        assert float(difference.norm() / ours.norm()) < 0.05
        names = [model.config.id2label[i] for i in ours.argmax(-1).tolist()]
        assert [name for name, _ in classes] == names
        shares = ours.softmax(-1).amax(-1).tolist()
        assert [share for _, share in classes] == pytest.approx(shares, abs=0.05)


def test_the_record_says_what_was_written(small: Any, exported: Path) -> None:
    model, tokenizer = small
    record = Run.load(exported)
    details = record.details
    assert details["bytes"] == (exported / "model.onnx").stat().st_size
    assert sum(details["parts"].values()) == details["bytes"]
    assert details["files"] == {
        name: (exported / name).stat().st_size
        for name in ("config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json")
    }
    weights = sum(weight.numel() for weight in model.parameters() if weight.ndim > 1)
    assert details["parts"]["matrices"] == weights - 32  # the only type of tokens is a vector
    assert details["parts"]["graph"] < 4500
    check = details["check"]
    assert 0 < check["mean_difference"] < check["largest_difference"]
    assert 0 < check["relative_difference"] < 0.1
    assert check["same_class"] > 0.9
    lines = dict(export_lines(record))
    assert lines["weights"].startswith("int8: matrices 26 kB")
    assert "same class" in lines["verified"]
    assert attar.load_tokenizer(exported)(TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]


def test_other_answers_are_refused(small: Any, exported: Path) -> None:
    model, tokenizer = small
    inputs = onnx.inputs_of(tokenizer)
    batches = [tokenizer(TEXTS, padding=True, return_tensors="pt")]
    check = onnx.verify(
        exported / "model.onnx", model, inputs=inputs, quantize="int8", batches=batches
    )
    assert check["same_class"] == 1.0
    with pytest.raises(CompatibilityError, match="in onnxruntime its outputs differ"):
        onnx.verify(exported / "model.onnx", model, inputs=inputs)  # as if it were in float32
    bias = model.classifier.out_proj.bias
    with torch.no_grad():
        bias += 3
    with pytest.raises(CompatibilityError, match=r"int8.*write it in f32"):
        onnx.verify(exported / "model.onnx", model, inputs=inputs, quantize="int8", batches=batches)
    with torch.no_grad():
        bias -= 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_a_model_in_memory_stays_as_it_is(kind: Any, small: Any, tmp_path: Path) -> None:
    model, tokenizer = small
    half = copy.deepcopy(model).bfloat16()
    before = {name: value.clone() for name, value in half.state_dict().items()}
    details = write_onnx(tmp_path, half, tokenizer=tokenizer, quantize=kind)
    assert all(torch.equal(before[name], value) for name, value in half.state_dict().items())
    weights = sum(weight.numel() for weight in model.parameters())
    values = details["parts"]["matrices"] + details["parts"]["vectors"]
    assert values == pytest.approx(weights * (4 if kind == "f32" else 2), rel=0.01)
    assert details["files"]["model.onnx"] == details["bytes"]
