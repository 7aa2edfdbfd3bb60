"""AutoDistil: sub-spaces and sizes of the paper, its step against a slow one, ranking, resume."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BertModel,
    BertTokenizer,
    PreTrainedModel,
)

import tiny
from attar.arch import Arch, LayerShape, Space
from attar.data.sequences import Sequences
from attar.errors import CompatibilityError, ConfigError
from attar.evaluation.masked import masked_token_losses
from attar.measure.cost import cost_of
from attar.methods.autodistil import (
    AutoDistilConfig,
    RelationDistillation,
    compact,
    published_size,
    rank,
    train_super_lm,
)
from attar.search.elastic_training import Sandwich, SupernetConfig
from attar.search.parents import make_parent
from attar.search.supernet import Draws, Supernet
from attar.train.relations import projections_of

SPACE = Space((1, 2), (16, 32), (2, 4), intermediate_ratio=(1.0, 1.5), head_dim=(8,))
QUICK = SupernetConfig(
    max_steps=4, per_device_train_batch_size=4, learning_rate=1e-3, context=16, save_steps=2
)


def teacher(**changes: object) -> PreTrainedModel:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return tiny.model("bert", **(still | changes)).eval()


@pytest.fixture(scope="module")
def texts() -> Sequences:
    words = ["red", "green", "blue", "one", "two", "three", "and", "or"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
    lines = [" ".join(words[(i * k) % 8] for k in range(1, 4 + i % 9)) for i in range(24)]
    return Sequences(lines, tokenizer, context=16)


def bert(layers: int, heads: int, hidden: int, ratio: float) -> Arch:
    shape = LayerShape(heads, heads, int(hidden * ratio))
    return Arch((shape,) * layers, hidden, 64)


# ------------------------------------------------------------------------------------- sub-spaces


def bert_base() -> PreTrainedModel:
    with torch.device("meta"):
        return BertModel(BertConfig())


def test_the_published_sub_spaces() -> None:
    spaces = compact(bert_base())
    assert {name: space.size for name, space in spaces.items()} == {
        "tiny": 256,
        "small": 256,
        "base": 256,
    }
    assert spaces["tiny"].largest == bert(7, 10, 224, 3.5)
    assert spaces["tiny"].smallest == bert(4, 7, 128, 2)
    assert spaces["small"].largest == bert(12, 10, 352, 4)
    assert spaces["base"].largest == bert(12, 12, 640, 4)
    assert spaces["tiny"].contains(bert(7, 10, 160, 3.5))
    assert spaces["small"].contains(bert(11, 8, 352, 4))
    assert spaces["base"].contains(bert(12, 9, 544, 3))
    assert {name: space.size for name, space in compact(bert_base(), k=2).items()} == {
        "smallest": 384,
        "largest": 384,
    }
    assert compact(bert_base(), k=1)["whole"].size == 256
    with pytest.raises(ConfigError, match="describe other sub-spaces in a file"):
        compact(bert_base(), k=4)


def test_sub_spaces_of_other_teachers_fit_them() -> None:
    for family in ("bert", "llama", "qwen2", "modernbert"):
        model = tiny.model(family)
        for fixed in (True, False):
            if family != "bert" and not fixed:
                continue
            for space in compact(model, fixed_heads=fixed).values():
                Supernet(model, space)
                assert not fixed or space.head_dim == (Arch.of(model).head_dim,)


@pytest.mark.parametrize(
    ("arch", "params", "macs"),
    [
        (bert(12, 12, 768, 4), 109.48, 11.25),
        (bert(6, 12, 768, 4), 66.96, 5.66),
        (bert(12, 9, 544, 3), 50.11, 4.40),
        (bert(11, 8, 352, 4), 26.09, 2.02),
        (bert(7, 10, 160, 3.5), 6.89, 0.27),
    ],
)
def test_the_published_sizes_are_reproduced(arch: Arch, params: float, macs: float) -> None:
    ours = published_size(arch, vocabulary=30522)
    assert round(ours[0] / 1e6, 2) == params
    assert math.floor(ours[1] / 1e7 + 0.5) / 100 == macs or math.floor(ours[1] / 1e7) / 100 == macs


@pytest.mark.parametrize(
    ("arch", "params"),
    [(bert(12, 9, 544, 3), 53.6), (bert(11, 8, 352, 4), 29.9), (bert(7, 10, 160, 3.5), 9.14)],
)
def test_the_counted_sizes_are_those_of_the_tensors(arch: Arch, params: float) -> None:
    space = Space(
        (arch.num_hidden_layers,),
        (arch.hidden_size or 0,),
        (arch.layers[0].num_attention_heads,),
        (arch.layers[0].intermediate_size,),
        head_dim=(64,),
    )
    child = Supernet(bert_base(), space).child(arch)
    counted = sum(p.numel() for p in child.skeleton.parameters())
    assert counted / 1e6 == pytest.approx(params, abs=0.06)


def test_kept_layers_are_the_published_ones() -> None:
    kept = {
        12: range(12),
        11: range(11),
        10: (0, 1, 2, 3, 4, 6, 7, 8, 9, 10),
        9: (0, 1, 2, 4, 5, 6, 8, 9, 10),
        7: (0, 1, 3, 5, 6, 8, 10),
        6: (0, 2, 4, 6, 8, 10),
        5: (0, 2, 4, 7, 9),
        4: (0, 3, 6, 9),
    }
    parent = tiny.model("bert", num_hidden_layers=12)
    space = Space(tuple(sorted(kept)), (32,), (4,), (48,))
    for depth, layers in kept.items():
        slices = Supernet(parent, space).child(Arch((LayerShape(4, 4, 48),) * depth, 32, 8)).slices
        names = [s.name.split(".layer.")[1] for s in slices.values() if ".layer." in s.name]
        assert sorted({int(name.partition(".")[0]) for name in names}) == list(layers)


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("qwen2", (28, 1536, 12, 2, 8960, 151_936)),
        ("llama", (32, 4096, 32, 32, 11_008, 32_000)),
        ("llama", (40, 5120, 40, 40, 13_824, 32_000)),
    ],
    ids=["1.5B", "7B", "13B"],
)
def test_sub_spaces_of_large_decoders(family: str, shape: tuple[int, ...]) -> None:
    names = (
        *("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads"),
        *("intermediate_size", "vocab_size"),
    )
    config = AutoConfig.for_model(family, **dict(zip(names, shape, strict=True)))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    for space in compact(model).values():
        supernet = Supernet(model, space)
        for arch in (space.largest, space.smallest):
            child = supernet.child(arch)
            assert Arch.of(child.skeleton) == replace(arch, vocab_size=shape[-1])
            assert cost_of(child.skeleton, cache=False).params < model.num_parameters()


# ------------------------------------------------------------------------------------------ steps


def test_a_step_is_the_sum_of_its_students(texts: Sequences) -> None:
    model = teacher()
    parent = make_parent(model, SPACE)
    supernet = Supernet(parent, SPACE)
    draws, batch = Draws(SPACE), texts.batch(range(4))
    distillation = RelationDistillation(supernet, model, AutoDistilConfig())
    sandwich = Sandwich(supernet, draws, distillation)
    parent.eval()
    terms = sandwich(parent, sandwich.prepare(parent, batch, 5))
    pairs = texts.counts(batch)["pairs"]
    loss = terms["relation"].values.sum() / pairs
    real = batch["attention_mask"].bool()
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in batch}
    expected = torch.zeros(())
    for arch in draws.at(5):
        student = supernet.extract(arch)
        with projections_of(student) as ours, projections_of(model) as theirs:
            student(**inputs)
            model(**inputs)
        for part in "qkv":  # one row, one head and one pair of tokens at a time
            for row in range(4):
                some = [x[part][row][real[row]] for x in (ours, theirs)]
                grams = []
                for x in some:
                    size = x.shape[-1] // 4
                    heads = x[:, : 4 * size].view(len(x), 4, size).transpose(0, 1)
                    grams.append(heads @ heads.transpose(1, 2) / math.sqrt(size))
                expected = expected + (grams[0] - grams[1]).square().sum() / 4
    torch.testing.assert_close(loss, (expected / pairs).detach(), rtol=1e-5, atol=1e-7)
    loss.backward()
    assert all(p.grad is not None for p in parent.parameters())


def test_masked_language_modelling_stands_beside_the_relations(texts: Sequences) -> None:
    model = tiny.model("bert", auto=AutoModelForMaskedLM, num_hidden_layers=3).eval()
    supernet = Supernet(make_parent(model, SPACE), SPACE).eval()
    batch = texts.batch(range(4))
    plain, both = (
        RelationDistillation(supernet, model, AutoDistilConfig(mlm_weight=weight))(batch)
        for weight in (0.0, 0.3)
    )
    for arch in (SPACE.largest, SPACE.smallest):
        terms = both(arch)
        assert torch.equal(terms["relation"].values, plain(arch)["relation"].values)
        assert (terms["mlm"].weight, terms["mlm"].per) == (0.3, "labels")
        expected = masked_token_losses(supernet.extract(arch), batch)
        assert torch.equal(terms["mlm"].values, expected)
        assert len(expected) == texts.counts(batch)["labels"] > 0


def test_nobody_is_left_in_another_mode(texts: Sequences) -> None:
    noisy = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    model = teacher(**noisy).train()
    supernet = Supernet(make_parent(model, SPACE), SPACE).train()
    losses = [one.loss for one in rank(supernet, model, texts)]
    assert losses == [one.loss for one in rank(supernet.eval(), model.eval(), texts)]
    supernet.train()
    model.train()
    rank(supernet, model, texts)
    RelationDistillation(supernet, model, AutoDistilConfig())(texts.batch(range(2)))
    assert all(module.training for module in (*model.modules(), *supernet.modules()))


def test_training_resumes_to_the_same_and_leaves_the_teacher_alone(
    texts: Sequences, tmp_path: Path
) -> None:
    model = teacher()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for steps, resume in ((2, False), (4, True)):
        config = replace(QUICK, max_steps=steps, lr_scheduler_type="constant")
        parts, _ = train_super_lm(
            model,
            SPACE,
            texts=texts,
            options=AutoDistilConfig(),
            config=config,
            state_dir=tmp_path,
            resume=resume,
        )
    constant = replace(QUICK, lr_scheduler_type="constant")
    straight, _ = train_super_lm(
        model, SPACE, texts=texts, options=AutoDistilConfig(), config=constant
    )
    for name, tensor in straight.parent.state_dict().items():
        assert torch.equal(tensor, parts.parent.state_dict()[name]), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_how_a_step_is_split_makes_no_difference(texts: Sequences) -> None:
    found = []
    for rows, accumulated in ((8, 1), (2, 4)):
        config = replace(
            QUICK, per_device_train_batch_size=rows, gradient_accumulation_steps=accumulated
        )
        model = teacher()
        trained, _ = train_super_lm(
            model, SPACE, texts=texts, options=AutoDistilConfig(), config=config
        )
        found.append(dict(trained.parent.named_parameters()))
    for name, one in found[0].items():
        torch.testing.assert_close(one, found[1][name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "options",
    [
        AutoDistilConfig(relation="kl"),
        AutoDistilConfig(parts="v", heads_at_once=2),
        AutoDistilConfig(init="importance"),
        AutoDistilConfig(init="pca"),
    ],
    ids=lambda options: f"{options.relation}-{options.parts}-{options.init}",
)
def test_training_lowers_the_loss(options: AutoDistilConfig, texts: Sequences) -> None:
    model = teacher()
    config = replace(QUICK, max_steps=12, learning_rate=3e-3, lr_scheduler_type="constant")
    supernet, _ = train_super_lm(model, SPACE, texts=texts, options=options, config=config)
    sample = texts.batch(range(16))
    start = Supernet(make_parent(model, SPACE, init=options.init, sample=sample), SPACE)
    after, before = (
        sum(one.loss for one in rank(net, model, texts, options=options))
        for net in (supernet, start)
    )
    assert after < before


@pytest.mark.parametrize("family", ["llama", "qwen2", "modernbert", "roberta"])
def test_other_families_are_taught_too(family: str, texts: Sequences) -> None:
    model = tiny.model(family).eval()
    shape = Arch.of(model).layers[0]
    groups = (shape.num_key_value_heads,) if family in ("llama", "qwen2") else ()
    heads, size = (shape.num_attention_heads,), (Arch.of(model).head_dim or 0,)
    space = Space((1, 3), (16, 32), heads, (24, 48), num_key_value_heads=groups, head_dim=size)
    supernet, training = train_super_lm(
        model, space, texts=texts, options=AutoDistilConfig(), config=replace(QUICK, max_steps=2)
    )
    assert training.steps == 2
    assert len(rank(supernet, model, texts)) == space.size


# ---------------------------------------------------------------------------------------- ranking


def test_a_teacher_of_its_own_size_is_ranked_at_zero(texts: Sequences) -> None:
    model = teacher()
    space = Space((3,), (32,), (2, 4), (48,), head_dim=(8,))
    supernet = Supernet(make_parent(model, space), space)
    best, other = rank(supernet, model, texts)
    assert best.arch == space.largest
    assert best.loss == 0 < other.loss
    assert best.cost.params == sum(p.numel() for p in model.parameters())


def test_ranking_depends_neither_on_the_batch_nor_on_the_order(texts: Sequences) -> None:
    model = teacher()
    supernet = Supernet(make_parent(model, SPACE), SPACE)
    one = rank(supernet, model, texts, batch_size=3)
    archs = [ranked.arch for ranked in one]
    two = rank(supernet, model, texts, archs=archs[::-1], batch_size=24)
    assert set(archs) == set(SPACE.enumerate())
    assert [r.loss for r in one] == sorted(r.loss for r in one)
    losses = {ranked.arch: ranked.loss for ranked in two}
    assert [losses[arch] for arch in archs] == pytest.approx([r.loss for r in one], rel=1e-5)
    assert rank(supernet, model, texts, batch_size=3) == one


def test_bad_input_is_one_sentence(texts: Sequences) -> None:
    model = teacher()
    with pytest.raises(CompatibilityError, match="expected an architecture with 1 to 32 hidden"):
        make_parent(model, replace(SPACE, hidden_size=(64,)))
    with pytest.raises(ConfigError, match="give a sample"):
        make_parent(model, SPACE, init="pca")
    with pytest.raises(ConfigError, match="some of the letters of qkv"):
        AutoDistilConfig(parts="qx")
    thin = Space((1,), (16,), (1,), (16,), head_dim=(8,))
    supernet = Supernet(make_parent(model, thin), thin)
    with pytest.raises(CompatibilityError, match="relation heads"):
        rank(supernet, model, texts, options=AutoDistilConfig(relation_heads=16))
