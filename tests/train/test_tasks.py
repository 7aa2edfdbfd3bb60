"""Tasks: what is encoded is what was labelled, padding changes nothing, scores are as defined."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as measures
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, BertTokenizerFast, PreTrainedTokenizerFast

from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import MODEL_INPUTS, encode
from attar.data.labelled.items import hard_loss, items, labelled, logits_of, real_classes
from attar.data.labelled.task import Task, TaskKind
from attar.data.sources import Batch
from attar.data.tokens import train_bpe
from attar.errors import CompatibilityError, ConfigError, DataError
from attar.evaluation.metrics import (
    answer,
    entities,
    normalise,
    overlap,
    primary,
    score_predictions,
)
from attar.heads import model_class, new_head

WORDS = ["ann", "met", "bob", "smith", "in", "paris", "who", "is", "unhappy", "?"]
TAGS = ("O", "B-PER", "I-PER", "B-LOC")
TASKS: dict[TaskKind, Task] = {
    "single_label": Task("single_label", ("no", "maybe", "yes")),
    "regression": Task("regression"),
    "multi_label": Task("multi_label", ("red", "green", "blue")),
    "token_classification": Task("token_classification", TAGS),
    "question_answering": Task("question_answering", pair=True),
}
SENTENCES = ["ann met bob smith in paris", "bob is unhappy", "who met ann ?"]
LABELS: dict[TaskKind, list[Any]] = {
    "single_label": [2, -100, 0],
    "regression": [0.5, math.nan, -2.0],
    "multi_label": [[0, 2], [-100], []],
    "token_classification": [[1, 0, 1, 2, 0, 3], [-100, -100, -100], [0, 0, -100, 0]],
}
QUESTIONS = {
    "question": ["who met bob ?", "who is ann ?", "is bob in paris ?"],
    "context": ["in paris ann met bob smith", "bob is unhappy", "ann is in paris"],
    "answers": [
        {"text": ["bob smith", "bob"], "answer_start": [17, 17]},
        {"text": [], "answer_start": []},
        {"text": [""], "answer_start": [-100]},
    ],
}


@pytest.fixture(scope="module")
def bert() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer whose vocabulary lacks the longer words."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS[:8], "un", "##happy", "?", "##s"]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module")
def bytes_() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that adds no special token."""
    text = Dataset.from_dict({"text": [" ".join(WORDS[:8]) * 20]})
    return train_bpe(text, vocab_size=275, context=64)


