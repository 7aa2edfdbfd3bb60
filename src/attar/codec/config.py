"""Options of `attar codec train`."""

from dataclasses import dataclass
from typing import Literal

from attar.errors import ConfigError, require
from attar.methods.walloc.config import Decoder, Encoder, Quantizer, WaveletCodecConfig
from attar.train.trainer import TrainConfig

_LEVELS = {1: 8, 2: 3}  # the paper's, for sound and for pictures


@dataclass(frozen=True, kw_only=True)
class CodecConfig(TrainConfig):
    """The shape of a codec, and how it is made: in closed form, from principal components of the
    data, and then with a trained network where `decoder` names one."""

    reduction: float = 16.0
    """How many times fewer numbers the latents are than the signal."""
    levels: int | None = None
    """Halvings of each side: the latents' grid is 2^levels times as coarse. Unset: 3 for pictures
    and 8 for sound. A finer grid with fewer channels keeps less, but a model that reads it sees
    where things are."""
    paper: str | None = None
    """A configuration of the paper, such as rgb_16x or stereo_5x, in place of the shape above and
    below."""
    step: float = 0.06
    """What latents are rounded to, of a signal whose range is 1: half of it is better by up to 6
    dB, for about one bit more for each latent."""
    bits_per_sample: float | None = None
    """Find the step that takes so many bits for each pixel, or each sample of sound, on average."""
    quantizer: Quantizer = "step"
    """step rounds latents to multiples of the step; gauss_compand to few levels, as published."""
    bits: int = 16
    """Bits of an integer at most, before it is compressed: 8 for gauss_compand, as published."""
    stages: int = 1
    """Stages of the quantiser, each 4 times as fine: a file's first stages are a coarser signal."""
    wavelet: str = "bior4.4"
    """A wavelet that PyWavelets knows."""
    encoder: Encoder = "linear"
    """linear is what the published codecs have; full adds a network, which makes it slow."""
    encoder_width: int = 96
    """Channels of the encoder's network; the paper has 768, or 1536."""
    encoder_blocks: int = 3
    """Residual blocks of the encoder's network."""
    decoder: Decoder = "linear"
    """linear needs no training; conv adds a network that can be run tile by tile; walloc is the
    paper's."""
    decoder_width: int = 96
    """Channels of the decoder's network; the paper has 768, which wants a GPU."""
    decoder_blocks: int = 4
    """Residual blocks of conv."""
    train_encoder: bool = False
    """Train the encoder, too: a new codec, which cannot read files of the old one."""
    crop: int | None = None
    """Samples along a side that a training step sees. Unset: 128 for pictures, 32,768 for sound."""
    domain: Literal["wavelet", "signal"] = "wavelet"
    """Where errors are compared: in coefficients, which is faster, or in the signal, as
    published; always there with the paper's codecs of sound, which filter it."""
    rate_weight: float = 0.0
    """Weight of the bits in the loss, of an encoder that is trained, as in LiVeAction, which takes
    0.03; 0: none, as published."""
    published_schedule: bool = False
    """The paper's learning rate: 1e-7 to the peak over warmup_steps, then less on plateaus."""
    max_items: int = 400
    """Pictures or recordings that the closed form is fitted to, spread over the data."""
    eval_items: int = 24
    """Held-out ones that the codec is measured on."""

    max_steps: int = 3000
    learning_rate: float = 1e-3
    warmup_steps: float = 200
    save_steps: int = 250

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.reduction >= 1, "reduction", self.reduction, "1 or more")
        require(self.step > 0, "step", self.step, "above 0")
        levels = self.levels
        require(levels is None or 1 <= levels <= 12, "levels", levels, "from 1 to 12")
        if self.paper is None:  # what does not depend on the data is told before it is read
            self._shape(ndim=1, channels=1, levels=levels or 1, latent_channels=1)
        else:
            WaveletCodecConfig.paper(self.paper)
        bits = self.bits_per_sample
        require(bits is None or bits > 0, "bits_per_sample", bits, "above 0")
        require(self.crop is None or self.crop >= 1, "crop", self.crop, "at least 1")
        for name in ("max_items", "eval_items"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.rate_weight >= 0, "rate_weight", self.rate_weight, "zero or more")
        if bits is not None and (self.quantizer == "gauss_compand" or self.paper is not None):
            raise ConfigError(
                "bits_per_sample finds a step, and companded latents have none: it goes with the "
                "quantizer step and without paper; leave one of them out"
            )
        if self.encoder == "full" and not self.train_encoder:
            raise ConfigError(
                "expected train_encoder with the encoder full, whose network does nothing before "
                "it is trained, found it left out; add it (--train-encoder), or take linear"
            )
        if self.rate_weight and not self.train_encoder and self.paper is None:
            raise ConfigError(
                "expected train_encoder with a rate_weight, as the bits do not depend on the "
                "decoder, found it left out; add it (--train-encoder), or leave out rate_weight"
            )
        if self.published_schedule and self.rate_weight:
            raise ConfigError(
                "published_schedule looks at the logarithm of an error, which a loss with "
                "rate_weight is not, found both; leave out one of them"
            )

    @property
    def trains(self) -> bool:
        """Whether there is anything to train after the closed form."""
        return self.decoder != "linear" or self.train_encoder or self.paper is not None

    def shape(self, *, ndim: int, channels: int) -> WaveletCodecConfig:
        """The codec of a kind of signal.

        Args:
            ndim: axes besides channels.
            channels: of the signal.

        Raises:
            ConfigError: no codec has this shape.
        """
        if self.paper is not None:
            return WaveletCodecConfig.paper(self.paper)
        levels = _LEVELS[ndim] if self.levels is None else self.levels
        coefficients = channels * 2 ** (ndim * levels)
        latents = round(coefficients / self.reduction)
        expected = f"at most {coefficients}, the coefficients at a position with {levels} levels"
        require(latents >= 1, "reduction", self.reduction, expected)
        return self._shape(ndim=ndim, channels=channels, levels=levels, latent_channels=latents)

    def _shape(
        self, *, ndim: int, channels: int, levels: int, latent_channels: int
    ) -> WaveletCodecConfig:
        """A codec of these sizes, and of the options that do not depend on the data."""
        return WaveletCodecConfig(
            ndim=ndim,
            channels=channels,
            levels=levels,
            latent_channels=latent_channels,
            bits=self.bits,
            wavelet=self.wavelet,
            quantizer=self.quantizer,
            stages=self.stages,
            encoder=self.encoder,
            encoder_width=self.encoder_width,
            encoder_blocks=self.encoder_blocks,
            decoder=self.decoder,
            decoder_width=self.decoder_width,
            decoder_blocks=self.decoder_blocks,
        )
