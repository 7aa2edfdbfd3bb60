"""The picture of the README: loss after half of the blocks has been cut, by method, as an SVG."""

from statistics import mean
from typing import Any

#: rows of benchmarks/bonsai-quality, and what a reader sees; of each baseline its best variant
ROWS = {
    "bonsai": "Bonsai",
    "blockwise": "Blockwise (Attar's own)",
    "wanda (global)": "Wanda",
    "magnitude (global)": "Magnitude",
    "flap (global)": "FLAP",
    "random (equal)": "Random",
}
CUT, HEALED, INK = "#c2410c", "#0f766e", "#1f2937"
LEFT, WIDTH, TOP, ROW, BAR = 190, 380, 64, 44, 15


def rises(record: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Rise of the loss over the parent before and after healing, mean of the seeds, by row."""
    details = record["details"]
    found = {}
    for row in ROWS:
        runs = details["rows"][row]
        cut = mean(run["nll"] for run in runs)
        healed = mean(run["healed"] for run in runs if "healed" in run)
        found[row] = cut - details["parent"], healed - details["parent"]
    return found


def picture(record: dict[str, Any]) -> str:
    """An SVG that is the same whenever the record is."""
    bars = rises(record)
    scale = WIDTH / max(cut for cut, _ in bars.values())
    height = TOP + ROW * len(bars) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" width="640" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="640" height="{height}" fill="#ffffff"/>',
        _text(
            16, 24, "Rise of the loss over the parent, in nats per token, with half of the blocks"
        ),
        f'<rect x="16" y="36" width="12" height="12" fill="{CUT}"/>{_text(34, 47, "pruned")}',
        f'<rect x="96" y="36" width="12" height="12" fill="{HEALED}"/>'
        + _text(114, 47, "pruned and healed (same training for all)"),
    ]
    for number, (row, values) in enumerate(bars.items()):
        y = TOP + ROW * number
        parts.append(_text(LEFT - 10, y + BAR + 4, ROWS[row], anchor="end"))
        for value, colour, lower in zip(values, (CUT, HEALED), (0, BAR + 1), strict=True):
            width = value * scale
            parts.append(
                f'<rect x="{LEFT}" y="{y + lower}" width="{width:.1f}" height="{BAR}" '
                f'fill="{colour}"/>' + _text(LEFT + width + 6, y + lower + 12, f"{value:.2f}")
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
