"""Every verb once, on tiny models, through the door that users take; and what they write is what
Python writes.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import attar
import scene
from attar import checkpoint
from attar.arch import Arch
from attar.budget import Latency
from attar.cli import demo
from attar.cli.app import ExitCode
from attar.measure.cost import cost_of
from attar.measure.latency_table import LatencyTable
from attar.methods.bonsai import BonsaiConfig
from attar.pretraining.config import PretrainConfig
from attar.report.record import Run
from scene import run

pytestmark = pytest.mark.usefixtures("briefly_timed")
SEARCH = ["--windows=4", "--context=16", "--ffn-block=8", "--evaluations=8", "--step=0.25"]
SEARCHED = BonsaiConfig(windows=4, context=16, ffn_block=8, evaluations=8, step=0.25)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def parent(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene.write_parent(tmp_path_factory.mktemp("models") / "parent", text)


@pytest.fixture(scope="module")
def pruned(parent: Path, text: Path) -> Path:
    out = parent.with_name("pruned")
    command = ["prune", str(parent), "--data", str(text), "--budget", "blocks<=60%", "-o", str(out)]
    assert run([*command, "--method", "wanda", *SEARCH]) == 0
    return out


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# -------------------------------------------------------------------------------------------- prune


def test_prune_equals_python(
    parent: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    budget = "blocks<=60%, bytes<=150KB"
    command = ["prune", str(parent), "--data", str(text), "--budget", budget, "-o", str(one)]
    assert run([*command, *SEARCH]) == ExitCode.DONE
    said = capsys.readouterr().out
    record = attar.prune(parent, str(text), budget=budget, output_dir=two, config=SEARCHED)
    assert files(one) == files(two)
    for name in ("model.safetensors", "plan.json", "config.json", "tokenizer.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    stored = Run.load(one)
    assert stored.quality == record.quality
    assert stored.settings == record.to_dict()["settings"]
    assert f"Written to {one}." in said
    assert f"attar heal {one} --teacher {parent}" in said


def test_the_hint_to_load_in_plain_transformers_is_true(
    parent: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "uniform"
    command = ["prune", str(parent), "--data", str(text), "--budget", "blocks<=80%", "-o", str(out)]
    assert run([*command, "--layout", "uniform", "--method", "wanda", *SEARCH]) == 0
    assert "trust_remote_code" not in capsys.readouterr().out
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(out)


def test_apply_cuts_by_the_plan(
    parent: Path, pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, plan in enumerate((pruned, pruned / "plan.json")):
        out = tmp_path / str(number)
        assert run(["prune", str(parent), "--apply", str(plan), "-o", str(out)]) == 0
        for name in ("model.safetensors", "plan.json", "config.json"):
            assert (out / name).read_bytes() == (pruned / name).read_bytes(), name
        assert "prune --apply" in capsys.readouterr().out


def test_a_latency_that_is_met_only_on_paper_is_exit_code_3_and_keeps_the_model(
    parent: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def table(model: Any, mode: Any, **_: Any) -> LatencyTable:
        # half of the time is said to be in the neurons
        found = Arch.of(model)
        widest = found.layers[0].intermediate_size
        grid = ((8, 0.5), (widest, 5 / len(found.layers)))
        return LatencyTable(mode, 10.0, found, ((4, 0.0),), grid, 0.01)

    def slow(model: Any, **_: Any) -> Any:
        return replace(cost_of(model), prefill=Latency(10.0, 0.1), decode=Latency(10.0, 0.1))

    monkeypatch.setattr("attar.measure.latency_budget.measure_table", table)
    monkeypatch.setattr("attar.pruning.run.measure", slow)
    out = tmp_path / "out"
    command = ["prune", str(parent), "--data", str(text), "--budget", "latency<=80%"]
    assert run([*command, "-o", str(out), *SEARCH, "--method", "wanda"]) == 3
    stored = Run.load(out)
    assert stored.budget is not None
    assert stored.budget["met"] is False
    assert stored.details["latency_prediction"]["predicted"] <= 8
    assert stored.details["latency_prediction"]["measured"] == 10
    assert cost_of(checkpoint.load(out)).params < cost_of(checkpoint.load(parent)).params
    said = capsys.readouterr().out
    assert "latency<=80%: NOT met" in said


# --------------------------------------------------------------------------------- train and heal


def test_pretrain_equals_python(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {
        "vocab_size": 280,
        "context": 16,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 16,
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "eval_tokens": 200,
    }
    one, two = tmp_path / "one", tmp_path / "two"
    flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    assert run(["pretrain", "--data", str(text), "-o", str(one), *flags]) == 0
    said = capsys.readouterr().out
    attar.pretrain(data=str(text), config=PretrainConfig(**options), output_dir=two)
    assert files(one) == files(two)
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert f"attar prune {one}" in said


def test_heal(
    parent: Path, pruned: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "healed"
    flags = "--max-steps 3 --context 16 --per-device-train-batch-size 2 --eval-tokens 200"
    command = ["heal", str(pruned), "--teacher", str(parent), "--data", str(text), "-o", str(out)]
    assert run([*command, *flags.split(), "--teacher-cache", "topk:4"]) == 0
    assert f"attar evaluate {out}" in capsys.readouterr().out
    before, after = (load_file(f / "model.safetensors") for f in (pruned, out))
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    assert not all(torch.equal(before[k], after[k]) for k in before)
    assert Run.load(out).quality["after"]["nll"] > 0


# ------------------------------------------------------------------------------------------ figures


def test_evaluate_prints_what_python_measures(
    parent: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(parent), "--data", str(text), "--eval-tokens", "300"]
    assert run([*command, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    from attar.data.text import load_text

    wanted = attar.score(
        attar.load(parent),
        attar.load_tokenizer(parent),
        documents=load_text(text)["test"],
        eval_tokens=300,
    )
    assert found["quality"]["after"] == pytest.approx(wanted.to_dict())
    assert found["cost"]["after"]["decode"]["median"] > 0
    assert run([*command, "--no-speed"]) == 0
    said = capsys.readouterr().out
    assert f"{wanted.perplexity:.3f}" in said
    assert f"{wanted.bits_per_byte:.4f}" in said
    assert "prefill" not in said


def test_cost_of_a_model_and_of_a_pruned_one(
    parent: Path, pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in (parent, pruned):
        file = tmp_path / f"{model.name}.json"
        command = ["cost", str(model), "--repeats", "1", "--context", "8", "--json", str(file)]
        assert run(command) == 0
        said = capsys.readouterr().out
        found = json.loads(file.read_text())["cost"]["after"]
        wanted = cost_of(checkpoint.load(model), context=8)
        assert {k: found[k] for k in ("params", "bytes", "macs", "kv_bytes")} == {
            k: getattr(wanted, k) for k in ("params", "bytes", "macs", "kv_bytes")
        }
        assert "KV cache at 8" in said
        assert "tokens/s" in said
    assert run(["cost", str(parent), "--no-measure", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["cost"]["after"]["prefill"] is None


def test_compare(
    parent: Path, pruned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, table = tmp_path / "page.html", tmp_path / "table.json"
    command = ["compare", str(pruned), "--html", str(page), "--json", str(table)]
    assert run(command) == 0
    said = capsys.readouterr()
    assert "pruned" in said.out
    assert str(page) in said.err
    assert json.loads(table.read_text())
    assert page.read_text().startswith("<!")


def test_recipe_and_env(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "list"]) == 0
    assert "bonsai/cpu-tiny" in capsys.readouterr().out
    assert run(["recipe", "copy", "pocket/1m", str(tmp_path / "mine.yaml")]) == 0
    assert "hidden_size: 128" in (tmp_path / "mine.yaml").read_text()
    capsys.readouterr()
    assert run(["env"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^torch +{re.escape(torch.__version__)}$", said, re.M)
    assert str(Path.home()) not in said


# --------------------------------------------------------------------------------------------- demo


def test_demo_goes_from_nothing_to_a_report_and_uses_it_again(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "eval_tokens": 200,
    }
    small = {
        "pocket/1m": training
        | {
            "vocab_size": 280,
            "context": 32,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 32,
        },
        "bonsai/cpu-tiny": {"windows": 4, "evaluations": 4, "step": 0.5},
        "bonsai/cpu-tiny-heal": training | {"teacher_cache": "topk:4"},
    }

    def configured(name: str, kind: Any, **_: Any) -> tuple[Any, None]:
        return kind(**small[name]), None

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "configured", configured)
    monkeypatch.setattr(demo, "DATA", str(text))
    monkeypatch.setattr(demo, "PROMPT_TOKENS", 8)
    monkeypatch.setattr(demo, "NEW_TOKENS", 4)
    monkeypatch.setattr(demo, "HEALING_STEPS", 2)
    monkeypatch.setattr(demo, "EVAL_TOKENS", 200)
    monkeypatch.setattr(demo, "SHORTER", {"1m": {}})
    folder = tmp_path / "demo"
    assert run(["demo", "--output-dir", str(folder)]) == 0
    first = capsys.readouterr()
    assert (folder / "report.html").exists()
    for name in ("parent", "bonsai", "bonsai-healed", "flap", "flap-healed"):
        checkpoint.load(folder / name)
        assert (folder / name / "attar.json").exists()
    assert "Report:" in first.out
    *_, conclusion, limits = first.out.splitlines()
    assert re.match(
        r"Conclusion: .* by \S+% with Bonsai and \S+% with FLAP, after healing .* times as fast",
        conclusion,
    )
    assert "A model this small cannot show more" in limits
    weights = (folder / "bonsai" / "model.safetensors").stat().st_mtime_ns
    assert run(["demo", "--output-dir", str(folder)]) == 0
    assert "already in" in capsys.readouterr().err
    assert (folder / "bonsai" / "model.safetensors").stat().st_mtime_ns == weights
    # other recipes: what is there is of no use, and all is made as it was at first
    small["bonsai/cpu-tiny"]["seed"] = 1
    monkeypatch.setattr(demo, "pretrain", interrupted)
    assert run(["demo", "--output-dir", str(folder)]) == ExitCode.INTERRUPTED
    assert [file.name for file in folder.iterdir() if file.is_dir()] == []


def test_demo_touches_no_folder_that_it_did_not_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "recipes.txt"
    mine.write_text("pancakes")
    for more in ([], ["--fresh"]):
        assert run(["demo", "--output-dir", str(tmp_path), *more]) == 2
        assert "another --output-dir" in capsys.readouterr().err
    assert mine.read_text() == "pancakes"
    assert list(tmp_path.iterdir()) == [mine]
