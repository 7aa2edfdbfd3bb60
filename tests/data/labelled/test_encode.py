"""What is encoded is what was labelled."""

import pytest
from datasets import Dataset
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

import tasks
from attar.data.labelled.encode import encode
from attar.data.labelled.task import Task
from attar.errors import CompatibilityError, ConfigError, DataError
from tasks import LABELS, SENTENCES, TASKS, bert, bytes_, rows


@pytest.fixture(params=["bert", "bytes_"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return getattr(tasks, request.param)()


def test_examples_are_what_the_tokenizer_says(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(rows("single_label"), tokenizer, task=TASKS["single_label"])
    assert encoded["input_ids"][:] == [tokenizer(s)["input_ids"] for s in SENTENCES]
    assert encoded["labels"][:] == LABELS["single_label"]
    assert encoded["rows"][:] == [0, 1, 2]
    assert encoded["source"][:] == [7, 8, 9]
    assert ("token_type_ids" in encoded.column_names) is isinstance(tokenizer, BertTokenizerFast)
    multi = encode(rows("multi_label"), tokenizer, task=TASKS["multi_label"])
    assert multi["labels"][:] == [[1, 0, 1], [-100] * 3, [0, 0, 0]]


def test_rows_are_counted_beyond_one_batch() -> None:
    many = Dataset.from_dict({"text": [f"bob {i}" for i in range(2100)], "label": [0, 1] * 1050})
    encoded = encode(many, bytes_(), task=Task("single_label", ("a", "b")))
    assert encoded["rows"][:] == list(range(2100))
    assert bytes_().decode(encoded[2099]["input_ids"]) == "bob 2099"


def test_two_texts_are_parted() -> None:
    task = Task("single_label", ("a", "b", "c"), pair=True)
    ids = encode(rows("single_label", pair=True), bert(), task=task)["input_ids"][1]
    assert bert().decode(ids) == "[CLS] bob is unhappy [SEP] who met ann [SEP]"
    ids = encode(rows("single_label", pair=True), bytes_(), task=task)["input_ids"][1]
    assert bytes_().decode(ids) == "bob is unhappy<|endoftext|>who met ann"
    mute = PreTrainedTokenizerFast(tokenizer_object=bytes_().backend_tokenizer)
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
    short = encode(rows("token_classification"), tokenizer, task=task, context=4)
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
                  context=n)[0]["start_positions"]
        for n in (length - 1, length)
    }  # fmt: skip
    assert kept == {length - 1: -100, length: first["start_positions"]}
    with pytest.raises(ConfigError, match="longest question, found 4 tokens"):
        encode(rows("question_answering"), tokenizer, task=TASKS["question_answering"], context=4)


def test_a_context_without_room_for_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"context must be at least 3, for a token .* found 2"):
        encode(rows("single_label"), bert(), task=TASKS["single_label"], context=2)
    short = encode(rows("single_label"), bert(), task=TASKS["single_label"], context=3)
    assert {*map(len, short["input_ids"])} == {3}


def test_other_columns_and_slow_tokenizers_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected the columns text, label .* without text;"):
        encode(rows("token_classification"), bert(), task=TASKS["single_label"])

    class Slow:
        is_fast = False

    with pytest.raises(CompatibilityError, match=r"fast tokenizer .* found Slow"):
        encode(rows("token_classification"), Slow(), task=TASKS["token_classification"])
