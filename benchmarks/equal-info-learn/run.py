"""What does a language model learn from windows, beside bytes, plain arithmetic code and BPE?

Figure: bits per byte of held-out text, the same small Llama and recipe on every tokenization, after
equal processor seconds and after equal steps; of bytes, windows of 12 bits and BPE after ten
times as long too. Every training is kept, and a second call goes on.
"""

import hashlib
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from common import finish, parse
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from attar import artefacts
from attar.evaluation import likelihood
from attar.evaluation.bits import unigram_bits
from attar.evaluation.tokenizer_baselines import (
    Ids,
    arithmetic_ids,
    bpe,
    byte_ids,
    fit_ngrams,
    ids_of,
)
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import make_tokenizer
from attar.train.trainer import TrainConfig, fit
from windows import corpus, head

SEEDS = (0, 1)
#: name -> ids
ROWS = {
    "bytes": 256,
    "plain AC": 256,
    "EqualInfo b=12": 2**12,
    "BPE 4096": 2**12,
    "EqualInfo b=16": 2**16,
    "BPE 65536": 2**16,
}
CONTEXT, BATCH = 128, 16
STEPS, SECONDS = 400, 150
#: do windows pass bytes later? Rows, and seconds, of the longer trainings; one seed
LONG_ROWS, LONG = ("bytes", "EqualInfo b=12", "BPE 4096"), 1500
TEXT, TEST = 9_000_000, 150_000  # bytes


@cache
def _texts(data: Path) -> dict[str, list[str]]:
    return corpus(data)


def store(data: Path, *, quick: bool) -> Path:
    """Where encoded texts and trainings are kept: one folder for each corpus and setting."""
    digest = hashlib.sha256(repr(_texts(data)).encode()).hexdigest()[:8]
    home = artefacts.home() / "benchmarks" / "equal-info-learn"
    folder = home / f"{'quick' if quick else 'full'}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rows_of(*, quick: bool) -> list[str]:
    """All, or those of few ids: an output layer of 65,536 takes most of a processor's time."""
    return [row for row, ids in ROWS.items() if ids <= 2**12 or not quick]


def encoder(row: str, data: Path, *, quick: bool) -> Callable[[str], Ids]:
    """Text to ids; what it is fitted on, no model here is trained on."""
    known = _texts(data)["fit"]
    if quick:
        known = [head(known, 1_000_000)]
    if row == "bytes":
        return byte_ids
    if row == "plain AC":
        return partial(arithmetic_ids, model=fit_ngrams(known, order=6, precision=16))
    if row.startswith("BPE"):
        rows = Dataset.from_dict({"text": known})
        return ids_of(bpe(rows, vocab_size=ROWS[row]))
    bits = ROWS[row].bit_length() - 1
    tokenizer = make_tokenizer(known, config=EqualInfoConfig(window_bits=bits))
    return lambda text: tokenizer.encode_bytes(text.encode()).astype(np.int64)


def windows(row: str, data: Path, *, quick: bool) -> dict[str, Any]:
    """Windows of ids to train on and to score, made once and kept."""
    file = store(data, quick=quick) / f"{row}.pt"
    if not file.exists():
        encode = encoder(row, data, quick=quick)
        text = {
            "train": head(_texts(data)["train"], 300_000 if quick else TEXT),
            "test": head(_texts(data)["test"], 30_000 if quick else TEST),
        }
        found: dict[str, Any] = {}
        for split, one in text.items():
            ids = encode(one)
            whole = len(ids) // CONTEXT
            rows = torch.from_numpy(ids[: whole * CONTEXT]).view(whole, CONTEXT)
            found |= {split: rows.int(), f"{split}_bytes": len(one.encode()) / len(ids)}
        beside = file.with_suffix(".tmp")
        torch.save(found, beside)
        beside.rename(file)
    return torch.load(file)


def train(row: str, seed: int, steps: int, data: Path, *, quick: bool) -> dict[str, float]:
    """Bits per byte after so many steps, and the time that they took."""
    found = windows(row, data, quick=quick)
    shape = LlamaConfig(
        vocab_size=ROWS[row],
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(shape)
    config = TrainConfig(
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=2e-3,
        warmup_steps=0.05,
        weight_decay=0.1,
        adam_beta2=0.95,
        seed=seed,
    )
    began = time.process_time()
    fit(model, found["train"].long(), config=config)
    seconds = time.process_time() - began
    nats = likelihood.nll(model, found["test"].long(), batch_size=4)
    size = found["test_bytes"]
    head_size = model.lm_head.weight.numel()
    body = model.num_parameters() - head_size
    return {
        "bits_per_byte": nats / math.log(2) / size,
        "uniform": math.log2(ROWS[row]) / size,
        "unigram": unigram_bits(found["test"].long().flatten()) / size,
        "bytes_per_id": size,
        "steps": steps,
        "seconds": seconds,
        "bytes_seen": steps * BATCH * CONTEXT * found["train_bytes"],
        "body": body,
        "flops_per_byte": 2 * body / size,
        "flops_per_byte_with_softmax": 2 * (body + head_size) / size,
    }


def kept(
    data: Path, *, quick: bool, share: tuple[int, int] | None, longer: bool = False
) -> dict[str, dict[str, float]]:
    """All trainings by name; with `share`, those of one worker (or its `longer` ones) first."""
    file = store(data, quick=quick) / "runs.jsonl"
    done: dict[str, dict[str, float]] = {}

    def read() -> None:
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            done.update(json.loads(line))

    def make(name: str, *args: Any) -> None:
        found = train(*args, data, quick=quick)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({name: found}) + "\n")
        print(
            f"{name}: {found['bits_per_byte']:.3f} bits per byte, {found['seconds']:.0f} s",
            flush=True,
        )

    read()
    if share is None:
        return done
    steps, seconds, long = (5, 2, 4) if quick else (STEPS, SECONDS, LONG)

    def within(row: str, seed: int, limit: float) -> int:
        """Steps that take so many seconds, as those of the first training did."""
        return max(1, round(limit * steps / done[f"{row} {seed} steps"]["seconds"]))

    for row in LONG_ROWS[share[0] :: share[1]] if longer else ():
        if f"{row} {SEEDS[0]} long" not in done:
            make(f"{row} {SEEDS[0]} long", row, SEEDS[0], within(row, SEEDS[0], long))
    if longer:
        return done
    cells = [(row, seed) for seed in SEEDS[: 1 if quick else None] for row in rows_of(quick=quick)]
    for row, seed in cells[share[0] :: share[1]]:
        if f"{row} {seed} steps" not in done:
            make(f"{row} {seed} steps", row, seed, steps)
            read()
        if f"{row} {seed} seconds" not in done:
            make(f"{row} {seed} seconds", row, seed, within(row, seed, seconds))
            read()
    return done


