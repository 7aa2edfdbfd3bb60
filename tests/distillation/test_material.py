"""Teachers and texts that a student of a budget can be made from, and those that it cannot."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

import encoders
import tiny
from attar import checkpoint
from attar.data.data import Data
from attar.data.labelled.task import Task
from attar.distillation.material import Material, with_copies_that_are_read
from attar.errors import AttarError, CompatibilityError, ConfigError
from attar.methods.distiller.config import DistillConfig

CONFIG = DistillConfig(context=32)
WORDS = Task("token_classification", ("0", "1"))


def load(model: Any, folder: Path, *, config: DistillConfig = CONFIG, pair: bool = False) -> Any:
    checkpoint.save(model, folder, tokenizer=encoders.tokenizer())
    data = Data.of(encoders.documents(40, pair=pair))
    return Material.load(folder, data, task=None, config=config)


def test_texts_are_those_of_train_and_of_pairs_both(tmp_path: Path) -> None:
    rows = encoders.documents(40, pair=True)["train"]
    found = load(encoders.encoder(), tmp_path / "one")
    assert found.texts == encoders.documents(40)["train"]["text"][:]
    assert found.pairs is None
    paired = load(encoders.encoder(), tmp_path / "two", pair=True)
    assert (paired.texts, paired.pairs) == (rows["text"][:], rows["text_pair"][:])
    assert paired.task == Task("single_label", ("0", "1"), pair=True)


def test_without_labels_the_task_is_the_teachers(tmp_path: Path) -> None:
    names = Task("single_label", ("poor", "fine"))
    checkpoint.save(encoders.encoder(task=names), tmp_path, tokenizer=encoders.tokenizer())
    texts = encoders.documents(40)["train"].remove_columns("label")
    found = Material.load(tmp_path, Data.of(texts), task=None, config=CONFIG)
    assert found.task == names
    assert {*found.documents["test"]["label"]} == {-100}


@pytest.mark.parametrize(
    ("model", "config", "kind", "said"),
    [
        (lambda: tiny.model("llama"), CONFIG, CompatibilityError, "encoder"),
        (lambda: encoders.encoder().base_model, CONFIG, CompatibilityError, "a head that classif"),
        (lambda: encoders.encoder(task=WORDS), CONFIG, CompatibilityError, "a head that classif"),
        (
            lambda: encoders.encoder(task=Task("single_label", ("a", "b", "c"))),
            CONFIG,
            CompatibilityError,
            "the teacher",
        ),
        (lambda: encoders.encoder(), DistillConfig(context=90), ConfigError, "90"),
    ],
    ids=["decoder", "no head", "of words", "three classes", "short"],
)
def test_teachers_that_do_not_fit_are_refused(
    model: Any, config: DistillConfig, kind: type[AttarError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said) as error:
        load(model(), tmp_path, config=config)
    assert "\n" not in str(error.value)


def test_words_are_not_classified(tmp_path: Path) -> None:
    checkpoint.save(encoders.encoder(), tmp_path, tokenizer=encoders.tokenizer())
    rows = encoders.documents(40)["train"]
    words = [text.split() for text in rows["text"]]
    tags = [["0", "1", *["0"] * (len(text) - 2)] for text in words]
    data = Data.of(Dataset.from_dict({"words": words, "tags": tags}))
    with pytest.raises(CompatibilityError, match="whole texts, found token_classification"):
        Material.load(tmp_path, data, task=None, config=CONFIG)


@pytest.mark.parametrize(
    ("rows", "options", "copies"),
    [
        (48, {}, 0),  # of 6 steps of 8 rows
        (24, {}, 1),
        (10, {}, 3),
        (9, {}, 4),
        (8, {"copies": 2}, 2),
        (100, {"repeated": True}, 4),
        (9, {"pred_weight": 0.0, "hard_weight": 1.0, "intermediate": "none"}, 0),
    ],
)
def test_no_more_copies_are_made_than_the_training_reads(
    rows: int, options: dict[str, Any], copies: int
) -> None:
    config = DistillConfig(
        max_steps=6, per_device_train_batch_size=8, augment=("delete",), copies=4
    )
    config = replace(config, **options)
    found = with_copies_that_are_read(config, rows=rows)
    assert found == (replace(config, copies=copies) if copies else replace(config, augment=()))


def test_an_epoch_is_as_many_rows_as_there_are_texts() -> None:
    config = DistillConfig(per_device_train_batch_size=8, augment=("delete",), copies=4)
    for epochs, steps, copies in ((2.5, 32, 1), (1.0, 13, 0), (9.0, 113, 4)):
        found = with_copies_that_are_read(replace(config, num_train_epochs=epochs), rows=100)
        assert (found.max_steps, found.num_train_epochs) == (steps, None)
        assert (found.copies if found.augment else 0) == copies
    plain = replace(config, augment=(), num_train_epochs=2.0)
    assert with_copies_that_are_read(plain, rows=100) == plain
