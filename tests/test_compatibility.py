"""Models, tokenizers and tasks that do not fit together are told apart from those that do."""

import pytest
from datasets import Dataset

import encoders
from attar.compatibility import check_trained, require_same_tokenizer
from attar.data.labelled.task import Task
from attar.data.tokens import train_bpe
from attar.errors import CompatibilityError


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
