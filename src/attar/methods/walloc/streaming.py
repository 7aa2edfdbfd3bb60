"""Sound as it comes: the latents of a recording of any length and back, chunk by chunk, in bounded
memory.

Whoever encodes and however the sound is cut, a position is computed in the same block, together
with the same neighbours: so the integers are the same to the bit. Pictures are not streamed: their
padding reflects what comes last.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.coding.latents import Form, Latents
from attar.coding.wavelets import wavelet_filters
from attar.data.media.signals import scaled
from attar.errors import ConfigError, DataError, require
from attar.methods.walloc.config import WaveletCodecConfig
from attar.methods.walloc.decoders import ConvNetwork
from attar.methods.walloc.padding import grid_of, pads_of
from attar.methods.walloc.tiling import tiles_of

Stages = tuple[NDArray[np.int16], ...]
"""int16 (c, positions) for each stage of the quantiser."""

_SAMPLES = 2**15  # of a block, at least
_POSITIONS = 32  # of a block, at least


class Codec(Protocol):
    """What a stream needs of a codec."""

    decoder: nn.Module | None

    @property
    def config(self) -> WaveletCodecConfig:
        """The shape of the codec."""
        ...

    @property
    def fingerprint(self) -> str:
        """What the integers depend on."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def integers(self, signal: Tensor) -> list[Tensor]:
        """int16 (B, c, grid) of (B, C, L), for each stage."""
        ...

    def dequantise(self, stages: list[Tensor]) -> Tensor:
        """Features (B, c, grid) of some stages."""
        ...

    def reconstruct(self, features: Tensor, *, tile: int | None) -> Tensor:
        """(B, C, L) of features."""
        ...


def can_stream(config: WaveletCodecConfig) -> bool:
    """Whether a position depends on the samples around it alone: sound with the boundary open, and
    an encoder without a network."""
    return config.ndim == 1 and config.boundary == "open" and config.encoder == "linear"


