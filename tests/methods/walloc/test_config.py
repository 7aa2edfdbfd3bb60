"""The configurations of the paper, to the parameter; what does not go together is refused."""

from typing import Any

import pytest
import torch

from attar.errors import ConfigError
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig
from attar.methods.walloc.config import _PAPER


def parameters(*parts: Any) -> int:
    return sum(p.numel() for part in parts if part is not None for p in part.parameters())


@pytest.mark.parametrize(
    ("name", "decoder", "encoder", "reduction"),
    [
        ("rgb_4x", 57_132_480, 9_264, 4),
        ("rgb_16x", 56_883_648, 2_316, 16),
    ],
)
def test_the_published_codecs_of_pictures(
    name: str, decoder: int, encoder: int, reduction: float
) -> None:
    config = WaveletCodecConfig.paper(name)
    with torch.device("meta"):
        codec = WaveletCodec(config)
    assert codec.synthesis is None
    assert parameters(codec.decoder) == decoder
    assert parameters(codec.analysis, codec.encoder) == encoder
    assert config.reduction == reduction


def test_the_published_codec_of_sound() -> None:
    config = WaveletCodecConfig.paper("stereo_5x")
    with torch.device("meta"):
        codec = WaveletCodec(config)
    assert parameters(codec) == 16_346_074
    assert config.reduction == pytest.approx(4.74, abs=0.005)
    assert WaveletCodecConfig.paper("stereo_20x").reduction == pytest.approx(18.96, abs=0.005)


@pytest.mark.parametrize(
    ("name", "reduction", "bits"),
    [
        ("rgb_16c", 12, 8),
        ("rgb_27c", 7.1, 3),
        ("rgb_48c_j4", 16, 8),
        ("rgb_147c_j4", 5.2, 8),
        ("rgb_243c_j4", 3.2, 8),
        ("rgb_8c_j4_b2", 96, 2),
        ("rgb_48c_j4_b4", 16, 4),
    ],
)
def test_the_other_configurations(name: str, reduction: float, bits: int) -> None:
    config = WaveletCodecConfig.paper(name)
    assert config.reduction == pytest.approx(reduction, abs=0.05)
    assert (config.bits, config.quantizer, config.decoder) == (bits, "gauss_compand", "walloc")


def test_every_configuration_can_be_built() -> None:
    for name in _PAPER:
        config = WaveletCodecConfig.paper(name)
        with torch.device("meta"):
            codec = WaveletCodec(config)
        assert (codec.encoder is None) == (config.encoder == "linear")


def test_sound_is_open_and_pictures_are_circular_unless_told() -> None:
    assert WaveletCodecConfig(ndim=1, levels=4).boundary == "open"
    assert WaveletCodecConfig().boundary == "circular"
    assert WaveletCodecConfig(ndim=1, levels=4, boundary="circular").boundary == "circular"
    again = WaveletCodecConfig.from_dict(WaveletCodecConfig(ndim=1, levels=4).to_dict())
    assert again.boundary == "open"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ndim": 3}, "ndim must be 1 for sound, or 2 for pictures"),
        ({"levels": 0}, "levels must be at least 1"),
        ({"levels": 13}, "levels must be at most 12"),
        ({"latent_channels": 193}, "at most 192, as many as there are coefficients"),
        ({"latent_channels": 0}, "latent_channels must be at least 1"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"bits": 1}, "bits must be from 2 to 16"),
        ({"bits": 17}, "bits must be from 2 to 16"),
        ({"quantizer": "lattice"}, "quantizer must be one of step, gauss_compand"),
        ({"decoder": "huge"}, "decoder must be one of linear, conv, walloc"),
        ({"encoder": "huge"}, "encoder must be one of linear, full"),
        ({"boundary": "torn"}, "boundary must be one of circular, open"),
        ({"stages": 2, "quantizer": "gauss_compand"}, "the quantizer step with several stages"),
        ({"stage_ratio": 1}, "stage_ratio must be at least 2"),
        ({"post_filter": 4, "ndim": 1}, "an odd number of taps, or 0"),
        ({"post_filter": -1, "ndim": 1}, "an odd number of taps, or 0"),
        ({"post_filter": 129}, "a post_filter is for sound"),
        ({"levels": "three"}, "levels must be a whole number"),
        ({"decoder_blocks": -1}, "decoder_blocks must be from 0 to 1024"),
        ({"encoder_blocks": -1}, "encoder_blocks must be from 0 to 1024"),
        ({"stages": 10**9}, "stages must be so few"),
        ({"stages": 26, "stage_ratio": 2}, "stages must be so few"),
        ({"stages": 2, "stage_ratio": 10**30}, "stages must be so few"),
        ({"encoder_width": 0}, "encoder_width must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        WaveletCodecConfig(**options)


def test_names_of_the_paper_are_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"one of rgb_4x, rgb_16x.*found 'rgb_5x'"):
        WaveletCodecConfig.paper("rgb_5x")
    for width in (32, 48):
        with pytest.raises(ConfigError, match="decoder_width must be a multiple of 32, from 64 on"):
            WaveletCodec(WaveletCodecConfig(decoder="walloc", decoder_width=width))
