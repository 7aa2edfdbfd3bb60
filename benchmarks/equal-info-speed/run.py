"""How fast is text encoded and decoded, beside the Rust BPE of `tokenizers` with as many ids?

Ratio: our megabytes a second over those of BPE, encoding, one thread each, in turns. Beside it
decoding, windows with the byte model at work instead of a table, and a gigabyte through
`attar tokenizer encode` with the memory that it takes.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import torch
from common import arguments, finish
from datasets import Dataset

from attar.coding.ngram import symbols_of
from attar.coding.windows import StopCoder
from attar.evaluation.tokenizer_baselines import bpe, fit_ngrams
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import make_tokenizer
from attar.methods.equal_info.transformer import train_transformer
from windows import corpus

TARGET, LIVE = 5.0, 1000.0
BITS = 16
ROW = 16_000  # characters of a document
LEARNED = 20_000_000  # bytes that BPE is trained on


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def main() -> None:
    args = arguments(__doc__ or "")
    torch.set_num_threads(1)
    texts = corpus(args.data)
    whole = "".join(texts["train"] + texts["test"])
    size = 3_000_000 if args.quick else 50_000_000
    whole = (whole * (1 + size // len(whole)))[:size]
    rows = [whole[at : at + ROW] for at in range(0, len(whole), ROW)]
    megabytes = len(whole.encode()) / 1e6
    known = texts["fit"]

    fit_seconds, tokenizer = timed(
        lambda: make_tokenizer(known, config=EqualInfoConfig(window_bits=BITS))
    )
    learned = known[: 20 if args.quick else None]
    bpe_seconds, other = timed(
        lambda: bpe(Dataset.from_dict({"text": learned}), vocab_size=2**BITS + 1)
    )
    rust = other.backend_tokenizer
    tokenizer.encode_bytes(b"compile")
    ways: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
        "equal-info": (
            lambda: [tokenizer.encode_bytes(row.encode()) for row in rows],
            lambda ids: [tokenizer.decode_bytes(one).decode() for one in ids],
        ),
        "BPE (Rust)": (
            lambda: [one.ids for one in rust.encode_batch_fast(rows, add_special_tokens=False)],
            lambda ids: rust.decode_batch(ids, skip_special_tokens=False),
        ),
    }
    times: dict[str, dict[str, list[float]]] = {w: {"encode": [], "decode": []} for w in ways}
    for _ in range(1 if args.quick else 3):
        for way, (encode, decode) in ways.items():
            seconds, ids = timed(encode)
            times[way]["encode"].append(megabytes / seconds)
            seconds, back = timed(lambda decode=decode, ids=ids: decode(ids))
            times[way]["decode"].append(megabytes / seconds)
            assert back == rows
    speeds = {
        way: {what: statistics.median(found) for what, found in one.items()}
        for way, one in times.items()
    }
    live = _live(known, whole, quick=args.quick)
    for way, one in (speeds | live).items():
        print(f"  {way:28}" + "".join(f"{what} {v:12.6f} MB/s  " for what, v in one.items()))
    scale = None if args.quick else [_scale(tokenizer, whole, times) for times in (5, 20)]
    for one in scale or []:
        print(
            f"  {one['bytes'] / 1e9:.2f} GB: {one['seconds']:.0f} s, {one['peak'] / 2**20:.0f} MiB"
        )

    ours, theirs = speeds["equal-info"], speeds["BPE (Rust)"]
    ratio, back = ours["encode"] / theirs["encode"], ours["decode"] / theirs["decode"]
    over_live = ours["encode"] / live["live Transformer, windows"]["encode"]
    held = f"; 1 GB took {scale[1]['peak'] / 2**20:.0f} MiB" if scale else ""
    linear = scale[1]["seconds"] / scale[0]["seconds"] / 4 if scale else None
    line = {
        "claim": "equal-info-speed",
        "figure": round(ours["encode"], 2),
        "unit": "megabytes a second, encoding, one thread",
        "baseline": f"BPE of `tokenizers` with as many ids: {theirs['encode']:.2f}",
        "ratio": round(ratio, 2),
        "target": TARGET,
        "ok": ratio >= TARGET
        and back >= TARGET
        and over_live >= LIVE
        and (scale is None or scale[1]["peak"] < 2**30),
        "note": f"decoding {back:.1f} times BPE's speed ({ours['decode']:.1f} MB/s); "
        f"{over_live:.0f} times a live Transformer's, fitted in {fit_seconds:.1f} s "
        f"(BPE: {bpe_seconds:.0f} s)"
        + held
        + (f", {linear:.2f} times the time of a quarter of it for each byte" if linear else "")
        + ".",
    }
    details = {
        "speeds": speeds | live,
        "times": times,
        "fit_seconds": fit_seconds,
        "bpe_fit_seconds": bpe_seconds,
        "dictionary_bytes": tokenizer.dictionary.parent.nbytes + tokenizer.dictionary.symbol.nbytes,
        "bytes_per_id": megabytes
        * 1e6
        / sum(len(tokenizer.encode_bytes(r.encode())) for r in rows),
        "scale": scale,
    }
    finish(__file__, line, details, args)


def _live(known: list[str], whole: str, *, quick: bool) -> dict[str, dict[str, float]]:
    """Windows with the byte model at work: counts, and a Transformer that is not trained well, as
    its speed does not depend on that."""
    few = symbols_of(whole[:2000])
    counts = fit_ngrams(known[:10], order=6, precision=16)
    config = EqualInfoConfig(model_kind="transformer", max_steps=5, per_device_train_batch_size=8)
    neural = train_transformer([symbols_of(text) for text in known[:10]], config=config)
    found = {}
    for name, model in (("live n-grams, windows", counts), ("live Transformer, windows", neural)):
        seconds, _ = timed(lambda model=model: StopCoder(model, window_bits=BITS).encode(few))
        found[name] = {"encode": len(few) / 1e6 / seconds}
    return found


def _scale(tokenizer: Any, whole: str, times: int) -> dict[str, float]:
    """Time and peak memory of `attar tokenizer encode` on the text repeated, all processes."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tokenizer.save_pretrained(place / "tokenizer")
        with (place / "text.txt").open("w", encoding="utf-8") as out:
            for _ in range(times):
                out.write(whole)
        argv = [sys.executable, "-m", "attar", "tokenizer", "encode", str(place / "tokenizer")]
        argv += ["--data", str(place / "text.txt"), "-o", str(place / "ids")]
        began = time.perf_counter()
        run = subprocess.Popen(argv, env=os.environ | {"HF_HOME": str(place / "cache")})
        peak = 0
        while run.poll() is None:
            peak = max(peak, _memory(run.pid))
            time.sleep(0.2)
        assert run.returncode == 0
        seconds = time.perf_counter() - began
        return {"bytes": (place / "text.txt").stat().st_size, "seconds": seconds, "peak": peak}


def _memory(pid: int) -> int:
    """Bytes that a process and its children hold and share with no other, pages of files among
    them."""
    try:
        one = psutil.Process(pid)
        return sum(p.memory_full_info().uss for p in (one, *one.children(recursive=True)))
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
