"""Every command that loads a model computes in a type that the processor has, and writes what it
makes in the type that its model was stored in.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

import attar
import encoders
import scene
import studies
from attar import checkpoint, models
from attar.checkpoint import saving
from attar.decode.generate import GenerateConfig
from attar.evaluation.model import EvaluateConfig
from attar.measure.model import CostConfig
from attar.methods.bonsai import BonsaiConfig
from attar.methods.distiller.config import DistillConfig
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.equal_info.config import EqualInfoConfig
from attar.train.heal import HealConfig

QUICK: dict[str, Any] = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 2}
LABELLED = DistillConfig(**QUICK, context=16, learning_rate=1e-3, warmup_steps=0)
DRAFTS = DistillSpecConfig(**QUICK, prompt_tokens=8, max_new_tokens=4, eval_prompts=4, eval_steps=2)
SEARCHED = attar.SearchConfig(trials=1, recommended=0, only=studies.ONLY)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models in bfloat16, and texts and labelled rows for them."""
    folder = tmp_path_factory.mktemp("half")
    words = scene.tokenizer(scene.write_text(folder / "text"))
    for name, layers in (("model", 3), ("small", 1)):
        scene.write_parent(folder / f"{name}-wide", folder / "text", num_hidden_layers=layers)
        model = checkpoint.load(folder / f"{name}-wide", dtype=torch.bfloat16)
        checkpoint.save(model, folder / name, tokenizer=words)
    (folder / "rows").mkdir()
    for name, rows in encoders.documents(48).items():
        rows.to_csv(folder / "rows" / f"{name}.csv")
    rated = encoders.encoder().bfloat16()
    checkpoint.save(rated, folder / "rated", tokenizer=encoders.tokenizer())
    checkpoint.save(rated.base_model, folder / "plain", tokenizer=encoders.tokenizer())  # pyright: ignore[reportArgumentType]
    shape = rated.config.to_dict()
    filler = BertForMaskedLM(BertConfig.from_dict(shape)).bfloat16()
    checkpoint.save(filler, folder / "filler", tokenizer=encoders.tokenizer())
    over_bytes = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=258,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=257,
        )
    )
    over_bytes.bfloat16().save_pretrained(folder / "bytes")
    return folder


def evaluate(root: Path, out: Path) -> Any:
    return attar.evaluate(root / "model", root / "text", config=EvaluateConfig(eval_tokens=200))


def evaluate_labelled(root: Path, out: Path) -> Any:
    return attar.evaluate(root / "rated", root / "rows", config=EvaluateConfig(context=32))


def cost(root: Path, out: Path) -> Any:
    return attar.cost(root / "model", config=CostConfig(prompt_tokens=8, max_new_tokens=2))


def generate(root: Path, out: Path) -> Any:
    config = GenerateConfig(max_new_tokens=4)
    return attar.generate(root / "model", "def return", draft=root / "small", config=config)


def generate_in_memory(root: Path, out: Path) -> Any:
    model = checkpoint.load(root / "model")
    words, config = checkpoint.load_tokenizer(root / "model"), GenerateConfig(max_new_tokens=4)
    draft = checkpoint.load(root / "small")
    run = attar.generate(model, "def return", draft=draft, tokenizer=words, config=config)
    assert model.dtype == draft.dtype == torch.bfloat16
    return run


def prune(root: Path, out: Path) -> Any:
    config = BonsaiConfig(windows=4, context=16, ffn_block=8, evaluations=8, timing=False)
    given: Any = {"budget": "blocks<=80%", "config": config, "eval_tokens": 200}
    return attar.prune(root / "model", root / "text", output_dir=out, **given)


def heal(root: Path, out: Path) -> Any:
    config = HealConfig(**QUICK, context=16, eval_tokens=200, smaller_teacher=True)
    given: Any = {"teacher": root / "model", "config": config}
    return attar.heal(root / "small", root / "text", output_dir=out, **given)


