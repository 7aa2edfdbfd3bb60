"""Encoders whose heads have a size of their own: sliced == saved == loaded, without Attar, too."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForMaskedLM, PreTrainedModel, Trainer
from transformers import TrainingArguments as Options

import alone
import processes
import tiny
from attar import checkpoint
from attar.arch import Arch, LayerShape
from attar.conversion.gguf_shape import shape_of
from attar.data.labelled.task import Task
from attar.errors import CompatibilityError
from attar.families import FAMILIES, Body
from attar.heads import load_with_head
from attar.measure.cost import cost_of
from attar.portable.modeling_per_layer import CONNECTED, OWN_HEAD_SIZE
from attar.slicing import SlicePlan, functional_forward, slice_model
from cuts import HEADS, outputs

HEADS_OF_ALL: dict[str, Any] = {**HEADS, "bare": None}
#: 20 channels under 3 heads of 8, which the stock class refuses, and under 4, which it misreads
UNIFORM = Arch((LayerShape(3, 3, 24),) * 2, 20, 8)
MISREAD = Arch((LayerShape(4, 4, 24),) * 2, 20, 8)
MIXED = Arch((LayerShape(3, 3, 24), LayerShape(1, 1, 40), LayerShape(4, 4, 24)), 20, 8)
#: the last has as many channels as its heads together, the others have not
SOME = Arch((LayerShape(2, 2, 24), LayerShape(4, 4, 24)), 32, 8)


def test_the_file_that_travels_knows_the_same_families() -> None:
    own = {kind: family for kind, family in FAMILIES.items() if family.own_head_size}
    assert set(OWN_HEAD_SIZE) == own.keys()
    assert set(CONNECTED) == {kind for kind, family in own.items() if not family.rotary}


def student(family: str, arch: Arch, head: str = "mlm") -> PreTrainedModel:
    parent = tiny.model(family, auto=HEADS_OF_ALL[head])
    return slice_model(parent, SlicePlan.prefix(parent, arch))


def same(first: PreTrainedModel, second: PreTrainedModel) -> None:
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    inputs = {"input_ids": tiny.ids(), "attention_mask": mask}
    with torch.no_grad():
        pair = [outputs(model.eval()(**inputs)) for model in (first, second)]
    torch.testing.assert_close(*pair, atol=0, rtol=0)


@pytest.mark.parametrize("family", tiny.ENCODERS)
@pytest.mark.parametrize(
    ("head", "arch"),
    [*((head, UNIFORM) for head in HEADS_OF_ALL), *(("mlm", a) for a in (MISREAD, MIXED, SOME))],
)
def test_a_student_is_saved_and_loads_with_attar_and_with_its_modelling_file(
    family: str, head: str, arch: Arch, tmp_path: Path
) -> None:
    model = student(family, arch, head)
    assert type(model).__name__.startswith("PerLayer")
    assert checkpoint.save(model, tmp_path) == "per_layer"
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["head_dim"] == 8
    assert ("per_layer_config" in stored) is not arch.uniform
    name = f"{checkpoint.MODELLING_FILE.removesuffix('.py')}.{type(model).__name__}"
    auto = {name: auto for auto, name in stored["auto_map"].items()}[name]
    remote = getattr(transformers, auto).from_pretrained(tmp_path, trust_remote_code=True)
    assert type(remote).__name__ == type(model).__name__
    for again in (checkpoint.load(tmp_path), remote):
        same(again, model)
        assert Arch.of(again) == Arch.of(model)
    assert (Arch.of(model).layers, Arch.of(model).head_dim) == (arch.layers, 8)


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_the_parents_slices_compute_what_the_student_does(family: str) -> None:
    parent = tiny.model(family, auto=HEADS["mlm"])
    for arch in (UNIFORM, MIXED):
        plan = SlicePlan.prefix(parent, arch)
        ours = slice_model(parent, plan)(input_ids=tiny.ids()).logits
        theirs = functional_forward(parent, plan, input_ids=tiny.ids()).logits
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_attention_is_the_one_of_the_formula(family: str, tmp_path: Path) -> None:
    """softmax(q k / sqrt(head_dim)) v, which no class but this one computes at this width."""
    checkpoint.save(student(family, UNIFORM, "bare"), tmp_path)
    model = checkpoint.load(tmp_path)
    model.set_attn_implementation("eager")
    attention: Any = Body(model).layers[0].attention
    with torch.no_grad():
        found = model(input_ids=tiny.ids(), output_attentions=True).attentions[0]
        x = model.get_submodule("embeddings")(tiny.ids())
        query, key = (attention.get_submodule(n)(x) for n in ("query", "key"))
        query, key = (y.unflatten(-1, (3, 8)).transpose(1, 2) for y in (query, key))
    torch.testing.assert_close(found, (query @ key.mT / 8**0.5).softmax(-1))


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_where_heads_fill_the_width_the_stock_class_is_used(family: str, tmp_path: Path) -> None:
    filled = Arch((LayerShape(2, 2, 24),) * 2, 16, 8)
    once = student(family, MISREAD)
    for model in (student(family, filled), slice_model(once, SlicePlan.prefix(once, filled))):
        assert "PerLayer" not in type(model).__name__
        assert checkpoint.save(model, tmp_path) == "uniform"
        assert "head_dim" not in json.loads((tmp_path / "config.json").read_text())
        same(AutoModelForMaskedLM.from_pretrained(tmp_path), model)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_narrower_heads_at_the_same_width(family: str, tmp_path: Path) -> None:
    parent = tiny.model(family)
    plan = SlicePlan(SlicePlan.identity(parent).layers, head_channels=(0, 3, 4))
    model = slice_model(parent, plan)
    assert checkpoint.save(model, tmp_path) == "per_layer"
    same(checkpoint.load(tmp_path), model)


def test_a_decoder_with_heads_that_read_another_model_is_not_saved(tmp_path: Path) -> None:
    parent = tiny.model("bert", is_decoder=True, add_cross_attention=True)
    plan = SlicePlan.prefix(parent, Arch((LayerShape(3, 3, 24),) * 2))
    with pytest.raises(CompatibilityError, match="heads and width in proportion"):
        checkpoint.save(slice_model(parent, plan), tmp_path)


# ------------------------------------------------------------------------------ the tools around it


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_a_new_task_head_on_a_student(family: str, tmp_path: Path) -> None:
    model = student(family, UNIFORM)
    checkpoint.save(model, tmp_path / "student")
    task = Task("single_label", ("no", "yes", "maybe"))
    tuned = load_with_head(tmp_path / "student", task)
    remote = HEADS["classes"].from_pretrained(
        tmp_path / "student", trust_remote_code=True, num_labels=3
    )
    assert type(remote).__name__ == type(tuned).__name__
    assert Arch.of(remote) == Arch.of(tuned)
    assert type(tuned).__name__.startswith("PerLayer")
    for name, weight in tuned.base_model.state_dict().items():
        if ".pooler." not in f".{name}":
            assert torch.equal(weight, model.base_model.state_dict()[name])
    rows = [{"input_ids": row, "labels": 1} for row in tiny.ids()]
    options = Options(str(tmp_path / "run"), max_steps=1, report_to="none", use_cpu=True)
    Trainer(tuned, options, train_dataset=rows).train()  # pyright: ignore[reportArgumentType]
    again = checkpoint.load(tmp_path / "run" / "checkpoint-1")
    assert again.config.num_labels == 3
    same(again, tuned)


def test_it_loads_in_a_process_that_never_imports_attar(tmp_path: Path) -> None:
    model = student("bert", MIXED)
    model.save_pretrained(tmp_path)
    found = processes.elsewhere(alone.run_encoder, str(tmp_path), tiny.ids().tolist())
    wanted = model(input_ids=tiny.ids()).logits
    torch.testing.assert_close(torch.tensor(found), wanted, atol=1e-6, rtol=1e-6)


def test_its_cost_is_that_of_its_tensors() -> None:
    cost = cost_of(student("bert", UNIFORM, "bare"))
    attention, ffn = 4 * 20 * 24, 2 * 20 * 24
    assert cost.macs == 2 * (attention + ffn) + 20 * 20
    biases = 3 * 24 + 20 + 24 + 20 + 4 * 20
    assert cost.block_params == 2 * (attention + ffn + biases)
    longer = cost_of(student("bert", UNIFORM, "bare"), context=10).macs
    assert longer - cost.macs == 10 * 2 * 2 * 24


def test_a_new_one_can_be_made_from_its_config() -> None:
    config = student("modernbert", UNIFORM).config
    config = type(config).from_dict(config.to_dict())
    made = checkpoint.per_layer_class(transformers.ModernBertForMaskedLM)(config)
    assert Arch.of(made).layers == UNIFORM.layers
    assert config.num_attention_heads == 3
    assert float(made.model.layers[0].attn.Wqkv.weight.detach().std()) < 0.05  # as the class draws


def test_llama_cpp_has_no_such_model() -> None:
    with pytest.raises(CompatibilityError, match="expected a causal language model"):
        shape_of(student("bert", UNIFORM))
