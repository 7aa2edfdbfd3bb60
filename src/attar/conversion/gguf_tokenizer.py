"""A tokenizer as llama.cpp knows it: tokens, merges or scores, and the name of a pre-tokenizer.

llama.cpp does not read the regular expressions of a tokenizer: it has its own, by name. Which of
them cuts texts as this tokenizer does is found by trying: first on the pieces of a text that is
hard to cut, then on the ids of every token of the vocabulary as a text of its own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from gguf import TokenType
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.checkpoint.pre_tokenizers import HARD_TEXT, PRE_TOKENIZERS, PreTokenizer
from attar.errors import CompatibilityError
from attar.models import DocumentTokenizer

_SPACE = "\u2581"  # what SentencePiece writes for a space
#: of a token that no merge makes: worse than every other
_UNMERGED = -1e6


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as its file describes it.

    Attributes:
        values: by key.
        notes: what a user has to know, sentences without their full stop.
    """

    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Vocabulary:
    """How a tokenizer is described for llama.cpp.

    Raises:
        CompatibilityError: llama.cpp has none with the same ids, or it does not fit the model.
    """
    if isinstance(tokenizer, DocumentTokenizer) or not tokenizer.is_fast:
        raise _refusal(tokenizer, f"a {type(tokenizer).__name__} has no tokenizer.json")
    backend: Any = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    if state["model"]["type"] != "BPE":
        raise _refusal(tokenizer, f"it is {state['model']['type']}, and there only BPE has a form")
    rows = len(model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]
    pieces = state["model"].get("byte_fallback", False)
    make = _sentence_pieces if pieces else _byte_level
    tokens, types = _tokens(tokenizer, state, rows=rows, pieces=pieces)
    own, notes = make(tokenizer, state, tokens)
    ends, more = _special(tokenizer, model)
    values = own | {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types} | ends
    if tokenizer.chat_template:
        values |= _template(tokenizer.chat_template)
    return Vocabulary(values, (*notes, *more))


def _refusal(tokenizer: PreTrainedTokenizerBase, reason: str) -> CompatibilityError:
    name = tokenizer.name_or_path or type(tokenizer).__name__
    return CompatibilityError(f"cannot write the tokenizer of {name} for llama.cpp: {reason}")


def _tokens(
    tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Any], *, rows: int, pieces: bool
) -> tuple[list[str], list[int]]:
    """Text and type of each id: of every row of the embeddings, also those without a token."""
    tokens = [f"[PAD{i}]" for i in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    listed = [*state["model"]["vocab"].items(), *((a["content"], a) for a in state["added_tokens"])]
    for text, where in listed:
        added = isinstance(where, dict)
        number = where["id"] if added else where
        if number >= rows:
            raise _refusal(
                tokenizer,
                f"its token {text!r} has id {number}, and the model {rows} embeddings; give them "
                "rows with resize_token_embeddings of transformers, or take the token out",
            )
        kind = TokenType.NORMAL
        if added and where["special"]:
            kind = TokenType.CONTROL
        elif added:
            kind = TokenType.USER_DEFINED
            text = text.replace(_SPACE, " ") if pieces else text
        elif pieces and len(text) == 6 and text.startswith("<0x"):
            kind = TokenType.BYTE
        if pieces and text == state["model"]["unk_token"]:
            kind = TokenType.UNKNOWN
        tokens[number], types[number] = text, int(kind)
    return tokens, types


def _special(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Ids of special tokens, and which of them stand around a text."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise _refusal(tokenizer, "it has no token for the end of a text; set its eos_token")
    plain, whole = (
        tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True)
    )
    first, last = [bos] * (whole[:1] == [bos] != plain[:1]), [eos] * (whole[-1:] == [eos])
    if whole != first + plain + last:
        raise _refusal(tokenizer, "it puts other tokens around a text than BOS and EOS")
    values: dict[str, Any] = {
        # llama.cpp takes token 11 for a BOS that is not named
        "tokenizer.ggml.bos_token_id": eos if bos is None else bos,
        "tokenizer.ggml.eos_token_id": eos,
        "tokenizer.ggml.add_bos_token": bool(first),
        "tokenizer.ggml.add_eos_token": bool(last),
    }
    for key, name in (
        ("unknown", "unk"),
        ("padding", "pad"),
        ("seperator", "sep"),  # codespell:ignore seperator
    ):  # their spelling
        if isinstance(number := getattr(tokenizer, f"{name}_token_id"), int):
            values[f"tokenizer.ggml.{key}_token_id"] = number
    ends = getattr(model.generation_config, "eos_token_id", None)
    ends = [end for end in (ends if isinstance(ends, list) else [ends]) if end not in (None, eos)]
    for key, number in zip(("eot", "eom"), ends, strict=False):
        values[f"tokenizer.ggml.{key}_token_id"] = number
    if len(ends) > 2:
        said = f"of its {len(ends) + 1} tokens that end a text, the file names three"
        return values, (said,)
    return values, ()


def _template(template: Any) -> dict[str, str]:
    """One chat template, or several by name."""
    if isinstance(template, str):
        return {"tokenizer.chat_template": template}
    names = {name: f"tokenizer.chat_template.{name}" for name in template}
    if "default" in names:
        names["default"] = "tokenizer.chat_template"
    return {key: template[name] for name, key in names.items()}


# ------------------------------------------------------------------------------ SentencePiece's BPE


def _sentence_pieces(
    tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Any], tokens: list[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """BPE on characters with a fallback to bytes, as Llama 2 and Gemma have it: the pair goes first
    whose result has the highest score.
    """
    merged = [first + second for first, second in _merges(state)]
    order = [text for text, _ in groupby(merged)]
    if len(order) != len(set(order)):
        raise _refusal(tokenizer, "the order of its merges is not that of scores of its tokens")
    _check_splits(tokenizer, state, set(_merges(state)), set(order))
    scores = {text: -float(rank) for rank, text in enumerate(order)}
    prefix, notes = _prefix(tokenizer, state)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [scores.get(text, _UNMERGED) for text in tokens],
        "tokenizer.ggml.add_space_prefix": prefix,
    }, notes


def _check_splits(
    tokenizer: PreTrainedTokenizerBase,
    state: Mapping[str, Any],
    merges: set[tuple[str, str]],
    merged: set[str],
) -> None:
    """Refuse merges that leave out a way to put a token together, as llama.cpp takes all."""
    added = {token["content"] for token in state["added_tokens"]}  # taken out of a text before
    known = state["model"]["vocab"].keys() - added
    for text in merged:
        for cut in range(1, len(text)):
            pair = (text[:cut], text[cut:])
            if pair[0] in known and pair[1] in known and pair not in merges:
                raise _refusal(tokenizer, f"it never merges {pair[0]!r} and {pair[1]!r}")


def _prefix(
    tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Any]
) -> tuple[bool, tuple[str, ...]]:
    """Whether a text begins with a space that nobody typed."""
    parts = [*_parts(state["normalizer"], "normalizers")]
    parts += _parts(state["pre_tokenizer"], "pretokenizers")
    prefix, notes = False, ()
    for part in parts:
        kind = part["type"]
        if kind == "Prepend" and part["prepend"] == _SPACE:
            prefix = True
        elif kind == "Metaspace" and part["replacement"] == _SPACE and not part.get("split", True):
            prefix = part["prepend_scheme"] != "never"
            if part["prepend_scheme"] == "first":
                notes = (
                    "llama.cpp puts a space before every text and after each special token, this "
                    "tokenizer only before a text that does not begin with one",
                )
        elif not (
            kind == "Replace" and (part["pattern"], part["content"]) == ({"String": " "}, _SPACE)
        ) and not (kind == "Split" and part["pattern"] == {"String": " "}):
            raise _refusal(tokenizer, f"it has a {kind} that is not known there")
    return prefix, notes


