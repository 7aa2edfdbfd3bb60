"""A student's files: read by plain transformers, and as many bytes as were counted."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    RobertaForSequenceClassification,
)

from attar.data.vocabulary import train_vocabulary
from attar.distillation import formats
from attar.distillation.config import Storage
from attar.methods.compressor import EncoderShape, EncoderSpace, ShapeArrays

TOKENIZER = train_vocabulary(["a fine film"] * 3, 264, context=20)
TEXTS = ["a fine film", "dull"]


def student(shape: EncoderShape, *, seed: int = 0) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RobertaForSequenceClassification(shape.config(outputs=2, context=20)).eval()


@torch.no_grad()
def logits(model: PreTrainedModel, tokenizer: object = TOKENIZER) -> torch.Tensor:
    return model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits  # pyright: ignore


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_plain_transformers_reads_the_same_student(storage: Storage, tmp_path: Path) -> None:
    model = student(EncoderShape(264, 2, 16, 24, 2))
    counted = formats.bytes_of(model, TOKENIZER, storage=storage)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    expected = logits(model)
    formats.save(model, tmp_path, tokenizer=TOKENIZER, storage=storage)
    assert formats.bytes_on_disk(tmp_path, storage=storage) == counted
    (tmp_path / "README.md").write_text("not read by a program")
    assert formats.bytes_on_disk(tmp_path, storage=storage) == counted
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    found = logits(loaded, AutoTokenizer.from_pretrained(tmp_path))
    if storage == "float32":
        assert torch.equal(found, expected)
    else:
        torch.testing.assert_close(found.float(), expected, atol=1e-2, rtol=1e-2)
        assert found.dtype == torch.float16


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_weights_take_the_bytes_that_were_counted(storage: Storage) -> None:
    """Never more than that, and few less: room for longer names of more layers."""
    costs = formats.costs(storage)
    for shape in (
        EncoderShape(264, 1, 8, 8, 1),
        EncoderShape(264, 2, 16, 24, 3),
        EncoderShape(264, 4, 64, 96, 12),
    ):
        space = EncoderSpace(
            (264,),
            (shape.num_attention_heads,),
            (shape.hidden_size,),
            (shape.intermediate_size,),
            (shape.num_hidden_layers,),
            context=20,
        )
        counted = costs.of(ShapeArrays.of([shape]), space)
        parts = formats.bytes_of(student(shape), TOKENIZER, storage=storage)
        spare = counted.bytes.item() - parts["weights"] - 900  # the config
        assert 0 <= spare <= 16 * (5 + 16 * shape.num_hidden_layers)


def test_a_quantised_file_takes_about_the_bytes_that_were_counted() -> None:
    """What is counted ranks shapes; those that are listed are written to see."""
    pytest.importorskip("onnxruntime")
    shape = EncoderShape(264, 2, 64, 128, 3)
    space = EncoderSpace((264,), (2,), (64,), (128,), (3,), context=20)
    counted = formats.costs("int8").of(ShapeArrays.of([shape]), space)
    parts = formats.bytes_of(student(shape), TOKENIZER, storage="int8")
    assert parts["weights"] + parts["config"] == pytest.approx(counted.bytes.item(), rel=0.015)
