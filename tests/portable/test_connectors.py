"""Encoders whose layers have hidden widths of their own, with linear maps between them."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, BertConfig, PreTrainedModel, Trainer, TrainingArguments

import tiny
from attar import checkpoint
from attar.arch import Arch, LayerShape
from attar.data.labelled.task import Task
from attar.errors import CompatibilityError
from attar.heads import load_with_head
from attar.measure.cost import cost_of
from attar.slicing import LayerKeep, SlicePlan, describe, slice_model
from cuts import HEADS, assert_law

FAMILIES = ["bert", "roberta"]
#: widths of the layers, all with 4 heads, in a stream of 32
WIDTHS = (20, 32, 8)


def arch_of(*widths: int, heads: int = 4, head_dim: int | None = None) -> Arch:
    rows = (LayerShape(heads, heads, 24 + 8 * (i % 2), w) for i, w in enumerate(widths))
    return Arch(tuple(rows), 32, head_dim, tiny.VOCAB)


def connected(family: str, arch: Arch, *, auto: Any = None) -> PreTrainedModel:
    """A random model of this architecture."""
    stock = tiny.model(family, auto=auto, num_hidden_layers=len(arch.layers))
    config = copy.deepcopy(stock.config)
    describe(config, arch)
    built = checkpoint.per_layer_class(type(stock))(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in built.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(0.3 * noise if p.dim() > 1 else p + 0.1 * noise)
    return built.eval()


def padded() -> dict[str, Tensor]:
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    return {"input_ids": tiny.ids(), "attention_mask": mask}


@torch.no_grad()
def same(first: PreTrainedModel, second: PreTrainedModel) -> None:
    found, wanted = (model.eval()(**padded())[0] for model in (first, second))
    torch.testing.assert_close(found, wanted, atol=0, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_maps_compute_what_bottlenecks_around_each_layer_do(family: str) -> None:
    """The unmerged network: the stream is 32 wide between layers, each of which is entered through
    W_in and left through W_out, and nothing non-linear is between W_out and the next W_in.
    """
    model = connected(family, arch_of(*WIDTHS)).double()
    enter = [nn.Linear(32, w, dtype=torch.float64) for w in WIDTHS]
    leave = [nn.Linear(w, 32, dtype=torch.float64) for w in WIDTHS]
    layers: Any = model.get_submodule("encoder.layer")
    with torch.no_grad():
        layers[0].connector.load_state_dict(enter[0].state_dict())
        for before, after, layer in zip(leave, enter[1:], list(layers)[1:], strict=False):
            layer.connector.weight.copy_(after.weight @ before.weight)
            layer.connector.bias.copy_(after.weight @ before.bias + after.bias)
        layers[2].connector_out.load_state_dict(leave[2].state_dict())
        x = model.get_submodule("embeddings")(padded()["input_ids"])
        mask = padded()["attention_mask"].bool()[:, None, None].expand(-1, -1, 12, -1)
        for into, layer, out in zip(enter, layers, leave, strict=True):
            plain = copy.deepcopy(layer)  # a stock layer again
            plain._forward_pre_hooks.clear()
            plain._forward_hooks.clear()
            x = out(plain(into(x), mask))
        torch.testing.assert_close(model(**padded()).last_hidden_state, x, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_identities_at_full_width_are_the_stock_model(family: str) -> None:
    stock = tiny.model(family, auto=HEADS["mlm"])
    model = connected(family, Arch((LayerShape(4, 4, 48, 32),) * 3, 32), auto=HEADS["mlm"])
    absent = model.load_state_dict(stock.state_dict(), strict=False).missing_keys
    assert len(absent) == 2 * (3 + 1)
    with torch.no_grad():
        for name in absent:
            part = model.get_parameter(name)
            part.copy_(torch.eye(32) if part.dim() == 2 else torch.zeros(32))
    same(model, stock)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("head", "arch"),
    [
        *((head, arch_of(*WIDTHS)) for head in (*HEADS, None)),
        ("mlm", arch_of(32, 32, 32)),
        ("mlm", arch_of(16, 16)),
        ("mlm", arch_of(12, 20, heads=3, head_dim=4)),
        ("mlm", arch_of(*WIDTHS, heads=3, head_dim=6)),
        ("mlm", arch_of(6, 9, heads=3)),
    ],
)
def test_it_is_saved_and_loads_with_attar_and_with_its_modelling_file(
    family: str, head: str | None, arch: Arch, tmp_path: Path
) -> None:
    model = connected(family, arch, auto=HEADS.get(head or ""))
    filled = arch.head_dim is not None and all(
        x.num_attention_heads * arch.head_dim == x.hidden_size for x in arch.layers
    )
    assert Arch.of(model) == Arch(arch.layers, 32, None if filled else arch.head_dim, tiny.VOCAB)
    assert checkpoint.save(model, tmp_path) == "per_layer"
    stored = json.loads((tmp_path / "config.json").read_text())
    rows = stored["per_layer_config"].values()
    differ = [x.hidden_size for x in arch.layers if x.hidden_size != 32]
    assert [row["hidden_size"] for row in rows if "hidden_size" in row] == differ
    autos = {name.rpartition(".")[2]: auto for auto, name in stored["auto_map"].items()}
    auto = getattr(transformers, autos[type(model).__name__])
    for again in (
        checkpoint.load(tmp_path),
        auto.from_pretrained(tmp_path, trust_remote_code=True),
    ):
        same(again, model)
        assert Arch.of(again) == Arch.of(model)
    checkpoint.save(again, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == stored


def test_a_new_task_head_is_trained_with_checkpointed_gradients(tmp_path: Path) -> None:
    model = connected("bert", arch_of(*WIDTHS), auto=HEADS["mlm"])
    checkpoint.save(model, tmp_path / "student")
    tuned = load_with_head(tmp_path / "student", Task("single_label", ("no", "yes", "maybe")))
    before = copy.deepcopy(tuned.state_dict())
    tuned.activation_checkpointing_enable()
    rows: Any = [{"input_ids": row, "labels": 1} for row in tiny.ids()]
    options = TrainingArguments(
        str(tmp_path / "run"),
        max_steps=1,
        learning_rate=0.1,
        report_to="none",
        use_cpu=True,
    )
    Trainer(tuned, options, train_dataset=rows).train()
    after = tuned.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    connectors = {name for name in before if ".connector" in name}
    assert len(connectors) == 8
    assert connectors <= moved
    same(checkpoint.load(tmp_path / "run" / "checkpoint-1"), tuned)


def test_copies_pickles_and_hidden_states() -> None:
    model = connected("bert", arch_of(*WIDTHS))
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(again, model)
    found = model(**padded(), output_hidden_states=True)
    assert [x.shape[-1] for x in found.hidden_states] == [20, 20, 32, 32]
    assert torch.equal(found.hidden_states[-1], found.last_hidden_state)


def test_its_cost_is_that_of_its_tensors() -> None:
    model = connected("bert", arch_of(*WIDTHS))
    before, linear, biases, scores = 32, 0, 0, 0
    for index, width in enumerate(WIDTHS):
        neurons = 24 + 8 * (index % 2)
        linear += before * width + 4 * width * width + 2 * width * neurons
        biases += width + 4 * width + neurons + width + 4 * width
        scores += 2 * width
        before = width
    linear, biases = linear + 8 * 32, biases + 32
    cost = cost_of(model, context=10)
    assert cost.block_params == linear + biases
    assert cost.macs == linear + 32 * 32 + 10 * scores
    assert cost.params == sum(p.numel() for p in model.parameters())


# ----------------------------------------------------------------------------------------- cutting


@pytest.mark.parametrize("family", FAMILIES)
def test_neurons_and_tokens_can_go(family: str, tmp_path: Path) -> None:
    model = connected(family, arch_of(*WIDTHS), auto=HEADS["mlm"])
    keeps = SlicePlan.identity(model).layers
    cut = tuple(LayerKeep(k.layer, k.kv_groups, k.neurons[k.layer :: 2]) for k in keeps)
    small = assert_law(model, SlicePlan(cut, vocabulary=tuple(range(40))))
    assert [x.hidden_size for x in Arch.of(small).layers] == list(WIDTHS)
    assert checkpoint.save(small, tmp_path) == "per_layer"
    same_ids = {"input_ids": tiny.ids() % 40}
    again = checkpoint.load(tmp_path)
    torch.testing.assert_close(again(**same_ids).logits, small(**same_ids).logits, atol=0, rtol=0)


def test_what_cannot_be_cut_or_saved_says_why(tmp_path: Path) -> None:
    model = connected("bert", arch_of(*WIDTHS))
    keeps = SlicePlan.identity(model).layers
    for plan in (SlicePlan(keeps, hidden=(0, 1)), SlicePlan(keeps, head_channels=(0,))):
        with pytest.raises(CompatibilityError, match="widths of their own"):
            slice_model(model, plan)
    with pytest.raises(CompatibilityError, match="connect each of them to the next"):
        slice_model(model, SlicePlan(keeps[:2]))
    fewer = SlicePlan(tuple(LayerKeep(k.layer, (0, 2), k.neurons) for k in keeps))
    with pytest.raises(CompatibilityError, match="layer 0 has 2 heads of 5 channels at width 20"):
        checkpoint.save(slice_model(model, fewer), tmp_path)


def test_other_families_do_not_have_it() -> None:
    config = AutoConfig.for_model("modernbert", layer_connectors=True)
    with pytest.raises(ValueError, match="bert or roberta, found modernbert"):
        checkpoint.per_layer_class(transformers.ModernBertModel)(config)


def test_a_config_written_by_hand_is_enough() -> None:
    written: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "per_layer_config": {1: {"hidden_size": 16}},
        "layer_connectors": True,
        "allow_global_per_layer_attribute_access": True,
    }
    config = BertConfig(**written)
    checkpoint.accept_widths(config)
    model = checkpoint.per_layer_class(transformers.BertModel)(config)
    assert [x.hidden_size for x in Arch.of(model).layers] == [32, 16]
