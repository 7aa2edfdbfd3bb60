"""The gap report compares the same network twice; gradients are compared on shared weights."""

import pytest
import torch
from transformers import PreTrainedModel

import tiny
from attar.arch import Arch, Space
from attar.errors import ConfigError
from attar.methods.mixture_of_supernets import MixtureConfig, mixture_of_supernets
from attar.search.elastic_losses import LanguageModelling
from attar.search.gap import gap_report, gradient_cosine, untrained
from attar.search.supernet import Draws, Supernet
from attar.train.trainer import Term, TrainConfig, fit

SPACE = Space((1, 3), (16, 32), (8,), (16, 48), num_key_value_heads=(4,), head_dim=(4,))
IDS = tiny.ids(4, 12)


def score(model: PreTrainedModel) -> float:
    with torch.no_grad():
        return float(model(input_ids=IDS, labels=IDS).loss)


def mixed() -> Supernet:
    config = MixtureConfig(init="random", router_hidden=8)
    return mixture_of_supernets(tiny.model("llama"), SPACE, config=config).eval()


@pytest.mark.parametrize("make", [lambda: Supernet(tiny.model("llama"), SPACE).eval(), mixed])
def test_without_training_there_is_no_gap(make: type[Supernet]) -> None:
    supernet = make()
    archs = Draws(SPACE).at(0)
    rows = gap_report(
        supernet, archs, score=score, train_standalone=lambda arch: untrained(supernet, arch)
    )
    assert [row.arch for row in rows] == archs
    assert [row.gap for row in rows] == [0.0] * len(archs)
    assert [row.params for row in rows] == [supernet.extract(a).num_parameters() for a in archs]
    assert [row.inherited for row in rows] == [score(supernet.extract(a)) for a in archs]


def test_a_network_that_trained_alone_has_a_positive_gap() -> None:
    supernet = Supernet(tiny.model("llama"), SPACE).eval()

    def train(arch: Arch) -> PreTrainedModel:
        model = untrained(supernet, arch)
        fit(model, IDS, config=TrainConfig(max_steps=10, learning_rate=0.01))
        return model

    before = {name: p.clone() for name, p in supernet.named_parameters()}
    (row,) = gap_report(supernet, [SPACE.smallest], score=score, train_standalone=train)
    assert row.gap == row.inherited - row.standalone > 0.1
    assert all(torch.equal(p, before[name]) for name, p in supernet.named_parameters())


def test_a_random_start_depends_on_the_seed_alone() -> None:
    supernet = Supernet(tiny.model("llama"), SPACE).eval()
    one, same, other = (
        untrained(supernet, SPACE.smallest, init="random", seed=seed) for seed in (0, 0, 1)
    )
    assert score(one) == score(same)
    assert len({score(one), score(other), score(supernet.extract(SPACE.smallest))}) == 3
    assert all(p.requires_grad for p in one.parameters())


def test_gradients_of_one_network_agree_and_those_of_opposite_losses_do_not() -> None:
    supernet = mixed()
    loss = LanguageModelling(supernet, "causal")({"input_ids": IDS})
    arch = SPACE.smallest
    assert gradient_cosine(supernet, loss, pair=(arch, arch)) == pytest.approx(1)
    signs = iter((1.0, -1.0))

    def opposite(arch: Arch) -> dict[str, Term]:
        return {"loss": Term(next(signs) * loss(arch)["loss"].values)}

    assert gradient_cosine(supernet, opposite, pair=(arch, arch)) == pytest.approx(-1)


def test_cosines_are_over_what_both_networks_move() -> None:
    supernet = mixed()
    loss = LanguageModelling(supernet, "causal")({"input_ids": IDS})

    def gradients(arch: Arch) -> dict[str, torch.Tensor]:
        supernet.zero_grad()
        loss(arch)["loss"].values.sum().backward()
        return {n: p.grad.clone() for n, p in supernet.named_parameters() if p.grad is not None}

    large, small = gradients(SPACE.largest), gradients(SPACE.smallest)
    for start in ("parent.", "providers.0.experts."):
        ours, theirs = [], []
        for name, where in supernet.child(SPACE.smallest).slices.items():
            stored = name if where.name == name else where.name
            names = [f"parent.{stored}"]
            if start != "parent.":
                names = [f"{start}{stored.replace('.', '-')}"]
            for each in names:
                if each not in small:
                    continue
                pair = (large[each], small[each])
                cut = [where.of(g if start == "parent." else g[0]).flatten() for g in pair]
                ours.append(cut[0])
                theirs.append(cut[1])
        wanted = torch.cosine_similarity(torch.cat(ours), torch.cat(theirs), dim=0)
        found = gradient_cosine(supernet, loss, chosen=lambda name, s=start: name.startswith(s))
        # entries of exactly 0, such as embeddings of tokens that are not in the text, add nothing
        assert found == pytest.approx(float(wanted), abs=1e-4)
    assert gradient_cosine(supernet, loss) == pytest.approx(
        gradient_cosine(supernet, loss, pair=(SPACE.largest, SPACE.smallest))
    )
    with pytest.raises(ConfigError, match="choose other weights"):
        gradient_cosine(supernet, loss, chosen=lambda name: "layers.2" in name)


def test_parts_of_a_loss_are_weighed_by_what_they_are_divided_by() -> None:
    supernet = Supernet(tiny.model("llama"), SPACE).eval()
    loss = LanguageModelling(supernet, "causal")({"input_ids": IDS})

    def two(arch: Arch) -> dict[str, Term]:
        values = loss(arch)["loss"].values
        return {"a": Term(values), "b": Term(-2 * values, 0.5, per="labels")}

    with pytest.raises(ConfigError, match="choose other weights"):
        gradient_cosine(supernet, two)  # which cancel
    counts = {"tokens": 2.0, "labels": 1.0}
    assert gradient_cosine(supernet, two, counts=counts) == pytest.approx(
        gradient_cosine(supernet, loss), rel=1e-4
    )
