"""The verbs of drafts: what they write, what official decoding makes of it, and how they go on."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

import processes
import scene
from attar import checkpoint
from attar.decode.speculation import made_for
from attar.decode.speculative import SpeculativeDecoder
from attar.errors import CompatibilityError, ConfigError
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.distill import train_draft
from attar.methods.distillspec.profile import EvaluateDraftConfig, evaluate_draft, profile_text
from attar.methods.distillspec.start import init_draft
from attar.methods.distillspec.texts import OnPolicySampler
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

ACCEPTANCE = "acceptance rate at T=1"


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
    with scene.brief_profiles():
        train_draft(
            root / "draft",
            root / "text",
            target=root / "target",
            output_dir=root / "trained",
            config=CONFIG,
        )
    return root / "trained"


@pytest.fixture
def brief() -> Iterator[None]:
    with scene.brief_profiles(longest=2):
        yield


def test_layers_are_spaced_from_the_first_to_the_last(root: Path) -> None:
    spaced = [evenly_spaced_layers(n, 7) for n in (1, 2, 3, 7)]
    assert spaced == [[0], [0, 6], [0, 3, 6], [0, 1, 2, 3, 4, 5, 6]]
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
            figures = run.quality[side]
            most = CONFIG.draft_tokens + 1
            assert 1 <= figures[f"block efficiency at T={temperature}"] <= most
            assert 0 <= figures[f"acceptance rate at T={temperature}"] <= 1
    assert run.quality["after"][ACCEPTANCE] > run.quality["before"][ACCEPTANCE]
    assert (run.command, run.method, run.seed) == ("draft train", "distillspec", CONFIG.seed)
    assert run.model is not None
    assert Path(run.model).name == "draft"
    assert [one["step"] for one in run.details["measured"]] == [0, 3, 6]
    told = json.loads((trained / "speculation.json").read_text())
    assert (told["target"], told["trained"]["data"]) == ("../target", "../text")
    target = checkpoint.load(root / "target")
    assert told["target_fingerprint"] == checkpoint.fingerprint(target)
    assert told["profiles"][0]["temperature"] == CONFIG.temperature
    assert [one["length"] for one in told["profiles"][0]["estimates"]] == [*range(1, 9)]
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


def test_the_draft_keeps_the_type_of_its_weights(root: Path, brief: None) -> None:
    half = checkpoint.load(root / "draft", dtype=torch.bfloat16)
    checkpoint.save(half, root / "half", tokenizer=checkpoint.load_tokenizer(root / "draft"))
    config = replace(CONFIG, max_steps=1)
    train_draft(
        root / "half",
        root / "text",
        target=root / "target",
        output_dir=root / "half-out",
        config=config,
    )
    assert checkpoint.load(root / "half-out").dtype == torch.bfloat16


def test_a_killed_run_goes_on_to_the_same_weights(
    root: Path, trained: Path, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = OnPolicySampler.__call__

    def dying(self: OnPolicySampler, draft: Any, batch: Any, step: int) -> Any:
        if step == 5:
            raise RuntimeError("killed")
        return plain(self, draft, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(OnPolicySampler, "__call__", dying)
        with pytest.raises(RuntimeError, match="killed"):
            train_draft(
                root / "draft",
                root / "text",
                target=root / "target",
                output_dir=root / "killed",
                config=CONFIG,
            )
    assert not (root / "killed").exists()
    train_draft(
        root / "draft",
        root / "text",
        target=root / "target",
        output_dir=root / "killed",
        config=CONFIG,
        resume=True,
    )
    ours, whole = (load_file(f / "model.safetensors") for f in (root / "killed", trained))
    assert all(torch.equal(ours[name], whole[name]) for name in whole)
    first, second = (Run.load(f).details["measured"] for f in (root / "killed", trained))
    assert first == second


def train_in_two(root: Path, out: Path) -> None:
    config = replace(CONFIG, per_device_train_batch_size=2)
    with scene.brief_profiles(longest=2):
        train_draft(
            root / "draft", root / "text", target=root / "target", output_dir=out, config=config
        )


@pytest.mark.slow
def test_two_processes_are_one(root: Path, trained: Path, tmp_path: Path) -> None:
    """Of the texts that the draft writes, too."""
    processes.in_two(train_in_two, root, tmp_path / "two")
    ours, whole = (load_file(f / "model.safetensors") for f in (tmp_path / "two", trained))
    for name in whole:
        torch.testing.assert_close(ours[name], whole[name], atol=2e-5, rtol=0)


def test_checkpoints_are_evaluated(root: Path, trained: Path, tmp_path: Path, brief: None) -> None:
    options: dict[str, Any] = {"longest": 2, "rounds": 1, "eval_prompts": 2}
    options |= {"prompt_tokens": 8, "max_new_tokens": 8}
    evaluated = partial(evaluate_draft, trained, root / "text", target=root / "target")
    run = evaluated(config=EvaluateDraftConfig(**options), output_dir=tmp_path / "out")
    greedy, drawn = run.details["profiles"]
    assert (greedy["temperature"], drawn["temperature"]) == (0, 1)
    assert len(greedy["estimates"]) == 2
    assert greedy["races"][0]["equal"] == 1
    figures = run.quality["after"]
    assert figures[ACCEPTANCE] == drawn["alpha"]
    assert drawn["alpha"] == pytest.approx(Run.load(trained).quality["after"][ACCEPTANCE], abs=0.2)
    assert figures["speed-up at T=0"] == max(race["speedup"] for race in greedy["races"])
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["attar.json"]
    assert Run.load(tmp_path / "out").command == "draft evaluate"
    assert profile_text(run) == profile_text(Run.load(tmp_path / "out"))
    once = options | {"rounds": 0, "temperatures": (1.0,)}
    again = evaluated(config=EvaluateDraftConfig(**once))
    assert again.quality["after"][ACCEPTANCE] == figures[ACCEPTANCE]  # nothing is written
    with pytest.raises(ConfigError, match="prompts must be at least 2"):
        EvaluateDraftConfig(**(options | {"eval_prompts": 1}))


def test_an_encoder_decoder_goes_the_whole_way(root: Path, tmp_path: Path, brief: None) -> None:
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
    run = train_draft(
        tmp_path / "draft",
        root / "text",
        target=tmp_path / "target",
        output_dir=tmp_path / "out",
        config=CONFIG,
    )
    assert run.quality["after"][ACCEPTANCE] > run.quality["before"][ACCEPTANCE]
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
        train_draft(root / "other", root / "text", **options)
    with pytest.raises(CompatibilityError, match="must be smaller"):
        train_draft(
            root / "target", root / "text", target=root / "draft", output_dir=tmp_path / "x"
        )
    with pytest.raises(ConfigError, match="64 positions"):
        train_draft(
            root / "draft", root / "text", config=replace(CONFIG, max_new_tokens=60), **options
        )
    with pytest.raises(ConfigError, match="lower learning_rate"):
        train_draft(
            root / "draft",
            root / "text",
            config=replace(CONFIG, learning_rate=1e30, max_grad_norm=0),
            **options,
        )
    assert not list(tmp_path.iterdir())
