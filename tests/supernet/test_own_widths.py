"""Spaces whose layers have hidden widths of their own, through the verbs of supernets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

import attar
import encoders
import supernets
import tiny
from attar import checkpoint
from attar.arch import Arch, Space
from attar.errors import CompatibilityError
from attar.methods.mixture_of_supernets import Mixture, MixtureConfig
from attar.report.record import Run
from attar.search.bottlenecks import Bottlenecks, make_bottlenecks
from attar.search.supernet_files import read_description
from attar.supernet.opening import Opened

SPACE: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": [8, 16, 32],
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "per_layer": ["hidden_size"],
}
PLAIN = {name: value for name, value in SPACE.items() if name != "per_layer"}
QUICK = replace(supernets.QUICK, max_steps=2, mask_probability=0.3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bottlenecks")
    words = encoders.tokenizer()
    model = tiny.model("bert", auto=AutoModelForMaskedLM, vocab_size=len(words))
    checkpoint.save(model, folder / "bert", tokenizer=words)
    text = folder / "text"
    text.mkdir()
    lines = encoders.documents(60)["train"]["text"]
    for split in ("train", "validation", "test"):
        (text / f"{split}.txt").write_text("\n\n".join(lines))
    return folder


def train(root: Path, name: str, **options: Any) -> Run:
    given: dict[str, Any] = {
        "method": "mixture-of-supernets",
        "config": QUICK,
        "mixture": MixtureConfig(router_hidden=4),
        **options,
    }
    return attar.supernet.train(root / "bert", str(root / "text"), output_dir=root / name, **given)


def kinds(opened: Opened, name: str) -> list[type]:
    return [type(provider) for provider in opened.supernets[name].providers]


def test_a_supernet_has_bottlenecks_where_its_space_needs_them(root: Path) -> None:
    spaces = {"own": SPACE, "alike": PLAIN}
    train(root, "net", space=spaces, config=replace(QUICK, head_slicing="flat"))
    assert read_description(root / "net").head_slicing == "flat"
    opened = Opened.load(root / "net")
    assert kinds(opened, "own") == [Mixture, Bottlenecks]
    assert kinds(opened, "alike") == [Mixture]
    net: Any = opened.supernets["own"]
    assert net.head_slicing == "flat"
    entering = net.providers[1].enter[0].weight
    assert not torch.equal(entering, torch.eye(32))  # it was trained
    method = opened.method(None)
    rows = method.rows(str(root / "text"), opened.tokenizer, split="validation")
    ids = rows.batch([0, 1])["input_ids"]
    for arch in (net.space.smallest, net.space.largest):
        out = root / f"net-{arch.layers[0].hidden_size}"
        run = attar.supernet.export(root / "net", arch=arch.to_json(), output_dir=out)
        assert run.details["form"] == "per_layer"
        exported = attar.load(out)
        assert replace(Arch.of(exported), vocab_size=None) == arch
        assert torch.equal(exported(ids).logits, net(arch, input_ids=ids).logits)


def test_plain_supernets_and_students_have_them_too(root: Path) -> None:
    train(root, "plain", space=SPACE, mixture=MixtureConfig(experts=1))
    opened = Opened.load(root / "plain")
    assert kinds(opened, "whole") == [Mixture, Bottlenecks]
    assert not len(opened.supernets["whole"].providers[0].state_dict())
    config = attar.EvaluateSupernetConfig(n_random=0, standalone_steps=1)
    run = attar.supernet.evaluate(root / "plain", str(root / "text"), config=config)
    assert all(one["loss_alone"] is not None for one in run.details["networks"])
    train(root, "students", space=SPACE, method="autodistil", mixture=MixtureConfig())
    students = Opened.load(root / "students")
    assert kinds(students, "whole") == [Bottlenecks]
    net: Any = students.supernets["whole"]
    out = root / "student"
    attar.supernet.export(root / "students", arch="smallest", output_dir=out)
    ids = tiny.ids() % len(encoders.tokenizer())
    wanted = net(net.space.smallest, base=True, input_ids=ids)[0]
    assert torch.equal(attar.load(out).base_model(ids)[0], wanted)


def test_what_has_no_bottlenecks_is_refused(root: Path) -> None:
    words = encoders.tokenizer()
    other = tiny.model("modernbert", auto=AutoModelForMaskedLM, vocab_size=len(words))
    with pytest.raises(CompatibilityError, match="stock BERT or RoBERTa"):
        attar.supernet.train(
            other,
            str(root / "text"),
            method="mixture-of-supernets",
            space=SPACE,
            config=QUICK,
            tokenizer=words,
            output_dir=root / "refused",
        )
    space = Space.from_dict(SPACE)
    for both in (
        replace(space, decoder=space),
        replace(replace(space, per_layer=()), decoder=space),
    ):
        with pytest.raises(CompatibilityError, match="found MarianMTModel"):
            make_bottlenecks(tiny.encoder_decoder("marian"), both)


def test_tokens_are_masked_alike_for_every_network(root: Path) -> None:
    opened = Opened.load(root / "net")
    for config in (opened.config, replace(opened.config, eval_sequences=5)):
        method = opened.method(None, config=config)
        first, again = (
            method.rows(str(root / "text"), opened.tokenizer, split="test") for _ in range(2)
        )
        assert first.fingerprint() == again.fingerprint()
        every = list(range(len(first)))
        for name, tensor in first.batch(every).items():
            assert torch.equal(tensor, again.batch(every)[name]), name
    net, scorer = opened.supernets["own"], method.scorer(first, batch_size=2)
    archs = [net.space.smallest, net.space.largest]
    assert scorer(net, archs) == scorer(net, archs[::-1])[::-1]
