"""What a codec costs and keeps: bits, numbers, fidelity and time, of one item and on average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from attar.codec.tables import Measured, Role
from attar.coding.latent_file import from_bytes
from attar.data.media import Signal
from attar.data.media.signals import own_channels
from attar.evaluation.fidelity import ms_ssim, psnr, si_sdr, snr, spatial_scores
from attar.evaluation.rates import stopwatch
from attar.methods.walloc import WaveletCodec


@dataclass(frozen=True, kw_only=True)
class ItemScores:
    """One signal, coded and decoded.

    Attributes:
        bits: of what is stored.
        rated: what bits are counted for: pixels, or samples of all channels.
        ratio: by how much there are fewer numbers than there were, padding included.
        scores: fidelity by name: `psnr`, of pictures `ms_ssim`, of sound `snr` and `si_sdr`, and
            of several channels `ssdr` and `srdr`.
        encode_seconds: to the bytes.
        decode_seconds: from them.
    """

    bits: int
    rated: int
    ratio: float
    scores: Mapping[str, float]
    encode_seconds: float
    decode_seconds: float


def fidelity(original: Tensor, decoded: Tensor) -> dict[str, float]:
    """Scores by name of a picture (C, H, W) or a recording (C, L), in [-0.5, 0.5]."""
    if original.dim() == 3:
        return {"psnr": psnr(original, decoded), "ms_ssim": ms_ssim(original, decoded)}
    scores = {"psnr": psnr, "snr": snr, "si_sdr": si_sdr}
    found = {name: score(original, decoded) for name, score in scores.items()}
    if len(original) > 1:
        found |= spatial_scores(original, decoded)._asdict()
    return found


def measure(
    codec: WaveletCodec, signal: Signal, *, container: str = "auto", repeats: int = 1
) -> tuple[ItemScores, Signal]:
    """Scores of one signal, and what comes back of it.

    Args:
        codec: in evaluation mode.
        signal: the original.
        container: see `attar.coding.latent_file.to_bytes`.
        repeats: how often both ways are timed.
    """
    data, encode_seconds = stopwatch(
        lambda: codec.compress(signal, container=container), repeats=repeats
    )
    decoded, decode_seconds = stopwatch(lambda: codec.decompress(data), repeats=repeats)
    original, back = own_channels(signal).values, own_channels(decoded).values
    stored = from_bytes(data, name=signal.name).stages[-1].size
    scores = ItemScores(
        bits=8 * len(data),
        rated=rated(original),
        ratio=original.numel() / stored,
        scores=fidelity(original, back),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )
    return scores, decoded


def rated(values: Tensor) -> int:
    """What the bits of (C, H, W) or (C, L) are counted for: pixels, or samples of all channels."""
    return values[0].numel() if values.dim() == 3 else values.numel()


def average(items: Sequence[ItemScores], *, name: str, role: Role = "baseline") -> Measured:
    """Means over items; rates and speeds of all of them together.

    What comes back to the bit counts as 100 dB.
    """
    total = sum(one.rated for one in items)
    return Measured(
        name=name,
        role=role,
        rate=sum(one.bits for one in items) / total,
        ratio=fmean(one.ratio for one in items),
        scores={
            score: fmean(max(-100.0, min(100.0, value)) for value in values)
            for score, values in _by_score(items).items()
        },
        encode=total / sum(one.encode_seconds for one in items),
        decode=total / sum(one.decode_seconds for one in items),
    )


def _by_score(items: Sequence[ItemScores]) -> dict[str, list[float]]:
    """The values of each score, of the items that have it: one channel has no spatial ones."""
    found: dict[str, list[float]] = {}
    for one in items:
        for score, value in one.scores.items():
            found.setdefault(score, []).append(value)
    return found


def quality_of(measured: Measured) -> dict[str, float]:
    """What a record says of a codec."""
    return {"rate": measured.rate or 0.0, "ratio": measured.ratio or 0.0, **measured.scores}
