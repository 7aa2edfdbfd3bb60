"""Networks that read latents: a local one is exact in tiles with the least halo, those of the paper
keep every length, and all begin where the linear decoder is."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import signals
from attar.errors import ConfigError
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig
from attar.methods.walloc.decoders import ConvNetwork, PaperNetwork1d, PaperNetwork2d
from attar.methods.walloc.tiling import in_tiles


def local(ndim: int, blocks: int) -> ConvNetwork:
    torch.manual_seed(0)
    return ConvNetwork(3, 5, width=6, blocks=blocks, ndim=ndim, quiet=False).double().eval()


@settings(max_examples=25)
@given(
    sides=st.lists(st.integers(1, 23), min_size=1, max_size=2),
    tile=st.integers(1, 25),
    blocks=st.integers(0, 2),
)
def test_tiles_are_the_whole_at_every_size(sides: list[int], tile: int, blocks: int) -> None:
    network = local(len(sides), blocks)
    latents = torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(1)).double()
    with torch.inference_mode():
        whole = network(latents)
        tiled = in_tiles(network, latents, tile=tile, halo=network.halo)
    assert tiled.shape == whole.shape
    assert torch.allclose(tiled, whole, atol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_one_position_less_shows(ndim: int, blocks: int) -> None:
    network = local(ndim, blocks)
    latents = torch.randn(1, 3, *[30] * ndim, generator=torch.Generator().manual_seed(1)).double()
    with torch.inference_mode():
        whole = network(latents)
        exact = in_tiles(network, latents, tile=4, halo=network.halo)
        short = in_tiles(network, latents, tile=4, halo=network.halo - 1)
    assert torch.allclose(exact, whole, atol=1e-12)
    assert (short - whole).abs().max() > 1e-9


def test_a_codec_decodes_in_tiles() -> None:
    codec = signals.codec(decoder="conv", decoder_width=8, decoder_blocks=1, linear_skip=False)
    features = torch.randn(1, 12, 21, 18, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = codec.reconstruct(features, tile=None)
        assert torch.allclose(codec.reconstruct(features, tile=5), whole, atol=1e-5)
        assert torch.allclose(codec.reconstruct(features), whole, atol=1e-5)
    with pytest.raises(ConfigError, match="tile must be at least 1"):
        codec.reconstruct(features, tile=0)


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_the_papers_network_of_sound_keeps_the_length(length: int) -> None:
    network = PaperNetwork1d(4, 6, width=9, quiet=False).eval()
    assert network(torch.zeros(1, 4, length)).shape == (1, 6, length)


def test_the_papers_network_of_sound_keeps_the_time() -> None:
    torch.manual_seed(0)
    network = PaperNetwork1d(3, 4, width=6, quiet=False).double().eval()
    latents = torch.randn(1, 3, 300).double()
    moved = latents.clone()
    moved[..., 150] += 1.0
    with torch.inference_mode():
        change = (network(moved) - network(latents)).abs().sum(1)[0]
    changed = change.nonzero().flatten()
    # as far on both sides, but for the two convolutions over 2 positions
    reach = 3 + 2 * 3 * (1 + 3 + 9) + 3
    assert (int(changed[0]), int(changed[-1])) == (150 - reach, 150 + reach + 2)


def test_the_papers_network_of_sound_has_the_published_width() -> None:
    network = PaperNetwork1d(108, 512, width=768, quiet=False)
    assert network.body[0].out_channels == 756  # pyright: ignore[reportAttributeAccessIssue]
    assert PaperNetwork1d(5, 8, width=3, quiet=False)(torch.zeros(1, 5, 2)).shape == (1, 8, 2)


def test_the_papers_network_of_pictures_sees_the_whole() -> None:
    torch.manual_seed(0)
    network = PaperNetwork2d(4, 6, width=64, quiet=False).eval()
    latents = torch.randn(1, 4, 9, 7)
    moved = latents.clone()
    moved[..., 0, 0] += 3.0
    with torch.inference_mode():
        assert network(latents).shape == (1, 6, 9, 7)
        assert (network(moved) - network(latents))[..., -1, -1].abs().max() > 1e-6
        assert network(latents[..., :1, :1]).shape == (1, 6, 1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "conv", "decoder_width": 8},
        {"decoder": "walloc", "decoder_width": 64},
        {"decoder": "walloc", "decoder_width": 24, "ndim": 1, "channels": 4},
        {"decoder": "conv", "decoder_width": 8, "ndim": 1, "channels": 4},
    ],
)
def test_before_training_a_network_adds_nothing(options: dict[str, Any]) -> None:
    codec = signals.codec(**options)
    plain = signals.codec(ndim=options.get("ndim", 2), channels=options.get("channels", 3))
    x = signals.values(codec)
    with torch.inference_mode():
        ours, theirs = codec(x).reconstruction, plain(x).reconstruction
    assert torch.allclose(ours, theirs, atol=1e-6)
    noisy = WaveletCodec(WaveletCodecConfig(**{**codec.config.to_dict(), "linear_skip": False}))
    assert noisy.synthesis is None
    with torch.inference_mode():
        assert not torch.allclose(noisy.eval()(x).reconstruction, theirs, atol=1e-3)


def test_a_full_encoder_begins_as_the_linear_one() -> None:
    codec = signals.codec(encoder="full", encoder_width=8, encoder_blocks=1)
    item = signals.picture(30, 27)
    assert codec.encoder is not None
    linear = signals.codec().encode(item).stages[0]
    assert (codec.encode(item).stages[0] == linear).mean() > 0.999
    with torch.no_grad():
        codec.encoder.get_parameter("last.bias").add_(1.0)
    assert (codec.encode(item).stages[0] != linear).all()
    assert codec.decode(codec.encode(item)).size == item.size
