"""The codec without training: as many components, so much error, to the figure that it promises."""

from typing import Any

import numpy as np
import pytest
import torch

import signals
from attar.coding.wavelets import packet_transform
from attar.data.media import Signal, read_signal
from attar.errors import ConfigError, DataError
from attar.evaluation.fidelity import psnr
from attar.methods.walloc import FitReport, WaveletCodec, WaveletCodecConfig, fit
from attar.methods.walloc.padding import pad, pads_of

PICTURES = [signals.picture(40, 36, seed=n) for n in range(5)]
SOUNDS = [signals.sound(2000 + 300 * n, seed=n) for n in range(5)]


def fitted(
    items: list[Signal], *, step: float = 1e-3, **options: Any
) -> tuple[WaveletCodec, FitReport]:
    config = WaveletCodecConfig(**{"levels": 2, "latent_channels": 8, **options})
    codec = WaveletCodec(config).eval()
    return codec, fit(codec, items, step=step)


def coefficients(codec: WaveletCodec, items: list[Signal]) -> torch.Tensor:
    """Those at all positions of all items, (N, D)."""
    config, rows = codec.config, []
    for item in items:
        padded = pad(item.values[None], pads_of(item.size, config=config))
        found = packet_transform(padded, levels=config.levels)
        rows.append(found[0].flatten(1).T)
    return torch.cat(rows)


@pytest.mark.parametrize(
    ("items", "options"),
    [(PICTURES, {}), (SOUNDS, {"ndim": 1, "channels": 2, "latent_channels": 3})],
)
def test_the_error_is_the_one_that_the_report_promises(
    items: list[Signal], options: dict[str, Any]
) -> None:
    codec, report = fitted(items, **options)
    found = coefficients(codec, items)
    with torch.inference_mode():
        features = codec.features_of(
            found.T[None, :, :, None] if codec.config.ndim == 2 else found.T[None]
        )
        back = codec.coefficients(features, tile=None)
    error = (back.flatten(2)[0].T - found).square().mean()
    assert float(error) == pytest.approx(report.error, rel=1e-3)
    spread = (found - found.mean(0)).square().mean()
    assert float(1 - error / spread) == pytest.approx(report.kept, abs=1e-4)
    assert (report.items, report.positions) == (len(items), len(found))


def test_no_other_components_have_a_smaller_error() -> None:
    codec, report = fitted(PICTURES)
    found = coefficients(codec, PICTURES)
    centred = (found - found.mean(0)).double()
    singular = torch.linalg.svdvals(centred)
    best = singular[codec.config.latent_channels :].square().sum() / centred.numel()
    assert report.error == pytest.approx(float(best), rel=1e-3)


@pytest.mark.parametrize("quantizer", ["step", "gauss_compand"])
def test_more_channels_are_never_worse(quantizer: str) -> None:
    scores = []
    for count in (1, 2, 3, 6, 12, 24, 48):
        codec, _ = fitted(PICTURES, latent_channels=count, quantizer=quantizer)
        scores.append([psnr(p.values, codec.decode(codec.encode(p)).values) for p in PICTURES])
    means = np.mean(scores, axis=1)
    assert (np.diff(means) > 0).all()


def test_components_have_one_sign_and_length() -> None:
    codec, _ = fitted(PICTURES)
    weight = codec.analysis.weight.detach()
    assert (weight.sum(1) > 0).all()
    assert torch.allclose(weight @ weight.T, torch.eye(8), atol=1e-5)
    assert codec.synthesis is not None
    assert torch.equal(codec.synthesis.weight, weight.T)


def test_a_fit_is_the_same_again_and_in_any_order() -> None:
    first, _ = fitted(PICTURES)
    again, _ = fitted(PICTURES)
    turned, _ = fitted(PICTURES[::-1])
    assert again.fingerprint == first.fingerprint
    assert torch.allclose(turned.analysis.weight, first.analysis.weight, atol=1e-4)


def test_a_network_stays_as_it_is_and_the_mean_is_the_decoders() -> None:
    torch.manual_seed(0)
    codec = WaveletCodec(WaveletCodecConfig(levels=2, decoder="conv", decoder_width=8)).eval()
    before = {n: v.clone() for n, v in codec.state_dict().items() if n.startswith("decoder.")}
    fit(codec, PICTURES, step=0.01)
    assert all(torch.equal(codec.state_dict()[n], v) for n, v in before.items())
    found = coefficients(codec, PICTURES)
    with torch.inference_mode():
        nothing = codec.coefficients(torch.zeros(1, 12, 1, 1))[0, :, 0, 0]
    assert codec.synthesis is not None
    assert torch.allclose(codec.synthesis.bias, found.mean(0), atol=1e-5)
    assert torch.allclose(nothing, found.mean(0), atol=1e-5)


def test_a_picture_of_one_colour_is_kept_whole() -> None:
    flat = read_signal(np.full((16, 16, 3), 99, np.uint8))
    codec, report = fitted([flat], latent_channels=1)
    assert report.kept == pytest.approx(1.0, abs=1e-5)
    assert report.error == pytest.approx(0.0, abs=1e-7)
    assert (codec.decode(codec.encode(flat)).values - flat.values).abs().max() < 1e-3


def test_what_cannot_be_fitted_is_refused() -> None:
    codec = WaveletCodec(WaveletCodecConfig())
    for step in (0.0, -1.0):
        with pytest.raises(ConfigError, match="step must be above zero"):
            fit(codec, PICTURES, step=step)
    with pytest.raises(DataError, match="expected signals to fit a codec to, found none"):
        fit(codec, [], step=0.1)
    with pytest.raises(DataError, match="expected a signal of 2 axes besides channels, found 1"):
        fit(codec, [signals.sound(100, channels=3)], step=0.1)
    broken = signals.picture(16, 16)
    broken.values[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="expected finite values"):
        fit(codec, [broken], step=0.1)
