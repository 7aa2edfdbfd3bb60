"""`WaveletCodec`: a signal to integers on a coarse grid, and back."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from attar.coding.latent_file import from_bytes, to_bytes
from attar.coding.latents import Latents
from attar.coding.quantise import Compander, add_noise, from_steps, in_steps, to_integers
from attar.coding.wavelets import inverse_packet_transform, packet_transform, project, unproject
from attar.data.media import Signal
from attar.data.media.recordings import Recording
from attar.data.media.signals import BLOCK
from attar.errors import ConfigError, DataError, require
from attar.methods.walloc.config import WaveletCodecConfig
from attar.methods.walloc.decoders import ConvNetwork, network
from attar.methods.walloc.padding import crop, pad, pads_of, suited
from attar.methods.walloc.streaming import (
    can_stream,
    decode_chunks,
    encode_chunks,
    halo_of,
)
from attar.methods.walloc.tiling import in_tiles
from attar.models import without_autocast

#: positions along a side of a tile: a local network over more is run tile by tile
TILE = 256
#: what the meaning of the integers depends on
_ENCODING = (
    *("ndim", "channels", "levels", "latent_channels", "bits", "wavelet", "boundary"),
    *("quantizer", "stages", "stage_ratio", "encoder", "encoder_width", "encoder_blocks"),
)


@dataclass
class CodecOutput(ModelOutput):
    """What a forward pass gives.

    Attributes:
        reconstruction: (B, C, *sizes), not clipped.
        levels: (B, c, *grid), latents in units of the quantiser before rounding and noise.
    """

    reconstruction: Tensor | None = None
    levels: Tensor | None = None


class WaveletCodec(PreTrainedModel):
    """A wavelet packet transform, one linear layer, and rounding; a decoder of any size.

    Signals are float32 (B, C, *sizes) in [-0.5, 0.5], their sides multiples of 2^levels; latents
    are (B, c, *grid). `encode` and `decode` take whole signals of any size, with their padding.
    """

    config_class = WaveletCodecConfig
    config: WaveletCodecConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    base_model_prefix = "codec"
    main_input_name = "signal"
    #: integers must be the same on every machine, so far as rounding allows
    _keep_in_fp32_modules_strict = ["analysis", "encoder", "steps"]  # noqa: RUF012 - transformers'

    steps: Tensor

    def __init__(self, config: WaveletCodecConfig) -> None:
        super().__init__(config)
        outputs, latents = config.coefficients, config.latent_channels
        self.analysis = nn.Linear(outputs, latents)
        self.encoder = None
        if config.encoder == "full":
            sizes = {"width": config.encoder_width, "blocks": config.encoder_blocks}
            self.encoder = ConvNetwork(outputs, latents, **sizes, ndim=config.ndim, quiet=True)
        self.register_buffer("steps", torch.ones(latents))
        self.synthesis = None
        if config.decoder == "linear" or config.linear_skip:
            self.synthesis = nn.Linear(latents, outputs)
        self.decoder = network(config)
        self.post_filter = None
        if config.post_filter:
            taps, channels = config.post_filter, config.channels
            self.post_filter = nn.Conv1d(channels, channels, taps, padding=taps // 2)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initialisation of the modules, which is PyTorch's, or zero where they say so."""

    @property
    def compander(self) -> Compander | None:
        """How latents are companded; None where they are divided by `steps`."""
        return Compander(self.config.bits) if self.config.quantizer == "gauss_compand" else None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that integers depend on: the encoder's configuration and weights, not the
        decoder's, which can be trained further without a change to any file."""
        digest = hashlib.sha256()
        fields = vars(self.config)  # by name, as its own way to an attribute takes long
        shape = {name: fields[name] for name in _ENCODING}
        digest.update(json.dumps(shape, sort_keys=True).encode())
        kept = self.analysis.state_dict(prefix="analysis.") | {"steps": self.steps}
        if self.encoder is not None:
            kept |= self.encoder.state_dict(prefix="encoder.")
        for name, value in sorted(kept.items()):
            weights = value.detach().to("cpu", torch.float32).contiguous().numpy()
            digest.update(name.encode())
            digest.update(weights.astype("<f4", copy=False).data)
        return digest.hexdigest()

    # -- tensors ---------------------------------------------------------------------------------

    def features(self, signal: Tensor) -> Tensor:
        """Latents before the quantiser, (B, c, *grid) in the signal's units: what a model can read
        without a file in between."""
        self._require_exact()
        shape = {"levels": self.config.levels, "wavelet": self.config.wavelet}
        if self.encoder is not None:
            return self.features_of(packet_transform(signal.float(), **shape))
        weight, bias = self.analysis.weight, self.analysis.bias
        return project(signal.float(), weight, bias=bias, **shape)

    def features_of(self, coefficients: Tensor) -> Tensor:
        """`features` of wavelet coefficients (B, D, *grid)."""
        self._require_exact()
        with without_autocast(coefficients.device):
            features = _pointwise(self.analysis, coefficients)
            return features if self.encoder is None else features + self.encoder(coefficients)

    def to_levels(self, features: Tensor) -> Tensor:
        """Features in units of the quantiser: rounding them gives the integers."""
        if self.compander is not None:
            return self.compander.compand(features)
        return in_steps(features, self.steps)

    def from_levels(self, levels: Tensor) -> Tensor:
        """The inverse of `to_levels`, also of integers, or of integers with noise."""
        if self.compander is not None:
            return self.compander.expand(levels)
        return from_steps(levels, self.steps)

    def integers(self, signal: Tensor) -> list[Tensor]:
        """int16 (B, c, *grid) for each stage of the quantiser, the coarse one first."""
        return self.integers_of(self.features(signal))

    def integers_of(self, features: Tensor) -> list[Tensor]:
        """`integers` of features (B, c, *grid)."""
        rest = self.to_levels(features)
        found = []
        for unit in self._units():
            found.append(to_integers(rest / unit, bits=self.config.bits))
            rest = rest - found[-1] * unit
        return found

    def dequantise(self, stages: list[Tensor]) -> Tensor:
        """Features (B, c, *grid) of the integers of the first stages, or of all."""
        units = self._units()[: len(stages)]
        levels = torch.stack([s.float() * u for s, u in zip(stages, units, strict=True)]).sum(0)
        return self.from_levels(levels)

    def coefficients(self, features: Tensor, *, tile: int | None = TILE) -> Tensor:
        """What the decoder makes of features (B, c, *grid): wavelet coefficients (B, D, *grid).

        Args:
            features: as `features` gives them, or `dequantise`.
            tile: positions along a side of the tiles that a local decoder works on; None: one tile.
        """
        features = features.to(self._decoder_dtype)
        parts: list[Tensor] = []
        if self.synthesis is not None:
            parts.append(_pointwise(self.synthesis, features))
        if isinstance(self.decoder, ConvNetwork) and tile is not None:
            require(tile >= 1, "tile", tile, "at least 1")
            parts.append(in_tiles(self.decoder, features, tile=tile, halo=self.decoder.halo))
        elif self.decoder is not None:
            parts.append(self.decoder(features))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def reconstruct(self, features: Tensor, *, tile: int | None = TILE) -> Tensor:
        """The signal (B, C, *sizes) of features, not clipped; as `coefficients`."""
        shape = {"levels": self.config.levels, "wavelet": self.config.wavelet}
        if self.decoder is None and self.synthesis is not None:
            layer = self.synthesis
            features = features.to(layer.weight.dtype)
            signal = unproject(features, layer.weight, bias=layer.bias, **shape)
        else:
            signal = inverse_packet_transform(self.coefficients(features, tile=tile), **shape)
        if self.post_filter is None:
            return signal
        return self.post_filter(signal.to(self.post_filter.weight.dtype))

    def forward(self, signal: Tensor) -> CodecOutput:
        """Encode and decode (B, C, *sizes); in training with noise in place of rounding."""
        levels = self.to_levels(self.features(signal))
        if self.training:
            received = add_noise(levels)
        else:
            received = to_integers(levels, bits=self.config.bits)
        out = self.reconstruct(self.from_levels(received), tile=None if self.training else TILE)
        return CodecOutput(reconstruction=out, levels=levels)

    # -- whole signals ---------------------------------------------------------------------------

    @torch.inference_mode()
    def encode(self, signal: Signal, *, fingerprint: str | None = None) -> Latents:
        """The integers of a picture, a recording, or an array.

        Args:
            signal: of any size.
            fingerprint: this codec's, where it is known: for each of many small signals to hash
                the weights again takes long.

        Raises:
            DataError: it has other axes or channels than the codec, or its latents do not fit.
        """
        signal = suited(signal, config=self.config)
        if can_stream(self.config):  # in blocks, as a stream of it would be
            chunks = signal.values.split(BLOCK, dim=1)
            found = encode_chunks(
                self, chunks, gain=0.5, mean=0.0, form=signal.form, fingerprint=fingerprint
            )
            return replace(found, gain=signal.gain, mean=signal.mean)
        pads = pads_of(signal.size, config=self.config)
        padded = pad(signal.values[None].to(self.device), pads)
        stages = self.integers(padded)
        return Latents(
            stages=tuple(stage[0].cpu().numpy().astype(np.int16) for stage in stages),
            size=signal.size,
            before=tuple(before for before, _ in pads),
            form=signal.form,
            codec=fingerprint or self.fingerprint,
            gain=signal.gain,
            mean=signal.mean,
        )

    def encode_recording(self, recording: Recording) -> Latents:
        """The integers of a recording that is read in chunks: those of `encode`, in bounded memory.

        Raises:
            ConfigError: the codec cannot stream, see `StreamEncoder`.
            DataError: it has other channels than the codec, or its file cannot be read.
        """
        form, channels = recording.form, self.config.channels
        nothing = torch.zeros(form.channels or 1, 1)
        fitted = suited(Signal(values=nothing, form=form, name=recording.name), config=self.config)
        return encode_chunks(
            self,
            (chunk.expand(channels, -1) for chunk in recording.chunks()),
            gain=recording.gain,
            mean=recording.mean,
            form=fitted.form,
        )

    def decode(self, latents: Latents) -> Signal:
        """The signal of some latents, of all stages or of the first ones, clipped to its range.

        Raises:
            DataError: another codec made them, or their shape is not what this one makes of their
                size.
        """
        latents.require_codec(self.fingerprint)
        return self._decoded(latents)

    @torch.inference_mode()
    def _decoded(self, latents: Latents) -> Signal:
        """`decode`, of latents of this codec."""
        pads = pads_of(latents.size, config=self.config)
        grid = tuple(
            (sum(pair) + side) // self.config.block
            for pair, side in zip(pads, latents.size, strict=True)
        )
        shape = (self.config.latent_channels, *grid)
        fine = len(latents.stages) <= self.config.stages
        fine = fine and tuple(before for before, _ in pads) == latents.before
        if not fine or any(stage.shape != shape for stage in latents.stages):
            raise DataError(
                f"expected latents of the shape {shape}, found {latents.stages[0].shape}; the file "
                "is damaged, make it again"
            )
        if halo_of(self) is not None:
            out = torch.cat(list(decode_chunks(self, latents)), dim=1)
        else:
            stages = [torch.from_numpy(stage)[None].to(self.device) for stage in latents.stages]
            out = self.reconstruct(self.dequantise(stages)).float()
            out = crop(out, before=latents.before, size=latents.size)[0]
        out = out.clamp(-0.5, 0.5)
        kept: dict[str, Any] = {"form": latents.form, "gain": latents.gain, "mean": latents.mean}
        return Signal(values=out.cpu(), **kept)

    def compress(self, signal: Signal, *, container: str = "auto") -> bytes:
        """The file of a signal; `container` as `attar.coding.latent_file.to_bytes` takes it."""
        return to_bytes(self.encode(signal), container=container)

    def decompress(
        self,
        data: bytes,
        *,
        name: str = "the file",
        stages: int | None = None,
        fingerprint: str | None = None,
    ) -> Signal:
        """The signal of a file.

        Args:
            data: the file.
            name: of the file, for messages.
            stages: decode so many stages alone; None: all.
            fingerprint: as for `encode`.

        Raises:
            DataError: it is damaged, no such file, or of another codec.
        """
        latents = from_bytes(data, name=name, stages=stages)
        latents.require_codec(fingerprint or self.fingerprint, name=name)
        return self._decoded(latents)

    @property
    def _decoder_dtype(self) -> torch.dtype:
        """Unlike the encoder, which comes first in `dtype`, it may be loaded in a half type."""
        parts = (part for part in (self.synthesis, self.decoder) if part is not None)
        return next(p.dtype for part in parts for p in part.parameters())

    def _require_exact(self) -> None:
        if self.analysis.weight.dtype != torch.float32:
            raise ConfigError(
                f"expected the encoder in float32, found {self.analysis.weight.dtype}, in which "
                "its integers would differ; call codec.float(), or load it again"
            )

    def _units(self) -> list[int]:
        """What each stage of the quantiser rounds to, in levels of the last one."""
        stages, ratio = self.config.stages, self.config.stage_ratio
        return [ratio**power for power in range(stages - 1, -1, -1)]


def _pointwise(layer: nn.Linear, values: Tensor) -> Tensor:
    """A linear layer over the channels of (B, channels, *grid)."""
    flat = values.flatten(2).transpose(1, 2)
    return layer(flat).transpose(1, 2).unflatten(2, values.shape[2:])
