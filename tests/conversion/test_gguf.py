"""GGUF files hold the model: read by other code than that which wrote them, it is the same one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.llama import modeling_llama

import attar
import cuts
import tiny
from attar import checkpoint
from attar.cli.app import run
from attar.errors import AttarError, CompatibilityError, ConfigError
from attar.report.record import Run
from attar.slicing import slice_model
from ggufs import LLAMA3

ROWS = 320  # more than the tokenizer has
#: what transformers reads, which undoes what llama.cpp wants by code of its own
READ = ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text"]
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}


def model_of(family: str, **changes: Any) -> PreTrainedModel:
    return tiny.model(family, vocab_size=ROWS, **changes)


def per_layer(family: str, **changes: Any) -> PreTrainedModel:
    model = model_of(family, **changes)
    return slice_model(model, cuts.random_plan(model, seed=1))


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(tiny.ids()).logits


def tensors(folder: Path) -> dict[str, Tensor]:
    reader = GGUFReader(next(folder.glob("*.gguf")))
    return {
        t.name: torch.from_numpy(dequantize(t.data, t.tensor_type).copy()).view(
            *(int(n) for n in reversed(t.shape))
        )
        for t in reader.tensors
    }


def fields(folder: Path) -> dict[str, Any]:
    reader = GGUFReader(next(folder.glob("*.gguf")))
    return {name: field.contents() for name, field in reader.fields.items()}


@pytest.mark.parametrize("family", READ)
def test_transformers_reads_the_same_model(
    family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = model_of(family)
    run_ = attar.export(model, tokenizer=tokenizer, quantize="f32", output_dir=tmp_path / "out")
    options: dict[str, Any] = {"gguf_file": run_.details["file"], "config": model.config}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", **options)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-4)


def rotate_pairs(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
    """Rotary embeddings as llama.cpp has them: channels 2i and 2i + 1 turn together."""
    half = cos.shape[-1] // 2
    cos, sin = cos[..., :half].unsqueeze(1), sin[..., :half].unsqueeze(1)

    def turned(x: Tensor) -> Tensor:
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

    return turned(q), turned(k)


@pytest.mark.parametrize("rope", [None, LLAMA3])
def test_rows_are_ordered_for_pairs_by_the_heads_of_each_layer(
    rope: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = per_layer("llama", **({"rope_parameters": rope} if rope else {}))
    expected = logits(model)
    attar.export(model, tokenizer=tokenizer, quantize="f32", output_dir=tmp_path / "out")
    there = tensors(tmp_path / "out")
    weights = dict(model.named_parameters())
    for index in range(model.config.num_hidden_layers):
        for name in ("q", "k"):
            stored = there[f"blk.{index}.attn_{name}.weight"]
            weights[f"model.layers.{index}.self_attn.{name}_proj.weight"].data.copy_(stored)
    assert not torch.allclose(logits(model), expected, atol=1e-2)
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", rotate_pairs)
    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)
    if rope:  # what llama.cpp divides the plain frequencies by
        plain = 1e4 ** -(torch.arange(0, 4, 2) / 4)
        frequencies = plain / there["rope_freqs.weight"]
        torch.testing.assert_close(frequencies, model.model.rotary_emb.inv_freq)


def test_layers_that_differ_are_told_one_by_one(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = per_layer("qwen2")
    attar.export(model, tokenizer=tokenizer, output_dir=tmp_path / "out")
    told, layers = fields(tmp_path / "out"), model.config.per_layer_config
    assert told["general.architecture"] == "deci"
    for key, name in (
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("feed_forward_length", "intermediate_size"),
    ):
        assert told[f"deci.{key}"] == [getattr(layers[i], name) for i in range(3)]
    assert told["deci.attention.key_length"] == told["deci.rope.dimension_count"] == 4
    assert "output.weight" not in tensors(tmp_path / "out")  # the embeddings again


@pytest.mark.parametrize("quantize", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_types_of_tensors(
    quantize: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = model_of("llama", hidden_size=64, intermediate_size=80)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    details = attar.export(
        model, tokenizer=tokenizer, quantize=quantize, output_dir=tmp_path / "out"
    ).details
    reader = GGUFReader(tmp_path / "out" / details["file"])
    kinds = {t.name: t.tensor_type.name.lower() for t in reader.tensors}
    assert kinds["blk.0.attn_q.weight"] == quantize
    assert kinds["blk.0.attn_norm.weight"] == "f32"
    # 80 columns are no whole number of blocks of 32
    coarse = quantize.startswith("q")
    assert kinds["blk.0.ffn_down.weight"] == ("f16" if coarse else quantize)
    assert kinds["output.weight"] == ("q8_0" if coarse else quantize)
    assert [("in f16" in note) for note in details["notes"]] == [True] * coarse
    assert details["bytes"] == (tmp_path / "out" / details["file"]).stat().st_size
    assert (details["check"]["largest_difference"] == 0) == (quantize == "f32")
    for name, weight in model.named_parameters():  # the caller's model stays as it was
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize(("quantize", "factor"), [("f16", 1e6), ("f16", 1e-8), ("q8_0", 1e-6)])
def test_numbers_beyond_float16_stay(
    quantize: Any, factor: float, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = model_of("llama")
    weight = model.model.layers[1].mlp.up_proj.weight
    weight.data *= factor
    out = tmp_path / "out"
    details = attar.export(model, tokenizer=tokenizer, quantize=quantize, output_dir=out).details
    assert "blk.1.ffn_up.weight" in "".join(details["notes"])
    torch.testing.assert_close(tensors(out)["blk.1.ffn_up.weight"], weight.data, rtol=1e-2, atol=0)


def test_a_qwen2_with_fewer_heads_is_a_llama_with_biases(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = model_of("qwen2")
    sliced = slice_model(model, cuts.random_plan(model, uniform=True))
    details = attar.export(sliced, tokenizer=tokenizer, output_dir=tmp_path / "out").details
    assert details["architecture"] == "llama"
    assert tensors(tmp_path / "out")["blk.0.attn_q.bias"].shape == (16,)


REFUSED = {
    "per-layer qwen3": (lambda: per_layer("qwen3"), "layers differ in width"),
    "per-layer gemma": (lambda: per_layer("gemma2"), "layers differ in width"),
    "another family": (lambda: model_of("phi"), "its type is phi"),
    "an encoder": (lambda: tiny.model("bert"), "causal language model"),
    "activation": (lambda: model_of("llama", hidden_act="relu"), "activation is relu"),
    "dynamic": (
        lambda: model_of("llama", rope_parameters={**YARN, "rope_type": "dynamic"}),
        "'dynamic'",
    ),
    "yarn of its own": (
        lambda: model_of("llama", rope_parameters={**YARN, "attention_factor": 2.0}),
        "'yarn'",
    ),
    "qwen3 scaled as llama3": (
        lambda: model_of("qwen3", rope_parameters=LLAMA3),
        "'llama3'",
    ),
    "windows out of order": (
        lambda: model_of("gemma2", layer_types=["full_attention"] * 3),
        "but one in 2",
    ),
    "gemma with an output": (
        lambda: model_of("gemma", tie_word_embeddings=False),
        "output matrix",
    ),
    "positions out of order": (
        lambda: model_of("smollm3", no_rope_layers=[1, 0, 1]),
        "every fourth layer",
    ),
    "a number too large": (
        lambda: model_of("llama", max_position_embeddings=10**12),
        "context_length of this model is 1000000000000",
    ),
    "biases": (lambda: model_of("qwen3", attention_bias=True), "no place for"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_cannot_run_is_refused(
    case: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    build, said = REFUSED[case]
    with pytest.raises(CompatibilityError, match=said):
        attar.export(build(), tokenizer=tokenizer, output_dir=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_windows_that_llama_cpp_lacks_bound_the_context(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = model_of("mistral", sliding_window=24)
    details = attar.export(model, tokenizer=tokenizer, output_dir=tmp_path / "out").details
    assert "24 tokens" in details["notes"][0]
    assert fields(tmp_path / "out")["llama.context_length"] == 24


def test_a_file_that_holds_another_model_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attar.conversion.gguf._rotated", lambda name, shape: 2)
    with pytest.raises(CompatibilityError, match="read back"):
        monkeypatch.setattr(
            "attar.conversion.gguf_check.restored", lambda stored, name, shape: -stored
        )
        attar.export(model_of("llama"), tokenizer=tokenizer, output_dir=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def full(*_: Any) -> None:
    """What NumPy raises on a full disk."""
    raise OSError("1024 requested and 24 written")


def test_mistakes_are_one_sentence(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = model_of("llama")
    calls: list[tuple[dict[str, Any], type[AttarError], str]] = [
        ({"quantize": "q5"}, ConfigError, "quantize must be one of"),
        ({"format": "onnx2"}, ConfigError, "format must be"),
    ]
    for options, error, said in calls:
        with pytest.raises(error, match=said):
            attar.export(model, tokenizer=tokenizer, output_dir=tmp_path / "out", **options)
    broken: Any = model_of("llama")
    broken.model.norm.weight.data[0] = torch.nan
    with pytest.raises(AttarError, match="holds NaN"):
        attar.export(broken, tokenizer=tokenizer, output_dir=tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("gguf.GGUFWriter.write_tensor_data", full)
        with pytest.raises(AttarError, match="make room on the disk"):
            attar.export(model, tokenizer=tokenizer, output_dir=tmp_path / "out")
    usage = type("Usage", (), {"free": 10})
    with monkeypatch.context() as patch:
        patch.setattr("attar.artefacts.shutil.disk_usage", lambda folder: usage)
        with pytest.raises(AttarError, match="make room"):
            attar.export(model, tokenizer=tokenizer, output_dir=tmp_path / "out")
    monkeypatch.setattr("attar.conversion.export.find_spec", lambda name: None)
    with pytest.raises(AttarError, match=r"\[gguf\]"):
        attar.export(model, tokenizer=tokenizer, output_dir=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_command_line_writes_the_file_and_its_record(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attar.save(per_layer("llama"), tmp_path / "small", tokenizer=tokenizer)
    out = tmp_path / "out"
    assert run(["export", str(tmp_path / "small"), "--quantize", "q8_0", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "deci" in said
    assert "small-Q8_0.gguf" in said
    record = Run.load(out)
    assert sorted(file.name for file in out.iterdir()) == ["attar.json", "small-Q8_0.gguf"]
    assert record.details["check"]["same_token"] > 0.5
    assert json.loads((out / "attar.json").read_text())["settings"]["quantize"] == "q8_0"
    told = fields(out)
    assert np.all(np.diff(told["tokenizer.ggml.token_type"][300:]) == 0)
    assert told["tokenizer.ggml.tokens"][310] == "[PAD310]"


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_attar_reads_what_it_wrote(
    family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTAR_HOME", str(tmp_path / "home"))
    model = model_of(family)
    checkpoint.save(model, tmp_path / "small", tokenizer=tokenizer)
    card = "---\nlicense: apache-2.0\nlanguage:\n- en\n- th\n---\n"
    (tmp_path / "small" / "README.md").write_text(card)
    run_ = attar.export(tmp_path / "small", quantize="f32", output_dir=tmp_path / "out")
    file = tmp_path / "out" / run_.details["file"]
    torch.testing.assert_close(logits(checkpoint.load(file)), logits(model))
    again = attar.export(file, output_dir=tmp_path / "again")
    assert again.details["file"] == "small-F32-F16.gguf"
    told = fields(tmp_path / "again")
    assert (told["general.license"], told["general.languages"]) == ("apache-2.0", ["en", "th"])
    text = "I'm 12345 d\u00e9j\u00e0\n\n vu  x"
    assert checkpoint.load_tokenizer(file)(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_eight_bits_are_not_taken_for_another_model(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = model_of("llama", hidden_size=64, intermediate_size=96, num_hidden_layers=12)
    with torch.no_grad():  # so that what rounding changes grows from layer to layer
        for name, weight in model.named_parameters():
            if "layers." in name and weight.dim() > 1:
                weight.mul_(2)
    run_ = attar.export(model, quantize="q8_0", tokenizer=tokenizer, output_dir=tmp_path / "out")
    assert 0.2 < run_.details["check"]["relative_difference"] < 0.5
