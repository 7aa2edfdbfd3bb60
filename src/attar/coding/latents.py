"""Integer latents: what a codec makes of one signal, with all that is needed to get it back."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError, check_types, require

#: hexadecimal digits of a fingerprint that a file keeps
DIGITS = 32

#: bits of the largest size
LONGEST = 63

Kind = Literal["image", "audio", "array"]
Dtype = Literal["uint8", "uint16", "int16", "int32", "float32"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a signal was before it became numbers, so that it can be written as it came.

    Attributes:
        kind: picture, sound, or plain numbers.
        dtype: of its samples.
        mode: Pillow's, of a picture; empty where there is none.
        rate: samples a second, of a sound.
        channels: that it had, without an alpha channel that was opaque everywhere; None: as many as
            are decoded.
    """

    kind: Kind
    dtype: Dtype
    mode: str = ""
    rate: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        plain = self.mode.isascii() and len(self.mode) <= 16
        require(plain, "mode", self.mode, "a mode of Pillow's, of 16 letters at most")
        fine = self.rate is None or 0 < self.rate < 2**32
        require(fine, "rate", self.rate, "samples a second, more than 0 and less than 2^32")
        fine = self.channels is None or 0 < self.channels < 2**16
        require(fine, "channels", self.channels, "1 to 65,535")


@dataclass(frozen=True, kw_only=True)
class Described:
    """All that a file of latents says but the latents; see `Latents`."""

    size: tuple[int, ...]
    before: tuple[int, ...]
    form: Form
    codec: str
    gain: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        known = len(self.codec) >= DIGITS and not set(self.codec) - set("0123456789abcdef")
        require(known, "codec", self.codec, "a SHA-256 in lower-case hexadecimal digits")
        object.__setattr__(self, "codec", self.codec[:DIGITS])
        axes = len(self.size)
        fine = 0 < axes < 4 and all(0 < n < 2**LONGEST for n in self.size)
        require(fine, "size", self.size, "1 to 3 axes, each of at least 1 sample")
        fine = len(self.before) == axes and all(0 <= n < 2**LONGEST for n in self.before)
        require(fine, "before", self.before, f"samples of padding in front of each of {axes} axes")


@dataclass(frozen=True, kw_only=True, eq=False)
class Latents(Described):
    """One signal as a codec stored it.

    Attributes:
        stages: int16 (c, *grid) for each residual stage, the coarse one first.
        size: samples on each axis, without padding.
        before: samples of padding in front of each axis.
        form: what the signal was.
        codec: the fingerprint in hexadecimal digits, of which the first 32 are kept.
        gain: what the signal was divided by.
        mean: what was subtracted before that.

    Raises:
        ConfigError: a field is not as described.
    """

    stages: tuple[NDArray[np.int16], ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.stages) < 256, "the number of stages", len(self.stages), "1 to 255")
        axes = len(self.size)
        for stage in self.stages:
            require(stage.dtype == np.int16, "the type of latents", str(stage.dtype), "int16")
            fine = stage.ndim == axes + 1 and stage.size > 0
            require(fine, "the shape of latents", stage.shape, f"channels and {axes} axes, none 0")

    def require_codec(self, fingerprint: str, *, name: str = "what was given") -> None:
        """Refuse latents of another codec.

        Args:
            fingerprint: of the codec that is to decode them, or its first 32 digits.
            name: of the file, for the message.

        Raises:
            DataError: they are of another.
        """
        if self.codec != fingerprint[:DIGITS]:
            raise DataError(
                f"expected latents of the codec {fingerprint[:12]}..., found those of the codec "
                f"{self.codec[:12]}... in {name}; decode them with that codec"
            )
