"""What is saved loads again, in transformers alone too; what is damaged says so."""

import itertools
import json
import logging.handlers
import pickle

import pytest
import torch
import transformers
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import alone
import processes
import tiny
from attar import checkpoint
from attar.arch import Arch
from attar.errors import CompatibilityError, DataError
from attar.slicing import LayerKeep, SlicePlan, masked, slice_model
from cuts import CLOSE, HEADS, output, random_plan

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


def test_no_notice_of_transformers_about_widths_that_differ(tmp_path):
    said = logging.getLogger("transformers.integrations.heterogeneity.configuration_utils")
    heard = logging.handlers.BufferingHandler(100)
    said.addHandler(heard)
    model = tiny.model("llama")
    try:
        for step in ("cut", "save", "load"):
            if step != "save":  # each is said once in a process
                transformers.utils.logging.warning_once.cache_clear()
            if step == "cut":
                model = slice_model(model, random_plan(model))
            elif step == "save":
                checkpoint.save(model, tmp_path)
            elif step == "load":
                model = checkpoint.load(tmp_path)
                generate(model, tiny.ids())
            assert [record.getMessage() for record in heard.buffer] == [], step
    finally:
        said.removeHandler(heard)


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


def saved_by_trainer(model, folder):
    rows = [{"input_ids": row, "labels": row} for row in tiny.ids()]
    options = TrainingArguments(
        folder, max_steps=1, learning_rate=0, report_to="none", use_cpu=True
    )
    Trainer(model, options, train_dataset=rows).train()
    return folder / "checkpoint-1"


def saved_by_peft(model, folder):
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, lora).merge_and_unload().save_pretrained(folder)
    return folder


def saved_by_itself(model, folder):
    model.save_pretrained(folder, max_shard_size=20_000)
    return folder


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # peft asks for it
@pytest.mark.parametrize("save", [saved_by_itself, saved_by_trainer, saved_by_peft])
def test_a_per_layer_model_survives_the_tools_that_save_it(save, tmp_path):
    model, ids = tiny.model("llama"), tiny.ids()
    sliced = slice_model(model, random_plan(model))
    expected = sliced(input_ids=ids).logits
    checkpoint.save(sliced, tmp_path / "a")
    readers = {
        "ours": checkpoint.load,
        "remote": lambda folder: AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=True
        ),
    }
    for name, model in {
        "cut": sliced,
        **{k: read(tmp_path / "a") for k, read in readers.items()},
    }.items():
        folder = save(model, tmp_path / name)
        for read in readers.values():
            again = read(folder).eval()
            torch.testing.assert_close(again(input_ids=ids).logits, expected, atol=1e-6, rtol=1e-6)
            assert pickle.loads(pickle.dumps(again)).config.architectures == [type(again).__name__]
    found = processes.elsewhere(alone.run_model, str(folder), ids.tolist(), True)
    torch.testing.assert_close(torch.tensor(found), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "head"), [("gpt2", None), *itertools.product(["llama", "bert"], HEADS)]
)
def test_every_class_of_a_per_layer_model_is_named_for_the_loaders(family, head, tmp_path):
    if (family, head) == ("llama", "mlm"):
        return
    model, ids = tiny.model(family, auto=HEADS.get(head)), tiny.ids()
    sliced = slice_model(model, random_plan(model))
    sliced.save_pretrained(tmp_path)
    autos = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    name = f"modeling_per_layer.PerLayer{type(model).__name__}"
    auto = {name: auto for auto, name in autos.items()}[name]
    assert (len(autos) == 1) == (family not in tiny.ENCODERS)
    remote = getattr(transformers, auto).from_pretrained(tmp_path, trust_remote_code=True)
    for again in (checkpoint.load(tmp_path), remote):
        torch.testing.assert_close(again(ids)[0], sliced(ids)[0], atol=1e-6, rtol=1e-6)


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


