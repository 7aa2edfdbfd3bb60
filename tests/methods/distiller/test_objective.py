"""The loss of a distillation pipeline: every part on every map and encoder."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import encoders
from attar import checkpoint
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.heads import load_with_head
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.objective import AuxiliaryHeads, Objective, requested_features
from attar.train.layer_map import LayerMap
from attar.train.mixup import MixedExamples
from attar.train.outputs import LiveOutputs
from attar.train.students import depth, make_student, width
from attar.train.trainer import Term, fit

CONFIG = DistillConfig(
    max_steps=6,
    per_device_train_batch_size=8,
    learning_rate=1e-3,
    warmup_steps=0,
    logging_steps=2,
    save_steps=2,
    context=32,
)
LOSSES = [("hidden", name) for name in ("mse", "ce", "cos", "pkd", "mi")]
LOSSES += [("attention", name) for name in ("mse", "ce")]


def source(rows: int = 24, **options: Any) -> Examples:
    tokenizer = encoders.tokenizer()
    documents = encoders.documents(rows)["train"]
    encoded = encode(documents, tokenizer, task=encoders.BINARY, context=32)
    return Examples(encoded, task=encoders.BINARY, tokenizer=tokenizer, **options)


def objective(student: Any, teacher: Any, config: DistillConfig) -> Objective:
    layers = depth(student), depth(teacher)
    layer_map = None
    if config.intermediate != "none":
        layer_map = LayerMap.parse(
            config.layer_map,
            student_layers=layers[0],
            teacher_layers=layers[1],
            features=config.features,
        )
    if config.features == "attention":
        student.set_attn_implementation("eager")
        teacher.set_attn_implementation("eager")
    return Objective(
        config,
        task=encoders.BINARY,
        layer_map=layer_map,
        heads=AuxiliaryHeads(config, layer_map, widths=(width(student), width(teacher))),
        teacher=LiveOutputs(
            teacher, task=encoders.BINARY, request=requested_features(config, layer_map)[1]
        ),
        teacher_model=teacher,
    )


def total(parts: dict[str, Term], counts: dict[str, float]) -> Tensor:
    return sum(
        (p.weight * p.values.sum() / counts[p.per] for p in parts.values()), torch.tensor(0.0)
    )


def check_every_loss(teacher: Any, texts: Examples, layer_map: str) -> None:
    """Every loss alone, over this map, moves the student and what learns beside it, and nothing
    else."""
    batch = texts.batch(range(len(texts)))
    for features, name in LOSSES:
        pairs = "0:1" if (features, layer_map) == ("attention", "0:1,1:3") else layer_map
        options: dict[str, Any] = {"features": features, "intermediate": name}
        config = replace(CONFIG, layer_map=pairs, pred_weight=0.0, hard_weight=0.1, **options)
        student = make_student(teacher, layers=2, init="random", seed=1)
        compute = objective(student, teacher, config)
        parts = compute(student, batch)
        assert parts.keys() == {"hard", "intermediate"}
        loss = total({"intermediate": parts["intermediate"]}, texts.counts(batch))
        assert torch.isfinite(loss)
        loss.backward()
        embeddings: Any = student.get_input_embeddings()
        assert embeddings.weight.grad.abs().max() > 0
        assert all(p.grad is None for p in teacher.parameters())
        for p in compute.heads.parameters():
            assert p.grad is not None


MAPS = ["skip", "last", "emd", "0:1,1:3"]


@pytest.mark.parametrize("family", encoders.ENCODERS)
@pytest.mark.parametrize("layer_map", MAPS)
def test_every_loss_teaches_every_encoder(family: str, layer_map: str) -> None:
    check_every_loss(encoders.encoder(family), source(8), layer_map)


def test_every_loss_teaches_from_a_real_encoder() -> None:
    folder = encoders.minilm()
    tokenizer = checkpoint.load_tokenizer(folder)
    rows = encoders.documents(4)["train"]
    encoded = encode(rows, tokenizer, task=encoders.BINARY, context=16)
    texts = Examples(encoded, task=encoders.BINARY, tokenizer=tokenizer)
    check_every_loss(load_with_head(folder, encoders.BINARY), texts, "emd")  # reads all layers


@pytest.mark.parametrize("family", encoders.ENCODERS)
def test_a_copy_of_the_teacher_has_nothing_to_learn(family: str) -> None:
    teacher = encoders.encoder(family)
    student = make_student(teacher, layers=3)
    batch = source().batch(range(6))
    for name in ("mse", "cos", "pkd"):
        for loss in ("mse", "kl"):
            options: dict[str, Any] = {"intermediate": name, "pred_loss": loss}
            parts = objective(student, teacher, replace(CONFIG, **options))(student, batch)
            for part in parts.values():
                assert part.values.abs().max() < 1e-6
            student.zero_grad()
            total(parts, source().counts(batch)).backward()
            gradients = [p.grad for p in student.parameters() if p.grad is not None]
            assert gradients
            assert all(gradient.abs().max() < 1e-5 for gradient in gradients)


def test_a_wider_teacher_is_reached_by_projections_that_learn() -> None:
    teacher, student = encoders.encoder(hidden_size=48), encoders.encoder(num_hidden_layers=2)
    for name in ("mse", "ce", "cos", "pkd", "mi"):
        config = replace(CONFIG, intermediate=name)  # pyright: ignore[reportArgumentType]
        compute = objective(student, teacher, config)
        parts = compute(student, source().batch(range(8)))
        parts["intermediate"].values.sum().backward()
        learnt = list(compute.heads.parameters())
        assert learnt
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learnt)


@pytest.mark.parametrize(("features", "name"), LOSSES)
def test_padding_changes_no_loss(features: str, name: str) -> None:
    teacher, student = encoders.encoder(), encoders.encoder(num_hidden_layers=2, seed=1)
    options: dict[str, Any] = {"features": features, "intermediate": name, "pool": "mean"}
    compute = objective(student, teacher, replace(CONFIG, hard_weight=1.0, **options))
    batch = source().batch(range(6))
    wide = {
        name: nn.functional.pad(value, (0, 5), value=7 if name == "input_ids" else 0)
        if value.ndim == 2
        else value
        for name, value in batch.items()
    }
    for name, part in compute(student, batch).items():
        other = compute(student, wide)[name]
        torch.testing.assert_close(part.values.sum(), other.values.sum(), atol=1e-4, rtol=1e-4)


def test_mutual_information_ignores_pairs_of_one_source() -> None:
    teacher, student = encoders.encoder(), encoders.encoder(seed=1)
    compute = objective(student, teacher, replace(CONFIG, intermediate="mi", pred_weight=0.0))
    batch = source().batch(range(6))
    free = compute(student, batch)["intermediate"].values
    batch["source"] = torch.tensor([0, 0, 1, 1, 2, 2])
    tied = compute(student, batch)["intermediate"].values
    assert free != tied
    batch["source"] = torch.zeros(6, dtype=torch.long)
    alone = compute(student, batch)["intermediate"].values
    assert alone == 0
    alone.backward()


def test_a_mixture_with_oneself_is_the_plain_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = encoders.encoder(), encoders.encoder(seed=1, num_hidden_layers=2)
    compute = objective(student, teacher, replace(CONFIG, intermediate="mse", hard_weight=0.5))
    plain = source()
    mixed = MixedExamples(plain, beta=0.4, seed=3)
    batch = mixed.batch(range(8))
    again = mixed.batch(range(8))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(mixed.batch(range(1, 9))["mix_partner"], batch["mix_partner"])
    batch["mix_weight"] = torch.ones(8, dtype=torch.float64)
    found = total(compute(student, batch), mixed.counts(batch))
    expected = total(compute(student, plain.batch(range(8))), plain.counts(plain.batch(range(8))))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    batch["mix_weight"] = torch.full((8,), 0.5, dtype=torch.float64)
    assert abs(total(compute(student, batch), mixed.counts(batch)) - expected) > 1e-3


@pytest.mark.parametrize("name", ["mse", "pkd"])
def test_a_batch_may_be_accumulated_from_smaller_ones(name: Any) -> None:
    teacher, found = encoders.encoder(), []
    for size, parts in ((8, 1), (2, 4)):
        student = encoders.encoder(seed=1, num_hidden_layers=2)
        config = replace(
            CONFIG,
            intermediate=name,
            hard_weight=0.3,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
        )
        compute = objective(student, teacher, config)
        fit(student, source(), config=config, compute=compute, auxiliary=compute.heads)
        found.append(torch.cat([p.detach().flatten() for p in student.parameters()]))
    before = encoders.encoder(seed=1, num_hidden_layers=2)
    moved = torch.cat([p.detach().flatten() for p in before.parameters()]) - found[0]
    assert moved.abs().max() > 1e-3
    torch.testing.assert_close(found[0], found[1], atol=3e-5, rtol=0)
