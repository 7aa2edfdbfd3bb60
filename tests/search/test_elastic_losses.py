"""Losses of a supernet's networks on text: those of the extracted network, and of the largest
network's predictions."""

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

import tiny
from attar.arch import Arch, Space
from attar.data.sources import Batch
from attar.divergences import forward_kl
from attar.errors import ConfigError
from attar.methods.mixture_of_supernets import MixtureConfig, mixture_of_supernets
from attar.search.elastic_losses import LanguageModelling, Task
from attar.search.elastic_training import Sandwich
from attar.search.supernet import Draws, Supernet
from attar.train.masked import masked_lm_loss
from attar.train.trainer import Term, TrainConfig, fit, next_token_loss

SPACES = {
    "causal": Space((1, 3), (16, 32), (8,), (16, 48), num_key_value_heads=(4,), head_dim=(4,)),
    "masked": Space((1, 3), (16, 32), (4,), (16, 48)),
}
TASKS: tuple[Task, ...] = ("causal", "masked")


def supernet_for(task: Task) -> Supernet:
    if task == "causal":
        return Supernet(tiny.model("llama"), SPACES[task]).eval()
    return Supernet(tiny.model("bert", auto=AutoModelForMaskedLM), SPACES[task]).eval()


def batch_for(task: Task) -> Batch:
    ids = tiny.ids(3, 9)
    if task == "causal":
        return {"input_ids": ids, "rows": torch.arange(3)}
    real, labels = torch.ones_like(ids), torch.full_like(ids, -100)
    real[0, 6:] = 0
    labels[0, 2], labels[1, 5], labels[2, 0] = 7, 8, 9
    return {"input_ids": ids, "attention_mask": real, "labels": labels, "rows": torch.arange(3)}


def alone(supernet: Supernet, task: Task, arch: Arch, batch: Batch) -> Term:
    loss = next_token_loss if task == "causal" else masked_lm_loss
    return loss(supernet.extract(arch), batch)["loss"]


def logits_of(supernet: Supernet, task: Task, arch: Arch, batch: Batch) -> Tensor:
    model = supernet.extract(arch)
    if task == "causal":
        return model(input_ids=batch["input_ids"]).logits[:, :-1]
    found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return found[batch["labels"] >= 0]


@pytest.mark.parametrize("task", TASKS)
def test_every_network_has_the_loss_that_it_has_alone(task: Task) -> None:
    supernet, batch = supernet_for(task), batch_for(task)
    loss = LanguageModelling(supernet, task)(batch)
    for arch in Draws(supernet.space).at(0):
        terms = loss(arch)
        wanted = alone(supernet, task, arch, batch)
        assert list(terms) == ["loss"]
        assert (terms["loss"].per, terms["loss"].weight) == (wanted.per, 1.0)
        torch.testing.assert_close(terms["loss"].values, wanted.values)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_others_learn_from_what_the_largest_says(task: Task, weight: float) -> None:
    supernet, batch = supernet_for(task), batch_for(task)
    space = supernet.space
    said = logits_of(supernet, task, space.largest, batch)
    for first in (True, False):  # whether the largest has run before
        loss = LanguageModelling(supernet, task, distill=weight)(batch)
        if first:
            terms = loss(space.largest)
            assert list(terms) == ["largest"]
            wanted = alone(supernet, task, space.largest, batch)
            torch.testing.assert_close(terms["largest"].values, wanted.values)
        terms, hard = loss(space.smallest), alone(supernet, task, space.smallest, batch)
        apart = forward_kl(logits_of(supernet, task, space.smallest, batch), said)
        assert terms["distillation"].weight == weight
        assert {term.per for term in terms.values()} == {hard.per}
        torch.testing.assert_close(
            terms["distillation"].values, apart, check_stride=False, rtol=1e-4, atol=1e-5
        )
        assert ("task" in terms) is (weight < 1)
        if weight < 1:
            assert terms["task"].weight == 1 - weight
            torch.testing.assert_close(terms["task"].values, hard.values)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("first", [True, False])
def test_the_largest_gets_no_gradient_from_the_others(task: Task, first: bool) -> None:
    supernet, batch = supernet_for(task), batch_for(task)
    loss = LanguageModelling(supernet, task, distill=1.0)(batch)
    if first:
        loss(supernet.space.largest)
    loss(supernet.space.smallest)["distillation"].values.sum().backward()
    for name, parameter in supernet.parent.named_parameters():
        if ".2." in name:  # a layer that the smallest network does not have
            assert parameter.grad is None
    some = supernet.child(supernet.space.smallest).slices.values()
    assert any(supernet.parent.get_parameter(where.name).grad is not None for where in some)


def test_tokens_that_are_no_targets_do_not_count() -> None:
    supernet, batch = supernet_for("causal"), batch_for("causal")
    targets = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    targets[1, 4:] = True
    loss = LanguageModelling(supernet, "causal", distill=0.5)(batch | {"mask": targets})
    terms = loss(supernet.space.largest) | loss(supernet.space.smallest)
    for term in terms.values():
        assert torch.equal(term.values != 0, targets[:, 1:])


def test_a_mixture_of_supernets_trains_with_its_experts_and_routers() -> None:
    config = MixtureConfig(router="layer", router_hidden=8)
    supernet = mixture_of_supernets(tiny.model("llama"), SPACES["causal"], config=config)
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    losses = LanguageModelling(supernet, "causal", distill=0.5)
    sandwich = Sandwich(supernet, Draws(supernet.space, n_random=1), losses)
    text = torch.randint(3, tiny.VOCAB, (8, 12), generator=torch.manual_seed(0))
    done = fit(
        supernet.parent,
        text,
        config=TrainConfig(max_steps=2, logging_steps=1, learning_rate=0.01),
        compute=sandwich,
        prepare=sandwich.prepare,
        auxiliary=supernet.providers,
    )
    assert {"largest", "task", "distillation"} <= set(done.log[-1])
    assert [n for n, p in supernet.named_parameters() if torch.equal(p, before[n])] == []


def test_options_are_checked() -> None:
    supernet = supernet_for("causal")
    with pytest.raises(ConfigError, match="task"):
        LanguageModelling(supernet, "translation")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="distill"):
        LanguageModelling(supernet, "causal", distill=1.5)
