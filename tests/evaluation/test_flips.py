"""Agreement, what is kept above chance, and predictions under other names."""

import math
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from attar.data.identifiers import rename_identifiers
from attar.data.labelled.task import Task
from attar.errors import ConfigError, DataError
from attar.evaluation.flips import (
    Flips,
    agreement,
    chance_level,
    identifier_flips,
    kept,
    kept_above_chance,
)
from attar.evaluation.labelled import predict_rows
from tasks import bytes_

CODE = [
    f"def f{i}(a, b):\n    c = a {'+-*'[i % 3]} b\n    return c if c else {i}" for i in range(24)
]
PROSE = ["print(1)", "import os"]
TASK = Task("single_label", ("no", "yes"))


def classifier(seed: int) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(bytes_()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=128,
        initializer_range=1.0,
    )
    return BertForSequenceClassification(config)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_agreement_is_the_share_of_equal_classes(rows: list[tuple[int, int]]) -> None:
    one, other = zip(*rows, strict=True)
    share = sum(a == b for a, b in rows) / len(rows)
    assert agreement(one, other) == pytest.approx(share)
    assert agreement(other, one) == agreement(one, other)
    assert agreement(one, one) == 1
    logits = torch.eye(3)[list(one)] * 2 - 5
    assert agreement(logits, other) == agreement([*logits], torch.tensor(other))
    assert agreement(logits, other) == agreement(one, other)


def test_what_is_kept() -> None:
    # The released student and teacher on Devign, where 54.06% are of one class.
    assert kept(59.44, 61.82) == pytest.approx(0.9615, abs=1e-4)
    assert kept_above_chance(59.44, 61.82, chance=54.06) == pytest.approx(0.693, abs=1e-3)
    assert kept_above_chance(0.5, 0.9, chance=0.6) < 0
    assert kept_above_chance(0.7, 0.7, chance=0.5) == 1
    assert math.isnan(kept_above_chance(0.7, 0.5, chance=0.5))
    assert math.isnan(kept(1, 0))
    assert chance_level([0, 1, 1, -100, -100, -100, 2, 1]) == 3 / 5


@pytest.mark.parametrize("pair", [False, True])
def test_flips_are_counted_row_by_row(pair: bool) -> None:
    texts = [*PROSE, *CODE]
    columns: dict[str, Any] = (
        {"text": texts, "text_pair": ["x", *CODE, "y"]} if pair else {"text": texts}
    )
    rows = Dataset.from_dict(columns | {"label": [i % 2 for i in range(26)]})
    task = Task(TASK.kind, TASK.labels, pair=pair)
    found: list[Flips] = []
    for seed in range(4):
        model = classifier(seed)
        options: dict[str, Any] = {"tokenizer": bytes_(), "task": task, "context": 100}
        flips = identifier_flips(model, rows, language="python", seed=3, **options)
        new = {
            name: [rename_identifiers(text, "python", seed=3) for text in column]
            for name, column in columns.items()
        }
        renamed = Dataset.from_dict(new | {"label": rows["label"][:]})
        before, after = (
            torch.stack(predict_rows(model, data, **options)[0]).argmax(-1)
            for data in (rows, renamed)
        )
        labels = torch.tensor(rows["label"][:])
        assert flips.flipped == int((before != after).sum())
        assert flips.rows == 26
        assert flips.renamed == (25 if pair else 24)
        assert flips.share == flips.flipped / 26
        assert flips.share_of_renamed == flips.flipped / flips.renamed
        assert flips.accuracy == pytest.approx(float((before == labels).double().mean()))
        assert flips.accuracy_renamed == pytest.approx(float((after == labels).double().mean()))
        assert model.training
        found.append(flips)
    assert any(flips.flipped for flips in found)


def test_a_model_that_does_not_read_never_flips() -> None:
    model = classifier(0)
    torch.nn.init.zeros_(model.classifier.weight)
    rows = Dataset.from_dict({"text": CODE, "label": [-100] * len(CODE)})
    flips = identifier_flips(model, rows, tokenizer=bytes_(), task=TASK, language="python")
    assert flips == Flips(24, 24, 0, None, None)
    rows = Dataset.from_dict({"text": PROSE, "label": [0, 1]})
    flips = identifier_flips(model, rows, tokenizer=bytes_(), task=TASK, language="python")
    assert (flips.renamed, flips.flipped, flips.share_of_renamed) == (0, 0, 0)
    assert flips.accuracy == flips.accuracy_renamed == 0.5


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="found 2 and 1"):
        agreement([1, 2], [1])
    with pytest.raises(DataError, match="found none"):
        chance_level([-100])
    rows = Dataset.from_dict({"text": CODE, "label": [0.5] * len(CODE)})
    with pytest.raises(ConfigError, match="single labels"):
        identifier_flips(
            classifier(0), rows, tokenizer=bytes_(), task=Task("regression"), language="c"
        )
