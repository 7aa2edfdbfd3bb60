"""Does pruning need more memory than running the parent?

Peak memory of tensors, each in a process of its own: evaluating the parent, pruning it with Bonsai,
and one gradient step (AdamW) as contrast, at the same batch. Ratio: pruning over evaluating.
"""

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import arguments, finish

TARGET = 1.06
WORKER = """
import json, sys
import torch
torch.set_num_threads(2)
from transformers import LlamaConfig, LlamaForCausalLM
from attar.budget import Budget
from attar.evaluation import likelihood
from attar.measure.cost import cost_of
from attar.measure.memory import watch_memory
from attar.methods.bonsai import STRATEGY, BonsaiConfig
from attar.models import autocast
from attar.pruning.loop import LoopTask, prune_to_budget

job, shape, rows, tokens = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(**shape)).eval()
windows = torch.randint(0, shape["vocab_size"], (64, tokens))
budget = Budget.parse("blocks<=50%").resolve(cost_of(model))
config = BonsaiConfig(windows=rows, batch_size=rows, evaluations=8, step=0.1)
with watch_memory(model) as peak:
    if job == "evaluate":
        for _ in range(4):
            likelihood.nll(model, windows[:rows], batch_size=rows)
    elif job == "prune":
        task = LoopTask(
            model=model, windows=windows, budget=budget, strategy=STRATEGY, config=config
        )
        prune_to_budget(task)
    else:
        optimizer = torch.optim.AdamW(model.parameters())
        with autocast(model):
            loss = model(input_ids=windows[:rows], labels=windows[:rows]).loss
        loss.backward()
        optimizer.step()
print(json.dumps({"peak": peak.bytes, "start": peak.start, "params": cost_of(model).params}))
"""


def main() -> None:
    args = arguments(__doc__ or "")
    # memory does not depend on what the weights are: the 30M pocket shape, not trained
    shape = {
        "vocab_size": 8192,
        "hidden_size": 512,
        "num_hidden_layers": 4 if args.quick else 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 1408,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    rows, tokens = (4, 128) if args.quick else (8, 256)
    peaks: dict[str, dict] = {}
    for job in ("evaluate", "prune", "gradient step"):
        command = [sys.executable, "-c", WORKER, job, json.dumps(shape), str(rows), str(tokens)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[job] = json.loads(out.splitlines()[-1])
    held = {job: found["peak"] for job, found in peaks.items()}
    for job, found in peaks.items():
        above = (found["peak"] - found["start"]) / 1e6
        print(f"{job:15} peak {held[job] / 1e6:8.0f} MB, above the loaded model {above:8.0f} MB")
    ratio = held["prune"] / held["evaluate"]
    line = {
        "claim": "bonsai-memory",
        "figure": round(held["prune"] / 1e6, 1),
        "unit": "MB peak memory of tensors in pruning",
        "baseline": f"evaluating the parent at the same batch: {held['evaluate'] / 1e6:.1f} MB",
        "ratio": round(ratio, 4),
        "target": TARGET,
        "ok": bool(ratio <= TARGET),
        "gradient_step_ratio": round(held["gradient step"] / held["evaluate"], 4),
    }
    finish(__file__, line, {"peaks": peaks, "shape": shape, "rows": rows, "tokens": tokens}, args)


if __name__ == "__main__":
    main()
