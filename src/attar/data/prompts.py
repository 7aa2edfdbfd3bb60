"""Prompts, with what follows them: of a table with a prompt a row, or cut from plain text."""

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from attar.artefacts import expanded
from attar.data.data import STDLIB, Data, DataLike
from attar.data.files import LOADERS, group_by_split, kind, load_table, reason
from attar.data.messages import messages_of, render, require_template, shared_length
from attar.data.text import (
    check_splits,
    complete,
    from_hub,
    load_text,
    name_splits,
    progress_only_on_terminals,
)
from attar.errors import ConfigError, DataError
from attar.models import leading_bos

logger = logging.getLogger(__name__)

CONVERSATIONS = ("messages", "conversations")
"""Columns of whole conversations, where none is named."""
#: columns that hold prompts, where none is named; messages go through the tokenizer's chat template
USUAL = ("prompt", *CONVERSATIONS)


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt, at least one, and of what follows it, which may be none."""

    ids: tuple[int, ...]
    completion: tuple[int, ...] = ()


def read_prompts(file: Path) -> list[str]:
    """Prompts to continue: the lines of a text, or a table's column `prompt` or `text`.

    A line ends with LF, CR LF or CR alone, not with the form feeds and line separators that
    `str.splitlines` knows. Spaces at both ends belong to it. Blank lines are left out, and so is a
    byte order mark.

    Args:
        file: a .jsonl, .json, .csv, .tsv or .parquet file is a table, any other text; - is stdin.

    Raises:
        DataError: it cannot be read, or a table has no such column.
    """
    file = expanded(file)
    loader = "json" if file.suffix.lower() == ".json" else LOADERS.get(kind(file) or "")
    try:
        if loader is None:
            text = _stdin() if file == Path("-") else file.read_text(encoding="utf-8")
            lines = re.split(r"\r\n?|\n", text.removeprefix("\ufeff"))
            return [line for line in lines if line.strip()]
        file.open("rb").close()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read prompts from {str(file)!r}: {reason(error)}; give a text in UTF-8, or a "
            ".jsonl, .csv, .tsv or .parquet file"
        ) from error
    with progress_only_on_terminals():
        rows = load_table(file, loader)
    column = next((name for name in ("prompt", "text") if name in rows.column_names), None)
    if column is None:
        raise DataError(
            f"expected a column prompt or text in {str(file)!r}, found the columns "
            f"{', '.join(rows.column_names)}; rename one"
        )
    return rows[column][:]


def _stdin() -> str:
    if sys.stdin is None or sys.stdin.closed:
        raise OSError("standard input is closed")
    return sys.stdin.read()


def load_prompts(
    data: DataLike,
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompt_tokens: int,
    completion_tokens: int,
    encoder_decoder: bool = False,
) -> dict[str, list[Prompt]]:
    """Prompts in the splits train, validation and test.

    A table with a column of prompts gives them as they are; lists of messages go through the chat
    template of the tokenizer. A last message of the assistant is what follows. From any other
    source come pieces of its documents, each cut into a prompt and what follows it.

    Where the tokenizer puts BOS before a text, every prompt begins with it, cut ones too.

    Args:
        data: whatever `attar.data.load_text` takes, with a column of prompts (and perhaps of what
            follows, as text or messages) or of text.
        tokenizer: of the model.
        prompt_tokens: of a prompt cut from text; a prompt of a table may have as many too, and
            longer ones lose their beginning.
        completion_tokens: of what follows, at most.
        encoder_decoder: an encoder reads the prompt, which then ends with EOS.

    Raises:
        DataError: the source cannot be read, has no such column, or is too short.
        ConfigError: lengths that are not positive.
    """
    if min(prompt_tokens, completion_tokens) < 1:
        raise ConfigError(
            "prompt and completion must have at least 1 token, found "
            f"{prompt_tokens} and {completion_tokens}"
        )
    data = Data.of(data)
    origin, text_column = data.origin, data.text_column or "text"
    tables = tables_of(data)
    names = [] if tables is None else tables["train"][0].column_names
    column = _column(names, data.prompt_column, origin)
    lengths = (prompt_tokens, completion_tokens)
    if tables is not None and column is None and text_column not in names:
        raise DataError(
            f"expected a column of prompts ({' or '.join(USUAL)}) or of text ({text_column}) in "
            f"{origin}, found the columns {', '.join(names)}; name one with "
            "prompt_column (--prompt-column) or text_column (--text-column)"
        )
    if tables is None or column is None:
        documents = load_text(data)
        prompts_by_split = {
            split: list(_pieces(rows, tokenizer, lengths=lengths, closed=encoder_decoder))
            for split, rows in documents.items()
        }
    else:
        parts = {
            split: [
                _rendered(
                    rows, column, after=data.completion_column, tokenizer=tokenizer, origin=origin
                )
                for rows in files
            ]
            for split, files in tables.items()
        }
        splits = check_splits(complete(parts), origin)
        # a template has written special tokens already
        plain = not isinstance(tables["train"][0][0][column], list)
        prompts_by_split = {
            split: list(_pairs(rows, tokenizer, lengths=lengths, special=plain))
            for split, rows in splits.items()
        }
    if empty := [split for split, prompts in prompts_by_split.items() if not prompts]:
        raise DataError(
            f"expected prompts of {prompt_tokens} tokens in {origin}, found too little text for "
            f"{' and '.join(map(str, empty))}; give more text, or ask for shorter prompts"
        )
    return {str(split): prompts for split, prompts in prompts_by_split.items()}


def tables_of(data: Data) -> dict[str, list[Dataset]] | None:
    """The tables of each split, with all columns; None where there is nothing but text.

    Raises:
        DataError: the source cannot be read.
    """
    source = data.source
    if not isinstance(source, str | Path):
        return {split: [rows] for split, rows in name_splits(source, "the given data set").items()}
    path = data.path
    if source == STDLIB:
        return None
    with progress_only_on_terminals():
        if path is None:
            loaded = from_hub(str(source), data.config)
            return {split: [rows] for split, rows in name_splits(loaded, str(source)).items()}
        groups = group_by_split(path)
        loaders = {file: LOADERS[kind(file) or ""] for files in groups.values() for file in files}
        if not all(loaders.values()):
            return None
        return {
            split: [load_table(file, str(loaders[file])) for file in files]
            for split, files in groups.items()
        }


def _column(names: Sequence[str], named: str | None, origin: str) -> str | None:
    """The column that holds the prompts; None: there are none, but text."""
    if named is None:
        return next((name for name in USUAL if name in names), None)
    if named not in names:
        raise DataError(
            f"expected a column of prompts {named!r} in {origin}, found "
            f"{'the columns ' + ', '.join(names) if names else 'plain text'}; name the right one "
            "with prompt_column (--prompt-column)"
        )
    return named


def _rendered(
    rows: Dataset, column: str, *, after: str, tokenizer: PreTrainedTokenizerBase, origin: str
) -> Dataset:
    """Prompts as `text`, and what follows as `completion`."""
    rows = rows.with_format(None)
    prompts: list[Any] = rows[column][:]
    follows: list[Any] = rows[after][:] if after in rows.column_names else [""] * len(rows)
    texts, completions = [], []
    for number, (prompt, follow) in enumerate(zip(prompts, follows, strict=True), 1):
        place = f"row {number} of {origin}"
        if isinstance(follow, list) and follow:
            follow = messages_of(follow, place=place)[-1]["content"]
        if follow and not isinstance(follow, str):
            raise DataError(
                f"expected text or messages in column {after!r} of {origin}, found "
                f"{type(follow).__name__} {str(follow)[:40]!r} in row {number}; correct or leave "
                "out that row"
            )
        if isinstance(prompt, list) or column in CONVERSATIONS:
            require_template(tokenizer, origin)
            prompt, follow = _chat(prompt, follow, tokenizer=tokenizer, place=place)
        if not isinstance(prompt, str) or not prompt:
            raise DataError(
                f"expected text or messages in column {column!r} of {origin}, found "
                f"{type(prompt).__name__} {str(prompt)[:40]!r} in row {number}; correct or leave "
                "out that row"
            )
        texts.append(prompt)
        completions.append(follow or "")
    return Dataset.from_dict({"text": texts, "completion": completions})


def _chat(
    value: Any, follow: Any, *, tokenizer: PreTrainedTokenizerBase, place: str
) -> tuple[str, str]:
    """A conversation up to the assistant's last turn, and what the assistant says there, with the
    end of its turn."""
    messages = messages_of(value, place=place)
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant" and i]
    if isinstance(follow, str) and follow:
        messages = [*messages, {"role": "assistant", "content": follow}]
    elif turns:
        messages = messages[: turns[-1] + 1]
    else:
        return render(messages, tokenizer, place=place, ask=True), ""
    text = render(messages[:-1], tokenizer, place=place, ask=True)
    whole = render(messages, tokenizer, place=place).rstrip()
    return text, whole[shared_length(text, whole) :]


def _pairs(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    lengths: tuple[int, int],
    special: bool,
) -> Iterator[Prompt]:
    """Prompts and completions of a table; `special`: they are text, which no template has given
    the special tokens that the tokenizer puts before and after it."""
    prompt_tokens, completion_tokens = lengths
    eos = tokenizer.eos_token_id
    ends = (eos,) if special and isinstance(eos, int) else ()
    prompts = _encode(tokenizer, rows["text"][:], special=special)
    if cut := sum(len(ids) > prompt_tokens for ids in prompts):
        logger.warning(
            "%d of %d prompts are longer than %d tokens and lose their beginning, which in a "
            "conversation is what was said first; raise prompt_tokens to keep it",
            *(cut, len(prompts), prompt_tokens),
        )
    for ids, follow in zip(prompts, _encode(tokenizer, rows["completion"][:]), strict=True):
        after = (*follow, *ends)[:completion_tokens] if follow else ()
        if ids:
            first = ids[:1] if ids[0] == tokenizer.bos_token_id else []
            rest = ids[len(first) :][-max(1, prompt_tokens - len(first)) :]
            yield Prompt((*first, *rest), tuple(after))


def _pieces(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    lengths: tuple[int, int],
    closed: bool,
) -> Iterator[Prompt]:
    """Pieces of each document; the rest that is no longer than a prompt is left out."""
    bos = leading_bos(tokenizer)
    first = () if bos is None else (bos,)
    prompt_tokens = max(1, lengths[0] - len(first))
    size = prompt_tokens + lengths[1]
    eos = tokenizer.eos_token_id
    ends = (eos,) if isinstance(eos, int) else ()
    for ids in _encode(tokenizer, rows["text"][:]):
        whole = (*ids, *ends)
        for start in range(0, len(whole) - prompt_tokens, size):
            piece = whole[start : start + size]
            prompt = (*first, *piece[:prompt_tokens])
            yield Prompt((*prompt, *ends) if closed else prompt, piece[prompt_tokens:])


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool = False
) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=special, verbose=False)
    return encoded["input_ids"]  # pyright: ignore[reportReturnType]
