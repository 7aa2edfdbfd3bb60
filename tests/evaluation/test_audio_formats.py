"""Baselines of audio codecs: real bytes, samples at the same times, and counts of numbers."""

import math
import sys
from typing import Any

import numpy as np
import pytest

from attar.errors import ConfigError, DataError, MissingExtraError
from attar.evaluation.audio_formats import (
    FORMATS,
    as_signal,
    audio_file,
    available_formats,
    missing_formats,
    resample,
)
from attar.evaluation.fidelity import psnr, si_sdr

pytest.importorskip("soundfile")
LOSSY = [name for name in available_formats() if FORMATS[name].curve]


def tones(frames: int, *, rate: int, channels: int = 2) -> Any:
    """Three tones below 2 kHz, each channel with its own, as int16."""
    times = np.arange(frames)[:, None] / rate
    hertz = np.array([220.0, 660.0, 1500.0])[:, None, None] * (1 + 0.1 * np.arange(channels))
    return (9000 * np.sin(2 * np.pi * hertz * times).mean(0)).astype(np.int16)


def distance(samples: Any, coded: Any) -> float:
    return si_sdr(as_signal(samples), as_signal(coded.decoded))


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_flac_is_exact(channels: int) -> None:
    samples = tones(3000, rate=11025, channels=channels)
    samples[0], samples[1] = 32767, -32768
    coded = audio_file(samples, rate=11025, format="flac")
    assert coded.decoded.dtype == np.int16
    assert np.array_equal(coded.decoded, samples)
    assert coded.bytes < samples.nbytes
    assert coded.ratio == 1
    floats = (samples / 32768).astype(np.float32)
    assert np.array_equal(audio_file(floats, rate=11025, format="flac").decoded, floats)


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_lossy_formats_keep_length_and_time(name: str, rate: int) -> None:
    samples = tones(rate, rate=rate)
    low, high = (audio_file(samples, rate=rate, format=name, quality=q) for q in (0.1, 0.6))
    assert low.bytes < high.bytes
    assert high.decoded.shape == samples.shape
    assert distance(samples, low) < distance(samples, high)
    assert distance(samples, high) > 15  # a shift of one sample alone would leave less
    shifted = np.roll(high.decoded, 3, axis=0)
    assert si_sdr(as_signal(samples), as_signal(shifted)) < distance(samples, high)


@pytest.mark.parametrize("name", LOSSY)
def test_one_sample_and_silence_come_back(name: str) -> None:
    for samples in (tones(1, rate=8000), np.zeros((5000, 1), np.int16)):
        coded = audio_file(samples, rate=8000, format=name)
        assert coded.decoded.shape == samples.shape
        assert np.abs(coded.decoded).max() < 0.1


def test_long_recordings_are_written_in_blocks() -> None:
    samples = tones(3 * 2**14 + 5, rate=44100, channels=1)
    coded = audio_file(samples, rate=44100, format="flac")
    assert np.array_equal(coded.decoded, samples)


def test_resample_counts_what_is_left() -> None:
    samples = tones(8000, rate=16000)
    coded = resample(samples, rate=16000, ratio=4)
    assert (coded.ratio, coded.kept) == (4, 2000 * 2)
    assert coded.decoded.shape == samples.shape
    assert distance(samples, coded) > 20
    assert distance(samples, resample(samples, rate=16000, ratio=8)) < 5  # 1.5 kHz is gone
    assert coded.bytes < 2 * coded.kept + 9000
    whole = resample(samples, rate=16000, ratio=1)
    assert np.array_equal(as_signal(whole.decoded), as_signal(samples))
    published = resample(samples[:7991], rate=16000, ratio=4.74)
    assert published.ratio == pytest.approx(4.74, rel=0.01)
    assert published.decoded.shape == (7991, 2)


def test_sound_of_any_rate_is_resampled() -> None:
    """Its bytes do not depend on the rate, of which a FLAC file cannot hold each."""
    samples = np.random.default_rng(0).integers(-999, 999, (4000, 1)).astype(np.int16)
    usual, high = (resample(samples, rate=rate, ratio=1.97) for rate in (44_100, 191_999))
    assert np.array_equal(usual.decoded, high.decoded)
    assert high.bytes == pytest.approx(usual.bytes, abs=8)


def test_signals_lie_between_minus_and_plus_half() -> None:
    samples = np.array([[-32768, 16384]], np.int16)
    assert as_signal(samples).tolist() == [[-0.5], [0.25]]
    assert as_signal(np.array([[1.0], [-0.5]])).tolist() == [[0.5, -0.25]]
    assert psnr(as_signal(samples), as_signal(samples / 32768)) == math.inf


def test_bad_input_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = tones(100, rate=8000)
    with pytest.raises(ConfigError, match="one of flac, opus, vorbis; found 'flak'; did you mean"):
        audio_file(fine, rate=8000, format="flak")
    with pytest.raises(ConfigError, match="quality must be from 0 to 1"):
        audio_file(fine, rate=8000, format="vorbis", quality=1.5)
    with pytest.raises(ConfigError, match="rate must be from 1"):
        audio_file(fine, rate=0, format="flac")
    with pytest.raises(ConfigError, match="ratio must be from 1 to 64"):
        resample(fine, rate=8000, ratio=65)
    for bad, words in (
        (fine[:0], "not empty"),
        (fine[:, 0], "samples .T, C. in int16 or floats"),
        (fine.astype(np.int32), "found int32"),
        (fine.T.copy(), "up to 8 channels; found 100; are these"),
        (fine.astype(np.float32), "from -1 to 1, found"),
        (np.full((5, 1), np.nan), "from -1 to 1, found nan"),
    ):
        for call in (
            lambda s: audio_file(s, rate=8000, format="flac"),
            lambda s: resample(s, rate=8000, ratio=2),
            as_signal,
        ):
            with pytest.raises(DataError, match=words):
                call(bad)
    with pytest.raises(DataError, match="libsndfile cannot keep 100 samples of 2 channels"):
        audio_file(fine, rate=900_000, format="flac")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert available_formats() == []
    assert "opus is left out: soundfile is missing" in missing_formats()["opus"]
    with pytest.raises(MissingExtraError, match="needs the package soundfile"):
        audio_file(fine, rate=8000, format="flac")
