"""Conversations as lists of messages, and what the chat template of a tokenizer makes of them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from attar.errors import DataError

Messages = list[dict[str, Any]]
"""Each with a `role` and `content`, as chat templates take them."""

#: what ShareGPT calls the roles
_ROLES = {"human": "user", "gpt": "assistant", "bing": "assistant", "bard": "assistant"}
#: in a template that marks the assistant's turns, which transformers can read
_MARKED = re.compile(r"\{%-?\s*generation\b")


@dataclass(frozen=True)
class Conversation:
    """A conversation as a model reads it: its text, its ids, and which of them are the assistant's
    (the end of its turn included)."""

    text: str
    ids: list[int]
    answered: list[bool]


def require_template(tokenizer: PreTrainedTokenizerBase, origin: str) -> None:
    """Refuse conversations if the tokenizer has no chat template.

    Raises:
        DataError: the tokenizer has none.
    """
    if not tokenizer.chat_template:
        raise DataError(
            f"{origin} holds conversations, but the tokenizer has no chat template; take the "
            "tokenizer of a chat model, set its chat_template, or give prompts and completions as "
            "text"
        )


def messages_of(value: Any, *, place: str) -> Messages:
    """A conversation in the form of chat templates; ShareGPT's `from` and `value` are read too.

    Args:
        value: a list of messages.
        place: where it is, for error messages.

    Raises:
        DataError: it is no list of messages, or a message lacks its role or its text.
    """
    listed = isinstance(value, list) and value
    wrong = [one for one in value if not isinstance(one, dict)] if listed else [value]
    if wrong:
        found = "none" if wrong[0] in (None, []) else _shown(wrong[0])
        raise DataError(
            f'expected messages such as {{"role": "user", "content": "..."}} in {place}, found '
            f"{found}; correct that row or leave it out"
        )
    return [_message(one, f"message {i} in {place}") for i, one in enumerate(value, 1)]


def _message(value: dict[str, Any], place: str) -> dict[str, Any]:
    # a table has every key in every row, None where a message lacks it
    message = {key: item for key, item in value.items() if item is not None}
    if "from" in message and "role" not in message:
        role = message.pop("from")
        message |= {"role": _ROLES.get(role, role), "content": message.pop("value", None)}
    if "tool_calls" in message:
        message.setdefault("content", "")
    message["content"] = _joined(message.get("content"))
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            found = _shown(message[key]) if message.get(key) is not None else "none"
            raise DataError(
                f"expected text as the {key} of {place}, found {found}; correct that row or leave "
                "it out"
            )
    return message


def _joined(content: Any) -> Any:
    """Content that is a list of parts, as of models that see, in one text; other content, and parts
    that are no text, as they are."""
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if _is_text(part)]
    return "".join(texts) if texts and len(texts) == len(parts) else content


def _is_text(part: Any) -> bool:
    """Whether this is a part of a message that is text."""
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _shown(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else text[:57] + "..."


def templated(messages: Messages, tokenizer: PreTrainedTokenizerBase, *, ask: bool = False) -> str:
    """What the chat template of a tokenizer makes of messages.

    Args:
        messages: as chat templates take them.
        tokenizer: with a template.
        ask: end with the header of the assistant's turn.

    Raises:
        DataError: the template refuses them, for example a system message.
    """
    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
        )
    except Exception as error:  # a template is a program
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"the model's chat template refuses these messages: {reason}") from error


def render(
    messages: Messages, tokenizer: PreTrainedTokenizerBase, *, place: str, ask: bool = False
) -> str:
    """A conversation as text.

    Args:
        messages: as `messages_of` gives them.
        tokenizer: whose template it is.
        place: where the conversation is, for error messages.
        ask: end with the header of the assistant's turn.

    Raises:
        DataError: the template refuses it, for example a system message.
    """
    try:
        return templated(messages, tokenizer, ask=ask)
    except DataError as error:
        raise DataError(
            f"in {place}, {error}; correct that row or the template, or leave it out"
        ) from error


def converse(
    messages: Messages, tokenizer: PreTrainedTokenizerBase, *, place: str, known: int = 1
) -> Conversation:
    """A conversation as ids, with a mark for those of the assistant.

    A template with `{% generation %}` marks them itself. With any other template the conversation
    is rendered up to each answer, and then with the answer: the difference is the answer, without
    trailing white space.

    Args:
        messages: as `messages_of` gives them.
        tokenizer: with a chat template.
        place: where the conversation is, for error messages.
        known: this many messages at the beginning are given, not learnt; at least the first one,
            as no message comes before it.

    Raises:
        DataError: the template refuses it, or renders a turn differently when others follow.
    """
    text = render(messages, tokenizer, place=place)
    if known == 1 and _MARKED.search(str(tokenizer.get_chat_template())):
        marked: Any = tokenizer.apply_chat_template(
            messages, return_dict=True, return_assistant_tokens_mask=True
        )
        return Conversation(
            text, list(marked["input_ids"]), [bool(mark) for mark in marked["assistant_masks"]]
        )
    ids = _encode(tokenizer, text)
    answered = [False] * len(ids)
    for start, end in _answers(messages, text, tokenizer, place=place, known=known):
        first, last = (shared_length(ids, _encode(tokenizer, text[:at])) for at in (start, end))
        answered[first:last] = [True] * (last - first)
    return Conversation(text, ids, answered)


def _answers(
    messages: Messages,
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    place: str,
    known: int,
) -> Iterator[tuple[int, int]]:
    """Where each answer begins and ends in the text."""
    for i in range(known, len(messages)):
        if messages[i]["role"] != "assistant":
            continue
        before = render(messages[:i], tokenizer, place=place).rstrip()
        asked = render(messages[:i], tokenizer, place=place, ask=True)
        after = render(messages[: i + 1], tokenizer, place=place).rstrip()
        start = shared_length(asked, after)
        if start < len(before) or not text.startswith(after):
            raise DataError(
                f"the tokenizer's chat template renders a turn of the conversation in {place} "
                "differently when others follow it, so that the assistant's tokens cannot be "
                "identified; give conversations of one answer each, or a template that marks "
                "answers with {% generation %}"
            )
        yield start, len(after)


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Length of the common prefix of two sequences of ids or characters. A token that crosses the
    end of the other text is not part of it."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # the template has written all special tokens
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
