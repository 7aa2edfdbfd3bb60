"""Labelled rows as token ids with their labels next to them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from datasets import Dataset, Features, List, Value, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from attar.data.labelled.task import UNLABELLED, Task
from attar.errors import CompatibilityError, ConfigError, DataError

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Columns and entries of a batch that a model takes."""
_ROWS = 1000  # encoded at a time


def encode(
    documents: Dataset, tokenizer: PreTrainedTokenizerBase, *, task: Task, context: int = 128
) -> Dataset:
    """Tokenize the rows of `load_labelled` and put their labels next to the tokens.

    Columns: `input_ids`, `attention_mask`, `token_type_ids` if the tokenizer gives them, `rows`
    (position in `documents`), `source` if `documents` has it, and

    - single label, regression: `labels`, an int or a float;
    - multi-label: `labels`, one float a label, 0 or 1, all -100 where unlabelled;
    - token classification: `labels`, one int a token, -100 but on the first token of a labelled
      word, and `word_starts`, 1 on the first token of every word;
    - question answering: `start_positions` and `end_positions` of the first answer, both -100 where
      it is cut off or unlabelled and both 0 where there is none, `offsets`, characters [start, end)
      of each token in the context, [-1, -1] elsewhere, and `context` and `answers` as they were.

    Two texts whose tokenizer puts nothing between them are parted by its SEP or EOS token. Texts
    are cut to `context` tokens, of a pair the longer one first, of a question the context alone.

    Raises:
        DataError: columns of the task are missing.
        ConfigError: `context` is too short for a question.
        CompatibilityError: words or characters are needed, and the tokenizer is not a fast one; or
            a pair cannot be parted.
    """
    kind = task.kind
    needed = {
        "token_classification": ("words", "label"),
        "question_answering": ("question", "context", "answers"),
    }.get(kind, ("text", "text_pair", "label") if task.pair else ("text", "label"))
    if missing := [name for name in needed if name not in documents.column_names]:
        raise DataError(
            f"expected the columns {', '.join(needed)} for {kind}, found "
            f"{', '.join(documents.column_names) or 'none'} without {missing[0]}; load the data "
            "with load_labelled"
        )
    if kind in ("token_classification", "question_answering") and not tokenizer.is_fast:
        raise CompatibilityError(
            f"expected a fast tokenizer for {kind}, which needs the place of each token in the "
            f"text, found {type(tokenizer).__name__}; use the fast one of this model"
        )
    least = tokenizer.num_special_tokens_to_add(pair=task.pair) + 1 + task.pair
    if context < least and kind != "question_answering":  # texts would stay as long as they are
        raise ConfigError(
            f"context must be at least {least}, for a token of each text and those that "
            f"{type(tokenizer).__name__} puts around them; found {context}, so raise it"
        )
    documents, between = documents.with_format(None), _between(tokenizer) if task.pair else ""
    parts = []
    for start in range(0, max(1, len(documents)), _ROWS):
        rows: dict[str, list[Any]] = documents[start : start + _ROWS]
        columns = _encode(rows, tokenizer, task=task, context=context, between=between)
        columns["rows"] = list(range(start, start + len(rows[needed[0]])))
        if "source" in rows:
            columns["source"] = rows["source"]
        features = Features({name: _feature(name, task) for name in columns})
        parts.append(Dataset.from_dict(columns, features=features))
    return concatenate_datasets(parts)


def _feature(name: str, task: Task) -> Any:
    whole = Value("int64")
    if name == "labels":
        return {
            "single_label": whole,
            "regression": Value("float32"),
            "multi_label": List(Value("float32")),
        }.get(task.kind, List(whole))
    return {
        "input_ids": List(Value("int32")),
        "attention_mask": List(Value("int8")),
        "token_type_ids": List(Value("int8")),
        "word_starts": List(Value("int8")),
        "offsets": List(List(Value("int32"))),
        "context": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(whole)},
    }.get(name, whole)


def _between(tokenizer: PreTrainedTokenizerBase) -> str:
    """What has to be put before the second text: nothing if the tokenizer does it."""
    single, pair = (tokenizer.num_special_tokens_to_add(pair=p) for p in (False, True))
    if pair > single:
        return ""
    token = tokenizer.sep_token or tokenizer.eos_token
    if token is None:
        raise CompatibilityError(
            "expected a tokenizer with a SEP or EOS token to part two texts, found neither; set "
            "its sep_token"
        )
    return str(token)


def _encode(
    rows: Mapping[str, list[Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    task: Task,
    context: int,
    between: str,
) -> dict[str, list[Any]]:
    answering, tagging = task.kind == "question_answering", task.kind == "token_classification"
    first, second = ("question", "context") if answering else ("text", "text_pair")
    pairs = [between + text for text in rows[second]] if task.pair else None
    try:
        encoded = tokenizer(
            # Joined, as a byte-level tokenizer knows words by the space before them.
            list(map(" ".join, rows["words"])) if tagging else rows[first],
            pairs,
            truncation="only_second" if answering else True,
            max_length=context,
            return_offsets_mapping=answering or tagging,
        )
    except Exception as error:
        if not answering or "runcation" not in str(error):
            raise
        raise ConfigError(
            f"expected a context above the longest question, found {context} tokens, which "
            "leave no room for its context; raise context"
        ) from error
    columns = {name: encoded[name] for name in MODEL_INPUTS if name in encoded}
    if answering:
        skip = len(between)
        columns["offsets"] = [
            [
                [a - skip, b - skip] if side == 1 and b > skip else [-1, -1]
                for (a, b), side in zip(offsets, encoded.sequence_ids(i), strict=True)
            ]
            for i, offsets in enumerate(encoded["offset_mapping"])
        ]
        ends = [_span(*row) for row in zip(rows["answers"], columns["offsets"], strict=True)]
        columns["start_positions"], columns["end_positions"] = map(list, zip(*ends, strict=True))
        columns |= {"context": rows["context"], "answers": rows["answers"]}
    elif tagging:
        of = [_word_of(*row) for row in zip(rows["words"], encoded["offset_mapping"], strict=True)]
        columns["word_starts"] = [
            [int(w >= 0 and w != before) for before, w in pairwise([-1, *words])] for words in of
        ]
        columns["labels"] = [
            [tags[w] if starts else UNLABELLED for w, starts in zip(*row, strict=True)]
            for *row, tags in zip(of, columns["word_starts"], rows["label"], strict=True)
        ]
    elif task.kind == "multi_label":
        columns["labels"] = [_multi_hot(label, task.outputs) for label in rows["label"]]
    else:
        columns["labels"] = rows["label"]
    return columns


def _word_of(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The word that each token ends in, of words joined by spaces; -1 for a token of none."""
    owner = [w for w, word in enumerate(words) for _ in f"{word} "]
    return [owner[end - 1] if end > start else -1 for start, end in offsets]


def _multi_hot(label: Sequence[int], count: int) -> list[float]:
    if UNLABELLED in label:
        return [float(UNLABELLED)] * count
    return [float(i in label) for i in range(count)]


def _span(answers: Mapping[str, Sequence[Any]], offsets: Sequence[Sequence[int]]) -> list[int]:
    """The first and last token of the first answer."""
    if not answers["text"]:
        return [0, 0]
    start = answers["answer_start"][0]
    end = start + len(answers["text"][0].rstrip())
    # A token may begin with the space before the answer, and end after it.
    within = [i for i, (a, b) in enumerate(offsets) if a >= 0 and a < end and b > start]
    if start == UNLABELLED or not within or offsets[within[-1]][1] < end:
        return [UNLABELLED, UNLABELLED]
    return [within[0], within[-1]]
