"""What a user without attar does with what was saved; runs in a process that cannot import it."""

import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer


def run_model(folder: str, ids: list[list[int]], remote: bool) -> Any:
    """Logits of a saved model, as a list; it generates, too."""
    _without_attar()
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=remote).eval()
    given = torch.tensor(ids)
    with torch.no_grad():
        logits = model(input_ids=given).logits
    model.generate(given, max_new_tokens=4, do_sample=False, pad_token_id=0)
    return logits.tolist()


def run_encoder(folder: str, ids: list[list[int]]) -> Any:
    """Logits of a saved masked language model that comes with its code, as a list."""
    _without_attar()
    model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids)).logits.tolist()


def run_tokenizer(folder: str, text: str) -> tuple[str, list[int], str]:
    """Class of a saved tokenizer, a text's ids, and the text again."""
    _without_attar()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    ids = tokenizer(text)["input_ids"]
    return type(tokenizer).__name__, ids, tokenizer.decode(ids)


def _without_attar() -> None:
    assert not any(name.partition(".")[0] == "attar" for name in sys.modules)
    sys.modules["attar"] = None  # pyright: ignore[reportArgumentType] - makes imports of it fail
