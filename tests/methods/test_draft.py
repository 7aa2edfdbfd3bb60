"""The verbs of drafts: what they write, what official decoding makes of it, and how they go on."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

import scene
from attar import checkpoint
from attar.decode.speculation import made_for
from attar.decode.speculative import SpeculativeDecoder
from attar.errors import CompatibilityError, ConfigError
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.distill import distill_draft
from attar.methods.distillspec.profile import profile_draft
from attar.methods.distillspec.search import search_drafts
from attar.methods.distillspec.start import init_draft
from attar.report.record import Run
from attar.train.students import evenly_spaced_layers

CONFIG = DistillSpecConfig(
    max_steps=6,
    per_device_train_batch_size=4,
    learning_rate=3e-3,
    prompt_tokens=8,
    max_new_tokens=8,
    eval_steps=3,
    eval_prompts=6,
    save_steps=2,
    logging_steps=2,
    select_best=False,  # so that what is saved was trained
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, a target, a draft of its layers, and one of another tokenizer."""
    folder = tmp_path_factory.mktemp("drafts")
    text = scene.write_text(folder / "text")
    scene.write_parent(folder / "target", text)
    init_draft(folder / "target", layers=2, output_dir=folder / "draft")
    other = scene.tokenizer(text, vocab_size=270)
    small: Any = checkpoint.load(folder / "draft")
    checkpoint.save(small, folder / "other", tokenizer=other)
    return folder


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    distill_draft(
        root / "draft",
        root / "text",
        target=root / "target",
        output_dir=root / "trained",
        config=CONFIG,
    )
    return root / "trained"


def test_layers_are_spread_from_the_first_to_the_last(root: Path) -> None:
    assert [evenly_spaced_layers(n, 7) for n in (1, 2, 3, 7)] == [
        [0],
        [0, 6],
        [0, 3, 6],
        [0, 1, 2, 3, 4, 5, 6],
    ]
    target, draft = (checkpoint.load(root / name).state_dict() for name in ("target", "draft"))
    assert torch.equal(
        draft["model.layers.1.mlp.up_proj.weight"], target["model.layers.2.mlp.up_proj.weight"]
    )
    assert torch.equal(
        draft["model.layers.0.mlp.up_proj.weight"], target["model.layers.0.mlp.up_proj.weight"]
    )
    with pytest.raises(ConfigError, match="between 1 and 3 layers"):
        init_draft(root / "target", layers=4, output_dir=root / "never")
    assert not (root / "never").exists()


def test_the_record_and_what_the_draft_promises(root: Path, trained: Path) -> None:
    run = Run.load(trained)
    for temperature in ("0", "1"):
        for side in ("before", "after"):
            assert 1 <= run.quality[side][f"tau at {temperature}"] <= CONFIG.draft_tokens + 1
            assert 0 <= run.quality[side][f"alpha at {temperature}"] <= 1
    assert run.quality["after"]["alpha at 1"] > run.quality["before"]["alpha at 1"]
    assert [one["step"] for one in run.details["measured"]] == [0, 3, 6]
    told = json.loads((trained / "speculation.json").read_text())
    target = checkpoint.load(root / "target")
    assert told["target_fingerprint"] == checkpoint.fingerprint(target)
    assert told["profiles"][0]["temperature"] == CONFIG.temperature
    assert told["draft_tokens"] == told["profiles"][0]["best"]
    assert made_for(trained, target) is True
    assert made_for(trained, checkpoint.load(root / "draft")) is False
    assert made_for(root / "draft", target) is None
    assert "distillspec" in (trained / "README.md").read_text()


