"""What clients may send. Fields that are not named here are ignored, as clients of the OpenAI API
send many; values of those that are here are checked strictly."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from attar.decode.choosing import Sampling


def _whole(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("should be valid Unicode, without halves of surrogate pairs")
    return text


Str = Annotated[str, AfterValidator(_whole)]
Token = Annotated[int, Field(ge=0)]
Stop = Annotated[Str, Field(min_length=1, max_length=256)]
MOST = 128
"""Texts of a request."""


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
        Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    time_budget_ms: Annotated[float, Field(gt=0)] | None = None
    drafts: Drafts | None = None

    @field_validator("logit_bias")
    @classmethod
    def _ids(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value and not all(key.isascii() and key.isdigit() and len(key) < 10 for key in value):
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

    prompt: (
        Str
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[list[Str], Field(min_length=1, max_length=MOST)]
        | Annotated[
            list[Annotated[list[Token], Field(min_length=1)]],
            Field(min_length=1, max_length=MOST),
        ]
    )
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


class Message(Body):
    """A message of a chat."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: Annotated[Str, Field(min_length=1, max_length=64)]
    content: Str | list[Part] | None = None

    def plain(self) -> dict[str, str]:
        """As a chat template takes it."""
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content or ())
        return {"role": self.role, "content": content}


class ChatBody(SamplingBody):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    model: Str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream_options: StreamOptions | None = None


class Extra(Body):
    """A chunk of another file."""

    text: Str
    filename: Str = ""


class InfillBody(SamplingBody):
    """`POST /infill`, as llama.vim and other clients of llama.cpp send it."""

    input_prefix: Str = ""
    input_suffix: Str = ""
    input_extra: list[Extra] = []
    prompt: Str = ""
    n_predict: Annotated[int, Field(ge=-1)] | None = None
    t_max_prompt_ms: Annotated[float, Field(ge=0)] | None = None
    t_max_predict_ms: Annotated[float, Field(ge=0)] | None = None
    cache_prompt: bool = True
    samplers: list[Str] | None = None
    response_fields: list[Str] | None = None