def main() -> None:
    parser = parse(__doc__ or "")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--worker", type=int, default=None, help="which of them this one is")
    parser.add_argument("--longer", action="store_true", help="its longer trainings")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.worker is not None:
        kept(args.data, quick=args.quick, share=(args.worker, args.workers), longer=args.longer)
        return
    for row in rows_of(quick=args.quick):
        windows(row, args.data, quick=args.quick)
    own = [sys.executable, __file__, "--data", str(args.data), "--workers", str(args.workers)]
    own += ["--quick"] * args.quick
    for which in ([], ["--longer"]):  # how long a step takes, the first trainings tell
        started = [
            subprocess.Popen([*own, "--worker", str(i), *which]) for i in range(args.workers)
        ]
        if any([one.wait() for one in started]):
            sys.exit("a worker failed; run this again to go on")
    report(kept(args.data, quick=args.quick, share=None), args)


def report(done: dict[str, dict[str, float]], args: Any) -> None:
    """Print the tables and write the result."""
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for budget in ("seconds", "steps", "long"):
        print(f"\n{'one seed, longer' if budget == 'long' else f'equal {budget}'}")
        print(
            f"  {'':16}{'bits/byte':>10}{'uniform':>9}{'unigram':>9}{'bytes/id':>10}{'ids/kB':>8}"
            f"{'steps':>7}{'MB seen':>9}{'MFLOP/byte':>12}{'with head':>10}"
        )
        for row in LONG_ROWS if budget == "long" else rows_of(quick=args.quick):
            runs = [
                one for key, one in done.items() if key.startswith(row) and key.endswith(budget)
            ]
            mean = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
            mean["range"] = max(r["bits_per_byte"] for r in runs) - min(
                r["bits_per_byte"] for r in runs
            )
            tables.setdefault(budget, {})[row] = mean
            print(
                f"  {row:16}{mean['bits_per_byte']:10.3f}{mean['uniform']:9.3f}"
                f"{mean['unigram']:9.3f}{mean['bytes_per_id']:10.2f}"
                f"{1000 / mean['bytes_per_id']:8.0f}{mean['steps']:7.0f}"
                f"{mean['bytes_seen'] / 1e6:9.2f}{mean['flops_per_byte'] / 1e6:12.2f}"
                f"{mean['flops_per_byte_with_softmax'] / 1e6:10.2f}"
            )
    timed = tables["seconds"]
    coded, plain = timed["plain AC"], timed["bytes"]["bits_per_byte"]
    apart = abs(coded["bits_per_byte"] / coded["uniform"] - 1)
    ours = {row: timed[row]["bits_per_byte"] for row in timed if row.startswith("EqualInfo")}
    worse = max(ours, key=ours.__getitem__)
    unlearned = [row for row in ours if ours[row] > timed[row]["unigram"]]
    line = {
        "claim": "equal-info-learn",
        "figure": round(ours[worse], 3),
        "unit": f"bits per byte of the worse window row ({worse}), equal processor seconds",
        "baseline": f"bytes: {plain:.3f}",
        "ratio": round(ours[worse] / plain, 4),
        "target": 1.0,
        "ok": apart <= 0.01 and all(one < plain for one in ours.values()),
        "note": f"plain arithmetic code is {apart:.1%} from uniform (target 1%). "
        + "; ".join(
            f"b={b}: {timed[f'EqualInfo b={b}']['bits_per_byte']:.3f}, BPE of as many ids "
            f"{timed[f'BPE {2**b}']['bits_per_byte']:.3f}"
            for b in (12, 16)
            if 2**b in map(ROWS.get, timed)
        )
        + (f" ({', '.join(unlearned)} not below its ids' frequencies)" if unlearned else "")
        + f". Equal steps: bytes {tables['steps']['bytes']['bits_per_byte']:.3f}, "
        + ", ".join(
            f"{row} {tables['steps'][row]['bits_per_byte']:.3f}"
            for row in timed
            if row not in ("bytes", "plain AC")
        )
        + f". After {tables['long']['bytes']['seconds']:.0f} seconds, one seed: "
        + ", ".join(f"{row} {one['bits_per_byte']:.3f}" for row, one in tables["long"].items())
        + ".",
    }
    finish(__file__, line, {"tables": tables, "runs": done}, args)


if __name__ == "__main__":
    main()
