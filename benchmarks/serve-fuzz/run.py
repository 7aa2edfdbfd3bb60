"""Does any request that can be made from the server's own OpenAPI document break it?

Figure: failures that schemathesis finds; there is no ratio.
"""

import argparse
import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import arguments, finish
from datasets import Dataset
from serving import metric, serving
from transformers import LlamaConfig, LlamaForCausalLM

from attar.data.tokens import train_bpe

EXAMPLES, QUICK = 60, 10
"""Requests that are made at random for each operation, beside those that follow a system."""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: what a document cannot say: a token id that the model lacks, a prompt that is too long
SEMANTIC = "positive_data_acceptance"


def main() -> None:
    args = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model(Path(folder) / "tiny")
        options = ("--time-budget", "20", "--rows", "4", "--queue", "256")
        with serving(model, *options) as (url, process):
            told = fuzz(url, Path(folder), examples=QUICK if args.quick else EXAMPLES)
            alive = process.is_running()
            left = int(metric(url, "attar_texts_live"))
    report(args, told, alive=alive, left=left)


def report(args: argparse.Namespace, told: Mapping[str, Any], *, alive: bool, left: int) -> None:
    """Print what was found, and the claim as the last line."""
    cases, operations = told["test_cases"], told["operations"]
    for failure in (*told["failures"], *told["errors"]):
        print(f"{failure['count']:4} {failure['title']}: {failure.get('operations', '')}")
    line = {
        "claim": "serve-fuzz",
        "figure": cases["unique_failures"],
        "unit": f"failures in {cases['generated']} requests to {operations['tested']} operations",
        "baseline": "none",
        "ratio": None,
        "target": 0,
        "ok": not cases["unique_failures"] and not told["errors"] and alive and not left,
        "texts_left": left,
    }
    names = ("schemathesis_version", "seed", "running_time", "operations", "test_cases", "phases")
    details = {name: told[name] for name in (*names, "failures", "errors", "valid_rates")}
    finish(__file__, line, details, args)


def fuzz(url: str, folder: Path, *, examples: int) -> dict[str, Any]:
    """What schemathesis says of the server."""
    found = folder / "report.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)]
    command += ["--seed", "0", "--exclude-checks", SEMANTIC, "--no-color"]
    command += ["--report", "json", "--report-json-path", str(found)]
    subprocess.run(command, check=False, cwd=folder)  # what it found is in the report
    return json.loads(found.read_text(encoding="utf-8"))


def tiny_model(folder: Path) -> Path:
    """A random model that can complete, chat and fill in."""
    text = Dataset.from_dict({"text": [inspect.getsource(argparse)]})
    tokenizer = train_bpe(text, vocab_size=512, context=256)
    marks = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