def test_official_assisted_generation_takes_the_draft(root: Path, trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    target: Any = AutoModelForCausalLM.from_pretrained(root / "target").double()
    draft: Any = AutoModelForCausalLM.from_pretrained(trained).double()
    told = json.loads((trained / "speculation.json").read_text())
    assert draft.generation_config.num_assistant_tokens == told["draft_tokens"]
    inputs = tokenizer("def return import", return_tensors="pt", return_token_type_ids=False)
    plain = target.generate(**inputs, do_sample=False, max_new_tokens=20)
    official = target.generate(**inputs, do_sample=False, max_new_tokens=20, assistant_model=draft)
    decoder = SpeculativeDecoder(target, draft)
    ours = target.generate(**inputs, do_sample=False, max_new_tokens=20, custom_generate=decoder)
    assert plain.tolist() == official.tolist() == ours.tolist()
    assert decoder.stats.tokens == 20


def test_the_draft_keeps_the_type_of_its_weights(root: Path) -> None:
    half = checkpoint.load(root / "draft", dtype=torch.bfloat16)
    checkpoint.save(half, root / "half", tokenizer=checkpoint.load_tokenizer(root / "draft"))
    config = replace(CONFIG, max_steps=1)
    distill_draft(
        root / "half",
        root / "text",
        target=root / "target",
        output_dir=root / "half-out",
        config=config,
    )
    assert checkpoint.load(root / "half-out").dtype == torch.bfloat16


VICTIM = """
import sys
from attar.methods.distillspec.texts import Writer

plain = Writer.__call__

def dying(self, draft, batch, step):
    if step == 5:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, draft, batch, step)

Writer.__call__ = dying
from attar.cli.app import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_a_killed_run_goes_on_to_the_same_weights(root: Path, trained: Path) -> None:
    names = ("per_device_train_batch_size", "prompt_tokens", "max_new_tokens", "eval_steps")
    names = (*names, "max_steps", "learning_rate", "eval_prompts", "save_steps", "logging_steps")
    options = [f"--{name.replace('_', '-')}={getattr(CONFIG, name)}" for name in names]
    argv = ["draft", "distill", str(root / "target"), str(root / "draft"), *options]
    argv += ["--no-select-best", "--data", str(root / "text"), "-o", str(root / "killed")]
    script = root / "victim.py"
    script.write_text(VICTIM)
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, script, *argv], env=os.environ | {"PYTHONPATH": path}, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (root / "killed").exists()
    assert scene.run([*argv, "--resume"]) == 0
    ours, whole = (load_file(f / "model.safetensors") for f in (root / "killed", trained))
    assert all(torch.equal(ours[name], whole[name]) for name in whole)
    first, second = (Run.load(f).details["measured"] for f in (root / "killed", trained))
    assert first == second


WORKER = """
import sys
from pathlib import Path
from dataclasses import replace
from test_draft import CONFIG
from attar.methods.distillspec import distill_draft

root, out = Path(sys.argv[1]), Path(sys.argv[2])
distill_draft(
    root / "draft", root / "text", target=root / "target", output_dir=out,
    config=replace(CONFIG, per_device_train_batch_size=2),
)
"""


@pytest.mark.slow
def test_two_processes_are_one(root: Path, trained: Path, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
            *(script, root, tmp_path / "two"),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ours, whole = (load_file(f / "model.safetensors") for f in (tmp_path / "two", trained))
    for name in whole:
        torch.testing.assert_close(ours[name], whole[name], atol=2e-5, rtol=0)


def test_a_search_ranks_its_cells_and_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attar.methods.distillspec import search as room

    config = replace(CONFIG, max_steps=2, eval_steps=2)
    options: dict[str, Any] = {
        "target": root / "target",
        "config": config,
        "divergences": ("forward_kl", "tvd"),
        "authors": ("student", "data"),
    }
    whole = search_drafts(root / "draft", root / "text", output_dir=tmp_path / "whole", **options)
    assert [one.tau for one in whole.cells] == sorted((c.tau for c in whole.cells), reverse=True)
    assert len(whole.cells) == 4
    plain, calls = room.train_draft, []

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("killed")
        return plain(*args, **kwargs)

    monkeypatch.setattr(room, "train_draft", dying)
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="killed"):
        search_drafts(root / "draft", root / "text", output_dir=out, **options)
    again = search_drafts(root / "draft", root / "text", output_dir=out, resume=True, **options)
    assert len(calls) == 5  # two cells were done
    strip = [replace(cell, seconds=0.0) for cell in again.cells]
    assert strip == [replace(cell, seconds=0.0) for cell in whole.cells]
    recipe = yaml.safe_load((out / "best.yaml").read_text())
    assert recipe["divergence"] == whole.cells[0].divergence
    replace(CONFIG, **recipe)
    assert len((out / "cells.jsonl").read_text().splitlines()) == 4
    with pytest.raises(ConfigError, match="nobody"):
        search_drafts(
            root / "draft",
            root / "text",
            output_dir=tmp_path / "x",
            **(options | {"authors": ["nobody"]}),
        )


def test_a_profile_of_checkpoints(root: Path, trained: Path) -> None:
    found = profile_draft(
        trained,
        root / "text",
        target=root / "target",
        lengths=(1, 2),
        rounds=1,
        config=replace(CONFIG, eval_prompts=3),
    )
    assert [one.temperature for one in found] == [0, 1]
    assert found[0].races[0].equal == 1
    assert found[1].alpha == pytest.approx(
        Run.load(trained).quality["after"]["alpha at 1"], abs=0.2
    )


def test_an_encoder_decoder_goes_the_whole_way(root: Path, tmp_path: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(root / "target")
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    checkpoint.save(T5ForConditionalGeneration(config), tmp_path / "target", tokenizer=tokenizer)
    init_draft(tmp_path / "target", layers=1, output_dir=tmp_path / "draft")
    run = distill_draft(
        tmp_path / "draft",
        root / "text",
        target=tmp_path / "target",
        output_dir=tmp_path / "out",
        config=CONFIG,
    )
    assert run.quality["after"]["alpha at 1"] > run.quality["before"]["alpha at 1"]
    target: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "target").double()
    draft: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").double()
    inputs = tokenizer("def return import", return_tensors="pt", return_token_type_ids=False)
    plain = target.generate(**inputs, do_sample=False, max_new_tokens=20)
    decoder = SpeculativeDecoder(target, draft)
    ours = target.generate(**inputs, do_sample=False, max_new_tokens=20, custom_generate=decoder)
    assert plain.tolist() == ours.tolist()


def test_a_draft_in_another_type_serves(root: Path, trained: Path) -> None:
    target: Any = checkpoint.load(root / "target")
    draft = checkpoint.load(trained, dtype=torch.bfloat16)
    ids = checkpoint.load_tokenizer(trained)("def return", return_tensors="pt")["input_ids"]
    plain = target.generate(ids, do_sample=False, max_new_tokens=20)
    decoder = SpeculativeDecoder(target, draft)
    assert (
        decoder.generate(ids, do_sample=False, max_new_tokens=20).sequences.tolist()
        == plain.tolist()
    )


def test_what_does_not_fit_is_told(root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"target": root / "target", "output_dir": tmp_path / "x"}
    with pytest.raises(CompatibilityError, match="share one tokenizer"):
        distill_draft(root / "other", root / "text", **options)
    with pytest.raises(CompatibilityError, match="must be smaller"):
        distill_draft(
            root / "target", root / "text", target=root / "draft", output_dir=tmp_path / "x"
        )
    with pytest.raises(ConfigError, match="64 positions"):
        distill_draft(
            root / "draft", root / "text", config=replace(CONFIG, max_new_tokens=60), **options
        )
    with pytest.raises(ConfigError, match="lower --learning-rate"):
        distill_draft(
            root / "draft",
            root / "text",
            config=replace(CONFIG, learning_rate=1e30, max_grad_norm=0),
            **options,
        )
    assert not list(tmp_path.iterdir())
