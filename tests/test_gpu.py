"""What computes on a processor computes the same on a GPU, and stays there."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import attar
import scene
import tiny
from attar import checkpoint
from attar.decode.captured import Captured
from attar.decode.drafters import PromptLookupDrafter
from attar.decode.speculative import SpeculativeDecoder
from attar.divergences import DIVERGENCES
from attar.evaluation.likelihood import nll
from attar.evaluation.model import EvaluateConfig
from attar.measure.timing import measure
from attar.report.record import Run
from attar.train.heal import HealConfig, heal_model
from cuts import CLOSE, EVERY, PARTS, assert_law, ids_for, outputs, plan_for

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("family", EVERY)
@torch.no_grad()
def test_sliced_equals_masked_equals_functional(family: str) -> None:
    model: Any = tiny.model(family)
    plan = plan_for(model, *PARTS)
    ids = plan.renumber(ids_for(plan))
    (here,) = outputs(assert_law(model, plan)(input_ids=ids))
    sliced = assert_law(model.to(GPU), plan)
    assert {tensor.device for tensor in sliced.state_dict().values()} == {GPU}
    (there,) = outputs(sliced(input_ids=ids.to(GPU)))
    torch.testing.assert_close(there.cpu(), here, **CLOSE)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_and_their_gradients(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(2, 5, 17, generator=generator) for _ in range(2))

    def told(device: torch.device) -> tuple[Tensor, Tensor]:
        leaf = student.to(device).detach().requires_grad_()
        distance = DIVERGENCES[name](leaf, teacher.to(device))
        distance.sum().backward()
        assert leaf.grad is not None
        return distance.detach().cpu(), leaf.grad.cpu()

    for here, there in zip(told(torch.device("cpu")), told(GPU), strict=True):
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)


def test_likelihood_and_cost() -> None:
    model, ids = tiny.model(), tiny.ids(4, 32)
    expected = nll(model, ids)
    assert nll(model.to(GPU), ids.to(GPU)) == pytest.approx(expected, rel=1e-5)
    held = sum(tensor.nbytes for tensor in model.state_dict().values())
    cost = measure(model, prompt_tokens=8, new_tokens=2, repeats=2)
    assert cost.peak_memory is not None
    assert held <= cost.peak_memory < held + 100e6  # of the card, not of the process
    assert cost.prefill is not None


@pytest.mark.parametrize("sample", [False, True])
def test_drafts_change_no_text(sample: bool) -> None:
    target: Any = tiny.model(num_hidden_layers=3).double().to(GPU)
    draft: Any = tiny.model(num_hidden_layers=1).double().to(GPU)
    ids = tiny.ids(2, 6).to(GPU)
    options = {"do_sample": sample, "max_new_tokens": 16, "attention_mask": torch.ones_like(ids)}
    decoder = SpeculativeDecoder(target, draft)
    text = target.generate(ids, custom_generate=decoder, **options)
    assert text.device == GPU
    if not sample:
        assert torch.equal(text, target.generate(ids, **options))


@pytest.mark.parametrize("draft", ["model", "lookup", None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_captured_passes_change_no_text(draft: str | None, dtype: torch.dtype) -> None:
    target: Any = tiny.model(num_hidden_layers=3, max_position_embeddings=512).to(GPU, dtype)
    small = tiny.model(num_hidden_layers=1, max_position_embeddings=512).to(GPU, dtype)
    drafter = small if draft == "model" else PromptLookupDrafter() if draft else None
    decoder = SpeculativeDecoder(target, drafter)
    for rows, new in ((1, 24), (5, 24), (2, 300)):  # the last one outgrows the cache
        ids = tiny.ids(rows, 6, seed=rows).to(GPU)
        options = {
            "do_sample": False,
            "max_new_tokens": new,
            "attention_mask": torch.ones_like(ids),
        }
        text = target.generate(ids, custom_generate=decoder, **options)
        assert torch.equal(text, target.generate(ids, **options))
    passes = decoder._passes["target", "cuda"]
    assert isinstance(passes, Captured)
    assert passes._graphs
    assert not passes._fails


def test_healing_resumes_to_the_same_weights(tmp_path: Path) -> None:
    config = HealConfig(max_steps=4, save_steps=2, per_device_train_batch_size=4, bf16=False)
    teacher = tiny.model(num_hidden_layers=2, seed=1)

    def healed(*, resume: bool) -> dict[str, Tensor]:
        model = tiny.model(num_hidden_layers=1)
        heal_model(
            model,
            tiny.ids(12, 16),
            teacher=teacher,
            config=config,
            state_dir=tmp_path,
            resume=resume,
        )
        assert model.device == GPU
        return model.state_dict()

    whole = healed(resume=False)
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert (tmp_path / "checkpoint-2").is_dir()
    for name, tensor in healed(resume=True).items():
        assert torch.equal(tensor, whole[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_verbs_from_prune_to_evaluate(tmp_path: Path, dtype: torch.dtype) -> None:
    text = scene.write_text(tmp_path / "text")
    scene.write_parent(tmp_path / "parent", text, max_position_embeddings=128)
    parent = checkpoint.load(tmp_path / "parent", dtype=dtype)
    checkpoint.save(
        parent, tmp_path / "stored", tokenizer=checkpoint.load_tokenizer(tmp_path / "parent")
    )
    attar.prune(
        tmp_path / "stored",
        text,
        budget="blocks<=60%",
        config="bonsai/cpu-tiny",
        eval_tokens=300,
        output_dir=tmp_path / "half",
    )
    attar.prune(
        tmp_path / "stored",
        text,
        budget="blocks<=60%",
        method="flap",
        config="bonsai/cpu-tiny",
        eval_tokens=300,
        output_dir=tmp_path / "flap",
    )
    attar.heal(
        tmp_path / "half",
        text,
        teacher=tmp_path / "stored",
        config=HealConfig(max_steps=3, eval_tokens=300, per_device_train_batch_size=4),
        output_dir=tmp_path / "healed",
    )
    half, healed = (Run.load(tmp_path / name) for name in ("half", "healed"))
    assert half.budget is not None
    assert half.budget["met"]
    assert {checkpoint.load(tmp_path / name).dtype for name in ("half", "flap", "healed")} == {
        dtype
    }
    again = attar.evaluate(tmp_path / "healed", text, config=EvaluateConfig(eval_tokens=300))
    assert again.quality["after"]["nll"] == pytest.approx(healed.quality["after"]["nll"], rel=1e-4)
