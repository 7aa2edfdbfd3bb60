"""Models, tokenizers and tasks that do not fit together are told apart from those that do."""

import pytest
import torch
from datasets import Dataset

import encoders
from attar.compatibility import check_trained, require_same_tokenizer
from attar.data.labelled.task import Task
from attar.data.tokens import train_bpe
from attar.errors import CompatibilityError
from attar.evaluation.labelled import predict_rows


@pytest.mark.parametrize(
    ("names", "labels", "fits"),
    [
        (("bad", "good"), ("cat", "dog"), False),
        (("NEGATIVE", "POSITIVE"), ("neg", "pos"), True),
        (("bad", "good"), ("0", "1"), True),
        (("LABEL_0", "LABEL_1"), ("cat", "dog"), True),
        (("0", "1"), ("cat", "dog"), True),
        (("pos", "neg"), ("negative", "positive"), False),
    ],
)
def test_labels_of_other_names_are_another_task(
    names: tuple[str, str], labels: tuple[str, str], fits: bool
) -> None:
    teacher = encoders.encoder()
    teacher.config.id2label = dict(enumerate(names))
    task = Task("single_label", labels, False)
    if fits:
        check_trained("teacher", teacher, task=task)
    else:
        with pytest.raises(CompatibilityError, match=f"{names[0]}, {names[1]}, but .* {labels[0]}"):
            check_trained("teacher", teacher, task=task)


def test_another_tokenizer_is_refused() -> None:
    first, second = (
        train_bpe(Dataset.from_dict({"text": [text]}), vocab_size=270, context=32)
        for text in ("abab " * 50, "xyxy " * 50)
    )
    require_same_tokenizer(first, first)
    with pytest.raises(CompatibilityError, match="student and teacher must share one tokenizer"):
        require_same_tokenizer(first, second)
    with pytest.raises(CompatibilityError, match="the draft and the target differ"):
        require_same_tokenizer(first, second, sides=("draft", "target"))


def test_a_padding_token_that_the_model_lacks_changes_nothing() -> None:
    usual, added = encoders.tokenizer(), encoders.tokenizer()
    added.add_special_tokens({"pad_token": "[more]"})
    model = encoders.encoder("roberta", vocab_size=len(usual))
    assert added.pad_token_id == len(usual)
    rows = encoders.documents()["test"]
    said = [
        torch.stack(predict_rows(model, rows, tokenizer=one, task=encoders.BINARY)[0])
        for one in (usual, added)
    ]
    torch.testing.assert_close(*said)


@pytest.mark.parametrize("known", [20, 32])
def test_a_token_that_the_model_lacks_is_refused(known: int) -> None:
    model, rows = encoders.encoder(vocab_size=known), encoders.documents()["test"]
    with pytest.raises(CompatibilityError, match=rf"0 to {known - 1}, found 32 .* trained with"):
        predict_rows(model, rows, tokenizer=encoders.tokenizer(), task=encoders.BINARY)
