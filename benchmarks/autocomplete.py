"""What the benchmarks of several drafts share: SmolLM2, n-grams of books and code, prompts."""

import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from smollm2 import smollm2

from attar import artefacts, checkpoint
from attar.data.text import load_text
from attar.decode.ngram_build import build_store
from attar.decode.ngrams import NGramStore

PROMPT, NEW = 15, 10  # tokens, as in the paper
_QUICK_ROWS = 200  # passages that n-grams are counted in


def model_and_words() -> tuple[Any, Any]:
    """SmolLM2 in float32, which writes texts of one length, and its tokenizer."""
    source = smollm2()
    model: Any = checkpoint.load(source, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    return model, checkpoint.load_tokenizer(source)


def store_of(words: Any, data: Path, *, quick: bool) -> NGramStore:
    """N-grams of the training books and the standard library, made once and kept."""
    name = "quick" if quick else "full"
    folder = artefacts.home() / "benchmarks" / f"ngrams-{name}-{len(words)}"
    if not (folder / "meta.json").exists():
        parts = [load_text(text)["train"] for text in (data / "books", "python-stdlib")]
        if quick:
            parts = [part.select(range(min(len(part), _QUICK_ROWS))) for part in parts]
        rows: Dataset = concatenate_datasets([part.select_columns(["text"]) for part in parts])
        build_store(rows, words, output_dir=folder)
    return NGramStore.load(folder, tokenizer=words)


def windows(words: Any, data: Path, split: str, *, count: int, tokens: int) -> list[list[int]]:
    """Pieces of books that nothing here was made from, spread evenly over them."""
    ids: list[int] = []
    for text in load_text(data / "books")[split]["text"]:
        ids += words(text, add_special_tokens=False)["input_ids"]
    if len(ids) < count * tokens:
        sys.exit(f"expected {count * tokens} tokens of {split} books in {data}, found {len(ids)}")
    step = (len(ids) - tokens) // count
    return [ids[n * step : n * step + tokens] for n in range(count)]