def _parts(step: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """Steps of normalisation or pre-tokenization, out of their sequence."""
    if step is None:
        return
    if step["type"] == "Sequence":
        for part in step[name]:
            yield from _parts(part, name)
    else:
        yield step


def _merges(state: Mapping[str, Any]) -> list[Any]:
    """Pairs of tokens, the first to be merged first."""
    merges = state["model"]["merges"]
    return [tuple(m.split(" ", 1) if isinstance(m, str) else m) for m in merges]


# ---------------------------------------------------------------------------------- byte-level BPE


def _byte_level(
    tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Any], tokens: list[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """BPE on bytes, as GPT-2 has it."""
    for part in _parts(state["normalizer"], "normalizers"):
        if part["type"] != "NFC":  # which llama.cpp leaves out, as text is nearly always composed
            raise _refusal(tokenizer, f"it changes texts by {part['type']}, which it does not know")
    steps = list(_parts(state["pre_tokenizer"], "pretokenizers"))
    if "ByteLevel" not in [part["type"] for part in steps]:
        raise _refusal(tokenizer, "its BPE is not one of bytes")
    backend: Any = tokenizer.backend_tokenizer
    found, notes = pre_tokenizer_of(backend), ()
    if found is None:
        texts = {part.get("pattern", {}).get("Regex") for part in steps}
        found = next((one for one in PRE_TOKENIZERS if one.published in texts - {None}), None)
        notes = (
            "llama.cpp splits texts with combining marks otherwise than this tokenizer, which it "
            "knows by name all the same",
        )
    if found is None:
        raise _refusal(
            tokenizer,
            "none of its pre-tokenizers cuts texts into the same tokens; give a model with the "
            "tokenizer of GPT-2, Llama 3 or Qwen 2",
        )
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": found.name,
        "tokenizer.ggml.merges": [f"{first} {second}" for first, second in _merges(state)],
    }, notes


def pre_tokenizer_of(backend: Tokenizer) -> PreTokenizer | None:
    """The pre-tokenizer of llama.cpp that gives the same ids; None where there is none."""
    state = json.loads(backend.to_str())
    ignores = state["model"].get("ignore_merges", False)
    own = _pieces(backend.pre_tokenizer)
    for known in PRE_TOKENIZERS:
        if known.ignores_merges == ignores and _pieces(known.build()) == own:
            return known
    texts = list(_texts(backend))
    for known in PRE_TOKENIZERS:
        state["model"]["ignore_merges"] = known.ignores_merges
        theirs = Tokenizer.from_str(json.dumps(state))
        theirs.pre_tokenizer = known.build()
        if all(_ids(theirs, some) == _ids(backend, some) for some in (HARD_TEXT, texts)):
            return known
    return None


def _ids(backend: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [found.ids for found in backend.encode_batch(texts, add_special_tokens=False)]


def _pieces(pre_tokenizer: Any) -> list[list[Any]]:
    """The pieces of the hard text."""
    return [pre_tokenizer.pre_tokenize_str(line) for line in HARD_TEXT]


def _texts(backend: Tokenizer) -> Iterator[str]:
    """Every token as a text: alone, between digits, and in quotes, where English contractions may
    be seen that are none.
    """
    for number in range(backend.get_vocab_size(with_added_tokens=False)):
        text = backend.decode([number])
        if text and "\ufffd" not in text:
            yield text
            yield f"'{text.strip()}' 1{text}2"
