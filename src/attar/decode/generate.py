"""The one way to generate: for Python, the command line and servers."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.messages import templated
from attar.decode.captured import can_capture
from attar.decode.choosing import COLD
from attar.decode.distributions import Numbers
from attar.decode.drafters import NoDrafter, drafter_of
from attar.decode.forced import padded
from attar.decode.pair import stops_of
from attar.decode.settings import SpecConfig
from attar.decode.speculation import made_for
from attar.decode.speculative import SpeculativeDecoder
from attar.decode.stats import SpecStats
from attar.errors import ConfigError, DataError, check_types, require
from attar.evaluation.likelihood import require_fit
from attar.models import (
    computed_in,
    computing,
    require_generator,
    require_positions,
    to_computing_dtype,
)
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.runtime import place

logger = logging.getLogger(__name__)

#: one text a prompt, token by token, whatever the checkpoint's own settings of generation ask for
_PLAIN: dict[str, Any] = {
    "num_return_sequences": 1,
    "return_dict_in_generate": False,
    "num_beams": 1,
    "penalty_alpha": None,
    "dola_layers": None,
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
    "is_assistant": False,
    "force_words_ids": None,
    "token_healing": False,
    "cache_implementation": None,
    "output_scores": False,
    "output_logits": False,
    "output_attentions": False,
    "output_hidden_states": False,
}
_SURROGATES = re.compile("[\ud800-\udfff]")  # half a character: what was not UTF-8


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """How texts are continued, named as in transformers' `GenerationConfig`."""

    max_new_tokens: int | None = None
    """Maximum number of generated tokens per prompt. Unset: 128, and 10 of each of several
    drafts."""
    temperature: float | None = None
    """Sampling temperature; 0 is greedy decoding, without beams. Unset: 0. Of several drafts, which
    are ranked and not sampled, what their logits are divided by; unset: 0.06."""
    top_k: int = 0
    """Sample from this many likeliest tokens; 0: from all."""
    top_p: float = 1.0
    """Sample from the likeliest tokens that together have this probability."""
    repetition_penalty: float | None = None
    """Above 1, tokens that already occurred become less likely; 1 turns it off. Unset: the
    checkpoint's own."""
    stop: tuple[str, ...] = ()
    """Stop a text at this string; may be given several times."""
    chat: bool = False
    """Treat the prompt as a user's message and apply the model's chat template."""
    batch_size: int = 8
    """Prompts per forward pass."""
    dtype: Literal["float32"] | None = None
    """float32: compute in it, so that a draft leaves greedy texts as they are, where bfloat16 and
    float16 may round to another token. Unset: the type of the weights, or the one that this
    processor is fast in."""
    compile: bool | None = None
    """Capture the forward passes of model and draft over a static cache, as CUDA graphs on a GPU
    and with torch.compile on a CPU: the first passes take longer (on a CPU a minute for each shape)
    and later ones are faster. Texts stay the same. Unset: on a GPU only."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.heat >= 0, "temperature", self.temperature, "0 or more")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        require(self.top_k >= 0, "top_k", self.top_k, "0 or more")
        penalty = self.repetition_penalty
        require(penalty is None or penalty > 0, "repetition_penalty", penalty, "above 0")
        require(all(self.stop), "stop", self.stop, "strings that are not empty")

    @property
    def new_tokens(self) -> int:
        """`max_new_tokens`, or what it is where unset."""
        return 128 if self.max_new_tokens is None else self.max_new_tokens

    @property
    def heat(self) -> float:
        """`temperature`, or what it is where unset."""
        return self.temperature or 0.0

    def options(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """The keywords of `generate`; what is unset is left to the checkpoint."""
        drawn = self.heat >= COLD
        options: dict[str, Any] = {"do_sample": drawn, "max_new_tokens": self.new_tokens}
        if drawn:
            options |= {"temperature": self.heat, "top_k": self.top_k, "top_p": self.top_p}
        if self.repetition_penalty is not None:
            options["repetition_penalty"] = self.repetition_penalty
        if self.stop:
            options |= {"stop_strings": list(self.stop), "tokenizer": tokenizer}
        return options


class Generator:
    """A model with its tokenizer, and perhaps a draft, that continues texts.

    Args:
        model: a decoder or an encoder-decoder.
        tokenizer: the model's.
        decoder: drafts for the model, or captures its passes; None: plain decoding.

    Raises:
        CompatibilityError: the model generates no text.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        decoder: SpeculativeDecoder | None = None,
    ) -> None:
        require_generator("model", model)
        self.model, self.tokenizer, self.decoder = model, tokenizer, decoder

    @classmethod
    def load(
        cls,
        model: str | Path | PreTrainedModel,
        *,
        draft: str | Path | PreTrainedModel | None = None,
        decoding: SpecConfig = SpecConfig(),
        tokenizer: PreTrainedTokenizerBase | None = None,
        dtype: torch.dtype | None = None,
        compile: bool | None = None,
    ) -> "Generator":
        """Load a model, and a draft for it.

        Args:
            model: folder, Hub name or a model.
            draft: folder or Hub name of a small model, or a model with the tokenizer of the large
                one; `layers:N` for the first N layers of the model itself; `lookup` to propose what
                followed the last words before; `ngrams:FOLDER` to propose what followed them most
                often in the texts of a store.
            decoding: how drafts are made and verified.
            tokenizer: None: the model's own.
            dtype: of the weights while they are here; None: see `computing_dtype`.
            compile: see `GenerateConfig`.

        Raises:
            ConfigError: the draft is none of these; a type for a model that is loaded already.
            CompatibilityError: the draft cannot serve the model.
            DataError: a model cannot be read.
        """
        loaded = load_model(model, dtype=dtype)
        tokenizer = checkpoint.tokenizer_of(model, tokenizer)
        require_generator("model", loaded)
        if draft is None and not can_capture(loaded, compile=compile):
            return cls(loaded, tokenizer)
        drafter, other = (
            (None, None) if draft is None else drafter_of(loaded, draft, tokenizer=tokenizer)
        )
        decoder = SpeculativeDecoder(
            loaded,
            drafter,
            config=decoding,
            tokenizer=tokenizer,
            draft_tokenizer=other,
            compile=compile,
        )
        return cls(loaded, tokenizer, decoder=decoder)

    @property
    def stats(self) -> SpecStats | None:
        """What the last batch drafted and accepted; None without a draft."""
        if self.decoder is None or isinstance(self.decoder.draft, NoDrafter):
            return None
        return self.decoder.stats

    def write(
        self,
        prompts: Sequence[str],
        *,
        config: GenerateConfig,
        stream: Callable[[str], object] | None = None,
    ) -> Iterator[str]:
        """Each prompt with what follows it; of a chat and of an encoder-decoder only what follows.

        Args:
            prompts: texts.
            config: how they are continued.
            stream: is called with each piece of a text as it is written; one prompt only.

        Raises:
            ConfigError: there is no chat template, or the texts are longer than the model reads.
        """
        for start in range(0, len(prompts), config.batch_size):
            yield from self._batch(prompts[start : start + config.batch_size], config, stream)

    def _batch(
        self,
        prompts: Sequence[str],
        config: GenerateConfig,
        stream: Callable[[str], object] | None,
    ) -> Iterator[str]:
        model: Any = self.model
        coded = bool(model.config.is_encoder_decoder)
        ends = stops_of(model, self.tokenizer)
        if config.stop and len(prompts) > 1 and not ends:
            raise ConfigError(
                "stop with several prompts needs a model with an end-of-text token, and this one "
                "has none; give one prompt at a time, as with --batch-size 1"
            )
        before = [self._ids(self._rendered(prompt, config), config) for prompt in prompts]
        for prompt, known in zip(prompts, before, strict=True):
            require(bool(known), "a prompt", prompt, "text of at least one token")
        padding = self._padding(ends)
        ids, mask = padded(before, behind=coded, padding=padding)
        require_fit(model, self.tokenizer, ids=ids)
        read = 1 if coded else ids.shape[1]
        require_positions(model, prompt=read, new=config.new_tokens)
        options = {"attention_mask": mask.long().to(model.device), "pad_token_id": padding}
        options |= _PLAIN | {"tokenizer": self.tokenizer} | config.options(self.tokenizer)
        ids = ids.to(model.device)

        def text_of(row: Sequence[int], n: int = 0) -> str:
            """The whole text, of the new ids of a row."""
            new = _until(list(row), ends)
            text = self._decoded(new) if coded else self._added(before[n], new)
            return text if config.chat or coded else f"{prompts[n]}{text}"

        if stream is not None:
            options["streamer"] = _Pieces(text_of, stream)
        try:
            if self.decoder is not None:
                rows = self.decoder.generate(ids, **options).sequences
            else:
                rows = model.generate(ids, logits_processor=[Numbers(model)], **options)
        except ValueError as error:  # what is unset is the checkpoint's own
            raise ConfigError(
                f"the model cannot generate with these settings: {error}; correct the options, or "
                "the generation_config.json of the checkpoint"
            ) from error
        for n, row in enumerate(rows.tolist()):
            yield text_of(row[read:], n)

    def _ids(self, text: str, config: GenerateConfig) -> list[int]:
        ids: Any = self.tokenizer(text, add_special_tokens=not config.chat)["input_ids"]
        return list(ids)

    def _padding(self, ends: Sequence[int]) -> int:
        """An id that the model has, which stands where a row has no token."""
        size = self.model.config.get_text_config(decoder=True).vocab_size
        known = (self.tokenizer.pad_token_id, *ends)
        return next((one for one in known if isinstance(one, int) and one < size), 0)

    def _decoded(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _added(self, known: list[int], new: list[int]) -> str:
        """What new ids add to a text: by themselves they may lose the space before a word."""
        start, whole = self._decoded(known), self._decoded([*known, *new])
        return whole[len(start) :] if whole.startswith(start) else self._decoded(new)

    def _rendered(self, prompt: str, config: GenerateConfig) -> str:
        return rendered(prompt, self.tokenizer) if config.chat else prompt


def load_model(
    model: str | Path | PreTrainedModel, *, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """A model that is to write, on the device at hand and in the type that it is computed in; one
    that is in memory stays in its own type.

    Args:
        model: folder, Hub name or a model.
        dtype: of the weights; None: see `computing_dtype`.

    Raises:
        ConfigError: a type for a model that is in memory.
        DataError: the model cannot be read.
    """
    if dtype is not None and isinstance(model, PreTrainedModel):
        raise ConfigError(
            "dtype is for a model that is given by its name; this one is in memory: convert it "
            "with model.to(dtype), and leave dtype out"
        )
    loaded = checkpoint.model_of(model, dtype=dtype)
    place(loaded)
    if loaded is not model:  # only written texts leave it
        to_computing_dtype(loaded)
    return loaded


def rendered(prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A user's message in the chat template of a model, up to where it answers.

    Raises:
        ConfigError: there is no template, or it refuses a user's message alone.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            "chat needs a model with a chat template; this one has none, so leave chat out, or "
            "give a chat model"
        )
    try:
        return templated([{"role": "user", "content": prompt}], tokenizer, ask=True)
    except DataError as error:
        raise ConfigError(
            f"{error}; correct the template, or leave chat out and write the prompt as the model "
            "expects it"
        ) from error


class _Pieces:
    """A streamer, as transformers calls it: passes on what each token adds to a text.

    Args:
        text_of: the text of the new ids.
        stream: takes the pieces.
    """

    def __init__(
        self, text_of: Callable[[Sequence[int]], str], stream: Callable[[str], object]
    ) -> None:
        self.text_of, self.stream = text_of, stream
        self.ids: list[int] | None = None
        self.said = ""

    def put(self, value: torch.Tensor) -> None:
        """Take new ids; the prompt comes first."""
        self.ids = [] if self.ids is None else [*self.ids, *value.reshape(-1).tolist()]
        text = self.text_of(self.ids)
        if not text.endswith("\ufffd"):  # else a letter is not whole yet
            self._say(text)

    def end(self) -> None:
        """Pass on what is left."""
        self._say(self.text_of(self.ids or []))

    def _say(self, text: str) -> None:
        if text.startswith(self.said) and text != self.said:
            self.stream(text[len(self.said) :])
            self.said = text


def _until(ids: list[int], ends: Sequence[int]) -> list[int]:
    """Ids up to the first that ends a text, itself among them; behind it there is padding."""
    last = next((i for i, one in enumerate(ids) if one in ends), len(ids))
    return ids[: last + 1]


@takes_recipe("generate")
def generate(
    model: str | Path | PreTrainedModel,
    prompts: str | Sequence[str],
    *,
    draft: str | Path | PreTrainedModel | None = None,
    config: GenerateConfig | str = GenerateConfig(),
    decoding: SpecConfig = SpecConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    each: Callable[[str, SpecStats | None], None] | None = None,
    stream: Callable[[str], object] | None = None,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Continue texts. A draft makes it faster and keeps the output: greedy texts stay the same,
    sampled texts keep their distribution, up to rounding in bfloat16 and float16.

    Args:
        model: folder, Hub name or a model.
        prompts: a text, or several.
        draft: see `Generator.load`.
        config: how texts are continued; or the name or path of a recipe.
        decoding: how drafts are made and verified; only with a draft. Its seed also seeds plain
            sampling.
        tokenizer: None: the model's own.
        each: called with each text as it is finished, and what drafting did in its batch.
        stream: called with each piece of the text as it is written; with one prompt only.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: `details["texts"]` holds each prompt with what follows it, `details["draft"]`
        what was drafted and accepted, one entry a batch.

    Raises:
        ConfigError: there is no prompt, options do not fit together, or texts are too long.
        CompatibilityError: the draft cannot serve the model.
        DataError: a model cannot be read.
    """
    config, recipe = configured(config, GenerateConfig, recipe=recipe)
    prompts = prompts_of(prompts)
    require_lossy(decoding)
    if stream is not None and len(prompts) > 1:
        raise ConfigError(f"stream takes one prompt at a time; found {len(prompts)}")
    if draft is None and decoding != SpecConfig(seed=decoding.seed):
        raise ConfigError(
            "options of drafting need a draft: a folder, layers:N, lookup or ngrams:FOLDER"
        )
    name = None if draft is None else checkpoint.name_of(draft)
    settings = {"model": checkpoint.name_of(model), "draft": name, **asdict(config)}
    settings |= {"decoding": asdict(decoding)}
    with artefact(
        output_dir, command="generate", settings=settings, recipe=recipe, seed=decoding.seed
    ) as work:
        dtype = None if config.dtype is None else getattr(torch, config.dtype)
        writer = Generator.load(
            model,
            draft=draft,
            decoding=decoding,
            tokenizer=tokenizer,
            dtype=dtype,
            compile=config.compile,
        )
        if name and made_for(name, writer.model) is False:
            logger.warning(
                "%s was trained for another model: its acceptance rate may be lower", name
            )
        if decoding.seed is not None:
            torch.manual_seed(decoding.seed)
        texts: list[str] = []
        drafted: list[dict[str, Any]] = []
        with ExitStack() as stack:
            for own in (model, draft):  # loaded ones stay in the type they are computed in
                if isinstance(own, PreTrainedModel):
                    stack.enter_context(computing(own))
            for text in writer.write(prompts, config=config, stream=stream):
                texts.append(text)
                last = len(texts) % config.batch_size == 0 or len(texts) == len(prompts)
                stats = writer.stats if last else None
                if stats is not None:
                    drafted.append(asdict(stats))
                if each is not None:
                    each(text, stats)
        computed = computed_in(writer.model)
        work.run.details = {"texts": texts, "draft": drafted, "computed_in": computed}
    return work.run


def prompts_of(prompts: str | Sequence[str]) -> list[str]:
    """The prompts, of which there is one at least.

    Raises:
        ConfigError: one is no text.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts or [""])
    for prompt in prompts:
        fine = isinstance(prompt, str) and bool(prompt.strip()) and not _SURROGATES.search(prompt)
        require(fine, "a prompt", prompt, "text of at least one word")
    return prompts


def require_lossy(decoding: SpecConfig) -> None:
    """Refuse a lossy verification that is not lossy.

    Raises:
        ConfigError: it is.
    """
    if decoding.lossy not in (None, "typical") and decoding.epsilon == 1:
        raise ConfigError(
            f"lossy {decoding.lossy} accepts no more than lossless verification at "
            "epsilon 1; give a smaller epsilon, such as 0.8, or leave lossy out"
        )
