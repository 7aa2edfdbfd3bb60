"""What clients may send. Fields that are not named here are ignored, as clients of the OpenAI API
send many; values of those that are here are checked strictly."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from attar.decode.choosing import Sampling
from attar.errors import DataError
from attar.foreign import parse_json


def whole(text: str) -> str:
    """A text without halves of characters, which no tokenizer takes."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("should be valid Unicode, without halves of surrogate pairs")
    return text


def _form(prompt: Any) -> str | None:
    """Which of its forms a prompt has, so that it is checked as that alone."""
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    kinds = {str: "several-texts", int: "token-ids", list: "lists-of-token-ids"}
    return "one-text" if isinstance(prompt, str) else kinds.get(type(first))


T = TypeVar("T")
Str = Annotated[str, AfterValidator(whole)]
Token = Annotated[int, Field(ge=0)]
Stop = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(whole)]
#: of a million wrong items, which fit into a request, one is reported: all take a minute
Many = Annotated[list[T], Field(fail_fast=True)]
MOST = 128
"""Texts of a request."""
BIASES = 1024
"""Tokens with a bias, at most."""


class Body(BaseModel):
    """A request."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Drafts(BaseModel):
    """Ask for another way of writing texts, with its options."""

    model_config = ConfigDict(strict=True, extra="allow")

    mode: Str

    @property
    def options(self) -> dict[str, Any]:
        """Of the mode."""
        return dict(self.__pydantic_extra__ or {})


class SamplingBody(Body):
    """What completions, chats and infills have in common."""

    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: (
        Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=BIASES)]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[Many[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    time_budget_ms: Annotated[float, Field(gt=0)] | None = None
    drafts: Drafts | None = None

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _ids(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if len(value) > BIASES:  # before any of them is checked
                raise ValueError(f"must have {BIASES} tokens at most")
            if not all(key.isascii() and key.isdigit() and len(key) < 10 for key in value):
                raise ValueError("must have token ids as keys")
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end a text."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def sampling(self) -> Sampling:
        """How tokens are drawn; what is not given is as the OpenAI API has it."""
        bias = sorted((int(key), value) for key, value in (self.logit_bias or {}).items())
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=self.top_k or 0,
            top_p=self.top_p or 1.0,
            min_p=self.min_p or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple(bias),
            seed=None if self.seed is None else self.seed % 2**62,
        )


class StreamOptions(Body):
    """What a stream tells besides."""

    include_usage: bool | None = None


class CompletionBody(SamplingBody):
    """`POST /v1/completions`."""

    prompt: Annotated[
        Annotated[Str, Tag("one-text")]
        | Annotated[Many[Token], Field(min_length=1), Tag("token-ids")]
        | Annotated[Many[Str], Field(min_length=1, max_length=MOST), Tag("several-texts")]
        | Annotated[
            Many[Annotated[Many[Token], Field(min_length=1)]],
            Field(min_length=1, max_length=MOST),
            Tag("lists-of-token-ids"),
        ],
        Discriminator(
            _form,
            custom_error_type="prompt",
            custom_error_message="should be a text, a list of texts, token ids or a list of those",
        ),
    ]
    model: Str | None = None
    suffix: Str | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    stream_options: StreamOptions | None = None
    type_ahead: bool | None = None

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """All of them: each a text or token ids."""
        given: Any = self.prompt
        if isinstance(given, str) or isinstance(given[0], int):
            return [given]
        return given


class Part(Body):
    """A part of a message; only text can be read."""

    type: Literal["text"]
    text: Str


class Called(Body):
    """A function that an earlier answer called."""

    name: Str
    arguments: Str | dict[str, Any] = "{}"


class ToolCall(Body):
    """A call in an earlier answer."""

    id: Str | None = None
    type: Literal["function"] = "function"
    function: Called

    def plain(self) -> dict[str, Any]:
        """As chat templates take it: they write the arguments themselves, so as an object."""
        arguments: Any = self.function.arguments
        if isinstance(arguments, str):
            with suppress(DataError):  # a model wrote them
                arguments = parse_json(arguments, "arguments")
        return {
            "id": self.id,
            "type": self.type,
            "function": {"name": self.function.name, "arguments": arguments},
        }


class Message(Body):
    """A message of a chat."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: Annotated[Str, Field(min_length=1, max_length=64)]
    content: Str | Many[Part] | None = None
    name: Str | None = None
    tool_calls: Many[ToolCall] | None = None
    tool_call_id: Str | None = None

    def plain(self) -> dict[str, Any]:
        """As a chat template takes it."""
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content or ())
        message: dict[str, Any] = {"role": self.role, "content": content}
        if self.tool_calls:
            message["tool_calls"] = [call.plain() for call in self.tool_calls]
        told = {"name": self.name, "tool_call_id": self.tool_call_id}
        return message | {key: value for key, value in told.items() if value is not None}


class ResponseFormat(Body):
    """The form of an answer: any, as no other can be promised."""

    type: Literal["text"]


class ChatBody(SamplingBody):
    """`POST /v1/chat/completions`. No tool is called, so that none may be required."""

    messages: Annotated[Many[Message], Field(min_length=1)]
    model: Str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    tool_choice: Literal["none", "auto"] | None = None


class Extra(Body):
    """A chunk of another file."""

    text: Str
    filename: Str = ""


class InfillBody(SamplingBody):
    """`POST /infill`, as llama.vim and other clients of llama.cpp send it."""

    input_prefix: Str = ""
    input_suffix: Str = ""
    input_extra: Many[Extra] = []
    prompt: Str = ""
    n_predict: Annotated[int, Field(ge=-1)] | None = None
    t_max_prompt_ms: Annotated[float, Field(ge=0)] | None = None
    t_max_predict_ms: Annotated[float, Field(ge=0)] | None = None
    cache_prompt: bool = True
    samplers: Many[Str] | None = None
    response_fields: Many[Str] | None = None
