"""The verbs of supernets on encoder-decoders: pairs of texts, and a start from a config alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import MarianConfig, T5Config

import attar
import letters
import supernets
from attar import checkpoint
from attar.arch import Arch, Space
from attar.data.pairs import Pairs
from attar.data.sources import Batch
from attar.errors import AttarError, CompatibilityError, ConfigError
from attar.evaluation.pairs import pair_loss
from attar.methods.autodistil import AutoDistilConfig
from attar.methods.mixture_of_supernets import MixtureConfig
from attar.portable.modeling_elastic_marian import ElasticMarianMTModel
from attar.search.elastic_losses import LanguageModelling
from attar.search.parents import make_parent
from attar.search.supernet_files import load_supernets, read_description
from attar.supernet.members import Costs, MemberProblem, Members
from attar.supernet.opening import PROVIDERS, Opened
from attar.train.pairs import pair_terms
from scene import run

SPACE: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": [16, 24],
    "attention_size": 16,
    "num_attention_heads": [2, 4],
    "intermediate_size": [16, 24],
    "per_layer": ["intermediate_size"],
    "decoder": {
        "num_hidden_layers": [1, 2],
        "hidden_size": [16, 24],
        "attention_size": 16,
        "num_attention_heads": 4,
        "intermediate_size": [16, 24],
        "cross_attention_heads": [2, 4],
        "cross_attention_span": [1, 2],
        "per_layer": ["cross_attention_span"],
    },
}
T5_SPACE: dict[str, Any] = {
    "num_hidden_layers": [1, 2],
    "hidden_size": 24,
    "num_attention_heads": 4,
    "head_dim": 6,
    "intermediate_size": 32,
    "decoder": {
        "num_hidden_layers": [1, 2],
        "hidden_size": 24,
        "num_attention_heads": 4,
        "head_dim": 6,
        "intermediate_size": 32,
        "cross_attention_heads": 4,
        "cross_attention_span": 1,
    },
}
QUICK = replace(supernets.QUICK, max_steps=2)
GIVEN: dict[str, Any] = {
    "method": "mixture-of-supernets",
    "config": QUICK,
    "mixture": MixtureConfig(router_hidden=4),
    "distillation": AutoDistilConfig(init="random"),
}


def marian(**changes: Any) -> MarianConfig:
    sides: dict[str, Any] = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 3), ("attention_heads", 4), ("ffn_dim", 32))
    }
    ids: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
    given: dict[str, Any] = {
        "vocab_size": 13,
        "d_model": 32,
        "max_position_embeddings": 32,
        **sides,
        **ids,
    }
    return MarianConfig(**(given | changes))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of texts, configs with a tokenizer, and a supernet."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = [f"{s}\t{t}" for s, t in zip(letters.SOURCES * 12, letters.TARGETS * 12, strict=True)]
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *lines]) + "\n")
    t5: Any = {"d_model": 32, "d_kv": 6, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    ids: dict[str, Any] = {
        "vocab_size": 13,
        "pad_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
    }
    configs = {"start": marian(), "t5": T5Config(**t5, **ids), "wrong": marian(eos_token_id=1)}
    for name, config in configs.items():
        config.save_pretrained(folder / name)
        letters.words().save_pretrained(folder / name)
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    train(folder, "net")
    return folder


def train(root: Path, name: str, *, start: str = "start", **options: Any) -> attar.Run:
    given = {**GIVEN, "space": SPACE, **options}
    return attar.supernet.train(
        root / start, str(root / "pairs.tsv"), output_dir=root / name, **given
    )


@pytest.fixture(scope="module")
def opened(root: Path) -> Opened:
    return Opened.load(root / "net")


def test_a_config_is_enough_to_start_and_networks_are_elastic(root: Path, opened: Opened) -> None:
    description = read_description(root / "net")
    assert description.spaces == {"whole": Space.from_dict(SPACE)}
    assert description.depth == "first"
    net = opened.supernets["whole"]
    assert isinstance(net.parent, ElasticMarianMTModel)
    assert len(net.providers) == 1
    arch = Arch.of(net.parent)
    assert (arch.num_hidden_layers, arch.decoder and arch.decoder.num_hidden_layers) == (3, 3)
    run = attar.Run.load(root / "net")
    assert run.details["unit"] == "nats per token of the targets"
    for row in run.details["networks"]:
        assert row["loss"] < row["loss_before"]


def test_held_out_pairs_are_the_same_for_every_network(root: Path, opened: Opened) -> None:
    net, method = opened.supernets["whole"], opened.method(None)
    held_out = method.rows(str(root / "pairs.tsv"), opened.tokenizer, split="validation")
    scorer = method.scorer(held_out, batch_size=2)
    archs = [net.space.largest, net.space.smallest]
    losses = scorer(net, archs)
    assert losses == pytest.approx([pair_loss(net.extract(a), held_out) for a in archs])  # pyright: ignore[reportArgumentType]
    assert scorer(net, archs[::-1]) == losses[::-1]


def test_the_loss_is_smoothed_and_distils_in_place(opened: Opened) -> None:
    net, batch = opened.supernets["whole"], pairs()
    arch = net.space.smallest
    term = LanguageModelling(net, "pairs", label_smoothing=0.1)(batch)(arch)["loss"]
    wanted = pair_terms(net.extract(arch), batch, label_smoothing=0.1)["loss"]
    torch.testing.assert_close(term.values, wanted.values)
    assert term.per == wanted.per
    half = LanguageModelling(net, "pairs", distill=0.5, label_smoothing=0.1)(batch)(arch)
    torch.testing.assert_close(half["task"].values, wanted.values)
    same = LanguageModelling(net, "pairs", distill=0.5)(batch)
    assert list(same(net.space.largest)) == ["largest"]
    assert half["distillation"].values.shape == wanted.values.shape
    assert bool((half["distillation"].values > 0).all())
    with pytest.raises(ConfigError, match="label_smoothing"):
        LanguageModelling(net, "causal", label_smoothing=0.1)


def pairs() -> Batch:
    return Pairs(letters.SOURCES, letters.TARGETS, letters.words()).batch([0, 1, 2])


def test_the_command_line_does_what_python_does(
    root: Path, opened: Opened, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--max-steps 2 --per-device-train-batch-size 4 --learning-rate 1e-3 --context 16"
    options += " --save-steps 2 --eval-sequences 8 --router-hidden 4 --init random"
    columns = root / "named.tsv"
    columns.write_text((root / "pairs.tsv").read_text().replace("source\ttarget", "en\tde"))
    data = ["--data", str(columns), "--text-column", "en", "--pair-column", "de"]
    method = ["--method", "mixture-of-supernets", "--space", str(root / "space.yaml")]
    out = tmp_path / "net"
    argv = [str(root / "start"), *data, *method, *options.split(), "-o", str(out)]
    assert run(["supernet", "train", *argv]) == 0
    assert "--pair-column de" in capsys.readouterr().out
    again = load_supernets(out, providers=PROVIDERS)["whole"].state_dict()
    for key, tensor in opened.supernets["whole"].state_dict().items():
        assert torch.equal(again[key], tensor), key
    exported = tmp_path / "small"
    argv = [str(out), "--arch", "smallest", "-o", str(exported)]
    assert run(["supernet", "export", *argv]) == 0
    assert "ElasticMarianMTModel, with its modelling file" in capsys.readouterr().out
    model = checkpoint.load(exported)
    assert replace(Arch.of(model), vocab_size=None) == opened.supernets["whole"].space.smallest
    assert json.loads((exported / "arch.json").read_text())["params"] == model.num_parameters()


def test_a_search_within_a_latency_times_translations(root: Path, opened: Opened) -> None:
    config = attar.SupernetSearchConfig(
        population=4, parents=2, mutations=1, crossovers=1, iterations=1, top=2
    )
    out = root / "search"
    run = attar.supernet.search(
        root / "net",
        str(root / "pairs.tsv"),
        budget="params<=90%",
        config=replace(config, strategy="evolution"),
        output_dir=out,
    )
    assert run.budget is not None
    assert run.budget["met"]
    best = checkpoint.load(out / "model")
    assert isinstance(best, ElasticMarianMTModel)
    budget = attar.Budget.parse("latency<=1000ms, kv_bytes<=1MB")
    costs = Costs(opened.supernets, budget, root / "times", context=4)
    member = ("whole", opened.supernets["whole"].space.smallest)
    cost = costs.measured(member)
    assert cost.timed is not None
    assert (cost.timed["prompt_tokens"], cost.timed["new_tokens"]) == (4, 4)
    assert cost.decode is not None
    assert cost.decode.median > 0
    assert costs.of(member).kv_bytes > 0


def test_every_choice_of_both_stacks_shows_in_what_times_are_predicted_from(
    opened: Opened,
) -> None:
    costs = Costs(opened.supernets, None, Path("none"), context=4)
    members = Members(opened.description.spaces)
    problem = MemberProblem.over(members, costs, score=lambda one: 0.0)
    genes = [n - 1 for n in problem.choices]
    largest = costs._features(members.decode(tuple(genes)))
    for at, number in enumerate(problem.choices):
        if number > 1:
            other = [0 if i == at else gene for i, gene in enumerate(genes)]
            assert costs._features(members.decode(tuple(other))) != largest, at


def test_the_gap_of_pairs_and_a_stock_t5(root: Path) -> None:
    train(root, "t5-net", start="t5", space=T5_SPACE)
    config = attar.EvaluateSupernetConfig(n_random=1, standalone_steps=1, split="validation")
    run = attar.supernet.evaluate(root / "t5-net", str(root / "pairs.tsv"), config=config)
    assert [one["which"] for one in run.details["networks"]] == ["largest", "smallest", "random"]
    for one in run.details["networks"]:
        assert one["loss_alone"] != one["loss"]
    out = root / "t5-small"
    run = attar.supernet.export(root / "t5-net", arch="smallest", output_dir=out)
    assert (run.details["form"], run.details["class"]) == ("uniform", "T5ForConditionalGeneration")
    stored = checkpoint.load(out)
    assert (stored.config.num_layers, stored.config.num_decoder_layers) == (1, 1)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"method": "autodistil", "distillation": AutoDistilConfig(), "mixture": MixtureConfig()},
         ConfigError, "a config without weights"),
        ({"distillation": AutoDistilConfig()}, ConfigError, "a config without weights"),
        ({"space": None}, ConfigError, "a YAML file with a space and, inside, its decoder"),
        ({"start": "wrong"}, CompatibilityError, "the tokenizer's EOS, 2; found eos_token_id 1"),
        ({"space": SPACE | {"hidden_size": [16, 64]}}, CompatibilityError, "no larger than its"),
        ({"start": "t5"}, CompatibilityError, "found a t5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(
    options: dict[str, Any], error: type[AttarError], said: str, root: Path
) -> None:
    with pytest.raises(error, match=said):
        train(root, "refused", **options)
    assert not (root / "refused").exists()


def test_a_trained_encoder_decoder_is_cut_and_none_is_a_teacher(root: Path) -> None:
    model = checkpoint.fresh(root / "start", seed=3)
    parent = make_parent(model, Space.from_dict(SPACE))
    assert isinstance(parent, ElasticMarianMTModel)
    wide = model.get_parameter("model.decoder.layers.2.fc1.weight")
    assert torch.equal(parent.get_parameter("model.decoder.layers.2.fc1.weight"), wide[:24, :24])
    checkpoint.save(model, root / "trained", tokenizer=letters.words())
    for kind in ("pca", "importance"):
        with pytest.raises(ConfigError, match=f"init {kind} is for a single stack"):
            train(root, "refused", start="trained", distillation=AutoDistilConfig(init=kind))
    options: dict[str, Any] = {"method": "autodistil", "mixture": MixtureConfig()}
    with pytest.raises(CompatibilityError, match="which is both"):
        train(root, "refused", start="trained", distillation=AutoDistilConfig(), **options)
    with pytest.raises(CompatibilityError, match="leave proxy"):
        attar.supernet.search(
            root / "net", str(root / "pairs.tsv"), proxy="none", output_dir=root / "refused"
        )
