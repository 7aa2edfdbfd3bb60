"""How good, and how fast, is a segmenter trained on what there is of BEST?

Figure: points of word F1 over newmm on sentences of BEST that it has not seen; ratio: its
characters a second over deepcut's. Beside it the same on Wisesight and on the Universal
Dependencies treebanks PUD and TUD, with `longest` of pythainlp, and what the dictionary is worth.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import finish, parse

from attar import artefacts
from attar.data.segments.cuts import Segmented
from attar.data.segments.formats import read_segments
from attar.evaluation.segmentation import Counts, count, oov_recall, total, word_f1
from attar.methods.active_segmentation import Segmenter, SegmenterConfig, fit
from attar.methods.active_segmentation.engines import load_engine

TARGET, FASTER = 8.0, 10.0
HELD_OUT = 0.05
#: sentences of each test set that every engine cuts; deepcut takes minutes for more
SENTENCES = 150
CONFIG = SegmenterConfig(hash_bits=22, seed=0)
PEERS = ("newmm", "longest", "deepcut")

Engine = Callable[[list[str]], Sequence[Sequence[int]]]


def main() -> None:
    parser = parse(__doc__ or "")
    parser.add_argument("--kinds", nargs="+", default=["crf", "pointwise"])
    args = parser.parse_args()
    sets = test_sets(args)
    train = sets.pop("train")
    print(f"{len(train)} sentences to train on, {sum(len(r.text) for r in train)} characters")
    kinds: list[str] = ["crf"] if args.quick else args.kinds
    ours, seconds = {}, {}
    for kind in kinds:
        ours[kind], seconds[kind] = trained(train, kind=kind, quick=args.quick)
    known = {token for row in train for token in row.tokens}
    engines: dict[str, Engine] = {kind: one.segment for kind, one in ours.items()}
    engines |= {name: peer(name) for name in PEERS}

    subsets = {name: spread(rows, 10 if args.quick else SENTENCES) for name, rows in sets.items()}
    speeds = raced(engines, subsets["BEST"], rounds=1 if args.quick else 3)
    scores: dict[str, dict[str, Any]] = {}
    for name, rows in sets.items():
        few = spread(rows, 300) if args.quick else rows
        scores[name] = {"sentences": len(few), "subset": len(subsets[name])}
        for engine, cut in engines.items():
            slow = engine == "deepcut"
            scores[name][engine] = scored(cut, subsets[name] if slow else few, known)
            if not slow:
                scores[name][engine]["subset"] = scored(cut, subsets[name], known)["word_f1"]
        line = "  ".join(f"{e} {scores[name][e]['word_f1']:.4f}" for e in engines)
        print(f"  {name:10} {line}", flush=True)
    print("  " + "  ".join(f"{name} {speed:,.0f}/s" for name, speed in speeds.items()))
    worth = dictionary_worth(train, sets["BEST"], quick=args.quick)

    best = scores["BEST"]
    figure = 100 * (best["crf"]["word_f1"] - best["newmm"]["word_f1"])
    ratio = speeds["crf"] / speeds["deepcut"]
    over = {
        name: 100 * (found["crf"]["word_f1"] - found["newmm"]["word_f1"])
        for name, found in scores.items()
        if name != "BEST"
    }
    away = ", ".join(f"{points:+.1f} on {name}" for name, points in over.items())
    line = {
        "claim": "segmenter",
        "figure": round(figure, 2),
        "unit": "points of word F1 over newmm, on unseen sentences of the corpus it learned from",
        "baseline": f"newmm: {best['newmm']['word_f1']:.4f}",
        "ratio": round(ratio, 1),
        "target": TARGET,
        "ok": figure >= TARGET and ratio >= FASTER,
        "note": f"word F1 {best['crf']['word_f1']:.4f}; points over newmm elsewhere: {away}; "
        f"{speeds['crf']:,.0f} characters a second, {ratio:.0f} times deepcut's.",
    }
    details = {
        "scores": scores,
        "characters_per_second": speeds,
        "train_sentences": len(train),
        "train_characters": sum(len(row.text) for row in train),
        "train_seconds": seconds,
        "dictionary": worth,
        "seeds": [0],
    }
    finish(__file__, line, details, args)


def test_sets(args: argparse.Namespace) -> dict[str, list[Segmented]]:
    """Sentences to train on, and each test set. The same text is never on both sides."""
    thai = args.data / "thai"
    best = [row for file in ("article", "news") for row in read(thai / "best" / f"{file}.txt.gz")]
    sets = {
        "train": [row for row in best if key(row.text) >= HELD_OUT],
        "BEST": [row for row in best if key(row.text) < HELD_OUT],
    }
    if args.quick:
        sets["train"] = spread(sets["train"], 1500)
    wisesight = thai / "wisesight" / "wisesight-1000-samples-tokenised.label"
    return sets | {
        "Wisesight": read(wisesight),
        "PUD": read(thai / "ud" / "th_pud-ud-test.conllu.gz", "conllu"),
        "TUD": read(thai / "ud" / "th_tud-ud-test.conllu.gz", "conllu"),
    }


def read(file: Path, format: str = "best") -> list[Segmented]:
    return [row for row in read_segments(file, format=format) if row.text]


def key(text: str) -> float:
    """A number from 0 to 1 that depends on the text alone."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2**64


