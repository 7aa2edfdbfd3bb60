"""What is wrong with spaces, models and folders of supernets is one sentence, and nothing large is
made for it.
"""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

import attar
import scene
import supernets
import tiny
from attar import checkpoint
from attar.arch import Arch, LayerShape, Space
from attar.errors import AttarError, CompatibilityError, ConfigError, DataError, shown
from attar.search.space_files import read_spaces
from attar.slicing import child_of
from attar.supernet.members import Costs, Member, MemberProblem, Members
from attar.supernet.searching import SupernetSearchConfig, _searched

SMALL = supernets.SPACES["small"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def teacher(root: Path) -> tuple[Path, Path]:
    return supernets.write_teacher(root)


@pytest.fixture(scope="module")
def mixture(teacher: tuple[Path, Path], root: Path) -> Path:
    quick = replace(supernets.QUICK, max_steps=1)
    options: dict[str, Any] = {"method": "mixture-of-supernets", "space": SMALL, "config": quick}
    supernets.train(*teacher, root / "mixture", **options)
    return root / "mixture"


# ---------------------------------------------------------------------------------------- spaces


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 10**9}, "at most 2000; found 1000000000"),
        ({"intermediate_size": 10**400}, "whole numbers"),
        ({"num_hidden_layers": {"min": 1, "max": 10**12, "step": 1}}, "at most 10000 values"),
        ({"hidden_size": {"min": 1, "max": 10**400, "step": 1}}, "at most 10000 values"),
        ({"num_key_value_heads": {"min": 1, "max": 10**12, "step": 1}}, "at most 10000 values"),
        ({"intermediate_size": [], "intermediate_ratio": 1e300}, "positive numbers"),
        ({"per_layer": [["hidden_size"]]}, "per_layer must be among"),
    ],
)
def test_absurd_numbers_of_a_space_are_refused_at_once(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_spaces(SMALL | changes)
    assert len(str(caught.value)) < 600


def test_a_yaml_that_holds_itself_is_refused(tmp_path: Path) -> None:
    widths = "num_hidden_layers: 1\nhidden_size: 8\nnum_attention_heads: 2\nintermediate_size: 8\n"
    lines = "\n".join(f"  {line}" for line in f"{widths}decoder: *a".split("\n"))
    (tmp_path / "s.yaml").write_text(f"x: &a\n{lines}\n")
    with pytest.raises(ConfigError, match="a space without a decoder of its own"):
        read_spaces(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"small": SMALL, "Small": SMALL}, "differ in more than capitals"),
        ({"small": SMALL, "large": 3}, "a space for each name in the space; 'large' is 3"),
    ],
)
def test_names_of_spaces_are_told_apart(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_spaces(given)


def test_widths_of_encoder_decoders_are_refused_elsewhere() -> None:
    own, model = Arch.of(tiny.model()), tiny.model()
    crossed = LayerShape(8, 4, 48, cross_attention_heads=2, cross_attention_span=1)
    for arch, name in (
        (replace(own, attention_size=16), "attention_size"),
        (replace(own, decoder=own), "a decoder"),
        (replace(own, layers=(crossed,) * 3), "cross_attention_heads"),
    ):
        with pytest.raises(CompatibilityError, match=f"found {name}, which only encoder-decoders"):
            child_of(model, arch)


def test_long_values_are_broken_off() -> None:
    assert shown([1] * 1000).endswith("...")
    assert len(shown([1] * 1000)) < 400
    assert shown(10**5000) == "a whole number of 16610 bits"
    assert shown([10**5000]) == "a list that is too long to show"
    assert shown(None) == "None"


# -------------------------------------------------------------------------------------- training


def refused(teacher: tuple[Path, Path], folder: Path, said: str, **options: Any) -> None:
    with pytest.raises(AttarError, match=said):
        supernets.train(*teacher, folder / "out", **options)
    assert not (folder / "out").exists()
    assert not (folder / "out.partial").exists()


def test_networks_without_some_of_the_tokens_are_refused(
    teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    said = "the space 'whole' has some with 5"
    refused(teacher, tmp_path, said, space=SMALL | {"vocab_size": [5, 10]})


def test_a_teacher_with_nan_is_told_before_it_trains(
    teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    model = attar.load(teacher[0])
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.up_proj.weight")[0, 0] = math.nan
    checkpoint.save(model, tmp_path / "nan", tokenizer=attar.load_tokenizer(teacher[0]))
    said = "its weights are damaged, model.layers.0.mlp.up_proj.weight holds NaN"
    refused((tmp_path / "nan", teacher[1]), tmp_path, said, space=SMALL)


def test_masked_tokens_need_a_mask_token(teacher: tuple[Path, Path], tmp_path: Path) -> None:
    words = scene.tokenizer(teacher[1])
    model = tiny.model("bert", auto=AutoModelForMaskedLM, vocab_size=len(words))
    checkpoint.save(model, tmp_path / "bert", tokenizer=words)
    said = "the tokenizer has no mask token; give the tokenizer that the model"
    refused((tmp_path / "bert", teacher[1]), tmp_path, said, method="mixture-of-supernets")


def test_experts_beyond_any_memory_are_refused() -> None:
    with pytest.raises(ConfigError, match="experts must be at most 1000"):
        attar.MixtureConfig(experts=10**9)


# ------------------------------------------------------------------------------- damaged supernets


def no_providers(stored: dict[str, Any]) -> None:
    stored["providers"] = []


def odd_kind(stored: dict[str, Any]) -> None:
    stored["providers"][0]["kind"] = ["mixture"]


def no_experts(stored: dict[str, Any]) -> None:
    stored["providers"][0]["options"]["experts"] = -1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_providers, "holds weights that supernet.json does not name"),
        (odd_kind, "which this attar cannot make"),
        (no_experts, r"supernet.json is damaged \(experts must be at least 1; found -1\)"),
    ],
)
def test_a_description_that_lies_is_refused(
    change: Callable[[dict[str, Any]], None], said: str, mixture: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(mixture, tmp_path / "m")
    stored = json.loads((folder / "supernet.json").read_text())
    change(stored)
    (folder / "supernet.json").write_text(json.dumps(stored))
    with pytest.raises(DataError, match=said):
        attar.supernet.export(folder, arch="largest", output_dir=tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_a_number_of_a_row_that_no_machine_holds_is_none(mixture: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected best, largest, smallest") as caught:
        attar.supernet.export(mixture, arch="9" * 5000, output_dir=tmp_path / "out")
    assert len(str(caught.value)) < 600


# --------------------------------------------------------------------------------------- searches


def test_a_population_is_no_larger_than_its_space(tmp_path: Path) -> None:
    members = Members({"small": Space.from_dict(SMALL)})
    draws = list[Member]()

    def score(member: Member) -> float:
        draws.append(member)
        return float(member[1].num_hidden_layers)

    costs = Costs({}, None, tmp_path, context=8)
    problem = replace(
        MemberProblem.over(members, costs, score=score), cost=lambda genes: {"params": 1.0}
    )
    many = 10**9
    config = SupernetSearchConfig(
        strategy="evolution", population=many, mutations=many, crossovers=many, iterations=2
    )
    work: Any = type("Work", (), {"folder": tmp_path / "search"})()
    found = _searched(problem, config, work=work, settings={})
    assert len(found.history) == len(draws) <= members.size


def test_options_of_a_proxy_task_are_checked_before_the_search(
    mixture: Path, teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="proxy_learning_rate must be above 0"):
        SupernetSearchConfig(proxy_learning_rate=0.0)
    rows = "".join(f'{{"text": "def {i}", "label": {i % 2}}}\n' for i in range(40))
    (tmp_path / "rows.jsonl").write_text(rows)
    with pytest.raises(ConfigError, match=r"^proxy_context must be at most 64"):
        attar.supernet.search(
            mixture,
            str(teacher[1]),
            teacher=teacher[0],
            proxy=tmp_path / "rows.jsonl",
            output_dir=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_a_best_network_that_lost_its_weights_is_written_again(
    mixture: Path, teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    weights = tmp_path / "out" / "model" / "model.safetensors"
    options: dict[str, Any] = {"teacher": teacher[0], "output_dir": tmp_path / "out"}
    attar.supernet.search(mixture, str(teacher[1]), **options)
    before = weights.read_bytes()
    weights.unlink()
    attar.supernet.search(mixture, str(teacher[1]), **options)
    assert weights.read_bytes() == before
