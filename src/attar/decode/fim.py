"""Fill-in-the-middle prompts, from the tokens that a tokenizer has for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from attar.models import leading_bos

#: prefix, suffix and middle, as families of code models call them
_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite Code
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),  # CodeLlama
    (
        "<\uff5cfim\u2581begin\uff5c>",
        "<\uff5cfim\u2581hole\uff5c>",
        "<\uff5cfim\u2581end\uff5c>",
    ),  # DeepSeek-Coder
)
#: before the name of a file, and before that of a repository
_FILES = (("<|file_sep|>", "<|repo_name|>"), ("<file_sep>", "<repo_name>"))
#: a text in the middle ends at one of these, too
_ENDS = (
    "<|endoftext|>",
    "<|fim_pad|>",
    "<fim_pad>",
    "<fim-pad>",
    "<|file_separator|>",
    "\u2581<EOT>",
    "<|cursor|>",
)


@dataclass(frozen=True)
class Chunk:
    """A piece of another file.

    Attributes:
        text: of it.
        filename: of the file.
    """

    text: str
    filename: str = ""


@dataclass(frozen=True)
class Fim:
    """How a model is asked for what is between a prefix and a suffix.

    Attributes:
        tokenizer: the model's.
        prefix: the token before the prefix.
        suffix: before the suffix.
        middle: before what is asked for.
        bos: begins every text; None: nothing does.
        file: before the name of a file; None: the model has none.
        ends: tokens that end the middle.
    """

    tokenizer: Any
    prefix: int
    suffix: int
    middle: int
    bos: int | None
    file: int | None
    ends: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Fim | None":
        """The tokens of a tokenizer; None where it has none."""
        known = tokenizer.get_vocab()
        names = next((names for names in _NAMES if all(name in known for name in names)), None)
        if names is None:
            return None
        separators = [file for file, _ in _FILES if file in known]
        marks = [*names, *_ENDS, *(name for pair in _FILES for name in pair)]
        ends = tuple(known[name] for name in marks if name in known)
        file = known[separators[0]] if separators else None
        bos = leading_bos(tokenizer)
        return cls(tokenizer, *(known[name] for name in names), bos=bos, file=file, ends=ends)

    def around(
        self, before: Sequence[int], after: Sequence[int], *, others: Sequence[int] = ()
    ) -> list[int]:
        """Token ids that ask for what is between two texts, behind those of other files."""
        start = [] if self.bos is None else [self.bos]
        return [*start, *others, self.prefix, *before, self.suffix, *after, self.middle]

    def text_before(self, ids: Sequence[int]) -> list[int] | None:
        """What stands before the cursor in token ids that ask for a middle, with what is there of
        the middle; None where they do not ask."""
        left, parts = list(ids), []
        for mark in (self.middle, self.suffix, self.prefix):
            if mark not in left:
                return None
            at = len(left) - 1 - left[::-1].index(mark)
            parts.append(left[at + 1 :])
            left = left[:at]
        begun, _, before = parts
        return before + begun

    def prompt(
        self, prefix: str, suffix: str, *, extra: Sequence[Chunk] = (), room: int, begun: str = ""
    ) -> tuple[list[int], bool]:
        """Token ids of the prompt, and whether something was left out.

        Args:
            prefix: before the cursor; if it is long, its end is kept.
            suffix: behind the cursor; its beginning is kept, a quarter of the room if need be.
            extra: of other files, the most important last; they take what room is left.
            room: tokens, at most.
            begun: the beginning of the middle.
        """
        before, after = self._ids(prefix), self._ids(suffix)
        start = self._ids(begun)
        free = room - len(self.around([], [])) - len(start)
        whole = len(before) + len(after)
        after = after[: max(free - len(before), free // 4, 0)]
        before = before[max(len(before) - (free - len(after)), 0) :]
        cut = len(before) + len(after) < whole
        others: list[int] = []
        for chunk in reversed(extra):
            ids = self._chunk(chunk)
            if len(others) + len(ids) > free - len(before) - len(after):
                cut = True
                break
            others = ids + others
        return [*self.around(before, after, others=others), *start], cut

    def _chunk(self, chunk: Chunk) -> list[int]:
        if self.file is None:
            return self._ids(f"{chunk.filename}\n{chunk.text}\n\n")
        return [self.file, *self._ids(f"{chunk.filename}\n{chunk.text}")]

    def _ids(self, text: str) -> list[int]:
        ids: Any = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return list(ids)