def block_of(config: WaveletCodecConfig) -> int:
    """Positions that are computed together."""
    return max(_POSITIONS, _SAMPLES // config.block)


class StreamEncoder:
    """Encodes sound as it comes, to the integers of the whole recording.

    `feed` gives the positions that no later sample can change, `finish` those that are left. Chunks
    may have any length. What is kept is one block of samples.

    Args:
        codec: of sound, with the boundary open and a linear encoder.
        gain: what samples are divided by, twice, after `mean` is subtracted; those of the whole
            recording (see `attar.data.media.signals.Scale`), or what a live one will not exceed. 0
            stands for silence.
        mean: see gain.

    Raises:
        ConfigError: the codec cannot stream, or the gain is below zero.
    """

    def __init__(self, codec: Codec, *, gain: float, mean: float) -> None:
        config = codec.config
        if not can_stream(config):
            raise ConfigError(
                "expected a codec of sound with the boundary open and a linear encoder, found "
                f"{config.ndim} axes, the boundary {config.boundary} and the encoder "
                f"{config.encoder}; encode the whole signal"
            )
        require(gain >= 0, "gain", gain, "zero or more")
        self._codec, self._gain, self._mean = codec, gain, mean
        self._block = config.block
        filters = wavelet_filters(config.wavelet)
        taps = zip(filters.dec_lo, filters.dec_hi, strict=True)
        used, half = [j for j, pair in enumerate(taps) if any(pair)], len(filters.dec_lo) // 2
        #: position k sees the samples from k * block - earlier to k * block + later
        earlier, self._later = ((n * (self._block - 1)) for n in (used[-1] - half, half - used[0]))
        self._left = -(-earlier // self._block)
        self._right = -(-self._later // self._block)
        self._count = block_of(config)
        width = (self._left + self._count + self._right) * self._block
        #: the samples that the positions of a block see, zeros where none have come yet
        self._window = torch.zeros(config.channels, width, device=codec.device)
        self.before = pads_of((0,), config=config)[0][0]
        self._filled = self._left * self._block + self.before
        self._given = 0  # positions of this block
        self._positions = 0  # given in all
        self.samples = 0

    def feed(self, samples: Tensor) -> Stages:
        """The latents of the positions that are complete with these samples, (C, n).

        Raises:
            DataError: other channels, or samples that are infinite or NaN.
        """
        channels = len(self._window)
        if samples.dim() != 2 or len(samples) != channels:
            raise DataError(
                f"expected samples of the shape ({channels}, n), found {tuple(samples.shape)}; "
                "give as many channels as the codec has"
            )
        values = scaled(samples, gain=self._gain, mean=self._mean)
        if not bool(values.isfinite().all()):
            raise DataError(
                f"expected finite samples, found some that are not after {self.samples:,}; correct "
                "the recording"
            )
        self.samples += samples.shape[1]
        return self._push(values)

    def finish(self) -> Stages:
        """The positions that are left.

        Raises:
            DataError: there were no samples.
        """
        if not self.samples:
            raise DataError("expected sound to encode, found no samples; leave it out")
        config = self._codec.config
        after = pads_of((self.samples,), config=config)[0][1]
        (last,) = grid_of((self.samples,), config=config)
        zeros = torch.zeros(1, 1).expand(len(self._window), after + self._right * self._block)
        return self._push(zeros, last=last)

    @torch.inference_mode()
    def _push(self, values: Tensor, *, last: int | None = None) -> Stages:
        parts = [self._empty()]
        width = self._window.shape[1]
        while True:
            taken = values[:, : width - self._filled]
            self._window[:, self._filled : self._filled + taken.shape[1]] = taken
            self._filled += taken.shape[1]
            values = values[:, taken.shape[1] :]
            ready = (self._filled - 1 - self._later) // self._block - self._left + 1
            ready = min(ready, self._count)
            if last is not None:
                ready = min(ready, self._given + last - self._positions)
            if ready > self._given:
                parts.append(self._computed(self._given, ready))
                self._positions += ready - self._given
                self._given = ready
            if self._filled == width:
                self._next_block()
            if not values.shape[1]:
                return joined(parts)

    def _computed(self, start: int, end: int) -> Stages:
        """Positions of this block: always computed all of them, so that rounding is the same."""
        kept = slice(self._left + start, self._left + end)
        stages = self._codec.integers(self._window[None])
        return tuple(s[0, :, kept].cpu().numpy().astype(np.int16) for s in stages)

    def _next_block(self) -> None:
        kept = (self._left + self._right) * self._block
        end = self._window[:, -kept:].clone()
        self._window.zero_()
        self._window[:, :kept] = end
        self._filled, self._given = kept, 0

    def _empty(self) -> Stages:
        config = self._codec.config
        nothing = np.zeros((config.latent_channels, 0), np.int16)
        return (nothing,) * config.stages


def joined(parts: Sequence[Stages]) -> Stages:
    """Latents of parts that follow each other."""
    return tuple(np.concatenate(stage, axis=1) for stage in zip(*parts, strict=True))


def encode_chunks(
    codec: Codec,
    chunks: Iterable[Tensor],
    *,
    gain: float,
    mean: float,
    form: Form,
    fingerprint: str | None = None,
) -> Latents:
    """The latents of a recording that comes in chunks (C, n).

    Args:
        codec: as `StreamEncoder` takes it.
        chunks: of any length.
        gain: of the whole recording.
        mean: of the whole recording.
        form: what the recording was.
        fingerprint: of the codec, where it is known.

    Raises:
        ConfigError: the codec cannot stream.
        DataError: other channels, no samples, or some that are infinite or NaN.
    """
    stream = StreamEncoder(codec, gain=gain, mean=mean)
    parts = [stream.feed(chunk) for chunk in chunks]
    parts.append(stream.finish())
    return Latents(
        stages=joined(parts),
        size=(stream.samples,),
        before=(stream.before,),
        form=form,
        codec=fingerprint or codec.fingerprint,
        gain=gain,
        mean=mean,
    )


def halo_of(codec: Codec) -> int | None:
    """Positions around a chunk that its samples depend on; None: the codec cannot decode chunks, as
    its decoder sees the whole, or its padding is shorter than what wraps around."""
    config = codec.config
    if config.ndim != 1 or config.boundary != "open":
        return None
    if codec.decoder is not None and not isinstance(codec.decoder, ConvNetwork):
        return None
    half = len(wavelet_filters(config.wavelet).rec_lo) // 2
    filtered = config.post_filter // 2
    if half * (config.block - 1) + filtered > pads_of((0,), config=config)[0][0]:
        return None
    return half + -(-filtered // config.block) + (codec.decoder.halo if codec.decoder else 0)


@torch.inference_mode()
def decode_chunks(codec: Codec, latents: Latents) -> Iterator[Tensor]:
    """The values of a recording in chunks (C, n), not clipped.

    Args:
        codec: one with a `halo_of`, which made the latents.
        latents: of some stages or all.
    """
    config, halo = codec.config, halo_of(codec)
    assert halo is not None
    start, end = latents.before[0], latents.before[0] + latents.size[0]
    for read, kept, place in tiles_of(
        latents.stages[0].shape[1], tile=max(block_of(config), 8 * halo), halo=halo
    ):
        stages = [torch.from_numpy(s[:, read])[None].to(codec.device) for s in latents.stages]
        values = codec.reconstruct(codec.dequantise(stages), tile=None).float()[0]
        values = values[:, kept.start * config.block : kept.stop * config.block]
        first = place.start * config.block
        values = values[:, max(0, start - first) : max(0, end - first)]
        if values.shape[1]:
            yield values
