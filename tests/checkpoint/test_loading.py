"""What a checkpoint's config and files may say, and what of it counts when it is loaded."""

import json
import resource
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

import tiny
from attar import artefacts, checkpoint
from attar.errors import CompatibilityError, ConfigError, DataError, ResourceError
from attar.slicing import LayerKeep, SlicePlan, slice_model
from cuts import output, random_plan


def stored_with(model, folder, **changes):
    """Save a model, with these keys in its config.json; None leaves one out."""
    model.save_pretrained(folder)
    file = folder / "config.json"
    stored = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in stored.items() if v is not None}))
    return folder


@pytest.mark.parametrize("named", [None, [], ["NobodysModel"], ["pipeline"], "LlamaForCausalLM"])
def test_a_checkpoint_that_names_no_known_class_is_the_language_model_it_has_the_weights_of(
    named, tmp_path
):
    kinds = [("llama", None), ("llama", AutoModel), ("bert", AutoModel)]
    kinds += [("bert", AutoModelForMaskedLM), ("gpt2", None)]
    for number, (family, auto) in enumerate(kinds):
        model = tiny.model(family, auto=auto)
        folder = stored_with(model, tmp_path / str(number), architectures=named)
        assert type(checkpoint.load(folder)) is type(model)
    layers = tiny.model("llama")
    checkpoint.save(slice_model(layers, random_plan(layers)), tmp_path / "layers")
    folder = stored_with(checkpoint.load(tmp_path / "layers"), tmp_path / "x", architectures=named)
    assert type(checkpoint.load(folder)).__name__ == "PerLayerLlamaForCausalLM"


def test_the_class_of_another_type_is_not_taken(tmp_path):
    model, ids = tiny.model("llama"), tiny.ids()
    loaded = checkpoint.load(stored_with(model, tmp_path, architectures=["MistralForCausalLM"]))
    assert type(loaded) is type(model)
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)


