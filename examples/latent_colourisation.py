"""Give grey photographs their colours: on latents, and on photographs made smaller by Lanczos.

    python examples/latent_colourisation.py                  # scikit-learn's two photographs
    python examples/latent_colourisation.py PHOTOGRAPHS      # or those of a folder

A network reads a sixteenth of the numbers of a grey photograph, and writes a sixteenth of those of
the coloured one: latents, which a frozen decoder makes a picture of, or a smaller picture, which
Lanczos enlarges. Both have 4 numbers in and 12 out for each 8 x 8 pixels (of the smaller picture,
2 x 2 of its pixels), and go to the same network for as many steps. What counts is how close the two
colour differences, Cb and Cr, come at full size. Takes about a minute of processor time; writes
nothing.
"""

import sys

import torch
from latent_tasks import (
    Batch,
    Network,
    Pictures,
    Scale,
    Tensors,
    as_tensor,
    crops,
    fitted,
    lanczos,
    latents,
    photographs,
    show,
    train,
)
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pixel_shuffle, pixel_unshuffle

from attar.evaluation.fidelity import psnr

SIDE, ROWS, EPOCHS, SEEDS = 128, {"train": 400, "test": 60}, 25, range(3)
#: of R, G and B in Cb and Cr (JFIF)
CHROMA = torch.tensor([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def grey(pictures: Pictures) -> Tensor:
    """The brightness (N, 1, H, W) of pictures, in [-0.5, 0.5]."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    return torch.einsum("nchw,c->nhw", as_tensor(pictures), weights)[:, None].clamp(-0.5, 0.5)


def chroma_psnr(original: Pictures, found: Tensor) -> float:
    """PSNR in dB of Cb and Cr over all pictures."""
    both = [torch.einsum("nchw,dc->ndhw", one, CHROMA) for one in (as_tensor(original), found)]
    return psnr(*(one.flatten(0, 1) for one in both))


def enlarged(values: Tensor) -> Tensor:
    """Smaller pictures (N, 3, h, w) at full size."""
    pixels = ((values.clamp(-0.5, 0.5) + 0.5) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return as_tensor(lanczos(pixels, side=SIDE))


def squared_error(network: nn.Module, batch: Batch) -> Tensor:
    return mse_loss(network(batch["features"]), batch["label"])


def main() -> None:
    photos = photographs(*sys.argv[1:2])
    pictures = {split: crops(photos[split], count=n, side=SIDE)[0] for split, n in ROWS.items()}
    colour = fitted(as_tensor(pictures["train"]), levels=3, reduction=16)
    brightness = fitted(grey(pictures["train"]), levels=3, reduction=16)
    smaller = {split: lanczos(one, side=SIDE // 4) for split, one in pictures.items()}
    ways = {
        "Lanczos": (
            {split: pixel_unshuffle(grey(one), 2) for split, one in smaller.items()},
            {split: pixel_unshuffle(as_tensor(one), 2) for split, one in smaller.items()},
            lambda values: enlarged(pixel_shuffle(values, 2)),
        ),
        "latents": (
            {split: latents(brightness, grey(one)) for split, one in pictures.items()},
            {split: latents(colour, as_tensor(one)) for split, one in pictures.items()},
            lambda values: colour.reconstruct(values).clamp(-0.5, 0.5),
        ),
    }
    scores: dict[str, list[float]] = {}
    for name, (inputs, targets, decode) in ways.items():
        before, after = Scale.of(inputs["train"]), Scale.of(targets["train"])
        rows = {"features": before(inputs["train"]), "label": after(targets["train"])}
        for seed in SEEDS:
            torch.manual_seed(seed)
            network = train(
                Network(4, outputs=12),
                Tensors(rows, shuffle=True, batch_size=16),
                epochs=EPOCHS,
                loss=squared_error,
            )
            with torch.inference_mode():
                found = decode(after.undo(network(before(inputs["test"]))))
            scores.setdefault(f"{name}, coloured", []).append(chroma_psnr(pictures["test"], found))
        kept = chroma_psnr(pictures["test"], decode(targets["test"]))
        scores[f"{name}, the true colours at this size"] = [kept]
    middle = as_tensor(pictures["train"]).mean((0, 2, 3)).view(1, 3, 1, 1)
    plain = middle.expand(len(pictures["test"]), 3, SIDE, SIDE)
    scores["one colour everywhere, the mean"] = [chroma_psnr(pictures["test"], plain)]
    still = torch.zeros(len(pictures["test"]), 3, SIDE, SIDE)
    scores["left grey"] = [chroma_psnr(pictures["test"], still)]
    print(f"Cb and Cr of {ROWS['test']} crops of {SIDE} x {SIDE}:")
    show(scores, unit="dB")


if __name__ == "__main__":
    main()
