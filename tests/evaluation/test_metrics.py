"""Scores of labelled tasks are as defined."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as measures
from transformers import PreTrainedTokenizerFast

import tasks
from attar.data.labelled.encode import encode
from attar.data.labelled.task import Task
from attar.errors import DataError
from attar.evaluation.correlations import rank_correlation
from attar.evaluation.metrics import (
    answer,
    entities,
    normalise,
    overlap,
    primary,
    score_predictions,
)
from tasks import TASKS, rows


@pytest.fixture(params=["bert", "bytes_"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return getattr(tasks, request.param)()


@given(st.integers(0, 2**32 - 1))
def test_scores_are_those_of_scikit_learn_and_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, known = rng.normal(size=(30, 3)), rng.integers(0, 3, 30)
    full = np.concatenate([known, [-100]])
    found = score_predictions(
        torch.tensor(np.concatenate([logits, [[9, 0, 0]]])),
        torch.tensor(full),
        task=TASKS["single_label"],
    )
    guess = logits.argmax(1)
    assert found == pytest.approx(
        {
            "accuracy": measures.accuracy_score(known, guess),
            "macro_f1": measures.f1_score(known, guess, average="macro"),
            "matthews": measures.matthews_corrcoef(known, guess),
        }
    )
    x, y = rng.normal(size=(2, 20))
    found = score_predictions(
        np.append(x, 50.0)[:, None], np.append(y, math.nan), task=TASKS["regression"]
    )
    assert found == pytest.approx(
        {
            "pearson": np.corrcoef(x, y)[0, 1],
            "spearman": np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1],
            "rmse": measures.root_mean_squared_error(y, x),
        }
    )


def test_scores_of_many_labels_by_hand() -> None:
    logits = [[2.0, -1.0, -3.0], [1.0, 3.0, -2.0], [-1.0, 2.0, -1.0], [9.0, 9.0, 9.0]]
    known = [[1, 0, 0], [0, 1, 0], [1, 1, 0], [-100] * 3]
    found = score_predictions(logits, known, task=TASKS["multi_label"])
    # Red: ranked 1, 0, 1, so (1 + 2/3) / 2; green: both first; blue never occurs.
    assert found == pytest.approx(
        {
            "micro_f1": 2 * 3 / (4 + 4),
            "macro_f1": (1 / 2 + 1 + 0) / 3,
            "mean_average_precision": (5 / 6 + 1) / 2,
        }
    )


def test_constant_predictions_have_no_correlation() -> None:
    found = score_predictions([[1.0], [1.0]], [0.0, 2.0], task=TASKS["regression"])
    assert found == {"pearson": 0.0, "spearman": 0.0, "rmse": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score_predictions([[1.0, 0, 0]] * 2, [1, 1], task=TASKS["single_label"])
    assert found == {"accuracy": 0.0, "macro_f1": 0.0, "matthews": 0.0}


def test_ranks_are_compared_and_equal_ones_say_nothing() -> None:
    rising = np.array([0.1, 0.5, 0.6, 9.0])
    assert rank_correlation(rising, np.exp(rising)) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert rank_correlation(rising, np.ones(4)) == rank_correlation(np.ones(4), rising) == 0


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-x I-x O B-x", {(0, 2, "x"), (3, 4, "x")}),
        ("B-x B-x", {(0, 1, "x"), (1, 2, "x")}),
        ("B-x I-y I-y", {(0, 1, "x"), (1, 3, "y")}),
        ("I-x I-x O I-y", {(0, 2, "x"), (3, 4, "y")}),
        ("O B-x-y I-x-y", {(1, 3, "x-y")}),
    ],
)
def test_entities_are_whole_spans(tags: str, expected: set[Any]) -> None:
    assert entities(tags.split()) == expected


def test_scores_of_words_count_entities() -> None:
    task = TASKS["token_classification"]
    one_hot = np.eye(4)
    # Found ann (PER) and paris (LOC) of ann, "bob smith" and paris; bob is cut short.
    guesses = [one_hot[[0, 1, 0, 1, 0, 0, 3, 0]], one_hot[[0, 0]]]
    known = [[-100, 1, 0, 1, 2, 0, 3], [0, -100]]
    found = score_predictions(guesses, known, task=task)
    assert found == pytest.approx(
        {"accuracy": 6 / 7, "entity_precision": 2 / 3, "entity_recall": 2 / 3, "entity_f1": 2 / 3}
    )
    plain = Task("token_classification", ("DET", "NOUN", "VERB", "X"))
    found = score_predictions(guesses, known, task=plain)
    assert found == pytest.approx({"accuracy": 6 / 7, "macro_f1": (6 / 7 + 1 + 0 + 1) / 4})
    assert (primary(task), primary(plain)) == ("entity_f1", "accuracy")


def test_answers_are_compared_as_squad_does() -> None:
    assert normalise(" The  cat's, (a) an HAT! ") == "cats hat"
    assert overlap("the big cat", "Big black cat.") == pytest.approx(2 * 2 / (2 + 3))
    assert overlap("cat cat", "cat") == pytest.approx(2 / 3)
    assert (overlap("the", ""), overlap("cat", "")) == (1.0, 0.0)


def test_perfect_logits_give_the_answers_back(tokenizer: PreTrainedTokenizerFast) -> None:
    task = TASKS["question_answering"]
    encoded = encode(rows("question_answering"), tokenizer, task=task).select([0, 1])
    logits = []
    for row in encoded:
        sheet = np.full((2, len(row["input_ids"]) + 3), -5.0)  # with padding, which is ignored
        sheet[:, [1, -1]] = 99.0  # as are the words of the question
        sheet[0, row["start_positions"]] = sheet[1, row["end_positions"]] = 5.0
        logits.append(sheet)
    perfect = {"exact_match": 1.0, "f1": 1.0}
    assert score_predictions(logits, encoded["answers"], task=task, documents=encoded) == perfect
    # "bob" instead of "bob smith" is one of the answers, "met bob smith" is not.
    row = encoded[0]

    def at(text: str) -> int:
        place = row["context"].index(text)
        return next(i for i, (a, b) in enumerate(row["offsets"]) if a <= place < b)

    logits[0][1, at("b smith")] = 9.0
    assert score_predictions(logits, encoded["answers"], task=task, documents=encoded) == perfect
    logits[0][1, at("b smith")] = -5.0
    logits[0][0, at("met")] = 30.0
    found = score_predictions(logits, encoded["answers"], task=task, documents=encoded)
    assert found == pytest.approx({"exact_match": 0.5, "f1": (4 / 5 + 1) / 2})
    with pytest.raises(DataError, match=r"context and offsets .* found none"):
        score_predictions(logits, encoded["answers"], task=task)


def test_an_answer_is_a_short_span_that_ends_after_it_starts() -> None:
    row = {"context": "a" * 40, "offsets": [(i, i + 1) for i in range(40)]}
    sheet = np.zeros((2, 40))
    sheet[0, 35] = sheet[1, 2] = 9.0
    sheet[0, 34] = sheet[1, 36] = 5.0
    assert answer(sheet, row) == "aa"  # from 35 to 36
    sheet = np.zeros((2, 40))
    sheet[0, 0] = sheet[1, 30] = 5.0
    sheet[1, 29] = 4.0
    assert answer(sheet, row) == "a" * 30
    assert answer(np.zeros((2, 1)), {"context": "a", "offsets": [(-1, -1)]}) == ""


def test_predictions_without_references_are_refused() -> None:
    with pytest.raises(DataError, match="found 2 and 1"):
        score_predictions([[1.0], [2.0]], [1.0], task=TASKS["regression"])
    with pytest.raises(DataError, match="expected labels to compare"):
        score_predictions([[1.0, 2.0, 0.0]], [-100], task=TASKS["single_label"])
