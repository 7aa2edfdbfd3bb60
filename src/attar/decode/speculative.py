"""Speculative decoding: a draft proposes several tokens, the target reads them in one pass, and
what is accepted has exactly the target's distribution.

Leviathan, Kalman, Matias: *Fast Inference from Transformers via Speculative Decoding*, 2023, arXiv
2211.17192; Chen et al., 2023, arXiv 2302.01318. Here for batches whose rows accept different
numbers of tokens.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
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
from attar.decode.cache import CachedModel, cached
from attar.decode.distributions import Uniforms, Warp
from attar.decode.draft_length import Block
from attar.decode.drafters import Drafter, ModelDrafter, Proposal
from attar.decode.sampling import read_source
from attar.decode.settings import SpecConfig
from attar.decode.stats import SpecStats, synchronize
from attar.decode.stopping import Stops
from attar.decode.verification import Drafts, LossyRule, verify, verify_greedy
from attar.decode.vocabularies import translation
from attar.errors import ConfigError
from attar.models import require_positions


@dataclass(frozen=True)
class Generated:
    """Texts and what they cost.

    Attributes:
        sequences: `(B, T)` token ids with their prompts, padded behind.
        stats: of this call.
    """

    sequences: Tensor
    stats: SpecStats


@dataclass
class _Row:
    """One text."""

    number: int
    padding: list[int]
    tokens: list[int]

    @property
    def text(self) -> list[int]:
        """As plain generation has it, padding in front."""
        return [*self.padding, *self.tokens]

    def __len__(self) -> int:
        return len(self.padding) + len(self.tokens)


class SpeculativeDecoder:
    """Generates as `target.generate` does, and faster where the draft agrees.

    It is a function for transformers' `custom_generate`, so that `target.generate(**inputs,
    custom_generate=decoder, ...)` takes all of its options.

    Args:
        target: the model that writes, in evaluation mode.
        draft: a small model of the same vocabulary, or another drafter.
        config: how to draft.
        tokenizer: the target's; with `draft_tokenizer`, if the two may differ.
        draft_tokenizer: the draft's.

    Raises:
        CompatibilityError: the two do not fit together.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        draft: PreTrainedModel | Drafter,
        *,
        config: SpecConfig = SpecConfig(),
        tokenizer: PreTrainedTokenizerBase | None = None,
        draft_tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self.target, self.draft, self.config = target, draft, config
        self.stats = SpecStats()
        self._length = config.draft_length()
        self._texts = 0  # that were begun, over all calls
        self._size = target.config.get_text_config(decoder=True).vocab_size
        if isinstance(draft, PreTrainedModel):
            check_pair(target, draft)
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
        criteria = StoppingCriteriaList(options.pop("stopping_criteria", None) or [])
        if stop_strings is not None:  # transformers 5.23 does not hand on the tokenizer
            if tokenizer is None:
                raise ConfigError("stop_strings are found by their tokens: give the tokenizer too")
            criteria.append(StopStringCriteria(tokenizer, stop_strings))
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
        if (generation_config.num_beams or 1) > 1:
            raise ConfigError(
                f"speculative decoding draws or takes the likeliest token; found "
                f"num_beams={generation_config.num_beams}, so leave beams out"
            )
        if text_streamer is not None:
            if len(input_ids) > 1:
                raise ConfigError(f"a streamer takes one text at a time; found {len(input_ids)}")
            text_streamer.put(input_ids.cpu())
        _require_plain(inputs, generation_config)
        stops = Stops.of(stopping_criteria)
        prompt = input_ids.shape[1]
        require_positions(model, prompt=prompt, new=stops.length - prompt)
        run = _Run(
            self,
            input_ids,
            warp=Warp.of(
                logits_processor,
                do_sample=bool(generation_config.do_sample),
            ),
            stops=stops,
            mask=inputs.get("attention_mask"),
            encoded=inputs if model.config.is_encoder_decoder else None,
            source=inputs_tensor,
            generators=self._generators(len(input_ids)),
        )
        for new in run.blocks():
            if text_streamer is not None:
                text_streamer.put(torch.tensor(new))
        if text_streamer is not None:
            text_streamer.end()
        run.stats.seconds = time.perf_counter() - began
        self.stats = run.stats
        padding = generation_config._pad_token_tensor  # pyright: ignore[reportAttributeAccessIssue]
        sequences = run.sequences(0 if padding is None else int(padding)).to(input_ids.device)
        if not generation_config.return_dict_in_generate:
            return sequences
        kind = (
            GenerateEncoderDecoderOutput
            if model.config.is_encoder_decoder
            else GenerateDecoderOnlyOutput
        )
        return kind(sequences=sequences)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def _generators(self, rows: int) -> list[torch.Generator]:
        if self.config.seed is None:
            first = int(torch.randint(2**31, (1,)))
        else:
            first = self.config.seed + self._texts
        self._texts += rows
        return [torch.Generator().manual_seed(first + row) for row in range(rows)]

    def drafter(self, warp: Warp, stops: Stops) -> Drafter:
        """The drafter for a call."""
        if not isinstance(self.draft, PreTrainedModel):
            return self.draft
        return ModelDrafter(
            self.draft,
            warp=warp.at(self.config.draft_temperature),
            size=self._size,
            stops=sorted(stops.tokens),
            translation=self._translation,
        )


class _Run:
    """One call: the rows that are not done, and both models' caches."""

    def __init__(
        self,
        decoder: SpeculativeDecoder,
        input_ids: Tensor,
        *,
        warp: Warp,
        stops: Stops,
        mask: Tensor | None,
        encoded: dict[str, Any] | None,
        source: Tensor | None,
        generators: list[torch.Generator],
    ) -> None:
        self._decoder, self._warp, self._stops = decoder, warp, stops
        self._rows = _rows(input_ids, mask if encoded is None else None)
        self._all = list(self._rows)
        self._uniforms = Uniforms(generators)
        self._length = decoder._length
        self._length.start(len(self._rows))
        self._reader: CachedModel = cached(
            decoder.target, len(self._rows), **_of_encoder(encoded or {})
        )
        self._drafter = decoder.drafter(warp, stops)
        self._drafter.start(
            [row.padding for row in self._rows], **self._draft_inputs(encoded, source)
        )
        self._rule = decoder.config.rule()
        self.stats = SpecStats(lossy=decoder.config.lossy)

    def _draft_inputs(
        self, encoded: dict[str, Any] | None, source: Tensor | None
    ) -> dict[str, Any]:
        """What the passes of a draft model are given: its own reading of the source."""
        draft: Any = self._decoder.draft
        if encoded is None or source is None or not isinstance(draft, PreTrainedModel):
            return {}
        times = len(self._rows) // len(source)  # several texts from one source
        source = source.repeat_interleave(times, 0)
        return read_source(draft, source, encoded.get("attention_mask"))

    def blocks(self) -> Any:
        """Run block after block; the new tokens of the first row that is left."""
        while self._rows:
            yield self._block()

    def sequences(self, padding: int) -> Tensor:
        """All texts, `(B, T)`."""
        texts = [row.text for row in self._all]
        longest = max(map(len, texts))
        return torch.tensor([text + [padding] * (longest - len(text)) for text in texts])

    def _block(self) -> list[int]:
        """One step of speculative decoding (Leviathan et al., algorithm 1), for all rows that are
        not done; the new tokens of the first."""
        start = time.perf_counter()
        texts = [row.tokens for row in self._rows]
        room = [self._stops.length - len(row) - 1 for row in self._rows]  # one is the target's
        counts = [max(0, min(n, r)) for n, r in zip(self._length.counts(), room, strict=True)]
        first = not self.stats.blocks
        drafting = time.perf_counter()
        # 1. sample guesses from the draft q, token after token
        if any(counts):
            proposal = self._drafter.propose(
                texts, counts, uniforms=self._uniforms, keep_drafting=self._length.keep_drafting
            )
        else:
            proposal = Proposal([[] for _ in texts], None, 0)
        drafted = proposal.tokens
        verifying = time.perf_counter()
        # 2. run the target p on all of them in one pass
        long = [text + new for text, new in zip(texts, drafted, strict=True)]
        logits = self._reader.score(long, counts=[len(new) + 1 for new in drafted])
        synchronize(logits)
        verified = time.perf_counter()
        # 3. how many guesses are accepted; 4. the adjusted distribution; 5. one token from it
        kept, token = self._verify(logits, proposal)
        # return the accepted guesses and that token, cut where the text ends
        written, first_new, left = 0, [], []
        for r, row in enumerate(self._rows):
            new = [*drafted[r][: kept[r]], token[r]]
            end = self._stops.first(row.text, new)
            row.tokens += new[:end]
            written += len(new[:end])
            first_new = first_new or new[:end]
            if end is None and not self._stops.late(row.text):
                left.append(r)
        self._reader.keep([len(row.tokens) - 1 for row in self._rows])
        self._drafter.keep([len(row.tokens) - 1 for row in self._rows])
        drafting, verifying = verifying - drafting, verified - verifying
        block = Block(
            drafted=[len(new) for new in drafted],
            kept=kept,
            passes=proposal.passes,
            draft_seconds=drafting,
            verify_seconds=verifying,
            other_seconds=time.perf_counter() - start - drafting - verifying,
            first=first,
        )
        self._length.learn(block)
        self.stats.count(block, written=written)
        if len(left) < len(self._rows):
            self._rows = [self._rows[r] for r in left]
            if left:
                for part in (self._reader, self._drafter, self._uniforms, self._length):
                    part.select(left)
        return first_new

    def _verify(self, logits: Tensor, proposal: Proposal) -> tuple[list[int], list[int]]:
        """How many drafted tokens of each row are accepted, and the token behind them."""
        device = logits.device
        lengths = [len(new) for new in proposal.tokens]
        most = max(lengths)
        tokens = torch.zeros(len(lengths), most, dtype=torch.long)
        for r, new in enumerate(proposal.tokens):
            tokens[r, : len(new)] = torch.tensor(new, dtype=torch.long)
        tokens, counts = tokens.to(device), torch.tensor(lengths, device=device)
        first = [len(row) + n - most for row, n in zip(self._rows, lengths, strict=True)]

        def prefix(row: int, position: int) -> Tensor:  # few processors ask for it
            return torch.tensor([[*self._rows[row].text, *proposal.tokens[row]][:position]])

        numbers = [row.number for row in self._rows]
        scores = self._warp(logits, prefix, first=first, numbers=numbers)
        if most and min(lengths) < most:  # rows are aligned at their ends: align them at the front
            index = torch.arange(most + 1, device=device) + (most - counts)[:, None]
            index = index.clamp_max(most)[..., None].expand(-1, -1, scores.shape[2])
            scores = scores.gather(1, index)
        if self._warp.greedy:
            best = scores.argmax(-1)
            if isinstance(self._rule, LossyRule):
                drafts = Drafts(tokens, counts, scores.softmax(-1), None)
                best = torch.cat(
                    [torch.where(self._rule.greedy(drafts), tokens, best[:, :-1]), best[:, -1:]], 1
                )
            kept, token = verify_greedy(tokens, lengths=counts, best=best)
            return kept.tolist(), token.tolist()
        taken = self._uniforms.take([n + 1 for n in lengths])
        uniforms = torch.zeros(len(lengths), most + 1)
        uniforms[:, :most] = taken[:, :most]
        uniforms[:, -1] = taken[torch.arange(len(lengths)), torch.tensor(lengths)]
        drafts = Drafts(tokens, counts, scores.softmax(-1), proposal.q)
        kept, token = verify(drafts, uniforms.to(device), rule=self._rule)
        return kept.tolist(), token.tolist()


#: what `generate` prepares beside token ids, and what is not needed here
_PREPARED = (
    "attention_mask",
    "position_ids",
    "cache_position",
    "token_type_ids",
    "decoder_attention_mask",
)
_EXTRA = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


def _require_plain(inputs: Mapping[str, Any], config: GenerationConfig) -> None:
    """Refuse inputs beside token ids, and outputs beside texts.

    Raises:
        ConfigError: with the first of them.
    """
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


def _rows(input_ids: Tensor, mask: Tensor | None) -> list[_Row]:
    """The texts without their padding, which is in front."""
    texts = input_ids.tolist()
    pads = [0] * len(texts) if mask is None else (mask == 0).sum(1).tolist()
    return [
        _Row(number, text[:pad], text[pad:])
        for number, (text, pad) in enumerate(zip(texts, pads, strict=True))
    ]


def _of_encoder(inputs: dict[str, Any]) -> dict[str, Any]:
    """What every pass of an encoder-decoder is given."""
    names = ("encoder_outputs", "attention_mask")
    return {name: inputs[name] for name in names if inputs.get(name) is not None}
