"""ONNX files compute what the encoder does, for every head and for pruned encoders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import attar
import cuts
import tiny
from attar.cli.app import run
from attar.conversion import onnx
from attar.errors import CompatibilityError, ConfigError, MissingExtraError
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
    with pytest.raises(ConfigError, match="f32 where"):
        attar.export(tiny.model("bert"), quantize="f16", **options)
    monkeypatch.setattr("torch.onnx.export", lambda *_, **__: 1 / 0)
    with pytest.raises(CompatibilityError, match="cannot trace it"):
        attar.export(tiny.model("bert"), **options)
    monkeypatch.setattr("attar.conversion.export.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"\[onnx\]"):
        attar.export(tiny.model("bert"), **options)
    assert not list(tmp_path.iterdir())
