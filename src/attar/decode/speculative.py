"""Speculative decoding: a draft proposes several tokens, the target reads them in one pass, and
what is accepted has exactly the target's distribution, but for the rounding of its logits.

Leviathan, Kalman, Matias: *Fast Inference from Transformers via Speculative Decoding*, 2023, arXiv
2211.17192; Chen et al., 2023, arXiv 2302.01318. Here for batches whose rows accept different
numbers of tokens.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.stopping_criteria import StoppingCriteriaList, StopStringCriteria
from transformers.generation.utils import (
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
)

from attar.compatibility import check_pair
from attar.decode.blocks import BlockLoop, Call
from attar.decode.captured import passes_of
from attar.decode.distributions import Warp
from attar.decode.draft_length import Constant
from attar.decode.draft_vocabulary import shortened
from attar.decode.drafters import Drafter, ModelDrafter, NoDrafter
from attar.decode.sampling import read_source
from attar.decode.settings import SpecConfig
from attar.decode.static import Passes
from attar.decode.stats import SpecStats
from attar.decode.stopping import Stops
from attar.decode.vocabularies import translation
from attar.errors import ConfigError
from attar.models import require_positions, rotation_changes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generated:
    """Texts and what they cost.

    Attributes:
        sequences: `(B, T)` token ids with their prompts, padded behind.
        stats: of this call.
    """

    sequences: Tensor
    stats: SpecStats


class SpeculativeDecoder:
    """Generates as `target.generate` does, and faster where the draft agrees.

    Of tokens that are equally likely but for rounding (common in bfloat16), it may take another.
    Where the rotary embeddings of the target may change within a text (`longrope`, `dynamic`), it
    generates plainly, and warns.

    It is a function for transformers' `custom_generate`, so that `target.generate(**inputs,
    custom_generate=decoder, ...)` takes all of its options.

    Args:
        target: the model that writes, in evaluation mode.
        draft: a small model of the same vocabulary, or another drafter; None: plain decoding.
        config: how to draft.
        tokenizer: the target's; with `draft_tokenizer`, if the two may differ.
        draft_tokenizer: the draft's.
        compile: see `GenerateConfig`.

    Raises:
        CompatibilityError: the two do not fit together.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        draft: PreTrainedModel | Drafter | None,
        *,
        config: SpecConfig = SpecConfig(),
        tokenizer: PreTrainedTokenizerBase | None = None,
        draft_tokenizer: PreTrainedTokenizerBase | None = None,
        compile: bool | None = None,
    ) -> None:
        self.target, self.config, self._compile = target, config, compile
        self.draft: PreTrainedModel | Drafter = NoDrafter() if draft is None else draft
        self.stats = SpecStats()
        self._length = Constant(0) if draft is None else config.draft_length()
        #: of target and draft, each on a device; kept from call to call
        self._passes: dict[tuple[str, str], Passes | None] = {}
        self._texts = 0  # that were begun, over all calls
        self._size = target.config.get_text_config(decoder=True).vocab_size
        if isinstance(draft, PreTrainedModel):
            check_pair(target, draft)
            self.draft = shortened(draft, config.draft_vocabulary)
        self._translation = None
        if tokenizer is not None and draft_tokenizer is not None:
            self._translation = translation(tokenizer, draft_tokenizer)

    def generate(
        self,
        inputs: Tensor,
        *,
        generation_config: GenerationConfig | None = None,
        streamer: Any = None,
        stop_strings: str | list[str] | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **options: Any,
    ) -> Generated:
        """`target.generate` with this decoder.

        Args:
            inputs: prompts, `(B, T)`, padded in front if they differ in length.
            generation_config: None: the target's own.
            streamer: is given the tokens as they come; one prompt only.
            stop_strings: end a text; with `tokenizer`.
            tokenizer: the target's.
            options: as of `generate`, such as `attention_mask` and `max_new_tokens`.

        Raises:
            ConfigError: an option that speculative decoding does not have.
            CompatibilityError: a processor of logits that keeps a state, or a model that does.
        """
        _require_no_other_way(options, _OTHER_ARGUMENTS)
        criteria = StoppingCriteriaList(options.pop("stopping_criteria", None) or [])
        settings: Any = generation_config or self.target.generation_config
        stop_strings = stop_strings or settings.stop_strings
        if stop_strings is not None:  # transformers 5.23 does not pass the tokenizer on
            if tokenizer is None:
                raise ConfigError("stop_strings need the tokenizer: give it as tokenizer, too")
            criteria.append(StopStringCriteria(tokenizer, stop_strings))
            options["stop_strings"] = None
        if streamer is not None:
            options["text_streamer"] = streamer
        model: Any = self.target
        output = model.generate(
            inputs,
            generation_config=generation_config,
            stopping_criteria=criteria,
            custom_generate=self,
            **options,
        )
        sequences = output if isinstance(output, Tensor) else output.sequences
        return Generated(sequences, self.stats)

    @torch.no_grad()
    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        *,
        logits_processor: Any = (),
        stopping_criteria: Any = (),
        generation_config: GenerationConfig,
        text_streamer: Any = None,
        synced_gpus: bool = False,
        inputs_tensor: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """What `generate` calls, with all that it prepared.

        transformers 5.23 keeps `streamer` from functions like this one; give it as
        `text_streamer`.
        """
        began = time.perf_counter()
        if model is not self.target:
            raise ConfigError("this decoder was made for another target; make one for this model")
        coded = bool(model.config.is_encoder_decoder)
        mask = None if coded else inputs.get("attention_mask")
        _require_plain(inputs, generation_config)
        _require_padding_in_front(mask)
        _require_counted(inputs.get("position_ids"), input_ids=input_ids, mask=mask)
        if text_streamer is not None:
            if len(input_ids) > 1:
                raise ConfigError(f"a streamer takes one text at a time; found {len(input_ids)}")
            text_streamer.put(input_ids.cpu())
        stops = Stops.of(stopping_criteria, device=input_ids.device)
        if self._goes_plainly(logits_processor, stops=stops, prompt=input_ids.shape[1]):
            self.stats = SpecStats()
            plain: Any = model
            return plain._sample(
                input_ids,
                logits_processor=logits_processor,
                stopping_criteria=stopping_criteria,
                generation_config=generation_config,
                synced_gpus=synced_gpus,
                streamer=text_streamer,
                **inputs,
            )
        run = self.begin(
            input_ids,
            warp=Warp.of(logits_processor, do_sample=bool(generation_config.do_sample)),
            stops=stops,
            mask=mask,
            inputs=_of_encoder(inputs) if coded else {},
            draft_inputs=self._read_by_draft(inputs, inputs_tensor, rows=len(input_ids)),
        )
        for new in run.blocks():
            if text_streamer is not None:
                text_streamer.put(torch.tensor(new, device="cpu"))
        if text_streamer is not None:
            text_streamer.end()
        run.stats.seconds = time.perf_counter() - began
        self.stats = run.stats
        padding = generation_config._pad_token_tensor  # pyright: ignore[reportAttributeAccessIssue]
        sequences = run.sequences(0 if padding is None else int(padding)).to(input_ids.device)
        if not generation_config.return_dict_in_generate:
            return sequences
        kind = GenerateEncoderDecoderOutput if coded else GenerateDecoderOnlyOutput
        return kind(sequences=sequences)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def _goes_plainly(self, processors: Any, *, stops: Stops, prompt: int) -> bool:
        """Whether nothing is drafted for prompts of this length, as the rotary embeddings may
        change, or as there is no draft and processors of logits keep a state.

        Raises:
            ConfigError: the texts may be longer than the target reads.
        """
        require_positions(self.target, prompt=prompt, new=stops.length - prompt)
        if rotation_changes(self.target, prompt=prompt, length=stops.length):
            logger.warning(
                "nothing is drafted: the rotary embeddings of %s may change within a text of %d "
                "tokens; lower max_new_tokens to draft",
                self.target.config.model_type,
                stops.length,
            )
            return True
        return isinstance(self.draft, NoDrafter) and Warp.keeps_state(processors) is not None

    def begin(
        self,
        input_ids: Tensor,
        *,
        warp: Warp,
        stops: Stops,
        seed: int | None = None,
        mask: Tensor | None = None,
        inputs: Mapping[str, Any] = MappingProxyType({}),
        draft_inputs: Mapping[str, Any] = MappingProxyType({}),
    ) -> BlockLoop:
        """Texts that their caller writes block by block, one batch at a time.

        Args:
            seed: of the first text; None: that of the configuration.

        The others are those of `Call`.
        """
        return BlockLoop(
            Call(
                target=self.target,
                drafter=self._drafter(warp, stops),
                config=self.config,
                length=self._length,
                input_ids=input_ids,
                mask=mask,
                inputs=inputs,
                draft_inputs=draft_inputs,
                warp=warp,
                stops=stops,
                generators=self._generators(len(input_ids), seed=seed),
                passes=self._passes_of("target", self.target),
            )
        )

    def _generators(self, rows: int, *, seed: int | None) -> list[torch.Generator]:
        if seed is not None:
            first = seed
        elif self.config.seed is None:
            first = int(torch.randint(2**31, (1,), device="cpu"))
        else:
            first = self.config.seed + self._texts
        self._texts += rows
        return [torch.Generator().manual_seed(first + row) for row in range(rows)]

    def _drafter(self, warp: Warp, stops: Stops) -> Drafter:
        """The drafter for a call."""
        if not isinstance(self.draft, PreTrainedModel):
            return self.draft
        return ModelDrafter(
            self.draft,
            warp=warp.at(self.config.draft_temperature),
            size=self._size,
            stops=sorted(stops.tokens),
            translation=self._translation,
            passes=self._passes_of("draft", self.draft),
        )

    def _passes_of(self, name: str, model: PreTrainedModel) -> Passes | None:
        key = name, model.device.type
        if key not in self._passes:
            self._passes[key] = passes_of(model, compile=self._compile)
        return self._passes[key]

    def _read_by_draft(
        self, inputs: Mapping[str, Any], source: Tensor | None, *, rows: int
    ) -> dict[str, Any]:
        """What the passes of a draft model are given: its own reading of the source."""
        draft = self.draft
        coded = self.target.config.is_encoder_decoder
        if not coded or source is None or not isinstance(draft, PreTrainedModel):
            return {}
        source = source.repeat_interleave(rows // len(source), 0)  # several texts from one source
        return read_source(draft, source, mask=inputs.get("attention_mask"))


#: what `generate` prepares besides token ids, and what is not needed here
_PREPARED = (
    "attention_mask",
    "position_ids",
    "cache_position",
    "token_type_ids",
    "decoder_attention_mask",
)
_EXTRA = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
#: what would make `generate` choose tokens in another way, or draft by itself
_OTHER_WAYS = ("penalty_alpha", "dola_layers", "prompt_lookup_num_tokens", "assistant_early_exit")
_OTHER_ARGUMENTS = ("custom_generate", "assistant_model", "assistant_tokenizer")


def _require_plain(inputs: Mapping[str, Any], config: GenerationConfig) -> None:
    """Refuse inputs besides token ids, outputs besides texts, and other ways of decoding.

    Raises:
        ConfigError: with the first of them.
    """
    if (config.num_beams or 1) > 1:
        raise ConfigError(
            f"speculative decoding is greedy or samples; found num_beams={config.num_beams}, so "
            "leave beams out"
        )
    _require_no_other_way(config.to_dict(), _OTHER_WAYS)
    if config.cache_implementation == "quantized":
        raise ConfigError(
            "speculative decoding keeps keys and values as they are, but cache_implementation is "
            "quantized, which changes the text; leave it out, or use plain generation"
        )
    before = inputs.get("past_key_values")
    if before is not None and before.get_seq_length():
        raise ConfigError(
            "speculative decoding reads a text from its beginning, but past_key_values holds "
            f"{before.get_seq_length()} tokens; leave it out, or use plain generation"
        )
    starts = inputs.get("decoder_attention_mask")
    if starts is not None and not bool(starts.all()):
        raise ConfigError(
            "speculative decoding reads the whole beginning of a decoder's text, but "
            "decoder_attention_mask leaves tokens out; leave it out, or use plain generation"
        )
    types = inputs.get("token_type_ids")
    if types is not None and bool(types.any()):
        raise ConfigError(
            "speculative decoding reads token ids alone, but token_type_ids has types other than "
            "0; leave it out, or use plain generation"
        )
    tensors = [n for n, v in inputs.items() if isinstance(v, Tensor) and n not in _PREPARED]
    if tensors:
        raise ConfigError(
            f"speculative decoding reads token ids alone, but found {tensors[0]} too; leave it "
            "out, or use plain generation"
        )
    if outputs := [name for name in _EXTRA if getattr(config, name, None)]:
        raise ConfigError(
            f"speculative decoding returns texts alone, but {outputs[0]} is set; leave it out, "
            "or use plain generation"
        )


def _require_no_other_way(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse options that ask for another way of decoding.

    Raises:
        ConfigError: with the first of them.
    """
    if found := [name for name in names if given.get(name) is not None]:
        raise ConfigError(
            f"speculative decoding is greedy or samples, and has its own options for "
            f"drafting; found {found[0]}={given[found[0]]!r}, so leave it out, or use plain "
            "generation"
        )


def _require_padding_in_front(mask: Tensor | None) -> None:
    """Refuse prompts with padding behind or among their tokens; the mask is `(B, T)`.

    Raises:
        ConfigError: there is such a prompt.
    """
    if mask is not None and bool((mask.diff(dim=1) < 0).any()):
        raise ConfigError(
            "prompts must be padded on the left, but one has padding after its first token; "
            'set padding_side="left" in the tokenizer'
        )


def _require_counted(positions: Tensor | None, *, input_ids: Tensor, mask: Tensor | None) -> None:
    """Refuse positions, `(..., T)`, other than those that count the tokens of each prompt.

    Raises:
        ConfigError: there are.
    """
    if positions is None:
        return
    known = torch.ones_like(input_ids) if mask is None else mask
    counted = known.long().cumsum(-1) - 1
    alike = positions.shape[-1] == counted.shape[-1]
    if not alike or bool(((positions != counted) & (known != 0)).any()):
        raise ConfigError(
            "speculative decoding counts positions from the first token of each prompt, but "
            "position_ids has others; leave it out, or use plain generation"
        )


def _of_encoder(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What every pass of an encoder-decoder is given."""
    names = ("encoder_outputs", "attention_mask")
    return {name: inputs[name] for name in names if inputs.get(name) is not None}
