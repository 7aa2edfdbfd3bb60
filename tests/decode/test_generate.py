"""The verb `generate`, whatever a checkpoint's own settings of generation ask for."""

from pathlib import Path
from typing import Any

import pytest

import scene
import tiny
from attar.decode.generate import GenerateConfig, generate

CONFIG = GenerateConfig(max_new_tokens=4, batch_size=2)
PROMPTS = ["def return", "import class self"]


@pytest.mark.parametrize(
    "settings",
    [
        {"num_return_sequences": 2, "num_beams": 2},
        {"return_dict_in_generate": True},
        {"stop_strings": ["zzz"]},
    ],
)
def test_each_prompt_has_one_text(settings: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = scene.tokenizer(scene.write_text(tmp_path / "text"))
    model: Any = tiny.model(vocab_size=len(tokenizer))
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    texts = generate(model, PROMPTS, config=CONFIG, tokenizer=tokenizer).details["texts"]
    assert [text.startswith(prompt) for text, prompt in zip(texts, PROMPTS, strict=True)] == [
        True,
        True,
    ]
