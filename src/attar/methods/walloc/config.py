"""What a wavelet codec is built of, and the configurations of the paper."""

from typing import Any, Literal

from transformers import PreTrainedConfig

from attar.errors import ConfigError, check_types, require

Quantizer = Literal["step", "gauss_compand"]
Encoder = Literal["linear", "full"]
Decoder = Literal["linear", "conv", "walloc"]
Boundary = Literal["circular", "open"]

WIDEST = 16  # bits of an integer in a file
_FINEST = 2**24  # levels of the last stage in one of the first: float32 counts no further
_BLOCKS = 1024  # more are a damaged file
_RGB = {"ndim": 2, "channels": 3, "decoder_width": 768, "bits": 8}
_STEREO = {"ndim": 1, "channels": 2, "levels": 8, "decoder_width": 768, "post_filter": 129}
#: the table of configurations of the official library; b = 3 of rgb_27c is one of two that it has
_PAPER: dict[str, dict[str, Any]] = {
    "rgb_4x": {**_RGB, "levels": 3, "latent_channels": 48},
    "rgb_16x": {**_RGB, "levels": 3, "latent_channels": 12},
    "rgb_16c": {**_RGB, "levels": 3, "latent_channels": 16},
    "rgb_27c": {**_RGB, "levels": 3, "latent_channels": 27, "bits": 3},
    "rgb_48c_j4": {**_RGB, "levels": 4, "latent_channels": 48, "decoder_width": 1024},
    "rgb_147c_j4": {**_RGB, "levels": 4, "latent_channels": 147, "decoder_width": 1024},
    "rgb_243c_j4": {**_RGB, "levels": 4, "latent_channels": 243, "encoder": "full"},
    "rgb_8c_j4_b2": {
        **_RGB,
        "levels": 4,
        "latent_channels": 8,
        "decoder_width": 1024,
        "bits": 2,
    },
    "rgb_48c_j4_b4": {
        **_RGB,
        "levels": 4,
        "latent_channels": 48,
        "bits": 4,
        "encoder": "full",
        "encoder_width": 1536,
    },
    "stereo_5x": {**_STEREO, "latent_channels": 108},
    "stereo_20x": {**_STEREO, "latent_channels": 27},
}


class WaveletCodecConfig(PreTrainedConfig):
    """The shape of a `WaveletCodec`, saved as its config.json.

    A signal of `channels` and `ndim` axes becomes `latent_channels` integers on a grid that is
    2^`levels` times as coarse along each axis.

    Raises:
        ConfigError: values that do not go together.
    """

    model_type = "wavelet-codec"

    ndim: int = 2
    channels: int = 3
    levels: int = 3
    latent_channels: int = 12
    bits: int = 16  # of an integer, at most
    wavelet: str = "bior4.4"
    boundary: Boundary | None = None  # None: open for sound, circular for pictures
    quantizer: Quantizer = "step"
    stages: int = 1  # of the quantiser, each `stage_ratio` times as fine as the one before
    stage_ratio: int = 4
    encoder: Encoder = "linear"
    encoder_width: int = 768
    encoder_blocks: int = 3
    decoder: Decoder = "linear"
    decoder_width: int = 96
    decoder_blocks: int = 4
    linear_skip: bool = True  # the network learns what to add to the linear decoder
    post_filter: int = 0  # taps of a learned filter of the decoded signal; sound alone

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.boundary is None:
            self.boundary = "open" if self.ndim == 1 else "circular"
        self._check()

    def _check(self) -> None:
        check_types(self, inherited=False)
        require(self.ndim in (1, 2), "ndim", self.ndim, "1 for sound, or 2 for pictures")
        widths = ("decoder_width", "encoder_width")
        for name in ("channels", "levels", "latent_channels", "stages", *widths):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("decoder_blocks", "encoder_blocks"):
            count = getattr(self, name)
            require(0 <= count <= _BLOCKS, name, count, f"from 0 to {_BLOCKS}")
        require(self.levels <= 12, "levels", self.levels, "at most 12")
        most = f"at most {self.coefficients}, as many as there are coefficients"
        fine = self.latent_channels <= self.coefficients
        require(fine, "latent_channels", self.latent_channels, most)
        require(2 <= self.bits <= WIDEST, "bits", self.bits, f"from 2 to {WIDEST}")
        require(self.stage_ratio >= 2, "stage_ratio", self.stage_ratio, "at least 2")
        # counted first, as a large power takes for ever
        fine = self.stages <= 25 and self.stage_ratio ** (self.stages - 1) <= _FINEST
        most = f"so few that stage_ratio^(stages - 1) is at most 2^24, of {self.stage_ratio:.4g}"
        require(fine, "stages", self.stages, most)
        if self.stages > 1 and self.quantizer != "step":
            raise ConfigError(
                f"expected the quantizer step with several stages, found {self.quantizer} with "
                f"{self.stages}; use one stage, or the quantizer step"
            )
        odd = self.post_filter == 0 or (self.post_filter > 0 and self.post_filter % 2 == 1)
        require(odd, "post_filter", self.post_filter, "an odd number of taps, or 0")
        if self.post_filter and self.ndim != 1:
            raise ConfigError("a post_filter is for sound (ndim=1), found ndim=2; leave it out")

    @property
    def coefficients(self) -> int:
        """Wavelet coefficients at a position of the grid: C * 2^(ndim * levels)."""
        return self.channels * 2 ** (self.ndim * self.levels)

    @property
    def reduction(self) -> float:
        """How many times fewer numbers the latents are than the signal, without its padding."""
        return self.coefficients / self.latent_channels

    @property
    def block(self) -> int:
        """Samples along an axis for one position of the grid."""
        return 2**self.levels

    @classmethod
    def paper(cls, name: str) -> "WaveletCodecConfig":
        """A configuration of the paper, such as rgb_16x: companded latents, and its decoder.

        Raises:
            ConfigError: there is none of that name.
        """
        require(name in _PAPER, "paper", name, f"one of {', '.join(_PAPER)}")
        shared = {"quantizer": "gauss_compand", "decoder": "walloc", "linear_skip": False}
        return cls(boundary="circular", **shared, **_PAPER[name])
