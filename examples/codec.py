"""Fit a codec, store a data set as its latents, and train a classifier on them.

    python examples/codec.py

The data are pictures that every machine has: photographs, text and shapes. The classifier reads
latents, 16 times fewer numbers than the pixels, and is measured on pictures that neither it nor the
codec has seen. Takes some seconds; everything goes to a new temporary folder.
"""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar import CodecConfig

DATA = "demo"  # or a folder of pictures with a folder for each class, a name on the Hub
EPOCHS = 20


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    config = CodecConfig(reduction=16, levels=2, step=0.03)  # a fine grid, for a model to read
    run = attar.codec.train(data=DATA, config=config, output_dir=folder / "codec")
    print(
        f"{run.quality['after']['rate']:.2f} bits per pixel, PSNR of test pictures "
        f"{run.quality['after']['psnr']:.1f} dB"
    )
    attar.codec.encode(folder / "codec", DATA, output_dir=folder / "latents")

    torch.manual_seed(0)
    loader = attar.codec.LatentLoader(folder / "latents", batch_size=8, shuffle=True)
    channels = next(iter(loader))["features"].shape[1]
    model = nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for batch in loader:
            loss = F.cross_entropy(model(batch["features"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    right = rows = 0
    for batch in attar.codec.LatentLoader(folder / "latents", split="test"):
        right += (model(batch["features"]).argmax(1) == batch["label"]).sum().item()
        rows += len(batch["label"])
    print(f"{right} of {rows} test pictures are told apart by their latents: {folder}")


if __name__ == "__main__":
    main()
