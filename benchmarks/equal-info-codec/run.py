"""How much text does a window hold under three codecs, and how many windows cannot be read?

Ratio: bytes for each window of the stop-cell coder over those of the paper's greedy coder, W = 16,
with the same byte model, on text that it has not seen. The same text as a file, beside gzip,
zstd and xz, stands next to it.
"""

import gzip
import lzma
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow
from common import arguments, finish

from attar.coding.archive import compress_file
from attar.coding.ngram import NgramModel, symbols_of
from attar.coding.windows import StopCoder
from attar.methods.equal_info.coders import DelayCoder, PaperCoder
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import make_tokenizer
from windows import corpus, head

TARGET = 1.03
CODECS = {"paper": PaperCoder, "delay": DelayCoder, "stop": StopCoder}
WINDOWS = (12, 16, 24, 32)


def files(text: bytes, known: list[str], *, widths: tuple[int, ...]) -> dict[str, float]:
    """Bits for each byte of a file, by program. Ours has read `known`, as one xz has."""

    def xz(content: bytes) -> int:
        return len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))

    before = "".join(known).encode()
    zstd = pyarrow.Codec("zstd", compression_level=22)
    sizes = {
        "gzip": len(gzip.compress(text, 9)),
        "zstd": len(zstd.compress(text, asbytes=True)),
        "xz": xz(text),
        "xz after the same books": xz(before + text) - xz(before),
    }
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "text"
        source.write_bytes(text)
        for bits in widths:
            config = EqualInfoConfig(window_bits=bits, token_bits=min(bits, 16))
            _, size = compress_file(
                source,
                tokenizer=make_tokenizer(known, config=config),
                output_file=Path(place) / f"{bits}.eqiw",
            )
            sizes[f"windows of {bits} bits"] = size
    return {name: 8 * size / len(text) for name, size in sizes.items()}


def main() -> None:
    args = arguments(__doc__ or "")
    texts = corpus(args.data)
    began = time.perf_counter()
    model = NgramModel.fit(
        [symbols_of(text) for text in texts["fit"]], order=6, alphabet=256, precision=16
    )
    fitted = time.perf_counter() - began
    text = symbols_of(head(texts["test"], 5_000 if args.quick else 150_000))
    rows: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in CODECS}
    for bits in (12, 16) if args.quick else WINDOWS:
        for name, codec in CODECS.items():
            began = time.perf_counter()
            wrong, windows = codec(model, window_bits=bits).wrong(text)
            rows[name][bits] = {
                "bytes_per_window": len(text) / windows,
                "bits_per_byte": bits * windows / len(text),
                "wrong": wrong / windows,
                "windows": windows,
                "seconds": time.perf_counter() - began,
            }
            one = rows[name][bits]
            print(
                f"W={bits}  {name:6} {one['bytes_per_window']:7.3f} bytes a window, "
                f"{one['wrong']:6.1%} wrong",
                flush=True,
            )
    packed = files(
        text.astype("uint8").tobytes(), texts["fit"], widths=(16,) if args.quick else (16, 32)
    )
    for name, bits in packed.items():
        print(f"as a file, {name}: {bits:.3f} bits for each byte")
    stop, paper, delay = (rows[name][16] for name in ("stop", "paper", "delay"))
    ratio = stop["bytes_per_window"] / paper["bytes_per_window"]
    wrong = sum(one["wrong"] for one in rows["stop"].values())
    line = {
        "claim": "equal-info-codec",
        "figure": round(stop["bytes_per_window"], 3),
        "unit": "bytes for each window of 16 bits, stop-cell coder, unseen text",
        "baseline": f"the paper's greedy windows: {paper['bytes_per_window']:.3f}",
        "ratio": round(ratio, 4),
        "target": TARGET,
        "ok": ratio >= TARGET and wrong == 0,
        "note": f"windows that are not read as they were written: stop {wrong:.0%}, "
        f"greedy {paper['wrong']:.0%}; the paper's delay {delay['bytes_per_window']:.3f} bytes, "
        f"{delay['wrong']:.0%} wrong. Over greedy at W = "
        + ", ".join(
            f"{b}: {rows['stop'][b]['bytes_per_window'] / rows['paper'][b]['bytes_per_window']:.3f}"
            for b in rows["stop"]
        )
        + ". As a file, bits for each byte: "
        + ", ".join(f"{name} {bits:.2f}" for name, bits in packed.items())
        + ".",
    }
    details = {"rows": rows, "bytes": len(text), "fit_seconds": fitted, "order": 6, "files": packed}
    finish(__file__, line, details, args)


if __name__ == "__main__":
    main()
