"""`attar generate`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.cli.app import ExitCode
from attar.cli.output import note, show
from attar.decode.drafters import Drafter
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.errors import ConfigError

_DRAFTING = Group("Options of drafting", sort_key=2)


def generate(
    model: str,
    prompt: str | None = None,
    *,
    prompts: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    draft: str | None = None,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    stop: list[str] | None = None,
    chat: bool = False,
    batch_size: int = 8,
    stats: bool = False,
    options: Annotated[SpecConfig, Parameter(name="*", group=_DRAFTING)] = SpecConfig(),
) -> int:
    """Continue a text. With a draft it goes faster, and the text is still the model's own.

    Example: `attar generate my-model "def main(" --draft my-draft --stats`

    Parameters
    ----------
    model
        Folder or Hub name.
    prompt
        The text to continue.
    prompts
        Instead of a prompt: a text file with one on each line, empty lines left out; - reads
        them from stdin.
    draft
        Folder or Hub name of a small model, as `attar draft` makes; layers:N for the first N layers
        of the model itself; lookup to propose what followed the last words before.
    max_new_tokens
        Of each text, at most.
    temperature
        0 takes the likeliest token.
    top_k
        Draw from so many likeliest tokens; 0: from all.
    top_p
        Draw from the likeliest tokens that together have this probability.
    repetition_penalty
        Above 1: tokens that were used are less likely.
    stop
        A text ends with it; may be given several times.
    chat
        The prompt is what a user says: put it into the chat template of the model.
    batch_size
        Prompts of a file that are continued together.
    stats
        Say what was drafted and accepted, on stderr.
    """
    texts = _texts(prompt, prompts)
    if max_new_tokens < 1 or batch_size < 1:
        raise ConfigError(
            "--max-new-tokens and --batch-size must be at least 1, found "
            f"{max_new_tokens} and {batch_size}"
        )
    if not temperature >= 0:
        raise ConfigError(f"--temperature must be 0 or more, found {temperature}")
    if not 0 < top_p <= 1 or top_k < 0 or not repetition_penalty > 0:
        raise ConfigError(
            "--top-p must be above 0 and at most 1, --top-k 0 or more and --repetition-penalty "
            f"above 0, found {top_p}, {top_k} and {repetition_penalty}"
        )
    require_lossy(options.lossy, options.epsilon)
    if draft is None and options != SpecConfig(seed=options.seed):
        raise ConfigError("options of drafting need --draft: a folder, layers:N or lookup")
    import torch

    from attar.checkpoint import load, load_tokenizer
    from attar.models import require_generator
    from attar.runtime import place

    loaded = load(model)
    tokenizer = load_tokenizer(model)
    require_generator("model", loaded)
    place(loaded)
    decoder = _decoder(loaded, tokenizer, draft, options) if draft else None
    if options.seed is not None:
        torch.manual_seed(options.seed)
    for start in range(0, len(texts), batch_size):
        some = texts[start : start + batch_size]
        for text in _continue(
            loaded,
            tokenizer,
            some,
            decoder,
            chat=chat,
            stops=stop or [],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
        ):
            show(text)
        if decoder is not None and (stats or options.lossy):
            note(str(decoder.stats))
    return ExitCode.DONE


def require_lossy(lossy: str | None, epsilon: float) -> None:
    """Refuse a lossy verification that is not lossy."""
    if lossy not in (None, "typical") and epsilon == 1:
        raise ConfigError(
            f"--lossy {lossy} keeps no more than the model's own law at --epsilon 1; give a "
            "smaller epsilon, such as 0.8, or leave --lossy out"
        )


def _texts(prompt: str | None, file: Path | None) -> list[str]:
    if (prompt is None) == (file is None):
        raise ConfigError('give a prompt, as in attar generate my-model "Once", or --prompts FILE')
    if file is not None:
        try:
            text = sys.stdin.read() if file == Path("-") else file.read_text(encoding="utf-8")
            found = [line for line in text.splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read prompts from {str(file)!r}: {error}") from error
    else:
        found = [str(prompt)]
    if not found or not found[0].strip():
        where = f"in {str(file)!r}" if file else "there"
        raise ConfigError(f"a prompt needs at least one word; found nothing {where}")
    return found


def _decoder(
    target: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    draft: str,
    options: SpecConfig,
) -> "SpeculativeDecoder":
    from attar.checkpoint import load, load_tokenizer
    from attar.decode.drafters import PromptLookupDrafter, first_layers
    from attar.decode.speculation import made_for
    from attar.decode.speculative import SpeculativeDecoder
    from attar.runtime import place

    other: PreTrainedTokenizerBase | None = None
    made: PreTrainedModel | Drafter
    if draft == "lookup":
        made = PromptLookupDrafter()
    elif draft.startswith("layers:"):
        number = draft.removeprefix("layers:")
        if not number.isdecimal():
            raise ConfigError(f"expected layers:N with a number of layers, found {draft!r}")
        made = first_layers(target, int(number))
    else:
        made = load(draft)
        other = load_tokenizer(draft)
        place(made)
        if made_for(draft, target) is False:
            note(f"{draft} was trained for another model, so that less of it may be accepted")
    return SpeculativeDecoder(
        target, made, config=options, tokenizer=tokenizer, draft_tokenizer=other
    )


def _continue(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: list[str],
    decoder: "SpeculativeDecoder | None",
    *,
    chat: bool,
    stops: list[str],
    max_new_tokens: int,
    temperature: float,
    **sampling: Any,
) -> Iterator[str]:
    """Each text with what follows it; of a chat and of an encoder-decoder only what follows."""
    from attar.models import require_positions

    if chat and not tokenizer.chat_template:
        raise ConfigError("--chat needs a model with a chat template; this one has none")
    rendered = [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
        )
        if chat
        else text
        for text in texts
    ]
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    inputs = tokenizer(
        rendered,
        return_tensors="pt",
        padding=len(texts) > 1,
        padding_side="left",
        add_special_tokens=not chat,
        return_token_type_ids=False,
    ).to(model.device)
    options: dict[str, Any] = {"do_sample": temperature > 0, "max_new_tokens": max_new_tokens}
    if temperature:
        options |= {"temperature": temperature, "top_k": sampling["top_k"]}
        options |= {"top_p": sampling["top_p"]}
    if sampling["repetition_penalty"] != 1:
        options["repetition_penalty"] = sampling["repetition_penalty"]
    if stops:
        options |= {"stop_strings": stops, "tokenizer": tokenizer}
    ids = inputs.pop("input_ids")
    read = 1 if model.config.is_encoder_decoder else ids.shape[1]
    require_positions(model, prompt=read, new=max_new_tokens)
    runner: Any = model
    if decoder is not None:
        found = decoder.generate(ids, **inputs, **options).sequences
    else:
        found = runner.generate(ids, **inputs, **options)
    for text, row in zip(texts, found, strict=True):
        new = tokenizer.decode(row[read:], skip_special_tokens=True)
        yield str(new) if chat or model.config.is_encoder_decoder else f"{text}{new}"
