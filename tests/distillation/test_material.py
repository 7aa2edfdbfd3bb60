"""Teachers and texts that a student of a budget can be made from, and those that it cannot."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

import encoders
import tiny
from attar import checkpoint
from attar.data.data import Data
from attar.data.labelled.task import Task
from attar.distillation.material import Material
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
