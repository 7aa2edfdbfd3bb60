"""Numbers become values in [-0.5, 0.5] and come back; channels are fitted where nothing is lost."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attar.coding.latents import Form
from attar.data.media import Signal, fit_channels, from_samples, read_signal, to_array, to_samples
from attar.errors import DataError

SOUND = st.sampled_from([np.int16, np.int32, np.float32]).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        st.tuples(st.integers(1, 12), st.integers(1, 3)),
        elements=None if dtype != np.float32 else {"allow_nan": False, "allow_infinity": False},
    )
)


@given(samples=SOUND)
def test_sound_comes_back(samples: np.ndarray) -> None:
    signal = from_samples(samples, rate=8000)
    back = to_samples(signal)
    assert signal.values.abs().max() <= 0.5
    assert (back.dtype, back.shape) == (samples.dtype, samples.shape)
    if samples.dtype == np.int16:
        assert (back == samples).all()
    elif samples.dtype == np.int32:  # 24 bits of it
        assert np.abs(back.astype(np.int64) - samples).max() <= 255  # at the upper end
    else:
        error = np.abs(back.astype(np.float64) - samples)
        assert error.max() <= signal.gain * 2**-23


@given(
    low=arrays.arrays(
        np.int32,
        st.tuples(st.integers(1, 20), st.just(2)),
        elements=st.integers(-(2**23), 2**23 - 1),
    )
)
def test_24_bits_are_kept_whole(low: np.ndarray) -> None:
    assert (to_samples(from_samples(low << 8, rate=1)) == low << 8).all()


def test_sound_loses_its_mean_over_all_channels() -> None:
    samples = np.array([[0, 10], [20, 10], [40, 100]], np.int16)
    signal = from_samples(samples, rate=3)
    assert (signal.mean, signal.gain) == (30, 70)
    expected = (samples.T - 30) / 140
    assert np.allclose(signal.values.numpy(), expected, rtol=1e-6)
    assert (signal.channels, signal.size, signal.form.rate) == (2, (3,), 3)


@pytest.mark.parametrize("level", [0, -7, 2**15 - 1])
def test_silence_has_no_gain(level: int) -> None:
    samples = np.full((50, 2), level, np.int16)
    signal = from_samples(samples, rate=8000)
    assert (signal.gain, signal.mean) == (0, level)
    assert not signal.values.any()
    assert (to_samples(signal) == level).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (1000, 2)).astype(np.float32)
    whole = from_samples(samples, rate=8000)
    restored = to_samples(whole)
    for name in ("BLOCK", "_CACHED"):
        monkeypatch.setattr(f"attar.data.media.signals.{name}", 7)
    parts = from_samples(samples, rate=8000)
    assert torch.equal(whole.values, parts.values)
    assert (restored == to_samples(parts)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    samples = np.zeros(9, np.float32)
    samples[3] = bad
    said = "NaN" if np.isnan(bad) else "infinity"
    with pytest.raises(DataError, match=rf"finite samples in a\.wav, found {said} \(1 of 9\)"):
        from_samples(samples, rate=8000, name="a.wav")
    signal = from_samples(np.arange(9, dtype=np.int16), rate=8000)
    signal.values[0, 3] = bad
    with pytest.raises(DataError, match=rf"finite values for the sound, found {said}"):
        to_samples(signal)


def test_decoded_values_are_rounded_and_clipped() -> None:
    form = Form(kind="array", dtype="uint8", channels=1)
    values = torch.tensor([[-0.7, -0.5, 0.5 / 255 - 0.5, 1.5 / 255 - 0.5, 0.5, 0.9]])
    signal = Signal(values=values.double().float(), form=form)
    assert to_array(signal).tolist()[:2] == [0, 0]
    assert to_array(signal).tolist()[4:] == [255, 255]


# ------------------------------------------------------------------------------------- channels


def picture(channels: int, *, opaque: bool = False) -> Signal:
    pixels = np.random.default_rng(channels).integers(0, 255, (4, 5, channels), np.uint8)
    if opaque:
        pixels[..., -1] = 255
    return read_signal(pixels)


@pytest.mark.parametrize(
    ("there", "channels"), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 4), (3, 3), (3, 4), (4, 4)]
)
def test_channels_that_were_added_go_again(there: int, channels: int) -> None:
    signal = picture(there)
    fitted = fit_channels(signal, channels)
    assert fitted.channels == channels
    assert fitted.form.channels == there
    assert (to_array(fitted) == to_array(signal)).all()
    colours = min(there, 3) if there != 2 else 1
    if channels > 2 and colours == 1:
        assert torch.equal(fitted.values[1], signal.values[0])
        assert torch.equal(fitted.values[2], signal.values[0])
    if channels in (2, 4) and there in (1, 3):
        assert (fitted.values[-1] == 0.5).all()


@pytest.mark.parametrize(
    ("there", "channels", "said"),
    [
        (3, 1, "expected grey .*, as the codec has no colour, found a picture of mode RGB"),
        (3, 2, "expected grey"),
        (4, 1, "expected grey"),
        (4, 3, "expected a picture without transparent places .*mode RGBA"),
        (2, 1, "expected a picture without transparent places .*mode LA"),
        (2, 3, "expected a picture without transparent places"),
        (3, 5, "expected 5 channels in the array, found 3"),
    ],
)
def test_nothing_is_thrown_away(there: int, channels: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fit_channels(picture(there), channels)


@pytest.mark.parametrize("channels", [2, 4])
def test_an_opaque_alpha_is_dropped_and_comes_back(channels: int) -> None:
    signal = picture(channels, opaque=True)
    assert signal.channels == channels - 1
    assert to_array(signal).shape[-1] == channels
    assert (to_array(signal)[..., -1] == 255).all()
    fitted = fit_channels(signal, 4)
    assert (to_array(fitted) == to_array(signal)).all()


def test_mono_fits_a_codec_of_stereo() -> None:
    signal = from_samples(np.arange(-9, 9, dtype=np.int16), rate=8000)
    fitted = fit_channels(signal, 2)
    assert torch.equal(fitted.values[0], fitted.values[1])
    assert (to_samples(fitted) == to_samples(signal)).all()
    stereo = from_samples(np.zeros((9, 2), np.int16), rate=8000)
    with pytest.raises(DataError, match="expected 1 channels in the sound, found 2"):
        fit_channels(stereo, 1)


def test_arrays_are_not_fitted() -> None:
    signal = read_signal(np.zeros((4, 4, 7), np.uint8))
    assert fit_channels(signal, 7) is signal
    with pytest.raises(DataError, match="expected 3 channels in the array, found 7"):
        fit_channels(signal, 3)


@pytest.mark.parametrize(
    ("kind", "form", "there"), [("audio", 2, 3), ("array", 1, 3), ("image", 4, 3)]
)
def test_channels_that_cannot_be_are_refused(kind: Any, form: int, there: int) -> None:
    values = torch.zeros(there, 4) if kind == "audio" else torch.zeros(there, 4, 4)
    signal = Signal(
        values=values, form=Form(kind=kind, dtype="uint8", channels=form), gain=1, mean=0
    )
    with pytest.raises(DataError, match=f"expected {form} channels for the signal, found {there}"):
        to_array(signal)
