"""Tokenizers in GGUF files: the ids that llama.cpp finds, special tokens and chat templates."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import attar
import tiny
from attar.checkpoint.pre_tokenizers import HARD_TEXT, PRE_TOKENIZERS, PreTokenizer
from attar.conversion.gguf_tokenizer import pre_tokenizer_of, vocabulary_of
from attar.data.tokens import train_bpe
from attar.errors import CompatibilityError
from llamacpp import LlamaCpp

ROOT = Path(attar.__file__).parent
#: real text, with marks, scripts and code
TEXT = "".join(f"{line}\n" for line in HARD_TEXT) + "\n".join(
    file.read_text(encoding="utf-8")
    for file in [ROOT / "errors.py", ROOT / "data" / "tokens.py", ROOT / "data" / "text.py"]
)
SPECIAL = ["<|end|>", "<s>"]


def byte_level(
    split: PreTokenizer, *, size: int = 900, text: str = TEXT
) -> PreTrainedTokenizerFast:
    """A tokenizer trained on text that is split in this way."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=split.ignores_merges))
    tokenizer.pre_tokenizer = split.build()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text] * 3, trainer=trainer)
    return wrapped(tokenizer)


def wrapped(tokenizer: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    own = {"bos_token": "<s>", "eos_token": "<|end|>", **options}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **own)


def sentence_pieces(scheme: str) -> PreTrainedTokenizerFast:
    """As transformers makes it from SentencePiece: each merge is there in all its ways."""
    alphabet = sorted({c for c in TEXT if c.isprintable() and c != " "} | {"\u2581"})
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False, initial_alphabet=alphabet)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator([TEXT], trainer=trainer)
    made = [f"{a}{b}" for a, b in json.loads(learner.to_str())["model"]["merges"]]
    learned = [text for text in made if text.isprintable()]  # a line end is a byte
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    texts = ["<unk>", *SPECIAL, *raw, *alphabet, *dict.fromkeys(learned)]
    vocab = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    merges = [
        (text[:cut], text[cut:])
        for text in dict.fromkeys(learned)
        for cut in range(1, len(text))
        if text[:cut] in vocab and text[cut:] in vocab
    ]
    options: dict[str, Any] = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    if scheme == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if scheme != "gemma":
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return wrapped(tokenizer, unk_token="<unk>")


def vocabulary(tokenizer: Any, *, rows: int = 1200, **changes: Any) -> dict[str, Any]:
    return dict(vocabulary_of(tokenizer, tiny.model(vocab_size=rows, **changes)).values)


@pytest.mark.parametrize("split", PRE_TOKENIZERS, ids=lambda split: split.name)
def test_each_pre_tokenizer_is_recognised(split: PreTokenizer) -> None:
    found = pre_tokenizer_of(byte_level(split, size=400).backend_tokenizer)
    assert found is not None
    assert found.name == split.name


QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
PUBLISHED: dict[str, Any] = {
    "gpt-2": _BYTES,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), _BYTES]),
    "qwen2": QWEN2,
    "dbrx": LLAMA3,
    "tekken": TEKKEN,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_tokenizers_as_they_are_published(name: str) -> None:
    step = PUBLISHED[name]
    split = PreTokenizer("", (step,)) if isinstance(step, str) else PRE_TOKENIZERS[0]
    tokenizer = byte_level(split, text="\n".join(HARD_TEXT))  # half of which is marks
    if not isinstance(step, str):
        backend: Any = tokenizer.backend_tokenizer
        backend.pre_tokenizer = step
    found = vocabulary_of(tokenizer, tiny.model(vocab_size=1200))
    assert found.values["tokenizer.ggml.pre"] == name
    assert [("combining marks" in note) for note in found.notes] == [True] * (name == "tekken")


def test_ours_is_recognised_by_its_ids() -> None:
    """No expression of llama.cpp is ours, but without combining marks one splits the same way."""
    plain = [file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("data/*.py"))]
    ours = train_bpe(Dataset.from_dict({"text": plain}), vocab_size=600, context=64)
    found = pre_tokenizer_of(ours.backend_tokenizer)
    assert found is not None
    assert found.name == "ufakzeka"
    marked = train_bpe(Dataset.from_dict({"text": [*HARD_TEXT] * 9}), vocab_size=900, context=64)
    assert pre_tokenizer_of(marked.backend_tokenizer) is None
    with pytest.raises(CompatibilityError, match="none of llama"):
        vocabulary(marked)