@pytest.mark.parametrize(
    ("family", "changes", "groups", "name"),
    [
        ("llama", {}, (0, 1, 3), "MistralForCausalLM"),
        ("llama", {"attention_bias": True}, (0, 1, 3), "GraniteForCausalLM"),
        ("llama", {"mlp_bias": True}, (0, 1, 3), "GraniteForCausalLM"),
        ("llama", {"attention_bias": True}, (0, 3), "LlamaForCausalLM"),
        ("qwen2", {"tie_word_embeddings": False}, (0, 1), "LlamaForCausalLM"),
        ("qwen2", {}, (0, 1, 3), "GraniteForCausalLM"),
        ("qwen2", {}, (0, 1, 2, 3), "Qwen2ForCausalLM"),
        ("qwen2", {"auto": HEADS["classes"]}, (1,), "LlamaForSequenceClassification"),
    ],
)
def test_fewer_heads_are_written_as_a_class_with_a_head_size_of_its_own(
    family, changes, groups, name, tmp_path
):
    model, ids = tiny.model(family, **changes), tiny.ids()
    keeps = random_plan(model, uniform=True).layers
    plan = SlicePlan(tuple(LayerKeep(k.layer, groups, k.neurons) for k in keeps))
    sliced = slice_model(model, plan).to(torch.float64)
    form = checkpoint.save(sliced, tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["architectures"] == [name]
    own = stored["model_type"] == family
    assert form == ("uniform" if own else f"uniform as {stored['model_type']}")
    assert stored.get("head_dim", 4) == 4
    assert stored.get("sliding_window") is None
    found = (
        changes.get("auto", AutoModelForCausalLM).from_pretrained(tmp_path)(input_ids=ids).logits
    )
    torch.testing.assert_close(found, sliced(input_ids=ids).logits, atol=1e-12, rtol=1e-12)


def test_where_no_class_holds_fewer_heads_for_other_programs_they_stay():
    free = {f: checkpoint.has_stock_form(tiny.model(f).config) for f in tiny.HEADED}
    stay = {"phi", "phi3", "olmo", "starcoder2", *RESTRICTED}
    assert {family for family, may_go in free.items() if not may_go} == stay
    windows = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}
    assert not checkpoint.has_stock_form(tiny.model("qwen2", **windows).config)


def test_a_head_that_no_class_with_these_heads_has_is_refused(tmp_path):
    model = tiny.model("qwen2", auto=HEADS["classes"])
    keeps = (LayerKeep(k.layer, (0, 1, 3), k.neurons) for k in SlicePlan.identity(model).layers)
    with pytest.raises(CompatibilityError, match="no stock class stands in for Qwen2ForSeq"):
        checkpoint.save(slice_model(model, SlicePlan(tuple(keeps))), tmp_path)


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
    half = tiny.model().bfloat16()
    stored = checkpoint.fingerprint(half)
    assert mark != stored == checkpoint.fingerprint(half.float())  # as while it is computed
    with torch.no_grad():
        model.model.norm.weight[3] += 1e-3
    assert mark != checkpoint.fingerprint(model)


# ----------------------------------------------------------- what was measured is what was written


def rescale_attention(model):
    model.transformer.h[1].attn.scaling = 0.7


def lose_a_weight(model):
    model._keys_to_ignore_on_save = {"transformer.wpe.weight"}


def hook_a_layer(model):
    model.transformer.h[0].register_forward_hook(lambda module, args, out: out * 1.001)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (rescale_attention, "its logits differ"),
        (lose_a_weight, "does not load again .*wpe"),
        (hook_a_layer, "its logits differ"),
    ],
)
def test_a_model_that_its_files_would_not_give_again_is_not_saved(spoil, words, tmp_path):
    model = tiny.model("gpt2")
    spoil(model)
    with pytest.raises(CompatibilityError, match=words) as caught:
        checkpoint.save(model, tmp_path / "new" / "folder")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_saved_is_compared_whatever_it_holds(tmp_path):
    for number, kind in enumerate([torch.float64, torch.bfloat16, torch.float16]):
        checkpoint.save(tiny.model("llama").to(kind).train(), tmp_path / str(number))
    damaged = tiny.model("bert", auto=AutoModelForMaskedLM).train()
    with torch.no_grad():
        next(damaged.parameters())[5] = torch.nan
    checkpoint.save(damaged, tmp_path / "nan")
    assert damaged.training
    few = tiny.model("gpt2", auto=AutoModelForSequenceClassification, n_positions=4)
    checkpoint.save(few, tmp_path / "short")
    checkpoint.save(few, tmp_path / "nan")  # over another one
    assert checkpoint.load(tmp_path / "nan").config.model_type == "gpt2"
    assert not [p for p in (tmp_path / "nan").iterdir() if p.name.startswith(".")]