def spread(rows: Sequence[Segmented], size: int) -> list[Segmented]:
    """So many, by their keys."""
    return sorted(rows, key=lambda row: key("subset" + row.text))[:size]


def trained(rows: list[Segmented], *, kind: Any, quick: bool) -> tuple[Segmenter, float | None]:
    """A segmenter, which is kept but for a quick run; and the seconds that it took, if it was."""
    folder = artefacts.home() / "benchmarks" / f"segmenter-{kind}"
    if not quick and (folder / "config.json").is_file():
        return Segmenter.from_pretrained(folder), None
    began = time.perf_counter()
    made = fit(rows, config=replace(CONFIG, kind=kind))
    seconds = time.perf_counter() - began
    if not quick:
        made.save_pretrained(folder)
    print(f"  {kind} was trained in {seconds:.0f} s", flush=True)
    return made, seconds


def peer(name: str) -> Engine:
    """An engine of pythainlp, as cuts."""
    engine = load_engine(name)
    return lambda texts: [engine(text) for text in texts]


def scored(cut: Engine, rows: list[Segmented], known: set[str]) -> dict[str, float]:
    found = cut([row.text for row in rows])
    pairs = list(zip(rows, found, strict=True))
    counts: Counts = total(count(row, cuts, known=known) for row, cuts in pairs)
    bare = total(count(row, cuts, whitespace=False) for row, cuts in pairs)
    return {
        "word_f1": word_f1(counts),
        "word_f1_without_whitespace": word_f1(bare),
        "oov_recall": oov_recall(counts),
    }


def raced(engines: dict[str, Engine], rows: list[Segmented], *, rounds: int) -> dict[str, float]:
    """Characters a second of each engine, medians of rounds in turns; one text at a time for the
    peers, as they take them, and all at once for ours."""
    texts = [row.text for row in rows]
    characters = sum(map(len, texts))
    times: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(texts[:2])
    for _ in range(rounds):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine(texts)
            times[name].append(time.perf_counter() - began)
    alone = next(iter(engines))
    times[f"{alone}, one text at a time"] = []
    for _ in range(rounds):
        began = time.perf_counter()
        for text in texts:
            engines[alone]([text])
        times[f"{alone}, one text at a time"].append(time.perf_counter() - began)
    return {name: characters / median(found) for name, found in times.items()}


def dictionary_worth(
    train: list[Segmented], test: list[Segmented], *, quick: bool
) -> dict[str, Any]:
    """Word F1 of small CRFs on mixed lines of up to 300 characters, with and without words."""
    short = [row for row in train if len(row.text) <= 300]
    random.Random(0).shuffle(short)
    few = [row for row in test if len(row.text) <= 300][: 100 if quick else 600]
    found = {}
    for size in (25, 100) if quick else (25, 100, 400, 1600):
        found[str(size)] = {
            str(words): word_f1(
                total(
                    count(row, cuts)
                    for row, cuts in zip(few, one.segment([r.text for r in few]), strict=True)
                )
            )
            for words in (None, "pythainlp")
            for one in [fit(short[:size], config=SegmenterConfig(dictionary=words))]
        }
        print(f"  {size} sentences: {found[str(size)]}", flush=True)
    return found


if __name__ == "__main__":
    main()
