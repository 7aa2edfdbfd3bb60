"""Whole signals: they come back in their size and type, from integers that are always the same, and
from nothing else."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import far
import signals
from attar.coding.latent_file import from_bytes, to_bytes
from attar.coding.wavelets import inverse_packet_transform, packet_transform
from attar.data.media import Signal, fit_channels, read_signal, to_array, to_pil, to_samples
from attar.errors import ConfigError, DataError
from attar.evaluation.fidelity import psnr
from attar.methods.walloc import WaveletCodec


@cache
def lossless(ndim: int, channels: int, levels: int) -> WaveletCodec:
    """All coefficients, in fine steps."""
    every = channels * 2 ** (ndim * levels)
    return signals.codec(
        ndim=ndim, channels=channels, levels=levels, latent_channels=every, step=2e-4
    )


@cache
def small(**options: Any) -> WaveletCodec:
    return signals.codec(**options)


# ------------------------------------------------------------------------------------ round trips


@settings(max_examples=25)
@given(
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    mode=st.sampled_from(["L", "RGB", "RGBA", "LA", "I;16"]),
    levels=st.sampled_from([1, 3]),
)
def test_pictures_come_back_in_every_size_and_mode(
    height: int, width: int, mode: str, levels: int
) -> None:
    channels = len(mode.replace("I;16", "L"))
    array = signals.pixels(height, width, channels=channels, seed=height)
    array = array[..., 0] if channels == 1 else array
    if mode == "I;16":
        array = array.astype(np.uint16) * 257
    source = Image.fromarray(array)
    assert source.mode == mode
    codec = lossless(2, channels, levels)
    back = to_pil(codec.decompress(codec.compress(read_signal(source))))
    assert (back.mode, back.size) == (mode, (width, height))
    limit = 1 if mode != "I;16" else 60
    assert np.abs(np.asarray(back).astype(int) - array).max() <= limit


@settings(max_examples=20)
@given(
    length=st.integers(1, 400), channels=st.sampled_from([1, 2, 8]), levels=st.sampled_from([1, 4])
)
def test_sound_comes_back_in_every_length(length: int, channels: int, levels: int) -> None:
    array = signals.samples(length, channels=channels, seed=length)
    codec = lossless(1, channels, levels)
    back = codec.decompress(codec.compress(read_signal((array, 8000))))
    assert (back.form.rate, to_samples(back).dtype) == (8000, np.int16)
    assert to_samples(back).shape == array.shape
    assert np.abs(to_samples(back).astype(int) - array).max() <= 12


def test_gain_and_mean_come_back() -> None:
    codec = lossless(1, 2, 4)
    for loud in (3, 2000, 30_000):
        array = (signals.samples(500) / 10_000 * loud + loud // 30).astype(np.int16)
        signal = read_signal((array, 8000))
        back = codec.decompress(codec.compress(signal))
        assert (back.gain, back.mean) == (signal.gain, signal.mean)
        apart = np.abs(to_samples(back).astype(int) - array).max()
        assert apart <= max(1, loud / 500)


def test_silence_comes_back_as_silence() -> None:
    for array in (np.zeros((300, 2), np.int16), np.full((300, 2), -77, np.int16)):
        codec = small(ndim=1, channels=2, levels=4)
        back = codec.decompress(codec.compress(read_signal((array, 8000))))
        assert np.array_equal(to_samples(back), array)


def test_arrays_of_many_channels_come_back() -> None:
    array = np.random.default_rng(0).random((21, 18, 5)).astype(np.float32).cumsum(0)
    codec = lossless(2, 5, 1)
    back = codec.decompress(codec.compress(read_signal(array, value_range=(0, 21))))
    assert (to_array(back).shape, to_array(back).dtype) == (array.shape, np.float32)
    assert np.abs(to_array(back) - array).max() < 0.02


def test_grey_fits_a_codec_of_colour_and_comes_back_grey() -> None:
    grey = signals.pixels(17, 18, channels=1)[..., 0]
    codec = lossless(2, 3, 1)
    back = to_pil(codec.decompress(codec.compress(read_signal(grey))))
    assert back.mode == "L"
    assert np.abs(np.asarray(back).astype(int) - grey).max() <= 1
    with pytest.raises(DataError, match="the codec has no colour"):
        lossless(2, 1, 1).encode(signals.picture(8, 8))
    with pytest.raises(DataError, match="expected a signal of 2 axes besides channels, found 1"):
        lossless(2, 3, 1).encode(signals.sound(80, channels=3))


def test_what_comes_back_is_clipped_to_its_range() -> None:
    codec = small(step=0.4)
    array = np.zeros((24, 24, 3), np.uint8)
    array[:, 12:] = 255
    back = codec.decompress(codec.compress(read_signal(array)))
    assert back.values.abs().max() == 0.5


# ------------------------------------------------------------------------------------ integers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quantizer": "gauss_compand", "bits": 6},
        {"ndim": 1, "channels": 2, "levels": 4},
        {"encoder": "full", "encoder_width": 8, "encoder_blocks": 1},
    ],
)
def test_integers_are_the_same_in_training_and_for_a_batch(options: dict[str, Any]) -> None:
    codec = signals.codec(**options)
    if codec.encoder is not None:  # not silent
        torch.manual_seed(1)
        torch.nn.init.normal_(codec.encoder.get_parameter("last.weight"), std=0.1)
    x = signals.values(codec, batch=3)
    with torch.inference_mode():
        (together,) = codec.integers(x)
        (again,) = codec.integers(x)
        (trained,) = codec.train().integers(x)
        with torch.autocast("cpu", torch.bfloat16):
            (autocast,) = codec.integers(x)
        alone = torch.cat([codec.integers(one[None])[0] for one in x])
        through = codec.to_levels(codec.features(x)).round()
    for other in (again, trained, autocast):
        assert torch.equal(together, other)
    assert (together - alone).abs().max() <= 1
    assert (together != alone).float().mean() < 0.001
    assert torch.equal(together.float(), through)
    item = signals.sound(90) if codec.config.ndim == 1 else signals.picture(21, 30)
    assert codec.train().compress(item) == codec.eval().compress(item)


@pytest.mark.parametrize("ndim", [1, 2])
def test_the_transforms_keep_their_type_under_autocast(ndim: int) -> None:
    codec = signals.codec(ndim=ndim, channels=2, latent_channels=4)
    x = signals.values(codec)
    with torch.autocast("cpu", torch.bfloat16):
        coefficients = packet_transform(x, levels=2)
        back = inverse_packet_transform(coefficients, levels=2)
    assert coefficients.dtype == torch.float32
    assert torch.allclose(back, x, atol=1e-5)


def test_features_are_linear_and_are_the_transform_and_a_layer() -> None:
    codec = signals.codec()
    x, y = signals.values(codec)
    bias = codec.analysis.bias[:, None, None]
    with torch.inference_mode():
        both, one, other = (codec.features(v[None])[0] - bias for v in (x + 2 * y, x, y))
    assert torch.allclose(both, one + 2 * other, atol=1e-5)


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("decoder", ["linear", "conv"])
def test_a_reconstruction_is_the_way_back_of_all_that_the_decoder_makes(
    ndim: int, decoder: str
) -> None:
    codec = signals.codec(ndim=ndim, decoder=decoder, decoder_width=8, decoder_blocks=1).eval()
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.normal_()
    features = torch.randn(2, codec.config.latent_channels, *[6] * ndim)
    with torch.inference_mode():
        made = codec.coefficients(features)
        expected = inverse_packet_transform(made, levels=codec.config.levels)
        found = codec.reconstruct(features)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_is_refused() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        codec: Any = signals.codec()
        codec.to(dtype)
        with pytest.raises(ConfigError, match=r"expected the encoder in float32, found torch\."):
            codec.encode(signals.picture(16, 16))
        with pytest.raises(ConfigError, match="expected the encoder in float32"):
            codec.features_of(torch.zeros(1, 48, 2, 2))


def test_integers_keep_to_their_bits() -> None:
    codec = signals.codec(bits=3, step=0.001)
    (stage,) = codec.encode(signals.picture(32, 32)).stages
    assert (stage.min(), stage.max()) == (-3, 3)


def test_a_value_that_is_nan_is_refused() -> None:
    signal = signals.picture(16, 16)
    signal.values[0, 3, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        small().encode(signal)


# ------------------------------------------------------------------------------------ stages


def test_more_stages_are_nearer_and_all_are_the_finest_step() -> None:
    staged = signals.codec(stages=3, stage_ratio=4, step=0.02)
    plain = signals.codec(stages=1, step=0.02)
    item = signals.picture(64, 48)
    latents = staged.encode(item)
    values = [
        staged.decode(replace(latents, stages=latents.stages[:count])).values for count in (1, 2, 3)
    ]
    scores = [psnr(item.values, one) for one in values]
    assert scores[0] + 0.3 < scores[1] < scores[2] - 0.01
    assert torch.allclose(values[2], plain.decode(plain.encode(item)).values, atol=1e-5)
    total = sum(s.astype(int) * u for s, u in zip(latents.stages, (16, 4, 1), strict=True))
    assert np.array_equal(total, plain.encode(item).stages[0])
    coarse = signals.codec(stages=1, step=0.32)
    assert np.array_equal(latents.stages[0], coarse.encode(item).stages[0])
    for stage, ratio in zip(latents.stages[1:], (4, 4), strict=True):
        assert np.abs(stage).max() <= ratio / 2
    raw = to_bytes(latents)
    for count, expected in enumerate(values, start=1):
        assert torch.equal(staged.decompress(raw, stages=count).values, expected)


# ------------------------------------------------------------------------------------ refusals


def test_the_fingerprint_is_of_the_encoder_alone() -> None:
    codec = signals.codec(decoder="conv", decoder_width=8)
    before = codec.fingerprint
    with torch.no_grad():
        for part in (codec.decoder, codec.synthesis):
            assert part is not None
            for parameter in part.parameters():
                parameter.add_(1.0)
    assert codec.fingerprint == before
    assert signals.codec().fingerprint == before
    changes: list[Callable[[WaveletCodec], Any]] = [
        lambda c: c.analysis.weight.data[0, 0].add_(1e-6),
        lambda c: c.analysis.bias.data[-1].add_(1e-6),
        lambda c: c.steps[3].mul_(1.001),
        lambda c: setattr(c.config, "bits", 15),
        lambda c: setattr(c.config, "wavelet", "bior2.2"),
        lambda c: setattr(c.config, "boundary", "open"),
        lambda c: setattr(c.config, "stages", 2),
        lambda c: setattr(c.config, "quantizer", "gauss_compand"),
    ]
    seen = {before}
    for change in changes:
        other = signals.codec()
        change(other)
        seen.add(other.fingerprint)
    assert len(seen) == len(changes) + 1
    full = signals.codec(encoder="full", encoder_width=8, encoder_blocks=1)
    before = full.fingerprint
    assert full.encoder is not None
    with torch.no_grad():
        next(full.encoder.parameters()).add_(1e-3)
    assert full.fingerprint != before


def test_a_file_of_another_codec_is_refused() -> None:
    raw = signals.codec(seed=0).compress(signals.picture(20, 20))
    with pytest.raises(DataError, match="expected latents of the codec"):
        signals.codec(step=0.03).decompress(raw)


def test_latents_of_another_shape_are_refused() -> None:
    codec = small()
    latents = codec.encode(signals.picture(20, 24))
    stage = latents.stages[0]
    for wrong in (
        replace(latents, stages=(stage[:, :-1],)),
        replace(latents, stages=(stage[1:],)),
        replace(latents, stages=(stage, stage)),
        replace(latents, size=(20, 28)),
        replace(latents, before=(1, 0)),
    ):
        with pytest.raises(DataError, match="expected latents of the shape"):
            codec.decode(wrong)
    with pytest.raises(DataError, match="expected latents of the shape"):
        codec.decode(replace(latents, size=(20,), before=(0,), stages=(stage[:, 0],)))


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_tampered_file_never_decodes(place: float, bit: int, cut: bool) -> None:
    codec = small()
    raw = small_file()
    at = int(place * len(raw))
    damaged = raw[:at] if cut else raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
    with pytest.raises(DataError):
        codec.decompress(damaged)


@cache
def small_file() -> bytes:
    return small().compress(signals.picture(20, 24))


# ------------------------------------------------------------------------------------ fidelity


@pytest.mark.parametrize("ndim", [1, 2])
def test_half_the_step_is_six_decibels(ndim: int) -> None:
    every = {"levels": 2, "channels": 2, "latent_channels": 2 * 4**ndim}
    item = signals.sound(4000) if ndim == 1 else signals.picture(64, 64, channels=2)
    scores = []
    for step in (0.02, 0.01, 0.005, 0.0025):
        codec = signals.codec(ndim=ndim, step=step, **every)
        scores.append(psnr(item.values, unclipped(codec, item)))
    assert np.diff(scores) == pytest.approx(6.02, abs=0.4)


def unclipped(codec: WaveletCodec, item: Signal) -> torch.Tensor:
    return codec.decode(codec.encode(fit_channels(item, codec.config.channels))).values


def test_companding_is_rounding_where_steps_are_fine() -> None:
    item = signals.picture(64, 64)
    steps = signals.codec(step=0.004)
    companded = signals.codec(step=0.004, quantizer="gauss_compand", bits=14)
    one, other = (psnr(item.values, c.decode(c.encode(item)).values) for c in (steps, companded))
    assert one == pytest.approx(other, abs=0.05)


def test_a_codec_saved_and_loaded_reads_the_same_file(tmp_path: Any) -> None:
    codec = signals.codec(decoder="conv", decoder_width=8, stages=2)
    codec.save_pretrained(tmp_path)
    again = WaveletCodec.from_pretrained(tmp_path).eval()
    item = signals.picture(30, 21)
    raw = codec.compress(item)
    assert again.fingerprint == codec.fingerprint
    assert again.compress(item) == raw
    assert torch.equal(again.decompress(raw).values, codec.decompress(raw).values)
    halved = WaveletCodec.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert halved.analysis.weight.dtype == torch.float32
    assert halved.fingerprint == codec.fingerprint
    assert halved.compress(item) == raw
    assert from_bytes(raw, name="a").codec == codec.fingerprint[:32]


@pytest.mark.parametrize("options", [{}, {"decoder": "conv", "decoder_width": 8}])
def test_a_decoder_in_a_half_type_reads_the_same_files(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    codec, item = small(**options), signals.picture(16, 24)
    codec.save_pretrained(tmp_path)
    halved = WaveletCodec.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    raw = codec.compress(item)
    assert halved.compress(item) == raw
    whole, back = codec.decompress(raw).values, halved.decompress(raw).values
    assert back.dtype == torch.float32
    assert torch.allclose(back, whole, atol=0.02)


# ---------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stages": 2, "decoder": "conv", "decoder_width": 8, "decoder_blocks": 1},
        {"quantizer": "gauss_compand", "bits": 8, "encoder": "full", "encoder_width": 8},
    ],
)
def test_a_codec_on_a_device_takes_and_gives_what_lies_in_memory(options: dict[str, Any]) -> None:
    codec = signals.codec(**options)
    signal, made = signals.picture(21, 27), type(codec)
    latents = codec.encode(signal)
    here = codec.decode(latents)
    with far.device():
        away = far.moved(codec)  # the device knows no inference mode, hence the functions within
        again = made.encode.__wrapped__(away, signal)  # pyright: ignore[reportFunctionMemberAccess]
        there = made._decoded.__wrapped__(away, again)  # pyright: ignore[reportFunctionMemberAccess]
    assert again.codec == latents.codec
    for one, other in zip(again.stages, latents.stages, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert there.values.device.type == "cpu"
    assert torch.allclose(there.values, here.values, atol=0.03)