def test_special_tokens_and_rows_without_a_token() -> None:
    tokenizer = byte_level(PRE_TOKENIZERS[0], size=300)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.chat_template = "{{ messages }}"
    told = vocabulary(tokenizer, rows=310)
    tokens, types = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == 310
    assert tokens[:2] == SPECIAL
    assert tokens[-9:-7] == ["<pad>", "[PAD302]"]
    assert [types[i] for i in (0, 1, 2, 300, 301, 302)] == [3, 3, 1, 4, 3, 5]
    assert told["tokenizer.ggml.bos_token_id"] == 1
    assert told["tokenizer.ggml.eos_token_id"] == 0
    assert told["tokenizer.ggml.padding_token_id"] == 301
    assert told["tokenizer.ggml.add_bos_token"] is False
    assert told["tokenizer.chat_template"] == "{{ messages }}"
    with pytest.raises(CompatibilityError, match="300 embeddings; give them rows"):
        vocabulary(tokenizer, rows=300)
    tokenizer.bos_token = None
    assert vocabulary(tokenizer)["tokenizer.ggml.bos_token_id"] == 0


def test_tokens_around_a_text() -> None:
    tokenizer = byte_level(PRE_TOKENIZERS[0], size=300)
    tokenizer.add_bos_token = True
    tokenizer.update_post_processor()
    told = vocabulary(tokenizer)
    assert told["tokenizer.ggml.add_bos_token"] is True
    assert told["tokenizer.ggml.add_eos_token"] is False


def test_further_ends_of_a_text() -> None:
    model: Any = tiny.model(vocab_size=300)
    model.generation_config.eos_token_id = [0, -1, 10**6, 7, 8, 9]
    found = vocabulary_of(byte_level(PRE_TOKENIZERS[0], size=300), model)
    assert found.values["tokenizer.ggml.eot_token_id"] == 7
    assert found.values["tokenizer.ggml.eom_token_id"] == 8
    assert "only three" in found.notes[0]


REFUSED = {
    "unigram": (lambda: wrapped(Tokenizer(models.Unigram([("a", 0.0)], 0))), "Unigram"),
    "no end": (
        lambda: wrapped(byte_level(PRE_TOKENIZERS[0]).backend_tokenizer, eos_token=None),
        "eos_token",
    ),
    "its own expression": (
        lambda: byte_level(PreTokenizer("mine", (r"\w\w",))),
        "none of llama",
    ),
    "lower case": (lambda: lowered(byte_level(PRE_TOKENIZERS[0])), "Lowercase"),
    "a merge left out": (lambda: without_a_merge(sentence_pieces("gemma")), "never merges"),
}


def lowered(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    backend: Any = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Lowercase()
    return tokenizer


def without_a_merge(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = state["model"]["merges"]
    twice = next(i for i in range(len(merges)) if "".join(merges[i]) == "".join(merges[i + 1]))
    del merges[twice]
    return wrapped(Tokenizer.from_str(json.dumps(state)), unk_token="<unk>")


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_does_not_know_is_refused(case: str) -> None:
    build, said = REFUSED[case]
    with pytest.raises(CompatibilityError, match=said):
        vocabulary(build())


def served(tokenizer: PreTrainedTokenizerFast, folder: Path) -> LlamaCpp:
    model = tiny.model(vocab_size=1200)
    run = attar.export(model, tokenizer=tokenizer, quantize="f32", output_dir=folder)
    return LlamaCpp(folder / run.details["file"])


def assert_same_ids(tokenizer: PreTrainedTokenizerFast, server: LlamaCpp) -> None:
    for text in [*HARD_TEXT, TEXT, f"one<|end|>two <s> three{TEXT[:2000]}"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert server.ids(text) == ids
        assert server.ids(text, special=True) == tokenizer(text)["input_ids"]
        assert server.text(ids).strip() == tokenizer.decode(ids).strip()


@pytest.mark.slow
@pytest.mark.parametrize("split", PRE_TOKENIZERS, ids=lambda split: split.name)
def test_llama_cpp_splits_as_we_say(split: PreTokenizer, tmp_path: Path) -> None:
    tokenizer = byte_level(split)
    assert_same_ids(tokenizer, served(tokenizer, tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["gemma", "llama"])
def test_llama_cpp_reads_sentence_pieces(scheme: str, tmp_path: Path) -> None:
    tokenizer = sentence_pieces(scheme)
    server = served(tokenizer, tmp_path / "out")
    for text in [line.strip(" ") for line in (*HARD_TEXT, TEXT)]:
        assert server.ids(text) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.slow
def test_llama_cpp_reads_our_own_tokenizer(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    assert_same_ids(tokenizer, served(tokenizer, tmp_path / "out"))
