"""Supernets on disk: what is loaded is what was saved, and damage is one sentence."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import tiny
from attar.arch import Arch, Space
from attar.errors import ConfigError, DataError
from attar.search.parents import make_parent
from attar.search.space_files import read_spaces
from attar.search.supernet import Supernet
from attar.search.supernet_files import (
    FILE,
    PROVIDERS,
    Description,
    load_supernets,
    read_description,
    save_supernets,
)
from attar.slicing import Slice

SPACE = Space((1, 2), (16, 32), (4, 8), (24, 48), num_key_value_heads=(2, 4), head_dim=(4,))


class Shifted(nn.Module):
    """A provider that adds a number to every norm."""

    def __init__(self, parent: PreTrainedModel, space: Space, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._parent = (parent,)
        self.shift = nn.Parameter(torch.tensor(float(options["shift"])))

    def taking(self, arch: Arch) -> Callable[[Slice], Tensor | None]:
        def take(where: Slice) -> Tensor | None:
            if "norm" not in where.name:
                return None
            return where.of(self._parent[0].get_parameter(where.name)) + self.shift

        return take


def supernet(*providers: nn.Module) -> Supernet:
    parent = make_parent(tiny.model("llama"), SPACE)
    made = [Shifted(parent, SPACE, {"shift": 0.5})] if providers else []
    return Supernet(parent, SPACE, providers=made, depth="first").eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net") / "out"
    description = Description(
        "test", {"whole": SPACE}, depth="first", providers=(("shifted", {"shift": 0}),)
    )
    save_supernets(folder, {"whole": supernet(nn.Identity())}, description=description)
    return folder


def copied(saved: Path, to: Path) -> Path:
    for file in saved.rglob("*"):
        if file.is_file():
            target = to / file.relative_to(saved)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return to


def test_what_is_loaded_is_what_was_saved(saved: Path) -> None:
    before = supernet(nn.Identity())
    after = load_supernets(saved, providers={"shifted": Shifted})["whole"]
    assert after.space == SPACE
    assert after.depth == "first"
    assert after.providers.state_dict()["0.shift"] == 0.5
    for arch in SPACE.enumerate():
        logits = before(arch, input_ids=tiny.ids())[0]
        assert torch.equal(after(arch, input_ids=tiny.ids())[0], logits)
        assert torch.equal(after.extract(arch)(input_ids=tiny.ids())[0], logits)
    assert all(p.requires_grad for p in after.parameters())
    found = read_description(saved)
    assert found == Description(
        "test", {"whole": SPACE}, depth="first", providers=(("shifted", {"shift": 0}),)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 7}, "is of format 7, but this attar reads format 1"),
        ({"spaces": {}}, "is damaged (no spaces"),
        ({"spaces": {"whole": {"num_hidden_layers": 2}}}, "is damaged (hidden_size must be"),
        ({"spaces": {"../x": SPACE.to_dict()}}, "is damaged (expected a name of a space"),
        ({"depth": "deep"}, "is damaged (no spaces, or no rule of depth)"),
        ({"providers": 5}, "is damaged"),
        ({"providers": [{"kind": "mixed", "options": {}}]}, "weights of kind 'mixed'"),
        ({"method": None, "spaces": {"other": SPACE.to_dict()}}, "lacks 'other'"),
    ],
)
def test_a_wrong_description_is_one_sentence(
    change: dict[str, Any], said: str, saved: Path, tmp_path: Path
) -> None:
    folder = copied(saved, tmp_path / "out")
    stored = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(stored | change))
    with pytest.raises(DataError, match=re.escape(said)):
        load_supernets(folder, providers={"shifted": Shifted})


def test_a_damaged_folder_is_one_sentence(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no supernet\.json: train one"):
        load_supernets(tmp_path)
    (tmp_path / "half.partial").mkdir()
    with pytest.raises(DataError, match="finish its training with resume"):
        load_supernets(tmp_path / "half")
    folder = copied(saved, tmp_path / "out")
    (folder / "whole" / PROVIDERS).write_bytes(b"half")
    with pytest.raises(DataError, match=r"providers\.safetensors' are missing, damaged"):
        load_supernets(folder, providers={"shifted": Shifted})
    (folder / "whole" / PROVIDERS).unlink()
    with pytest.raises(DataError, match=r"providers\.safetensors' are missing, damaged"):
        load_supernets(folder, providers={"shifted": Shifted})
    (folder / "whole" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match="whole"):
        load_supernets(folder, providers={"shifted": Shifted})
    (folder / FILE).write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        load_supernets(folder)


def test_names_are_folders(tmp_path: Path) -> None:
    for name in ("state", "Model", "a/b", "", "..", "x" * 70):
        with pytest.raises(ConfigError, match="expected a name of a space"):
            save_supernets(
                tmp_path, {name: supernet()}, description=Description("test", {name: SPACE})
            )


# ------------------------------------------------------------------------------- spaces of users


def test_spaces_of_a_file_are_those_in_it(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    one = "num_hidden_layers: [1, 2]\nhidden_size: {min: 16, max: 48, step: 16}\n"
    one += "num_attention_heads: 4\nintermediate_ratio: [1.0, 2]\n"
    file.write_text(one)
    whole = Space((1, 2), (16, 32, 48), (4,), intermediate_ratio=(1.0, 2))
    assert read_spaces(str(file)) == {"whole": whole} == read_spaces(whole)
    indented = "".join(f"  {line}\n" for line in one.splitlines())
    file.write_text(f"few:\n{indented}many-layers:\n{indented}")
    assert read_spaces(file) == {"few": whole, "many-layers": whole}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a space, or several by name, in the file"),
        ("- 5", "expected a mapping of spaces in the file"),
        ("tiny: {hidden_size: 5", "cannot be read as YAML"),
        ("tiny: {hidden_sise: [5]}", "tiny in the file '.*' holds 'hidden_sise', .*'hidden_size'"),
        ("tiny: {hidden_size: [5]}", "tiny in the file '.*': num_hidden_layers must be"),
        ("tiny: {hidden_size: []}\nstate: {hidden_size: []}", "expected a name of a space"),
        ("num_hidden_layers: 1\nhiden_size: 5", "holds 'hiden_size', which no space has"),
        (
            "num_hidden_layers: 1\nhidden_size: {min: 5}\nnum_attention_heads: 1",
            "hidden_size must be a range",
        ),
        ("5: {hidden_size: 3}", "expected a mapping of spaces"),
    ],
)
def test_a_wrong_space_names_file_and_key(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_spaces(file)
    assert "space.yaml" in str(caught.value)


def test_a_missing_space_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        read_spaces(tmp_path / "none.yaml")
