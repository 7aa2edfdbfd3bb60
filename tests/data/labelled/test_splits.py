"""What is in train and in what is held out is counted."""

import logging

import pytest
from datasets import Dataset, DatasetDict

from attar.data.labelled.load import load_labelled

NO = [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")]


def split(rows: list[tuple[str, str]], *, pair: bool = True) -> Dataset:
    columns = {"text": [a for a, _ in rows], "text_pair": [b for _, b in rows]}
    labels = {"label": [i % 2 for i in range(len(rows))]}
    return Dataset.from_dict((columns if pair else {"text": columns["text"]}) | labels)


@pytest.mark.parametrize(
    ("validation", "test", "pair", "said"),
    [
        ([("i", "j"), ("k", "l")], [("m", "n"), ("m", "o")], True, None),
        ([("b", "a"), ("k", "l")], [("m", "e"), ("a", "b")], True, "3 of 4 * 2 of them as the"),
        ([("a", "d"), ("k", "l")], [("m", "o"), ("p", "q")], True, "1 of 4 * 0 of them as the"),
        ([("a", ""), ("i", "")], [("a", ""), ("b", "")], False, "2 of 4 * also in train; "),
        ([("b", ""), ("i", "")], [("j", ""), ("d", "")], False, None),
    ],
)
def test_texts_of_train_in_other_splits_are_counted(
    validation: list[tuple[str, str]],
    test: list[tuple[str, str]],
    pair: bool,
    said: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = {"train": NO, "validation": validation, "test": test}
    with caplog.at_level(logging.WARNING):
        load_labelled(DatasetDict({n: split(rows, pair=pair) for n, rows in parts.items()}))
    if said is None:
        assert not caplog.records
    else:
        (record,) = caplog.records
        assert all(part in record.getMessage() for part in said.split(" * "))


def test_words_that_are_in_train_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"words": [["a", "b"], ["c"]], "tags": [["x", "y"], ["y"]]})
    load_labelled(DatasetDict({"train": rows, "validation": rows, "test": rows}))
    assert "4 of 4 rows" in caplog.text
