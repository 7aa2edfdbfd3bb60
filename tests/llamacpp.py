"""llama.cpp itself, loaded with what was exported."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest


class LlamaCpp:
    """A file in llama.cpp, which computes and caches in float32 as far as the file allows."""

    def __init__(self, file: Path, *, context: int = 256) -> None:
        x = pytest.importorskip("xllamacpp")
        options = x.CommonParams()
        options.model.path = str(file)
        options.n_ctx, options.n_parallel, options.verbosity = context, 1, -1
        options.warmup, options.cpuparams.n_threads = False, 1
        options.cache_type_k = options.cache_type_v = x.ggml_type.GGML_TYPE_F32
        options.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = x.Server(options)

    def ask(self, path: str, **body: Any) -> Any:
        """What the server answers at this path."""
        request = urllib.request.Request(
            self.server.listening_address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """The tokens of a text; with `special`, those that stand around it, too."""
        found = self.ask("/tokenize", content=text, add_special=special, parse_special=True)
        return found["tokens"]

    def text(self, ids: list[int]) -> str:
        """What tokens stand for."""
        return self.ask("/detokenize", tokens=ids)["content"]

    def greedy(self, prompt: str | list[int], *, tokens: int) -> str:
        """How it continues a prompt."""
        options = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False}
        return self.ask("/completion", **options)["content"]

    def chat(self, message: str, *, tokens: int) -> str:
        """What it answers, through the chat template of the file."""
        options = {"max_tokens": tokens, "temperature": 0, "cache_prompt": False}
        messages = [{"role": "user", "content": message}]
        answer = self.ask("/v1/chat/completions", messages=messages, **options)
        return answer["choices"][0]["message"]["content"]

    def log_probabilities(self, ids: list[int], *, rows: int, printable: int) -> list[float]:
        """Of every next token.

        Args:
            ids: the tokens before it.
            rows: tokens of the vocabulary.
            printable: a token that is text of its own, as nothing is told of half a character.
        """
        answer = self.ask(
            "/completion",
            prompt=ids,
            n_predict=1,
            n_probs=rows,
            logit_bias=[[printable, 1000.0]],  # what is told comes from before it is added
            cache_prompt=False,
        )
        told = answer["completion_probabilities"][0]["top_logprobs"]
        return [each["logprob"] for each in sorted(told, key=lambda each: each["id"])]
