"""Sound tokenizers are verified, unsound ones are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar import checkpoint
from attar.errors import DataError
from attar.evaluation.tokenizer_checks import verify_tokenizer
from attar.portable.tokenization_equal_info import EqualInfoTokenizer
from windows import SHAPES, made

TEXT = "naïve café ☕ def f(x):\n\treturn x  # 日本語\r\n"


@pytest.fixture(params=SHAPES)
def tokenizer(request: pytest.FixtureRequest) -> EqualInfoTokenizer:
    return made(request.param)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "tokenization_equal_info.py", "equal_info_generation.py"]
)
def test_a_tokenizer_that_transformers_cannot_load_is_not_verified(
    name: str, tmp_path: Path
) -> None:
    made().save_pretrained(tmp_path)
    found: Any = checkpoint.load_tokenizer(tmp_path)
    assert verify_tokenizer(found, ["a text"])["strings"] == 2**12
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"lacks {name}, without which AutoTokenizer"):
        verify_tokenizer(found, ["a text"])


def test_a_sound_tokenizer_is_verified_and_an_unsound_one_is_not(
    tokenizer: EqualInfoTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tokenizer.window_bits > 20:
        return
    checked = verify_tokenizer(tokenizer, [TEXT])
    assert checked["strings"] == 2**12
    assert checked["bytes of text"] == len(TEXT.encode())
    monkeypatch.setattr(
        type(tokenizer.dictionary), "decode", lambda self, codes: np.zeros(3, np.uint16)
    )
    with pytest.raises(DataError):
        verify_tokenizer(tokenizer, [TEXT])
