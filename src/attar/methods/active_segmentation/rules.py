"""Rewrites of old segmentations to what a new guideline asks for, without another look at the text.

A rule turns the tokens of a text into other tokens of the same text. It is a plain value, so that
the event log can keep it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Literal, get_args

from attar.errors import DataError, check_types, require

RuleKind = Literal["join_prefix", "split_prefix", "replace"]
#: between the words of a sequence that `replace` names
BAR = "|"


@dataclass(frozen=True)
class Rule:
    """What is done, and to which words.

    join_prefix: a token that is one of the words is joined with the token that follows it.
    split_prefix: a token that begins with one of the words, and is longer, is cut behind it.
    replace: each word is a sequence of tokens with bars between them, as in `การ|เมือง`; where the
        text of the sequence stands between two cuts, it gets exactly these tokens.

    Raises:
        ConfigError: no such kind, or no word, or an empty one.
    """

    kind: RuleKind
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        check_types(self)
        fine = bool(self.words) and all(word.strip(BAR) for word in self.words)
        require(fine, "words of a rule", self.words, "one word or more, none of them empty")

    def rewrite(self, tokens: Sequence[str]) -> list[str]:
        """Other tokens of the same text.

        Raises:
            DataError: the tokens would not give the same text.
        """
        made = _KINDS[self.kind](tokens, self.words)
        if "".join(made) != "".join(tokens):
            raise DataError(
                f"the rule {self.kind} changed the text {''.join(tokens)[:60]!r}, expected other "
                "cuts alone; mend the rule"
            )
        return made

    def touched(self, text: str) -> set[int]:
        """The offsets, 1..n-1, at which the rule may make or take away a cut, whatever the cuts."""
        found: set[int] = set()
        for word in self.words:
            parts = word.split(BAR) if self.kind == "replace" else [word]
            whole = "".join(parts)
            ends = range(1, len(whole)) if self.kind == "replace" else [len(whole)]
            start = text.find(whole)
            while start >= 0:
                found.update(start + end for end in ends if start + end < len(text))
                start = text.find(whole, start + 1)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `from_dict` reads it."""
        return asdict(self) | {"words": list(self.words)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Rule":
        """A rule out of a log.

        Raises:
            DataError: it has no kind or no words.
        """
        if set(stored) != {"kind", "words"}:
            raise DataError(
                f"expected a rule with kind (one of {', '.join(get_args(RuleKind))}) and words; "
                f"found {', '.join(stored) or 'nothing'}"
            )
        return cls(stored["kind"], tuple(stored["words"]))


def join_prefix(words: Sequence[str]) -> Rule:
    """The words are joined with what follows them: การ|เมือง becomes การเมือง."""
    return Rule("join_prefix", tuple(words))


def split_prefix(words: Sequence[str]) -> Rule:
    """The words become tokens of their own: การเมือง becomes การ|เมือง."""
    return Rule("split_prefix", tuple(words))


def replace(sequences: Sequence[str]) -> Rule:
    """Wherever the text of a sequence such as การ|เมือง stands between two cuts, it is cut so."""
    return Rule("replace", tuple(sequences))


def _join(tokens: Sequence[str], words: Sequence[str]) -> list[str]:
    made: list[str] = []
    joining = False
    for token in tokens:
        if joining and not token.isspace():
            made[-1] += token
        else:
            made.append(token)
        joining = token in words
    return made


def _split(tokens: Sequence[str], words: Sequence[str]) -> list[str]:
    made: list[str] = []
    longest_first = sorted(words, key=len, reverse=True)
    for token in tokens:
        word = next((w for w in longest_first if token.startswith(w) and token != w), "")
        made += [word, token[len(word) :]] if word else [token]
    return made


def _replace(tokens: Sequence[str], words: Sequence[str]) -> list[str]:
    made = list(tokens)
    for word in words:
        parts = word.split(BAR)
        whole, ends = "".join(parts), [0, *accumulate(map(len, made))]
        text, starts = "".join(made), {end: place for place, end in enumerate(ends)}
        found: list[str] = []
        done, at = 0, text.find(whole)
        while at >= 0:
            first, last = starts.get(at), starts.get(at + len(whole))
            if first is not None and last is not None and first >= done:
                found += [*made[done:first], *parts]
                done = last
            at = text.find(whole, at + 1)
        made = found + made[done:]
    return made


_KINDS: Mapping[str, Callable[[Sequence[str], Sequence[str]], list[str]]] = MappingProxyType(
    {"join_prefix": _join, "split_prefix": _split, "replace": _replace}
)
