"""Conversations as lists of messages, and what the chat template of a tokenizer makes of them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from attar.errors import DataError

Messages = list[dict[str, Any]]
"""Each with a `role` and `content`, as chat templates take them."""

#: what ShareGPT calls the roles
_ROLES = {"human": "user", "gpt": "assistant", "bing": "assistant", "bard": "assistant"}
#: a template that marks what the assistant says, so that transformers can tell it
_MARKED = re.compile(r"\{%-?\s*generation\b")


@dataclass(frozen=True)
class Conversation:
    """A conversation as a model reads it: its text, its ids, and which of them the assistant says,
    its end of turn included."""

    text: str
    ids: list[int]
    answered: list[bool]


def require_template(tokenizer: PreTrainedTokenizerBase, origin: str) -> None:
    """Refuse conversations that no template turns into text.

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
    """A conversation in the form of chat templates; ShareGPT's `from` and `value` are known too.

    Args:
        value: a list of messages.
        place: where it is, for the message.

    Raises:
        DataError: it is none, or a message lacks its role or its text.
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
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            found = _shown(message[key]) if message.get(key) is not None else "none"
            raise DataError(
                f"expected text as the {key} of {place}, found {found}; correct that row or leave "
                "it out"
            )
    return message


def _shown(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else text[:57] + "..."


def render(
    messages: Messages, tokenizer: PreTrainedTokenizerBase, *, place: str, ask: bool = False
) -> str:
    """A conversation as text.

    Args:
        messages: as `messages_of` gives them.
        tokenizer: whose template it is.
        place: where the conversation is, for the message.
        ask: end with what comes before an answer of the assistant.

    Raises:
        DataError: the template refuses it, such as a system message where it knows none.
    """
    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise DataError(
            f"the tokenizer's chat template refuses the conversation in {place}: "
            f"{' '.join(str(error).split())}; correct that row or leave it out"
        ) from error


def converse(
    messages: Messages, tokenizer: PreTrainedTokenizerBase, *, place: str, known: int = 1
) -> Conversation:
    """A conversation as ids, with those that the assistant says.

    A template with `{% generation %}` marks them itself. With any other the conversation is
    rendered up to each answer, and with it: what comes on top is the answer, up to its last
    character that is no space.

    Args:
        messages: as `messages_of` gives them.
        tokenizer: with a chat template.
        place: where the conversation is, for the message.
        known: so many messages are given, not learnt; the first one always is, as nothing asked
            for it.

    Raises:
        DataError: the template refuses it, or renders a turn in another way when others follow.
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
                f"the tokenizer's chat template writes a turn of the conversation in {place} in "
                "another way when others follow it, so that the assistant's tokens cannot be told; "
                "give conversations of one answer each, or a template that marks answers with "
                "{% generation %}"
            )
        yield start, len(after)


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many ids or characters two sequences have in common at their beginning. A token that
    lies across the end of the other is not among them."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # the template has written all special tokens
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
