"""Conversations to train on and to score: tables of messages, or of prompts with completions."""

import logging
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value
from transformers import PreTrainedTokenizerBase

from attar.data.data import STDLIB, Data, DataLike
from attar.data.messages import Conversation, converse, messages_of, require_template
from attar.data.prompts import CONVERSATIONS, tables_of
from attar.data.text import check_splits, complete, load_text, progress_only_on_terminals
from attar.errors import DataError
from attar.models import leading_bos

logger = logging.getLogger(__name__)

ANSWERED = "assistant_masks"
"""The column that marks the assistant's tokens of a conversation."""
_ROWS = Features(
    {
        "text": Value("string"),
        "input_ids": List(Value("int32")),
        ANSWERED: List(Value("bool")),
    }
)


def load_documents(data: DataLike, tokenizer: PreTrainedTokenizerBase) -> DatasetDict:
    """The training data of a language model: conversations if the data holds them, or text.

    A table is read as conversations if their column is named (`prompt_column`), or if it has no
    column of text but one called `messages` or `conversations`, or `prompt` next to completions. A
    column of messages holds whole conversations, unless there is a column of completions: then it
    holds prompts, and the completions are the answers. Messages go through the tokenizer's chat
    template; prompts and completions that are text are joined as they are, with EOS at the end.

    Args:
        data: whatever `attar.data.load_text` takes.
        tokenizer: of the model.

    Returns:
        The splits train, validation and test, each with a column `text`; conversations also have
        `input_ids` and `assistant_masks`, which is true for the assistant's tokens.

    Raises:
        DataError: the source cannot be read, or a conversation is malformed.
    """
    data = Data.of(data)
    tables = None if data.text_column or data.source == STDLIB else tables_of(data)
    column = None if tables is None else _column(tables["train"][0], data)
    if tables is None or column is None:
        if data.prompt_column is not None and not data.text_column:
            raise _no_column(data.prompt_column, data, "plain text")
        return load_text(data)
    with progress_only_on_terminals():
        parts = {
            split: [_rendered(rows, column, data=data, tokenizer=tokenizer) for rows in files]
            for split, files in tables.items()
        }
        return check_splits(complete(parts), data.origin)


def is_chat(rows: Dataset) -> bool:
    """Whether rows are conversations; otherwise they are text."""
    return ANSWERED in rows.column_names


def _column(rows: Dataset, data: Data) -> str | None:
    """The column of conversations or prompts; None: the table holds text."""
    names = rows.column_names
    if data.prompt_column is not None:
        return data.prompt_column
    if "text" in names:
        return None
    pair = ("prompt",) if data.completion_column in names else ()
    return next((name for name in (*CONVERSATIONS, *pair) if name in names), None)


def _no_column(column: str, data: Data, found: str) -> DataError:
    return DataError(
        f"expected a column of conversations {column!r} in {data.origin}, found {found}; name the "
        "right one with prompt_column (--prompt-column)"
    )


def _rendered(
    rows: Dataset, column: str, *, data: Data, tokenizer: PreTrainedTokenizerBase
) -> Dataset:
    """The conversations of a table that have an answer, as ids."""
    if column not in rows.column_names:
        raise _no_column(column, data, f"the columns {', '.join(rows.column_names)}")
    bos = leading_bos(tokenizer)
    begin = "" if bos is None else str(tokenizer.bos_token)

    def render(row: dict[str, Any], number: int) -> dict[str, Any]:
        place = f"row {number + 1} of {data.origin}"
        follow = row.get(data.completion_column) if column not in CONVERSATIONS else None
        made = _conversation(row[column], follow, tokenizer=tokenizer, place=place)
        # without BOS: whoever tokenizes the text adds it
        return {
            "text": made.text.removeprefix(begin),
            "input_ids": made.ids,
            ANSWERED: made.answered,
        }

    made = rows.with_format(None).map(
        render,
        with_indices=True,
        remove_columns=rows.column_names,
        features=_ROWS,
        desc="conversations",
    )
    answered = made.filter(any, input_columns=ANSWERED)
    if not len(answered):
        raise DataError(
            f"expected answers of the assistant in {data.origin}, found none in {len(made)} "
            "conversations; call its role assistant, and let a template with {% generation %} mark "
            "what it says"
        )
    if len(answered) < len(made):
        logger.warning(
            "left out %d of %d conversations in %s that have no answer of the assistant",
            *(len(made) - len(answered), len(made), data.origin),
        )
    return answered


def _conversation(
    prompt: Any, completion: Any, *, tokenizer: PreTrainedTokenizerBase, place: str
) -> Conversation:
    if isinstance(prompt, str) and isinstance(completion, str) and prompt:
        return _plain(prompt, completion, tokenizer)
    if isinstance(prompt, str):
        raise DataError(
            f"expected messages, or a prompt and its completion as text, in {place}, found "
            f"{'text without a completion' if prompt else 'an empty prompt'}; name a column of "
            "messages with prompt_column (--prompt-column), or of completions with "
            "completion_column (--completion-column)"
        )
    require_template(tokenizer, place)
    messages = messages_of(prompt, place=place)
    if not completion:
        return converse(messages, tokenizer, place=place)
    said = [{"role": "assistant", "content": completion}]
    answer = said if isinstance(completion, str) else messages_of(completion, place=place)
    return converse([*messages, *answer], tokenizer, place=place, known=len(messages))


def _plain(prompt: str, completion: str, tokenizer: PreTrainedTokenizerBase) -> Conversation:
    before, after = tokenizer([prompt, completion], add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    bos, eos = leading_bos(tokenizer), tokenizer.eos_token_id
    first, end = [] if bos is None else [bos], [eos] if isinstance(eos, int) else []
    given, said = [*first, *before], [*after, *end] if after else []
    answered = [*[False] * len(given), *[True] * len(said)]
    return Conversation(prompt + completion, [*given, *said], answered)
