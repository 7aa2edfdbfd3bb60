"""What the command line is tried on: a folder of text and a tiny model with its tokenizer, written
to disk as a user has them; and the command line itself, run in this process.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cyclopts import App
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

import tiny
from attar import checkpoint
from attar.cli import app
from attar.data.text import stdlib_files
from attar.data.tokens import train_bpe
from attar.decode.bench import Profile
from attar.decode.forced import Ids
from attar.decode.pair import Pair
from attar.methods.distillspec.profile import profile_pair

_WORDS = ["def", "return", "import", "class", "self", "none", "true", "range", "print", "yield"]


def write_text(folder: Path, *, words: int = 4000, seed: int = 0) -> Path:
    """Three .txt files, one a split, of random words in lines of twelve."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for split, share in (("train", 1.0), ("validation", 0.2), ("test", 0.2)):
        lines = [" ".join(rng.choice(_WORDS, 12)) for _ in range(int(words * share) // 12)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@cache
def sources(size: int) -> list[str]:
    """Files of Python's standard library, as many as have so many characters."""
    found: list[str] = []
    for _, split, text in stdlib_files():
        if sum(map(len, found)) >= size:
            break
        if split == "train":
            found.append(text)
    return found


def tokenizer(text: Path, *, vocab_size: int = 290, context: int = 64) -> PreTrainedTokenizerFast:
    """A tokenizer trained on what `write_text` wrote."""
    rows = (text / "train.txt").read_text(encoding="utf-8").splitlines()
    return train_bpe(Dataset.from_dict({"text": rows}), vocab_size=vocab_size, context=context)


def tokenizer_with(
    known: PreTrainedTokenizerFast, special: Sequence[str]
) -> PreTrainedTokenizerFast:
    """A copy with further special tokens."""
    copied = copy.deepcopy(known)
    copied.add_special_tokens({"additional_special_tokens": list(special)})
    return copied


def write_parent(folder: Path, text: Path, *, family: str = "llama", **changes: Any) -> Path:
    """A checkpoint of a random tiny model with a tokenizer that fits it."""
    found = tokenizer(text, context=changes.get("max_position_embeddings", 64))
    model = tiny.model(family, vocab_size=len(found), **changes)
    checkpoint.save(model, folder, tokenizer=found)
    return folder


@contextmanager
def brief_profiles(**limits: int) -> Iterator[None]:
    """Drafts are trained in here without much of the timing that follows, which takes longer than
    the training of tiny models: on one prompt, each part once, and within the limits, such as
    `longest`.
    """

    def brief(pair: Pair, prompts: Sequence[Ids], **options: Any) -> list[Profile]:
        return profile_pair(pair, prompts[:1], **options, **limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attar.methods.distillspec.distill.profile_pair", brief)
        patch.setattr("attar.decode.timer.TURNS", 1)
        yield


def verb(command: Callable[..., int], *arguments: str) -> Any:
    """What a command gives back; its errors are raised."""
    alone = App(result_action="return_value")
    alone.default(command)
    return alone(arguments, exit_on_error=False, print_error=False)


def run(argv: Sequence[str]) -> int:
    """The exit code of `attar` with these arguments. It quietens libraries for its process; here
    they are afterwards as they were.
    """
    level = logging.getLogger("attar").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSFORMERS_VERBOSITY", "error")
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        patch.setenv("TQDM_DISABLE", "1")
        patch.setattr(logging, "basicConfig", lambda **_: None)
        try:
            return app.run(argv)
        finally:
            logging.getLogger("attar").setLevel(level)
