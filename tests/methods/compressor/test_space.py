"""Shapes, and the spaces that they are taken from."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RobertaForSequenceClassification

from attar.errors import ConfigError
from attar.methods.compressor import EncoderShape, EncoderSpace, StudentCosts
from attar.methods.compressor.space import ShapeArrays

ODD = EncoderSpace((8, 9), (1, 2, 3, 5), (6, 7, 10), (4, 5, 6), (1, 2, 3), context=16)


def test_the_published_space_has_10_944_000_encoders() -> None:
    space = EncoderSpace.published()
    assert space.size == 10_944_000
    assert space.positions == 514


def test_the_config_of_a_shape_makes_the_model_that_was_counted() -> None:
    shape = EncoderShape(300, 4, 32, 48, 3)
    config = shape.config(outputs=3, context=40, hidden_dropout_prob=0.5)
    with torch.device("meta"):
        model = RobertaForSequenceClassification(config)
    space = EncoderSpace((300,), (4,), (32,), (48,), (3,), context=40)
    costs = StudentCosts(outputs=3).of(ShapeArrays.of([shape]), space)
    assert costs.parameters.item() == sum(p.numel() for p in model.parameters())
    assert costs.bytes.item() == 4 * costs.parameters.item()
    assert model.roberta.embeddings.position_embeddings.num_embeddings == 42
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.hidden_dropout_prob == 0.5


def test_a_text_as_long_as_the_context_fits() -> None:
    shape = EncoderShape(20, 2, 8, 8, 1)
    model = RobertaForSequenceClassification(shape.config(outputs=2, context=12)).eval()
    with torch.no_grad():
        assert model(torch.full((1, 12), 4)).logits.shape == (1, 2)


@given(st.tuples(*(st.integers(0, n - 1) for n in ODD.choices)))
def test_genes_mean_encoders_of_the_space(genes: tuple[int, ...]) -> None:
    shape = ODD.decode(genes)
    assert shape.hidden_size % shape.num_attention_heads == 0
    assert ODD.decode(ODD.genes_of(shape)) == shape
    assert ODD.genes_of(shape) == ODD.canonical(genes)
    values = [axis[gene] for axis, gene in zip(ODD.axes, genes, strict=True)]
    if values[2] % values[1] == 0:
        assert shape == EncoderShape(*values)


def test_every_encoder_has_genes_and_size_counts_them() -> None:
    shapes = {ODD.decode(g) for g in itertools.product(*map(range, ODD.choices))}
    assert len(shapes) == ODD.size
    assert EncoderShape.from_dict(max(shapes).to_dict()) == max(shapes)


@pytest.mark.parametrize(
    "space", [EncoderSpace.published(), EncoderSpace.default(context=128), ODD]
)
def test_a_space_is_read_as_it_was_written(space: EncoderSpace, tmp_path: Path) -> None:
    stored = json.loads(json.dumps(space.to_dict()))
    assert EncoderSpace.from_dict(stored) == space
    file = tmp_path / "space.yaml"
    file.write_text(json.dumps(stored))
    assert EncoderSpace.read(file) == EncoderSpace.read(space) == space


def test_what_a_file_does_not_say_is_as_by_default(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("hidden_size: {min: 32, max: 64, step: 16}\ncontext: 128\n")
    space, default = EncoderSpace.read(file), EncoderSpace.default()
    assert (space.hidden_size, space.context) == ((32, 48, 64), 128)
    assert space.vocab_size == default.vocab_size
    assert EncoderSpace.read("published") == EncoderSpace.published()


def test_default_heads_are_those_that_divide_the_widths_given() -> None:
    assert EncoderSpace.read({"hidden_size": 64}).num_attention_heads == (1, 2, 4, 8, 16)
    assert EncoderSpace.read({"hidden_size": [15, 16]}).num_attention_heads == (1, 2, 3, 4, 8, 16)
    assert EncoderSpace.read({}) == EncoderSpace.default()


@pytest.mark.parametrize("given", ["publisheds", "nowhere.yaml"])
def test_a_space_that_is_not_there_is_told_with_those_that_are(given: str) -> None:
    with pytest.raises(ConfigError, match=f"default, published or a YAML file.*{given}"):
        EncoderSpace.read(given)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"vocab_size": []}, "vocab_size"),
        ({"hidden_size": [0, 16]}, "hidden_size"),
        ({"intermediate_size": [64, 32]}, "intermediate_size"),
        ({"num_hidden_layers": [1, 1]}, "num_hidden_layers"),
        ({"num_attention_heads": [2, 7], "hidden_size": [16]}, "7 divides none"),
        ({"num_attention_heads": [2], "hidden_size": [15, 16]}, "none divides 15"),
        ({"hiden_size": [16]}, "hidden_size"),
        ({"vocab_size": ["many"]}, "vocab_size"),
        ({"context": 2}, "context"),
        ({"context": "long"}, "context"),
    ],
)
def test_what_is_no_space_is_told_with_its_file(
    values: dict[str, object], named: str, tmp_path: Path
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"space\.yaml") as error:
        EncoderSpace.read(file)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_shapes_that_are_none_are_refused() -> None:
    for values in ((0, 1, 8, 8, 1), (8, 3, 8, 8, 1), (8, 1, 8, 8, 5000), (8, 1, 8.0, 8, 1)):
        with pytest.raises(ConfigError):
            EncoderShape(*values)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="vocab_size"):
        EncoderShape.from_dict({"hidden_size": 8})
    with pytest.raises(ConfigError, match="of the space"):
        ODD.genes_of(EncoderShape(8, 1, 8, 4, 1))


def test_usual_heads_are_about_32_channels_wide() -> None:
    space = EncoderSpace.default()
    heads = {w: space.usual_heads(w) for w in (16, 32, 48, 96, 128, 768)}
    assert heads == {16: 1, 32: 1, 48: 2, 96: 3, 128: 4, 768: 24}
    assert all(w % space.usual_heads(w) == 0 for w in space.hidden_size)
