"""The blocks of speculative decoding, for batches whose rows accept different numbers of tokens.

Leviathan, Kalman, Matias: *Fast Inference from Transformers via Speculative Decoding*, 2023, arXiv
2211.17192, algorithm 1.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.decode.cache import CachedModel
from attar.decode.distributions import Uniforms, Warp, require_numbers
from attar.decode.draft_length import Block, DraftLength
from attar.decode.drafters import Drafter, Proposal
from attar.decode.settings import SpecConfig
from attar.decode.static import Passes, reader_of
from attar.decode.stats import SpecStats
from attar.decode.stopping import Stops
from attar.decode.verification import Drafts, LossyRule, verify, verify_greedy
from attar.runtime import synchronize


@dataclass(frozen=True)
class Call:
    """What one call of `generate` comes with.

    Attributes:
        target: in evaluation mode.
        drafter: proposes tokens.
        config: how they are verified.
        length: how many are drafted.
        input_ids: the prompts, (B, T), padded in front; of an encoder-decoder, start tokens.
        mask: of the prompts, (B, T), zero where there is padding; None: nowhere.
        inputs: what every pass of the target is given besides tokens.
        draft_inputs: what every pass of a draft model is given besides tokens.
        warp: what is done to the target's logits before a token is drawn.
        stops: where texts end.
        generators: of the random numbers of each row.
        passes: of the target on fixed shapes; None: its own forward passes.
    """

    target: PreTrainedModel
    drafter: Drafter
    config: SpecConfig
    length: DraftLength
    input_ids: Tensor
    mask: Tensor | None
    inputs: Mapping[str, Any]
    draft_inputs: Mapping[str, Any]
    warp: Warp
    stops: Stops
    generators: Sequence[torch.Generator]
    passes: Passes | None = None


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


class BlockLoop:
    """One call: the rows that are not done, and both models' caches."""

    def __init__(self, call: Call) -> None:
        self._warp, self._stops, self._rule = call.warp, call.stops, call.config.rule()
        self._target = call.target
        self._rows = _rows(call.input_ids, call.mask)
        self._all = list(self._rows)
        self._uniforms = Uniforms(call.generators)
        self._length = call.length
        self._length.start(len(self._rows))
        self._reader: CachedModel = reader_of(
            call.target, len(self._rows), passes=call.passes, **call.inputs
        )
        self._drafter = call.drafter
        self._drafter.start([row.padding for row in self._rows], **call.draft_inputs)
        self.stats = SpecStats(lossy=call.config.lossy)

    def blocks(self) -> Iterator[list[int]]:
        """Run block after block; the new tokens of the first row that is left."""
        while self._rows:
            yield self._block()

    def sequences(self, padding: int) -> Tensor:
        """All texts, `(B, T)`."""
        texts = [row.text for row in self._all]
        longest = max(map(len, texts))
        filled = [text + [padding] * (longest - len(text)) for text in texts]
        return torch.tensor(filled, device="cpu")

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
        require_numbers(logits, self._target)
        synchronize(logits.device)
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
        filled = [[*new, *[0] * (most - len(new))] for new in proposal.tokens]
        tokens = torch.tensor(filled, dtype=torch.long, device=device)
        counts = torch.tensor(lengths, device=device)
        first = [len(row) + n - most for row, n in zip(self._rows, lengths, strict=True)]

        def prefix(row: int, position: int) -> list[int]:  # few processors ask for it
            return [*self._rows[row].text, *proposal.tokens[row]][:position]

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
        uniforms = self._uniforms.take([n + 1 for n in lengths]).to(device)
        last = uniforms.gather(1, counts[:, None])  # for the token behind the draft
        uniforms = torch.cat([uniforms[:, :most], last], 1)
        drafts = Drafts(tokens, counts, scores.softmax(-1), proposal.q)
        kept, token = verify(drafts, uniforms, rule=self._rule)
        return kept.tolist(), token.tolist()


def _rows(input_ids: Tensor, mask: Tensor | None) -> list[_Row]:
    """The texts without their padding, which is in front."""
    texts = input_ids.tolist()
    pads = [0] * len(texts) if mask is None else (mask == 0).sum(1).tolist()
    return [
        _Row(number, text[:pad], text[pad:])
        for number, (text, pad) in enumerate(zip(texts, pads, strict=True))
    ]
