"""Which digit is written in a picture? Train on latents, and on pictures made smaller by Lanczos.

    python examples/latent_classification.py                  # on scikit-learn's two photographs
    python examples/latent_classification.py PHOTOGRAPHS      # or on those of a folder

A digit of 12 pixels lies somewhere in a crop of 32 x 32 of a photograph. Both inputs have 8 x 8 x 3
numbers, 1/16 of the picture's, and go to the same network for as many steps. The latents come from
a data set that `attar.codec.encode` wrote, as they would of one that is too large for memory. Takes
a minute or two of processor time. Everything goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from latent_tasks import (
    Network,
    Scale,
    Tensors,
    accuracy,
    as_tensor,
    crops,
    lanczos,
    photographs,
    show,
    train,
    with_digits,
)
from PIL.Image import fromarray

import attar
from attar.codec import LatentLoader

SIDE, ROWS, EPOCHS, SEEDS = 32, {"train": 4000, "test": 1000}, 12, range(3)
FEATURES = Features({"image": Image(), "label": ClassLabel(num_classes=10)})
#: 2 levels are the fewest with which 1/16 of the numbers is a whole number of channels: the finest
#: grid, on which a network sees best where things are
CODEC = attar.codec.Config(levels=2, reduction=16, step=0.03, max_items=1000)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    grounds = photographs(*sys.argv[1:2])
    rows, smaller = DatasetDict(), {}
    for split, count in ROWS.items():
        pictures, _ = crops(grounds[split], count=count, side=SIDE)
        labels = with_digits(pictures, split=split)
        images = [fromarray(one) for one in pictures]
        columns = {"image": images, "label": labels.tolist()}
        rows[split] = Dataset.from_dict(columns, features=FEATURES)
        smaller[split] = as_tensor(lanczos(pictures, side=SIDE // 4)), torch.from_numpy(labels)
    attar.codec.train(data=rows, config=CODEC, output_dir=folder / "codec")
    attar.codec.encode(folder / "codec", rows, output_dir=folder / "latents")

    scale = Scale.of(smaller["train"][0])
    lanczos_rows = {
        split: Tensors({"features": scale(values), "label": labels}, shuffle=split == "train")
        for split, (values, labels) in smaller.items()
    }
    scores = {"Lanczos, 8 x 8 x 3": [], "latents, 8 x 8 x 3": []}
    for seed in SEEDS:
        latent_rows = {
            split: LatentLoader(
                folder / "latents", split=split, shuffle=split == "train", seed=seed
            )
            for split in ROWS
        }
        for name, inputs in zip(scores, (lanczos_rows, latent_rows), strict=True):
            torch.manual_seed(seed)
            network = train(Network(3, classes=10), inputs["train"], epochs=EPOCHS)
            scores[name].append(100 * accuracy(network, inputs["test"]))
    show(scores, unit="% right", chance=10)
    print(f"\nEverything is in {folder}")


if __name__ == "__main__":
    main()
