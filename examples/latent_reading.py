"""Which word is printed in a picture? Train on latents, and on pictures made smaller by Lanczos.

    python examples/latent_reading.py                  # on scikit-learn's two photographs
    python examples/latent_reading.py PHOTOGRAPHS      # or on those of a folder

One of 16 words that look alike, in type of 7 to 9 pixels and five fonts, lies somewhere in a crop
of 32 x 32 of a photograph. Both inputs have 8 x 8 x 12 numbers, a quarter of the picture's (of the
smaller picture, 2 x 2 pixels at each position), and go to the same network for as many steps. Takes
a minute or two of processor time; writes nothing.
"""

import sys

import torch
from latent_tasks import (
    WORDS,
    Network,
    Scale,
    Tensors,
    accuracy,
    as_tensor,
    crops,
    fitted,
    lanczos,
    latents,
    photographs,
    show,
    train,
    with_words,
)
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

SIDE, ROWS, EPOCHS, SEEDS = 32, {"train": 4000, "test": 1000}, 12, range(3)
LANCZOS, LATENTS = "Lanczos, 8 x 8 x 12", "latents, 8 x 8 x 12"


def main() -> None:
    grounds = photographs(*sys.argv[1:2])
    inputs: dict[str, dict[str, tuple[Tensor, Tensor]]] = {LANCZOS: {}, LATENTS: {}}
    codec = None
    for seed, (split, count) in enumerate(ROWS.items()):
        pictures, _ = crops(grounds[split], count=count, side=SIDE, seed=seed)
        words = torch.from_numpy(with_words(pictures, seed=seed))
        codec = codec or fitted(as_tensor(pictures), levels=2, reduction=4)
        smaller = as_tensor(lanczos(pictures, side=SIDE // 2))
        inputs[LANCZOS][split] = pixel_unshuffle(smaller, 2), words
        inputs[LATENTS][split] = latents(codec, as_tensor(pictures)), words

    scores = {name: [] for name in inputs}
    for name, splits in inputs.items():
        scale = Scale.of(splits["train"][0])
        rows = {
            split: Tensors({"features": scale(values), "label": words}, shuffle=split == "train")
            for split, (values, words) in splits.items()
        }
        for seed in SEEDS:
            torch.manual_seed(seed)
            network = train(Network(12, classes=len(WORDS)), rows["train"], epochs=EPOCHS)
            scores[name].append(100 * accuracy(network, rows["test"]))
    show(scores, unit="% right", chance=100 / len(WORDS))


if __name__ == "__main__":
    main()
