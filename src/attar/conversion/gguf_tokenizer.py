"""A tokenizer as llama.cpp needs it: tokens, merges or scores, and the name of a pre-tokenizer.

llama.cpp does not read the regular expressions of a tokenizer: it has its own, by name. The one
that splits text like this tokenizer is found by trying them: first the pieces of a difficult text
are compared, then the ids of every token of the vocabulary as a text of its own.
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
#: score of a token that no merge makes: worse than every other
_UNMERGED = -1e6


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as the GGUF file describes it.

    Attributes:
        values: metadata by key.
        notes: what a user has to know, sentences without their full stop.
    """

    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Vocabulary:
    """Describe a tokenizer for llama.cpp.

    Raises:
        CompatibilityError: llama.cpp would find other ids, or it does not fit the model.
    """
    if isinstance(tokenizer, DocumentTokenizer) or not tokenizer.is_fast:
        raise _refusal(tokenizer, f"a {type(tokenizer).__name__} has no tokenizer.json")
    backend: Any = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    if state["model"]["type"] != "BPE":
        raise _refusal(tokenizer, f"it is {state['model']['type']}, and only BPE can be exported")
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
    """Text and type of each id, for every row of the embeddings, even one without a token."""
    tokens = [f"[PAD{i}]" for i in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    listed = [*state["model"]["vocab"].items(), *((a["content"], a) for a in state["added_tokens"])]
    for text, where in listed:
        added = isinstance(where, dict)
        number = where["id"] if added else where
        if number >= rows:
            raise _refusal(
                tokenizer,
                f"its token {text!r} has id {number}, and the model has {rows} embeddings; "
                "give them rows with resize_token_embeddings of transformers, or take it out",
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
    """Ids of special tokens, which of them are added to a text, and notes."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise _refusal(tokenizer, "it has no EOS token; set its eos_token")
    plain, whole = (
        tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True)
    )
    first, last = [bos] * (whole[:1] == [bos] != plain[:1]), [eos] * (whole[-1:] == [eos])
    if whole != first + plain + last:
        raise _refusal(tokenizer, "it adds other tokens to a text than BOS and EOS")
    values: dict[str, Any] = {
        # without this key llama.cpp takes token 11 as BOS
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
    rows = len(model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]
    ends = [end for end in (ends if isinstance(ends, list) else [ends]) if end not in (None, eos)]
    ends = [end for end in ends if 0 <= end < rows]  # no other can be written
    for key, number in zip(("eot", "eom"), ends, strict=False):
        values[f"tokenizer.ggml.{key}_token_id"] = number
    if len(ends) > 2:
        note = f"the file can hold only three of the {len(ends) + 1} tokens that end a text"
        return values, (note,)
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
    """BPE on characters with byte fallback, as in Llama 2 and Gemma: the pair whose result has the
    highest score is merged first.
    """
    merged = [first + second for first, second in _merges(state)]
    order = [text for text, _ in groupby(merged)]
    if len(order) != len(set(order)):
        raise _refusal(tokenizer, "the order of its merges cannot be written as scores of tokens")
    _check_splits(tokenizer, state, merged=set(order))
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
    *,
    merged: set[str],
) -> None:
    """Refuse merges that lack one of the ways to form a token, as llama.cpp uses all of them."""
    merges = set(_merges(state))
    added = {token["content"] for token in state["added_tokens"]}  # split off before BPE
    known = state["model"]["vocab"].keys() - added
    for text in merged:
        for at in range(1, len(text)):
            pair = (text[:at], text[at:])
            if pair[0] in known and pair[1] in known and pair not in merges:
                raise _refusal(tokenizer, f"it never merges {pair[0]!r} and {pair[1]!r}")


def _prefix(
    tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Any]
) -> tuple[bool, tuple[str, ...]]:
    """Whether a space is put before a text, and notes."""
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
                    "llama.cpp puts a space before every text and after each special token, where "
                    "this tokenizer does so only before a text that does not begin with one",
                )
        elif not (
            kind == "Replace" and (part["pattern"], part["content"]) == ({"String": " "}, _SPACE)
        ) and not (kind == "Split" and part["pattern"] == {"String": " "}):
            raise _refusal(tokenizer, f"llama.cpp has no counterpart of its {kind}")
    return prefix, notes


def _parts(step: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """Steps of normalisation or pre-tokenization, with sequences flattened."""
    if step is None:
        return
    if step["type"] == "Sequence":
        for part in step[name]:
            yield from _parts(part, name)
    else:
        yield step


def _merges(state: Mapping[str, Any]) -> list[Any]:
    """Pairs of tokens in the order of their priority."""
    merges = state["model"]["merges"]
    return [tuple(m.split(" ", 1) if isinstance(m, str) else m) for m in merges]


# ---------------------------------------------------------------------------------- byte-level BPE


def _byte_level(
    tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Any], tokens: list[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """BPE on bytes, as in GPT-2."""
    for part in _parts(state["normalizer"], "normalizers"):
        if part["type"] != "NFC":  # llama.cpp skips it; nearly all text is composed already
            raise _refusal(tokenizer, f"llama.cpp lacks its normalizer {part['type']}")
    steps = list(_parts(state["pre_tokenizer"], "pretokenizers"))
    if "ByteLevel" not in [part["type"] for part in steps]:
        raise _refusal(tokenizer, "its BPE is not on bytes")
    backend: Any = tokenizer.backend_tokenizer
    found, notes = pre_tokenizer_of(backend), ()
    if found is None:
        texts = {part.get("pattern", {}).get("Regex") for part in steps}
        found = next((one for one in PRE_TOKENIZERS if one.published in texts - {None}), None)
        notes = ("llama.cpp has this pre-tokenizer, but splits combining marks differently",)
    if found is None:
        raise _refusal(
            tokenizer,
            "none of llama.cpp's pre-tokenizers gives the same ids; give a model with the "
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
    return [encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)]


def _pieces(pre_tokenizer: Any) -> list[list[Any]]:
    """The pieces into which the difficult text is split."""
    return [pre_tokenizer.pre_tokenize_str(line) for line in HARD_TEXT]


def _texts(backend: Tokenizer) -> Iterator[str]:
    """Every token as a text: alone, and in quotes and between digits, where some pre-tokenizers
    see English contractions.
    """
    for number in range(backend.get_vocab_size(with_added_tokens=False)):
        text = backend.decode([number])
        if text and "\ufffd" not in text:
            yield text
            yield f"'{text.strip()}' 1{text}2"
