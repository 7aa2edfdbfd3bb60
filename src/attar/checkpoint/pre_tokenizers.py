"""How llama.cpp splits texts before BPE merges them, by the names that it has for that."""

from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, pre_tokenizers

_CONTRACTION = r"'s|'t|'re|'ve|'m|'ll|'d"
_ANY_CASE = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_GPT2 = _CONTRACTION + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_QWEN2 = rf"{_ANY_CASE}|{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}"
_LLAMA3 = rf"{_ANY_CASE}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
_MARKED = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
_PATHS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"


def _cased(ending: str) -> str:
    """Words in which lower case follows upper case, with what may stand at their end."""
    lead, upper, lower = r"[^\r\n\p{L}\p{N}]?", r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])"
    return f"{lead}{upper}*{lower}+{ending}|{lead}{upper}+{lower}*{ending}"


_TEKKEN = rf"{_cased('')}|\p{{N}}|{_PATHS}|{_SPACES}"
_GPT4O = rf"{_cased(_ANY_CASE + '?')}|\p{{N}}{{1,3}}|{_PATHS}|{_SPACES}"


def _published(ending: str, here: str) -> str:
    """The same in tokenizer.json, where it tells cases by Unicode and marks belong to words."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    lead, rest = r"[^\r\n\p{L}\p{N}]?", here[here.index(r"|\p{N}") :]
    return f"{lead}{upper}*{lower}+{ending}|{lead}{upper}+{lower}*{ending}{rest}"


@dataclass(frozen=True)
class PreTokenizer:
    """A pre-tokenizer of llama.cpp: expressions that split one after the other."""

    name: str
    expressions: tuple[str, ...]
    #: takes a piece that is a token as it is, whatever the merges make of it
    ignores_merges: bool = False
    #: the published expression that llama.cpp means by this name, but for combining marks
    published: str | None = None
    #: other names, which tell models apart and not how they split
    aliases: tuple[str, ...] = ()

    def build(self, *, published: bool = False) -> Any:
        """The same as one of `tokenizers`, for a byte-level BPE; `published`: as the models that
        llama.cpp means have it in their tokenizer.json.
        """
        texts = (self.published,) if published and self.published else self.expressions
        splits = [pre_tokenizers.Split(Regex(text), "isolated") for text in texts]
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([*splits, last])


#: those that old versions know come first
PRE_TOKENIZERS = (
    PreTokenizer("gpt-2", (_GPT2,), aliases=("default", "gpt2", "phi-2", "mpt", "olmo", "mellum")),
    PreTokenizer(
        "smollm",
        (r"\p{N}", _GPT2),
        aliases=("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    ),
    PreTokenizer("qwen2", (_QWEN2,), aliases=("deepseek-r1-qwen", "kormo", "f2llmv2", "megrez")),
    PreTokenizer(
        "llama-bpe",
        (_LLAMA3,),
        ignores_merges=True,
        aliases=("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    ),
    PreTokenizer("dbrx", (_LLAMA3,), aliases=("smaug-bpe",)),
    PreTokenizer("tekken", (_TEKKEN,), ignores_merges=True, published=_published("", _TEKKEN)),
    PreTokenizer(
        "gpt-4o",
        (_GPT4O,),
        published=_published("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", _GPT4O),
        aliases=("llama4", "kanana2", "talkie", "minimax-m2"),
    ),
    PreTokenizer("qwen35", (rf"{_ANY_CASE}|{_MARKED}|{_SPACES}",)),
    PreTokenizer("ufakzeka", (rf"{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}",)),
)


def pre_tokenizer_named(name: str | None) -> PreTokenizer | None:
    """The one with this name; GPT-2's for none, and None for one that is not known here."""
    known = {alias: one for one in PRE_TOKENIZERS for alias in (one.name, *one.aliases)}
    return known.get(name or "default")


#: lines in which these differ
HARD_TEXT = (
    "I'm sure they're right, we'll SEE what'S what; or don't we, O'Reilly and Jeanne d'Arc?",
    "'define' is b'data', r'self', f'very' or u'model'\n'select'\n'LLAMA'\n'test it'",
    "In 2024 it grew by 1234567.89%, from 12 to 345; x2y3 and 1,000,000 in 1st place.",
    "def read_file(path: str, *, mode='r') -> bytes:\n    return open(path, mode).read()\n\n\n",
    "\tif x:\n\t\t\treturn  None  # two  spaces   three\r\n\r\n   \n    indented    \n",
    "HTTPServer, camelCase, ALLCAPS, iPhone's, O'Neil'S; src/attar//file.py\n/usr/bin/\n",
    "Über naïve cafés: e\u0301te\u0301, A\u030angstro\u0308m; \u0939\u093f\u0928\u094d\u0926\u0940 "
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650"
    "\u064a\u0629 \u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3001\u4e2d\u6587\u3002 \u1100\u1161\u11a8",
    "\U0001f600\U0001f469\u200d\U0001f4bb!!! ... --- ??? \u2026 \u201cquoted\u201d \u00ab\u00bb $5 "
    "\u20ac7 \u2460\u00b2\u00bd x\u00a0y\u3000z\n",
    "  leading, trailing  ",
)