@pytest.fixture(scope="module", params=["bert", "bytes_"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return request.getfixturevalue(request.param)


def rows(kind: TaskKind, pair: bool = False) -> Dataset:
    if kind == "question_answering":
        return Dataset.from_dict(QUESTIONS | {"source": [7, 8, 9]})
    words = kind == "token_classification"
    texts = [s.split() for s in SENTENCES] if words else SENTENCES
    columns: dict[str, Any] = {"words" if words else "text": texts, "label": LABELS[kind]}
    second = {"text_pair": ["bob is", "who met ann", "in paris"]} if pair else {}
    return Dataset.from_dict(columns | second | {"source": [7, 8, 9]})


def examples(kind: TaskKind, tokenizer: PreTrainedTokenizerFast) -> Examples:
    encoded = encode(rows(kind), tokenizer, task=TASKS[kind])
    return Examples(encoded, task=TASKS[kind], tokenizer=tokenizer)


def batch_of(kind: TaskKind, tokenizer: PreTrainedTokenizerFast, multiple: int | None) -> Batch:
    """All rows, padded further to a multiple."""
    source = examples(kind, tokenizer)
    batch = source.batch(range(len(source)))
    if multiple is None:
        return batch
    width = batch["input_ids"].shape[1]
    filler = {"input_ids": tokenizer.pad_token_id, "labels": -100}
    return {
        name: F.pad(value, (0, -width % multiple), value=filler.get(name, 0))
        if value.ndim == 2 and value.shape[1] == width
        else value
        for name, value in batch.items()
    }


# --------------------------------------------------------------------------------------- encoding


def test_examples_are_what_the_tokenizer_says(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(rows("single_label"), tokenizer, task=TASKS["single_label"])
    assert encoded["input_ids"][:] == [tokenizer(s)["input_ids"] for s in SENTENCES]
    assert encoded["labels"][:] == LABELS["single_label"]
    assert encoded["rows"][:] == [0, 1, 2]
    assert encoded["source"][:] == [7, 8, 9]
    assert ("token_type_ids" in encoded.column_names) is isinstance(tokenizer, BertTokenizerFast)
    multi = encode(rows("multi_label"), tokenizer, task=TASKS["multi_label"])
    assert multi["labels"][:] == [[1, 0, 1], [-100] * 3, [0, 0, 0]]


def test_rows_are_counted_beyond_one_batch(bytes_: PreTrainedTokenizerFast) -> None:
    many = Dataset.from_dict({"text": [f"bob {i}" for i in range(2100)], "label": [0, 1] * 1050})
    encoded = encode(many, bytes_, task=Task("single_label", ("a", "b")))
    assert encoded["rows"][:] == list(range(2100))
    assert bytes_.decode(encoded[2099]["input_ids"]) == "bob 2099"


def test_two_texts_are_parted(
    bert: PreTrainedTokenizerFast, bytes_: PreTrainedTokenizerFast
) -> None:
    task = Task("single_label", ("a", "b", "c"), pair=True)
    ids = encode(rows("single_label", pair=True), bert, task=task)["input_ids"][1]
    assert bert.decode(ids) == "[CLS] bob is unhappy [SEP] who met ann [SEP]"
    ids = encode(rows("single_label", pair=True), bytes_, task=task)["input_ids"][1]
    assert bytes_.decode(ids) == "bob is unhappy<|endoftext|>who met ann"
    mute = PreTrainedTokenizerFast(tokenizer_object=bytes_.backend_tokenizer)
    with pytest.raises(CompatibilityError, match="SEP or EOS"):
        encode(rows("single_label", pair=True), mute, task=task)


def test_the_first_piece_of_a_word_has_its_label(tokenizer: PreTrainedTokenizerFast) -> None:
    task = TASKS["token_classification"]
    encoded = encode(rows("token_classification"), tokenizer, task=task)
    for row, sentence, tags in zip(encoded, SENTENCES, LABELS["token_classification"], strict=True):
        begins = [i for i, starts in enumerate(row["word_starts"]) if starts]
        assert [row["labels"][i] for i in begins] == tags
        assert {y for i, y in enumerate(row["labels"]) if i not in begins} <= {-100}
        ends = [*begins[1:], len(row["input_ids"])]
        pieces = [row["input_ids"][i:j] for i, j in zip(begins, ends, strict=True)]
        words = [tokenizer.decode(p, skip_special_tokens=True).strip() for p in pieces]
        assert words == sentence.split()
    short = encode(rows("token_classification"), tokenizer, task=task, max_length=4)
    assert max(map(len, short["labels"])) == 4
    whole = 4 - isinstance(tokenizer, BertTokenizerFast)  # its last token is SEP
    assert short["labels"][0][:whole] == encoded["labels"][0][:whole]
    assert short["labels"][0][whole:] == [-100] * (4 - whole)


def test_answers_are_found_again(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(rows("question_answering"), tokenizer, task=TASKS["question_answering"])
    first, none, unknown = encoded
    ids = first["input_ids"][first["start_positions"] : first["end_positions"] + 1]
    assert tokenizer.decode(ids).strip() == "bob smith"
    assert (none["start_positions"], none["end_positions"]) == (0, 0)
    assert (unknown["start_positions"], unknown["end_positions"]) == (-100, -100)
    for row in encoded:  # the context, and nothing else, has places
        text = "".join(row["context"][a:b] for a, b in row["offsets"] if a >= 0)
        assert text.replace(" ", "") == row["context"].replace(" ", "")
    length = len(first["input_ids"])
    kept = {
        n: encode(rows("question_answering"), tokenizer, task=TASKS["question_answering"],
                  max_length=n)[0]["start_positions"]
        for n in (length - 1, length)
    }  # fmt: skip
    assert kept == {length - 1: -100, length: first["start_positions"]}
    with pytest.raises(ConfigError, match="longest question, found 4 tokens"):
        encode(
            rows("question_answering"), tokenizer, task=TASKS["question_answering"], max_length=4
        )


def test_other_columns_and_slow_tokenizers_are_refused(bert: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match=r"expected the columns text, label .* without text;"):
        encode(rows("token_classification"), bert, task=TASKS["single_label"])

    class Slow:
        is_fast = False

    with pytest.raises(CompatibilityError, match=r"fast tokenizer .* found Slow"):
        encode(rows("token_classification"), Slow(), task=TASKS["token_classification"])


# --------------------------------------------------------------------------------- batches, losses


@pytest.mark.parametrize("kind", TASKS)
def test_padding_changes_neither_logits_nor_loss(
    kind: TaskKind, bert: PreTrainedTokenizerFast
) -> None:
    task = TASKS[kind]
    config = AutoConfig.for_model(
        "bert", vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = model_class(task).from_config(new_head(config, task)).eval()
    assert config.num_labels == 2
    source, wide = examples(kind, bert), batch_of(kind, bert, 32)
    assert wide["input_ids"].shape == (3, 32)
    with torch.no_grad():
        padded = logits_of(model(**{k: v for k, v in wide.items() if k in MODEL_INPUTS}), task)
        loss, known, distilled = (
            hard_loss(padded, wide, task=task),
            labelled(wide, task),
            items(wide, task),
        )
        assert loss.shape == known.shape == distilled.shape == padded.shape[:-1]
        for i in range(len(source)):
            narrow = source.batch([i])
            length = narrow["input_ids"].shape[1]
            one = logits_of(model(**{k: v for k, v in narrow.items() if k in MODEL_INPUTS}), task)
            alone = hard_loss(one, narrow, task=task)[0]
            if kind == "token_classification":
                torch.testing.assert_close(padded[i, :length], one[0])
                torch.testing.assert_close(loss[i, :length], alone)
                assert not loss[i, length:].any()
                assert not distilled[i, length:].any()
                assert distilled[i].sum() == len(SENTENCES[i].split())
            else:
                torch.testing.assert_close(padded[i, ..., : one.shape[-1]], one[0])
                torch.testing.assert_close(loss[i], alone)
                assert distilled[i].all()


@pytest.mark.parametrize("kind", TASKS)
def test_losses_are_those_of_transformers(kind: TaskKind, bert: PreTrainedTokenizerFast) -> None:
    """On labelled rows alone, where its mean is over what ours is."""
    task, batch = TASKS[kind], batch_of(kind, bert, None)
    config = AutoConfig.for_model(
        "bert", vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(1)
    model = model_class(task).from_config(new_head(config, task)).eval()
    batch = {k: v[:1] for k, v in batch.items()}
    targets = {k: v for k, v in batch.items() if k == "labels" or k.endswith("positions")}
    with torch.no_grad():
        outputs = model(**{k: v for k, v in batch.items() if k in MODEL_INPUTS}, **targets)
    loss = hard_loss(logits_of(outputs, task), batch, task=task)
    if kind == "question_answering":
        real = batch["attention_mask"].bool()
        assert torch.equal(real_classes(batch, task), real[:, None])
        shown = logits_of(outputs, task).masked_fill(~real[:, None], -torch.inf)
        target = torch.cat([batch["start_positions"], batch["end_positions"]])
        expected = torch.nn.functional.cross_entropy(shown[0], target)
    else:
        expected = outputs.loss
    torch.testing.assert_close(loss[labelled(batch, task)].mean(), expected)


@pytest.mark.parametrize("kind", TASKS)
def test_unlabelled_items_cost_nothing_and_teach_nothing(
    kind: TaskKind, bytes_: PreTrainedTokenizerFast
) -> None:
    task, batch = TASKS[kind], batch_of(kind, bytes_, None)
    width = batch["input_ids"].shape[1]
    shape = {"token_classification": (3, width, 4), "question_answering": (3, 2, width)}
    logits = torch.randn(shape.get(kind, (3, task.outputs)), requires_grad=True)
    loss, known = hard_loss(logits, batch, task=task), labelled(batch, task)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    silent = 2 if kind == "question_answering" else 1
    assert not known[silent].any()
    assert not loss[~known].any()
    assert not logits.grad[silent].any()
    assert (loss[known] > 0).all()
    assert known[0].any()
    assert (logits.grad[0] != 0).any()


def test_a_batch_holds_what_its_rows_hold(bert: PreTrainedTokenizerFast) -> None:
    batch = batch_of("question_answering", bert, 8)
    assert batch["rows"].tolist() == [0, 1, 2]
    assert batch["source"].tolist() == [7, 8, 9]
    assert not {"offsets", "context", "answers"} & batch.keys()
    assert batch["input_ids"].shape[1] % 8 == 0
    assert batch["token_type_ids"].dtype == batch["input_ids"].dtype == torch.int64
    assert batch_of("regression", bert, None)["labels"].dtype == torch.float32
    tags = batch_of("token_classification", bert, None)
    padding = tags["attention_mask"] == 0
    assert padding.any()
    assert (tags["labels"][padding] == -100).all()


@pytest.mark.parametrize("kind", TASKS)
def test_the_names_of_labels_travel_with_the_config(kind: TaskKind, tmp_path: Any) -> None:
    config = AutoConfig.for_model("bert", num_labels=7)
    new_head(config, TASKS[kind]).save_pretrained(tmp_path)
    stored = AutoConfig.from_pretrained(tmp_path)
    assert stored.num_labels == TASKS[kind].outputs
    if TASKS[kind].labels:
        names = tuple(stored.id2label[i] for i in range(stored.num_labels))
        assert names == TASKS[kind].labels
        assert [stored.label2id[name] for name in names] == list(range(len(names)))
    assert new_head(str(tmp_path), TASKS["regression"]).problem_type == "regression"


# ----------------------------------------------------------------------------------------- scores


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
