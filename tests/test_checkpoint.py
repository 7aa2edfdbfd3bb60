"""What is saved loads again, in transformers alone too; what is damaged says so."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

import alone
import processes
import tiny
from attar import checkpoint
from attar.arch import Arch
from attar.errors import CompatibilityError, DataError
from attar.slicing import masked, slice_model
from cuts import CLOSE, output, random_plan

RESTRICTED = ["gemma2", "gemma3_text"]  # their configs take only head counts that divide the width
UNIFORM = [f for f in tiny.CAUSAL if f not in RESTRICTED]


@pytest.mark.parametrize("family", UNIFORM)
def test_uniform_loads_in_plain_transformers_and_equals_the_masked_parent(family, tmp_path):
    model, ids = tiny.model(family), tiny.ids()
    plan = random_plan(model, uniform=True)
    sliced = slice_model(model, plan)
    form = checkpoint.save(sliced, tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert form.startswith("uniform")
    assert not (tmp_path / checkpoint.MODELLING_FILE).exists()
    with torch.no_grad(), masked(model, plan):
        expected = model(input_ids=ids).logits
    torch.testing.assert_close(stock(input_ids=ids).logits, expected, **CLOSE)
    assert generate(stock, ids) == generate(sliced, ids) == generate(stock, ids, use_cache=False)


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_per_layer_loads_with_attar_and_with_its_modelling_file(family, tmp_path):
    model, ids = tiny.model(family), tiny.ids()
    plan = random_plan(model)
    sliced = slice_model(model, plan)
    assert not Arch.of(sliced).uniform
    assert checkpoint.save(sliced, tmp_path) == "per_layer"
    ours = checkpoint.load(tmp_path)
    remote = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    expected = sliced(input_ids=ids).logits
    for found in (ours, remote):
        torch.testing.assert_close(found(input_ids=ids).logits, expected, atol=0, rtol=0)
    assert Arch.of(ours) == Arch.of(sliced)
    texts = [generate(m, ids) for m in (sliced, ours, remote)]
    assert texts[0] == texts[1] == texts[2] == generate(ours, ids, use_cache=False)
    assert generate(ours, ids, cache_implementation="static") == texts[0]
    assert generate(ours, ids, num_beams=2) == generate(sliced, ids, num_beams=2)


def generate(model, ids, **options):
    return model.generate(
        ids, max_new_tokens=6, do_sample=False, pad_token_id=0, **options
    ).tolist()


@pytest.mark.parametrize("form", ["uniform", "remote"])
def test_loads_in_a_process_that_never_imports_attar(form, tmp_path):
    model, ids = tiny.model("llama"), tiny.ids()
    sliced = slice_model(model, random_plan(model, uniform=form == "uniform"))
    checkpoint.save(sliced, tmp_path)
    found = processes.elsewhere(alone.run_model, str(tmp_path), ids.tolist(), form == "remote")
    expected = sliced(input_ids=ids).logits
    torch.testing.assert_close(torch.tensor(found), expected, atol=1e-6, rtol=1e-6)


def test_stock_class_refuses_a_per_layer_checkpoint(tmp_path):
    model = tiny.model("llama")
    checkpoint.save(slice_model(model, random_plan(model)), tmp_path)
    with pytest.raises(RuntimeError, match="mismatch"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_llama_with_an_odd_number_of_heads_is_written_as_mistral(tmp_path):
    model, ids = tiny.model("llama"), tiny.ids()
    plan = random_plan(model, uniform=True)
    plan = type(plan)(
        tuple(type(k)(k.layer, (0, 1, 3), k.neurons) for k in plan.layers)
    )  # 6 heads, width 32
    sliced = slice_model(model, plan)
    assert checkpoint.save(sliced, tmp_path) == "uniform as mistral"
    stored = json.loads((tmp_path / "config.json").read_text())
    assert (stored["model_type"], stored["sliding_window"]) == ("mistral", None)
    found = AutoModelForCausalLM.from_pretrained(tmp_path)(input_ids=ids).logits
    torch.testing.assert_close(found, sliced(input_ids=ids).logits, atol=0, rtol=0)


@pytest.mark.parametrize("family", RESTRICTED)
def test_what_no_stock_class_holds_is_written_per_layer(family, tmp_path):
    model, ids = tiny.model(family), tiny.ids()
    plan = random_plan(model, uniform=True)
    plan = type(plan)(tuple(type(k)(k.layer, (0, 1, 3), k.neurons) for k in plan.layers))
    sliced = slice_model(model, plan)
    assert Arch.of(sliced).uniform
    assert checkpoint.save(sliced, tmp_path) == "per_layer"
    found = checkpoint.load(tmp_path)(input_ids=ids).logits
    torch.testing.assert_close(found, sliced(input_ids=ids).logits, atol=0, rtol=0)


@pytest.mark.parametrize("family", RESTRICTED)
def test_a_config_that_its_class_refuses_is_not_written(family, tmp_path):
    model = tiny.model(family)
    model.config.num_attention_heads = 6  # of width 32
    with pytest.raises(CompatibilityError, match="per_layer"):
        checkpoint.save(model, tmp_path)


@pytest.mark.parametrize("family", tiny.ENCODERS)
@pytest.mark.parametrize("uniform", [True, False])
def test_encoders_reload(family, uniform, tmp_path):
    model, ids = tiny.model(family), tiny.ids()
    sliced = slice_model(model, random_plan(model, uniform=uniform))
    checkpoint.save(sliced, tmp_path)
    found = output(checkpoint.load(tmp_path)(input_ids=ids))
    torch.testing.assert_close(found, output(sliced(input_ids=ids)), atol=0, rtol=0)


def test_saving_what_was_loaded_changes_nothing(tmp_path):
    model = tiny.model("llama")
    checkpoint.save(slice_model(model, random_plan(model)), tmp_path / "a")
    again = checkpoint.load(tmp_path / "a")
    checkpoint.save(again, tmp_path / "b")
    configs = [json.loads((tmp_path / x / "config.json").read_text()) for x in "ab"]
    assert configs[0] == configs[1]
    first, second = (checkpoint.load(tmp_path / x).state_dict() for x in "ab")
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("uniform", [True, False])
def test_tied_embeddings_stay_tied(uniform, tmp_path):
    model = tiny.model("llama", tie_word_embeddings=True)
    sliced = slice_model(model, random_plan(model, uniform=uniform))
    checkpoint.save(sliced, tmp_path)
    found = checkpoint.load(tmp_path)
    assert found.lm_head.weight is found.model.embed_tokens.weight
    with safe_open(tmp_path / "model.safetensors", "pt") as stored:
        assert "lm_head.weight" not in set(stored.keys())


def test_dtype_is_kept_and_can_be_chosen(tmp_path):
    model = tiny.model("llama").to(torch.bfloat16)
    checkpoint.save(slice_model(model, random_plan(model)), tmp_path)
    assert checkpoint.load(tmp_path).dtype == torch.bfloat16
    assert checkpoint.load(tmp_path, dtype=torch.float32).dtype == torch.float32


def spoil_config(folder):
    (folder / "config.json").write_text("{")


def spoil_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lose_weights(folder):
    (folder / "model.safetensors").unlink()


def widen_config(folder):
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | {"intermediate_size": 56}))


def lose_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    "spoil", [spoil_config, spoil_weights, lose_weights, widen_config, lose_config]
)
def test_damaged_checkpoints_are_named_in_one_sentence(spoil, tmp_path):
    checkpoint.save(tiny.model("llama"), tmp_path)
    checkpoint.load(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=tmp_path.name) as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "nobody/no-such-model", "a b c"])
def test_unknown_models_are_refused(name):
    with pytest.raises(DataError, match=r"no model|neither"):
        checkpoint.load(name)


def test_fingerprints_tell_models_apart():
    model = tiny.model()
    mark = checkpoint.fingerprint(model)
    assert mark == checkpoint.fingerprint(tiny.model())
    with torch.no_grad():
        model.model.norm.weight[3] += 1e-3
    assert mark != checkpoint.fingerprint(model)
