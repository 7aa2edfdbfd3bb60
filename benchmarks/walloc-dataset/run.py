"""How many pictures a second reach a training loop from latents, and from JPEG files that are
decoded and resized to as many numbers?

The same photographs, as shards of latents and as the JPEG files that they came as, read by one
process in batches of float tensors. Ratios are medians of alternating rounds.
"""

import io
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from common import finish, parse
from datasets import Dataset, Image
from PIL import Image as Pillow
from torch.utils.data import DataLoader

from attar import artefacts
from attar.codec import LatentLoader, compress_dataset
from attar.data.media import open_media
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig, fit

TARGET, BATCH, STEP = 3.0, 32, 0.06
#: channels of the latents, and the size (W, H) of a picture with about as many numbers
SETTINGS = {"4x": (12, (240, 160)), "16x": (3, (120, 80))}


def codec(photos: Path, channels: int) -> WaveletCodec:
    """The closed form, fitted to some of the photographs."""
    made = WaveletCodec(WaveletCodecConfig(levels=2, latent_channels=channels))
    fit(made, open_media(photos, max_items=40), step=STEP)
    return made.eval()


def latents(photos: Path, channels: int, folder: Path) -> Path:
    """The data set of latents, encoded anew."""
    shutil.rmtree(folder, ignore_errors=True)
    compress_dataset(codec(photos, channels), photos, output_dir=folder)
    return folder


def jpegs(photos: Path, folder: Path) -> Dataset:
    """The files themselves, in a data set on disk."""
    files = [{"bytes": file.read_bytes()} for file in sorted(photos.glob("*.jpg"))]
    rows = Dataset.from_dict({"image": files}).cast_column("image", Image(decode=False))
    shutil.rmtree(folder, ignore_errors=True)
    rows.save_to_disk(folder)
    return Dataset.load_from_disk(str(folder))


def from_jpeg(rows: Dataset, size: tuple[int, int], *, draft: bool) -> DataLoader:
    """Batches of pictures, decoded and resized, as floats."""

    def together(cells: list[dict[str, Any]]) -> torch.Tensor:
        pixels = np.stack([pixels_of(cell["image"]["bytes"]) for cell in cells])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255).sub_(0.5)

    def pixels_of(raw: bytes) -> np.ndarray:
        picture = Pillow.open(io.BytesIO(raw))
        width, height = size if picture.width > picture.height else size[::-1]
        if draft:
            picture.draft("RGB", (width, height))
        small = picture.convert("RGB").resize((width, height), Pillow.Resampling.BILINEAR)
        found = np.asarray(small)
        return found if found.shape[1] >= found.shape[0] else found.transpose(1, 0, 2)

    return DataLoader(rows, batch_size=BATCH, collate_fn=together)  # pyright: ignore[reportArgumentType]


def speed(batches: Iterable[Any], read: Callable[[Any], torch.Tensor]) -> float:
    """Pictures a second of a pass, each batch summed as a loop would read it."""
    count, began = 0, time.perf_counter()
    for batch in batches:
        values = read(batch)
        values.sum()
        count += len(values)
    return count / (time.perf_counter() - began)


def size_of(folder: Path) -> int:
    """Bytes of the shards of a data set."""
    return sum(file.stat().st_size for file in folder.glob("*.parquet"))


def main() -> None:
    args = parse(__doc__ or "").parse_args()
    photos = args.data.absolute() / "images" / "photos" / "train"
    place = artefacts.home() / "benchmarks" / "walloc-dataset"
    place.mkdir(parents=True, exist_ok=True)
    rows, details = jpegs(photos, place / "jpeg"), dict[str, Any]()
    for name, (channels, size) in SETTINGS.items():
        folder = latents(photos, channels, place / name)
        ways = {
            "latents": (LatentLoader(folder, batch_size=BATCH), lambda batch: batch["features"]),
            "jpeg": (from_jpeg(rows, size, draft=False), lambda batch: batch),
            "draft": (from_jpeg(rows, size, draft=True), lambda batch: batch),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(1 + (3 if args.quick else 15)):
            for way in list(ways)[:: 1 if number % 2 else -1]:
                batches, read = ways[way]
                rates[way].append(speed(batches, read))
        rates = {way: found[1:] for way, found in rates.items()}  # the first round warms up
        ratios = {
            way: statistics.median(
                one / other for one, other in zip(rates["latents"], rates[way], strict=True)
            )
            for way in ("jpeg", "draft")
        }
        details[name] = {
            "rates": rates,
            "ratios": ratios,
            "numbers": {
                "latents": int(np.prod(next(iter(ways["latents"][0]))["features"].shape[1:])),
                "jpeg": 3 * size[0] * size[1],
            },
            "bytes": {"latents": size_of(folder), "jpeg": sum(map(len, files_in(rows)))},
        }
    main_one, small = details["4x"], details["16x"]
    latent_rate, jpeg_rate = (statistics.median(main_one["rates"][w]) for w in ("latents", "jpeg"))
    ratio = main_one["ratios"]["jpeg"]
    line = {
        "claim": "walloc-dataset",
        "figure": round(latent_rate),
        "unit": "pictures a second into a training loop, in one process",
        "baseline": f"JPEG decoded and resized to as many numbers: {jpeg_rate:.0f} a second",
        "ratio": round(ratio, 2),
        "target": TARGET,
        "draft": round(main_one["ratios"]["draft"], 2),
        "ratio_16x": round(small["ratios"]["jpeg"], 2),
        "draft_16x": round(small["ratios"]["draft"], 2),
        "ok": bool(ratio >= TARGET),
    }
    finish(__file__, line, details, args)


def files_in(rows: Dataset) -> list[bytes]:
    """The JPEG files of a data set."""
    cells: Any = rows["image"]
    return [cell["bytes"] for cell in cells]


if __name__ == "__main__":
    main()
