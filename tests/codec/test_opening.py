"""A codec from a folder: whole and its own, or refused in a sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import signals
import tiny
from attar.codec import opening
from attar.codec.opening import (
    common_form,
    load_codec,
    placed,
    save_codec,
    spread,
    to_encode,
    train_and_held_out,
)
from attar.data.media import open_media
from attar.errors import AttarError, CompatibilityError, DataError, ResourceError

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_codec(signals.codec(decoder="conv", decoder_width=8), tmp_path / "codec")
    return tmp_path / "codec"


def test_a_codec_is_where_it_computes_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    places, gpu = list[Any](), torch.device("cuda")
    monkeypatch.setattr(opening, "place", lambda codec, device=None: places.append(device))
    plain, full = signals.codec(), signals.codec(encoder="full", encoder_width=8)
    with pytest.raises(KeyboardInterrupt), placed(plain):
        assert places == [None]  # of this process
        raise KeyboardInterrupt
    assert places.pop() == plain.device
    for found, codec in ((True, full), (True, plain), (False, full)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        with to_encode(codec):
            pass
    assert [torch.device(place) for place in places[1::2]] == [gpu, plain.device, plain.device]


def test_a_codec_comes_back_as_it_was(folder: Path) -> None:
    codec = signals.codec(decoder="conv", decoder_width=8)
    again = load_codec(folder)
    assert again.fingerprint == codec.fingerprint
    assert not again.training
    assert load_codec(codec.train()) is codec
    assert not codec.training
    for name, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def change_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], Any]:
    def changed(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return changed


def change_config(**options: Any) -> Callable[[Path], Any]:
    def changed(folder: Path) -> None:
        facts = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(facts | options))

    return changed


def overwrite(name: str, raw: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(raw)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "there is no such folder"),
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "broken config": (overwrite("config.json", b'{"model_type": "wav'), "damaged"),
    "empty config": (overwrite("config.json", b"{}"), "expected a codec .* found no model"),
    "another model": (change_config(model_type="llama"), "expected a codec .* found llama"),
    "wrong type": (change_config(levels="two"), "levels must be a whole number"),
    "wrong value": (change_config(bits=99), "bits must be from 2 to 16"),
    "wrong shape": (change_config(latent_channels=11), "do not fit its config.json"),
    "endless channels": (change_config(channels=10**7), "does not fit its config"),
    "endless width": (change_config(decoder_width=10**6), "does not fit its config"),
    "endless blocks": (
        change_config(decoder_blocks=10**6),
        "decoder_blocks must be from 0 to 1024",
    ),
    "endless stages": (change_config(stages=10**9), "stages must be so few"),
    "shard outside": (
        overwrite("model.safetensors.index.json", b'{"weight_map": {"steps": "../x.safetensors"}}'),
        "expected names of files beside it .* found '../x.safetensors'",
    ),
    "wrong wavelet": (change_config(decoder="linear"), "do not fit its config.json"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "cannot read the weights"),
    "cut weights": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-50]),
        "cannot read the weights",
    ),
    "noise": (overwrite(WEIGHTS, b"\x80\x02" * 90), "damaged"),
    "missing tensor": (change_weights(lambda t: t.pop("analysis.bias")), "'analysis.bias'"),
    "more tensors": (
        change_weights(lambda t: t.update({"extra": torch.zeros(1)})),
        "1 tensors are missing, too many, or of another shape, such as 'extra'",
    ),
    "other tensor": (
        change_weights(lambda t: t.update({"steps": torch.ones(3)})),
        "such as 'steps'",
    ),
    "NaN": (
        change_weights(lambda t: t["analysis.weight"][0].fill_(np.nan)),
        "expected finite weights .* such as 'analysis.weight'",
    ),
    "infinity": (
        change_weights(lambda t: t["decoder.last.bias"].fill_(np.inf)),
        "expected finite weights",
    ),
    "no step": (change_weights(lambda t: t["steps"][0].fill_(0.0)), "steps above zero"),
    "negative step": (change_weights(lambda t: t["steps"][0].fill_(-1.0)), "steps above zero"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_codec_is_refused_in_a_sentence(folder: Path, name: str) -> None:
    damage, said = DAMAGES[name]
    damage(folder)
    with pytest.raises(AttarError, match=said) as found:
        load_codec(folder)
    assert found.value.exit_code == 2
    assert "codec" in str(found.value)


@pytest.mark.parametrize("name", ["_attn_implementation", "attn_implementation"])
def test_a_config_chooses_no_attention(folder: Path, name: str) -> None:
    """A name with a slash would have transformers fetch a kernel."""
    change_config(**{name: "someone/kernel"})(folder)
    assert load_codec(folder).fingerprint


def test_a_language_model_is_no_codec(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(tiny.model("gpt2").config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(CompatibilityError, match=r"expected a codec .* found gpt2"):
        load_codec(tmp_path / "gpt2")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="expected a folder with a codec, found the file"):
        load_codec(tmp_path / "file")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = signals.codec()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(codec, "save_pretrained", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        save_codec(codec, tmp_path / "codec")


def test_a_codec_that_does_not_come_back_is_not_taken_for_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = signals.codec()
    other = signals.codec(step=0.03)
    monkeypatch.setattr("attar.codec.opening.load_codec", lambda _: other)
    with pytest.raises(CompatibilityError, match="is not what was to be saved"):
        save_codec(codec, tmp_path / "codec")


# ------------------------------------------------------------------------------------ rows


def write(folder: Path, count: int, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.fromarray(signals.pixels(9, 8, seed=n, **options)).save(folder / f"{n:02}.png")


def test_every_tenth_row_is_held_out_where_there_is_no_split(tmp_path: Path) -> None:
    write(tmp_path / "a", 23)
    train, held = train_and_held_out(str(tmp_path / "a"))
    assert held.names == ["00.png", "10.png", "20.png"]
    assert len(train) == 20
    assert not set(train.names) & set(held.names)
    write(tmp_path / "b", 1)
    assert [rows.names for rows in train_and_held_out(str(tmp_path / "b"))] == [["00.png"]] * 2


def test_a_split_is_held_out_where_there_is_one(tmp_path: Path) -> None:
    write(tmp_path / "train", 3)
    write(tmp_path / "test", 2)
    assert [len(rows) for rows in train_and_held_out(str(tmp_path))] == [3, 2]
    write(tmp_path / "validation", 4)
    assert [len(rows) for rows in train_and_held_out(str(tmp_path))] == [3, 4]
    shutil.rmtree(tmp_path / "train")
    shutil.rmtree(tmp_path / "validation")
    train, held = train_and_held_out(str(tmp_path))
    assert (len(train), len(held)) == (1, 1)
    assert train.names != held.names


def test_rows_are_spread_evenly(tmp_path: Path) -> None:
    write(tmp_path / "a", 9)
    rows = open_media(str(tmp_path / "a"))
    assert spread(rows, 3).names == ["00.png", "04.png", "08.png"]
    assert spread(rows, 99) is rows
    assert spread(rows, 1).names == ["00.png"]


def test_the_form_is_that_of_all_rows(tmp_path: Path) -> None:
    write(tmp_path / "a", 2, channels=4)
    write(tmp_path / "b", 2)
    assert common_form(open_media(str(tmp_path / "a"))) == (2, 4)
    assert common_form(open_media(str(tmp_path / "b"))) == (2, 3)
    for n, channels in enumerate((1, 2)):
        soundfile.write(tmp_path / f"{n}.wav", signals.samples(90, channels=channels), 8000)
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "b")
    assert common_form(open_media(str(tmp_path))) == (1, 2)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "are quantised"),
        ({"wavelet": "bior9.9"}, "says what cannot be .*bior9"),
    ],
)
def test_a_config_of_what_no_codec_has(folder: Path, facts: dict[str, Any], said: str) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))
    with pytest.raises(AttarError, match=said):
        load_codec(folder)
