"""Find a melody in noise and bells: on latents, and on sound at a lower sampling rate.

    python examples/latent_separation.py                  # synthesised melodies
    python examples/latent_separation.py RECORDINGS       # or a folder of sound, such as speech

A network reads a quarter of the numbers of a mixture of one second at 8 kHz, and writes as many for
the melody alone: latents, which a frozen decoder makes sound of, or samples at 2 kHz, which are
resampled. Both have 8 numbers for each 32 samples, and go to the same network for as many steps;
the loss is that of the sound at the full rate. Silence has no error to be scolded for, and a
plain signal-to-noise ratio of 0 dB, the same as the mixture's: judge by SI-SDR. Takes a minute or
two of processor time; writes nothing.
"""

import sys
from statistics import mean

import numpy as np
import torch
from latent_tasks import (
    Batch,
    Network,
    Scale,
    Tensors,
    fitted,
    folded,
    latents,
    resampled,
    show,
    train,
    unfolded,
)
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.data.media import open_splits
from attar.evaluation.fidelity import si_sdr, silence, snr

RATE, LENGTH, REDUCTION, LEVELS = 8000, 8192, 4, 5
ROWS, EPOCHS, SEEDS = {"train": 600, "test": 60}, 8, range(3)
CHANNELS = 2**LEVELS // REDUCTION
Samples = NDArray[np.float64]


def melody(rng: Generator) -> Samples:
    """Notes of eight partials with a vibrato."""
    time = np.arange(LENGTH) / RATE
    found, start = np.zeros(LENGTH), 0.0
    while start < time[-1]:
        length, pitch = rng.uniform(0.15, 0.4), 110 * 2 ** (rng.integers(0, 25) / 12)
        inside = (time >= start) & (time < start + length)
        phase = 2 * np.pi * pitch * time + rng.uniform(0.5, 2) * np.sin(2 * np.pi * 5.5 * time)
        tone = sum(np.sin(k * phase) / k for k in range(1, 9) if k * pitch < RATE / 2.2)
        found += inside * np.sin(np.pi * np.clip((time - start) / length, 0, 1)) ** 0.5 * tone
        start += length
    return found


def bells_and_noise(rng: Generator) -> Samples:
    """Strokes of partials that are no multiples of each other, and bursts of noise; both fade."""
    time, found = np.arange(LENGTH) / RATE, np.zeros(LENGTH)
    for _ in range(rng.integers(3, 7)):
        fade = np.exp(-(time - (start := rng.uniform(0, 0.9))) * rng.uniform(5, 25))
        fade = np.where(time < start, 0.0, fade)
        if rng.random() < 0.5:
            partials = rng.uniform(300, 3500, 5)
            stroke = sum(np.sin(2 * np.pi * partial * time) for partial in partials)
        else:
            stroke = 2 * rng.standard_normal(LENGTH)
        found += fade * stroke
    return found


def melodies(count: int, *, split: str, rng: Generator) -> Samples:
    """What is to be found: synthesised, or a second of each of a folder's recordings."""
    if len(sys.argv) < 2:
        return np.stack([melody(rng) for _ in range(count)])
    splits = open_splits(sys.argv[1])
    rows = splits.get("train") or next(iter(splits.values()))
    own = range(len(rows))[::5] if split == "test" else [i for i in range(len(rows)) if i % 5]
    found = np.zeros((count, LENGTH))
    for place, row in enumerate(rng.choice(own, size=count)):
        values = rows[int(row)].values.mean(0).numpy()
        start = rng.integers(max(1, len(values) - LENGTH + 1))
        part = values[start : start + LENGTH]
        found[place, : len(part)] = part
    return found


def mixtures(count: int, *, split: str) -> tuple[Tensor, Tensor]:
    """Mixtures and their melodies (N, 1, LENGTH), equally loud in each."""
    rng = np.random.default_rng([split == "test"])
    wanted = melodies(count, split=split, rng=rng)
    others = np.stack([bells_and_noise(rng) for _ in range(count)])
    wanted, others = (x / (x.std(1, keepdims=True) + 1e-9) for x in (wanted, others))
    both = wanted + others, wanted
    size = 2 * np.abs(both).max((0, 2))[:, None]  # a melody may be louder than its mixture
    mixed, alone = (torch.from_numpy(x / size).float() for x in both)
    return mixed[:, None], alone[:, None]


def main() -> None:
    sound = {split: mixtures(count, split=split) for split, count in ROWS.items()}
    codec = fitted(torch.cat(sound["train"]), levels=LEVELS, reduction=REDUCTION)
    low = LENGTH // REDUCTION
    ways = {
        "resampled": (
            lambda x: folded(resampled(x, length=low), channels=CHANNELS),
            lambda z: resampled(unfolded(z), length=LENGTH),
        ),
        "latents": (lambda x: latents(codec, x), codec.reconstruct),
    }
    (mixture, wanted), scores = sound["test"], {}
    for name, (encode, decode) in ways.items():
        scale = Scale.of(encode(sound["train"][0]))
        rows = {"features": scale(encode(sound["train"][0])), "label": sound["train"][1]}

        def error(network: nn.Module, batch: Batch, scale: Scale = scale, decode=decode) -> Tensor:
            found = decode(scale.undo(network(batch["features"])))
            return (found - batch["label"]).square().mean()

        for seed in SEEDS:
            torch.manual_seed(seed)
            network = train(
                Network(CHANNELS, dims=1, outputs=CHANNELS),
                Tensors(rows, shuffle=True, batch_size=16),
                epochs=EPOCHS,
                loss=error,
            )
            with torch.inference_mode():
                found = decode(scale.undo(network(scale(encode(mixture)))))
            scores.setdefault(f"{name}, separated", []).append(found)
        scores[f"{name}, the melody itself at this size"] = [decode(encode(wanted))]
    scores |= {"the mixture": [mixture], "silence": [silence(mixture)]}
    for title, score in (("SI-SDR", si_sdr), ("signal-to-noise ratio", snr)):
        print(f"{title} of {ROWS['test']} melodies:")
        rows = {
            name: [mean(score(x, y) for x, y in zip(wanted, one, strict=True)) for one in runs]
            for name, runs in scores.items()
        }
        show(rows, unit="dB")


if __name__ == "__main__":
    main()
