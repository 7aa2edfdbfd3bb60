"""What speculative decoding drafted, accepted and took."""

from dataclasses import dataclass, field

from attar.decode.draft_length import Block
from attar.decode.verification import LossyKind


@dataclass
class SpecStats:
    """What was drafted and accepted in one call, all rows together.

    Attributes:
        tokens: that were written.
        blocks: passes of the target, each over all rows that were not done.
        row_blocks: the same, counted once for each of these rows.
        draft_passes: passes of the draft model.
        drafted: tokens that were drafted at position 1, 2, ... of a block.
        reached: how many of them came behind tokens that were all accepted.
        accepted: how many of these were accepted too.
        draft_seconds: in the draft.
        verify_seconds: in the target.
        seconds: of all, with the prompt.
        lossy: how the distribution of the text was changed; None where it was not.
    """

    lossy: LossyKind | None = None
    tokens: int = 0
    blocks: int = 0
    row_blocks: int = 0
    draft_passes: int = 0
    drafted: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def block_efficiency(self) -> float:
        """Tokens for each pass of the target, of a row, from 1 to the draft's length + 1 (tau)."""
        return self.tokens / self.row_blocks if self.row_blocks else 0.0

    @property
    def acceptance(self) -> list[float]:
        """Share of the drafted tokens that were accepted where all before were, by position."""
        return [a / max(1, r) for a, r in zip(self.accepted, self.reached, strict=True)]

    @property
    def other_seconds(self) -> float:
        """In the loop, outside both models."""
        return self.seconds - self.draft_seconds - self.verify_seconds

    def count(self, block: Block, *, written: int) -> None:
        """Add a block."""
        self.tokens += written
        self.blocks += 1
        self.row_blocks += len(block.drafted)
        self.draft_passes += block.passes
        self.draft_seconds += block.draft_seconds
        self.verify_seconds += block.verify_seconds
        more = max(block.drafted) - len(self.drafted)
        self.drafted += [0] * more
        self.reached += [0] * more
        self.accepted += [0] * more
        for drafted, kept in zip(block.drafted, block.kept, strict=True):
            for i in range(drafted):
                self.drafted[i] += 1
                self.reached[i] += i <= kept
                self.accepted[i] += i < kept

    def __str__(self) -> str:
        accepted = ", ".join(f"{share:.0%}" for share in self.acceptance)
        seconds = max(self.seconds, 1e-9)
        parts = [
            f"{self.tokens} tokens in {self.seconds:.2f} s ({self.tokens / seconds:.1f} tokens/s)",
            f"{self.block_efficiency:.2f} tokens per forward pass of the model",
            f"acceptance rate by position in the draft: {accepted or 'none were drafted'}",
            f"{self.draft_seconds / seconds:.0%} of the time in the draft, "
            f"{self.verify_seconds / seconds:.0%} in the model",
        ]
        if self.lossy:
            parts.append(f"lossy verification ({self.lossy}): the text is not the model's own")
        return "; ".join(parts)
