"""The pictures of the documents, as SVG: bars of a benchmark's record."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

#: rows of benchmarks/bonsai-quality, and what a reader sees; of each baseline its best variant
PRUNED = {
    "bonsai": "Bonsai",
    "blockwise": "Blockwise (Attar's own)",
    "wanda (global)": "Wanda",
    "magnitude (global)": "Magnitude",
    "flap (global)": "FLAP",
    "random (equal)": "Random",
}
#: tasks of benchmarks/walloc-learning, and what a reader sees
READ = {
    "digits": "small digits",
    "words": "words that look alike",
    "spoken": "spoken digits",
    "photograph": "which photograph",
    "hue": "mean colour",
}
RED, GREEN, INK = "#c2410c", "#0f766e", "#1f2937"
LEFT, WIDTH, TOP, ROW, BAR = 190, 380, 64, 44, 15


def pruning(record: Mapping[str, Any]) -> str:
    """Rise of the loss over the parent before and after healing, mean of the seeds, by method."""
    details, bars = record["details"], {}
    for row, name in PRUNED.items():
        runs = details["rows"][row]
        cut = mean(run["nll"] for run in runs)
        healed = mean(run["healed"] for run in runs if "healed" in run)
        bars[name] = f"{cut - details['parent']:.2f}", f"{healed - details['parent']:.2f}"
    title = "Rise of the loss over the parent, in nats per token, with half of the blocks"
    return picture(title, bars, legend=("pruned", "pruned and healed (same training for all)"))


def learning(record: Mapping[str, Any]) -> str:
    """Accuracy of a network that reads latents, and of one that reads a smaller signal."""
    means = record["details"]["means"]
    bars = {
        name: (f"{means[task]['16x smaller']:.0f}", f"{means[task]['16x latents']:.0f}")
        for task, name in READ.items()
    }
    title = "Accuracy in percent of the same network, given a sixteenth of the numbers"
    return picture(title, bars, legend=("made smaller", "latents of WaLLoC"))


def picture(title: str, bars: Mapping[str, Sequence[str]], *, legend: tuple[str, str]) -> str:
    """An SVG with two bars a row, the same whenever the figures are.

    Args:
        title: above all.
        bars: the two figures of each row, as they are printed.
        legend: what they are.
    """
    scale = WIDTH / max(float(value) for values in bars.values() for value in values)
    height = TOP + ROW * len(bars) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" width="640" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="640" height="{height}" fill="#ffffff"/>',
        _text(16, 24, title),
    ]
    for x, colour, words in zip((16, 156), (RED, GREEN), legend, strict=True):
        parts.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, 47, words))
    for number, (row, values) in enumerate(bars.items()):
        y = TOP + ROW * number
        parts.append(_text(LEFT - 10, y + BAR + 4, row, anchor="end"))
        for value, colour, lower in zip(values, (RED, GREEN), (0, BAR + 1), strict=True):
            width = float(value) * scale
            parts.append(
                f'<rect x="{LEFT}" y="{y + lower}" width="{width:.1f}" height="{BAR}" '
                f'fill="{colour}"/>' + _text(LEFT + width + 6, y + lower + 12, value)
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