def heal_with_adapters(root: Path, out: Path) -> Any:
    config = HealConfig(**QUICK, context=16, eval_tokens=200, lora_r=2, teacher_cache="none")
    given: Any = {"teacher": root / "model", "config": config}
    return attar.heal(root / "small", root / "text", output_dir=out, **given)


def distill(root: Path, out: Path) -> Any:
    config = replace(LABELLED, intermediate="mi", augment=("mlm",), mlm=str(root / "filler"))
    given: Any = {"teacher": root / "rated", "student_layers": 1, "config": config}
    return attar.distill(None, root / "rows", output_dir=out, **given)


def train_a_teacher(root: Path, out: Path) -> Any:
    config = replace(LABELLED, hard_weight=1.0)
    return attar.distill(root / "plain", root / "rows", output_dir=out, config=config)


def search_pipelines(root: Path, out: Path) -> Any:
    given: Any = {"teacher": root / "rated", "student_layers": 1, "training": LABELLED}
    attar.pipeline.search(None, root / "rows", output_dir=out, config=SEARCHED, **given)


def init_draft(root: Path, out: Path) -> Any:
    return attar.draft.init(root / "model", layers=1, output_dir=out)


def init_random_draft(root: Path, out: Path) -> Any:
    return attar.draft.init(root / "model", layers=1, init="random", output_dir=out)


def train_draft(root: Path, out: Path) -> Any:
    given: Any = {"target": root / "model", "config": DRAFTS, "output_dir": out}
    with scene.brief_profiles(longest=1):
        return attar.draft.train(root / "small", root / "text", **given)


def search_drafts(root: Path, out: Path) -> Any:
    config = attar.DraftSearchConfig(divergences=("tvd",), sources=("draft",))
    given: Any = {"target": root / "model", "training": DRAFTS, "output_dir": out}
    attar.draft.search(root / "small", root / "text", config=config, **given)


def evaluate_draft(root: Path, out: Path) -> Any:
    quick: Any = {"longest": 1, "rounds": 1, "eval_prompts": 2, "max_new_tokens": 4}
    config = attar.EvaluateDraftConfig(temperatures=(0.0,), **quick)
    given: Any = {"target": root / "model", "config": config}
    with scene.brief_profiles():
        return attar.draft.evaluate(root / "small", root / "text", **given)


def train_tokenizer(root: Path, out: Path) -> Any:
    given: Any = {"config": EqualInfoConfig(window_bits=12), "byte_model": root / "bytes"}
    attar.tokenizer.train(root / "text", output_dir=out, **given)


READ = [evaluate, evaluate_labelled, cost, generate, generate_in_memory, evaluate_draft]
WRITTEN = [prune, heal, heal_with_adapters, distill, train_a_teacher]
WRITTEN += [init_draft, init_random_draft, train_draft]
STUDIED = [search_pipelines, search_drafts, train_tokenizer]


@pytest.mark.parametrize("verb", [*READ, *WRITTEN, *STUDIED], ids=lambda verb: verb.__name__)
def test_every_verb_computes_in_a_type_that_the_processor_has(
    verb: Callable[[Path, Path], Any],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: set[torch.dtype] = set()
    linear = torch.nn.functional.linear

    def spy(x: Any, weight: Any, *rest: Any) -> Any:
        if x.shape[:-1].numel() > 2:  # two tokens show how many bytes the stored model caches
            computed.add(weight.dtype)
        return linear(x, weight, *rest)

    monkeypatch.setattr(torch.nn.functional, "linear", spy)
    monkeypatch.setattr(models, "native_bfloat16", lambda: False)
    # what was written is compared in the type that it was written in
    monkeypatch.setattr(saving, "require_same", lambda *_, **__: None)
    run = verb(root, tmp_path / "out")
    assert computed == (set() if verb in (init_draft, init_random_draft) else {torch.float32})
    if "computed_in" in (run.details if run else {}):
        assert run.details["computed_in"] == "float32"
    if verb in WRITTEN:
        weights = load_file(tmp_path / "out" / "model.safetensors")
        assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
        assert checkpoint.load(tmp_path / "out").dtype == torch.bfloat16