@pytest.mark.parametrize("name", ["lm_head.bias", "model.norm.bias"])
def test_a_tensor_of_a_module_is_not_lost_in_silence(name, tmp_path):
    model = tiny.model("llama")
    weights = {**model.state_dict(), name: torch.ones(32)}
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(DataError, match=f"no place for .*{name}"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_head_of_a_task_is_not_lost_where_no_class_is_named(family, tmp_path):
    model = tiny.model(family, auto=AutoModelForSequenceClassification)
    with pytest.raises(DataError, match="architectures"):
        checkpoint.load(stored_with(model, tmp_path, architectures=None))


@pytest.mark.parametrize("auto", [None, AutoModelForMaskedLM])
def test_a_new_head_stands_on_the_body_that_was_stored(auto, tmp_path):
    model = tiny.model("bert", auto=auto)
    checkpoint.save(slice_model(model, random_plan(model)), tmp_path)
    config, loader = checkpoint.read_config(tmp_path), AutoModelForSequenceClassification
    found = checkpoint.load_body(tmp_path, loader=loader, config=config)
    assert type(found).__name__ == "PerLayerBertForSequenceClassification"
    body = checkpoint.load(tmp_path).base_model(tiny.ids())[0]
    torch.testing.assert_close(found.base_model(tiny.ids())[0], body, atol=0, rtol=0)
    config.intermediate_size, config.per_layer_config = 40, None
    with pytest.raises(DataError, match="lacks"):
        checkpoint.load_body(tmp_path, loader=loader, config=config)


@pytest.mark.parametrize(
    "changes",
    [
        {"output_attentions": True},
        {"output_hidden_states": True, "use_cache": False},
        {"return_dict": False},
        {"attn_implementation": "flash_attention_2"},
        {"attn_implementation": "kernels-community/flash-attn"},
    ],
)
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_what_a_config_says_of_running_its_model_changes_nothing(family, changes, tmp_path):
    model, ids = tiny.model(family), tiny.ids()
    loaded = checkpoint.load(stored_with(model, tmp_path / "a", **changes))
    found = loaded(input_ids=ids)
    assert "attentions" not in found
    torch.testing.assert_close(output(found), output(model(input_ids=ids)), atol=1e-6, rtol=1e-6)
    checkpoint.save(loaded, tmp_path / "b")
    assert type(AutoModel.from_pretrained(tmp_path / "b")(input_ids=ids)) is not tuple


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "auto"},
        {"max_position_embeddings": "many"},
        {"num_attention_heads": 0},
        {"hidden_size": 10**9},
        {"use_return_dict": False},
        {"hidden_act": "nobodys"},
    ],
)
def test_a_config_that_transformers_cannot_use_is_named_in_one_sentence(changes, tmp_path):
    with pytest.raises(DataError, match=tmp_path.name) as caught:
        checkpoint.load(stored_with(tiny.model("llama"), tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_quantised_weights_are_refused(tmp_path):
    settings = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(CompatibilityError, match="quantised"):
        checkpoint.load(stored_with(tiny.model(), tmp_path, quantization_config=settings))


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_without_their_scales_are_refused(kind, tmp_path):
    """transformers would take the numbers as they are, and in silence."""
    model = tiny.model("llama")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = (10 * weights[name]).to(kind)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CompatibilityError, match=rf"quantised \({name} is \w+ in model\.safe"):
        checkpoint.load(tmp_path)


def test_an_adapter_is_no_model(tmp_path):
    """transformers would read the model that it names, and put the adapter into it."""
    model = tiny.model("llama")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    for fill in (lambda: None, lambda: model.save_pretrained(tmp_path)):
        fill()
        with pytest.raises(CompatibilityError, match=r"an adapter of PEFT.*merge_and_unload\(\)"):
            checkpoint.load(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"task_type": "SEQ_CLS"}))
    with pytest.raises(CompatibilityError, match="AutoPeftModelForSequenceClassification"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("kept", [0, 1])
def test_layers_that_the_config_does_not_have_are_not_lost_in_silence(kept, tmp_path):
    with pytest.raises(DataError, match=r"no place for .*layers\."):
        checkpoint.load(stored_with(tiny.model("llama"), tmp_path, num_hidden_layers=kept))


def test_pickled_weights_are_refused_with_the_way_to_convert_them(tmp_path):
    folder, model = stored_with(tiny.model("llama"), tmp_path), tiny.model("llama")
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(CompatibilityError, match=r"pytorch_model.bin, a pickle.*LlamaForCausalLM"):
        checkpoint.load(folder)


@pytest.mark.parametrize("read", [checkpoint.load, checkpoint.load_tokenizer])
def test_what_cannot_name_a_model_is_refused(read):
    for model in (5, None, b"x", [], ""):
        with pytest.raises(ConfigError, match="folder or a name on the Hub"):
            read(model)
    with pytest.raises(DataError, match="too long"):
        read("x" * 300)


def test_names_of_code_files_go_where_the_files_are_not_written(tmp_path):
    code = {"AutoConfig": "c.Config", "AutoModelForCausalLM": "m.Model", "AutoModel": "m.Base"}
    model = checkpoint.load(stored_with(tiny.model("phi3"), tmp_path / "a", auto_map=code))
    checkpoint.save(model, tmp_path / "b")
    AutoModelForCausalLM.from_pretrained(tmp_path / "b", trust_remote_code=True)
    checkpoint.save(slice_model(model, random_plan(model)), tmp_path / "c")
    layers = checkpoint.load(tmp_path / "c")
    alike = [LayerKeep(k.layer, (0,), k.neurons[:2]) for k in SlicePlan.identity(layers).layers]
    assert (
        checkpoint.save(slice_model(layers, SlicePlan(tuple(alike))), tmp_path / "d") == "uniform"
    )
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "d", trust_remote_code=True)
    assert found.config.architectures == [type(found).__name__] == ["Phi3ForCausalLM"]


def test_a_full_disk_is_named_in_one_sentence(tmp_path):
    words = "cannot save the checkpoint to .*, as the disk is full"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    try:
        with pytest.raises(ResourceError, match=words):
            checkpoint.save(tiny.model(), tmp_path / "a")
        resource.setrlimit(resource.RLIMIT_FSIZE, (5, old[1]))
        with (
            pytest.raises(ResourceError, match="stopped, as the disk is full"),
            artefacts.workspace(tmp_path / "b", settings={"more": "than 5 bytes"}),
        ):
            raise AssertionError("work began")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert [p.name for p in tmp_path.iterdir()] == []


def test_a_shape_that_the_config_refuses_is_refused_before_anything_is_written(tmp_path):
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 32}
    factors = {"short_factor": [1.0, 1.0], "long_factor": [1.0, 2.0]}
    model = tiny.model("phi3", rope_parameters=rope | factors, original_max_position_embeddings=32)
    narrow = SlicePlan(SlicePlan.identity(model).layers, hidden=tuple(range(0, 32, 2)))
    with pytest.raises(CompatibilityError, match="Phi3Config refuses"):
        checkpoint.save(slice_model(model, narrow), tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("stored", "said", "expected"),
    [
        (torch.bfloat16, "float32", torch.bfloat16),
        (torch.float32, "float16", torch.float16),
        (torch.bfloat16, None, torch.bfloat16),
    ],
)
def test_the_stored_type_counts_unless_the_config_has_a_smaller_one(
    stored, said, expected, tmp_path
):
    folder = stored_with(tiny.model("llama").to(stored), tmp_path, dtype=said)
    assert checkpoint.load(folder).dtype == expected
