"""Sound of every kind that soundfile reads, and files that break off."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attar.data.media import from_samples, read_signal, suffixes_of, to_samples, write_signal
from attar.errors import ConfigError, DataError


def noise(length: int = 20_000, channels: int = 1) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(0, 3000, (length, channels))
    return drawn.astype(np.int16)


def file_of(samples: np.ndarray, kind: str, subtype: str, *, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


@given(
    samples=arrays.arrays(np.int16, st.tuples(st.integers(1, 30), st.integers(1, 8))),
    suffix=st.sampled_from([".wav", ".flac"]),
    rate=st.sampled_from([8000, 44_100, 96_000]),
)
def test_sound_of_16_bits_comes_back_exactly(
    samples: np.ndarray, suffix: str, rate: int, tmp_path_factory: Any
) -> None:
    file = tmp_path_factory.mktemp("sound") / f"a{suffix}"
    write_signal(from_samples(samples, rate=rate), file)
    signal = read_signal(file)
    again = file.with_name(f"b{suffix}")
    write_signal(signal, again)
    read, found = soundfile.read(again, dtype="int16", always_2d=True)
    assert (read == samples).all()
    assert (found, signal.form.rate, signal.form.dtype) == (rate, rate, "int16")
    assert file.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("kind", "subtype", "dtype"),
    [
        ("WAV", "PCM_U8", "int16"),
        ("WAV", "PCM_16", "int16"),
        ("WAV", "PCM_24", "int32"),
        ("WAV", "PCM_32", "int32"),
        ("WAV", "FLOAT", "float32"),
        ("WAV", "DOUBLE", "float32"),
        ("WAV", "ULAW", "int16"),
        ("FLAC", "PCM_24", "int32"),
        ("AIFF", "PCM_16", "int16"),
        ("AU", "PCM_16", "int16"),
        ("OGG", "VORBIS", "int16"),
        ("MP3", "MPEG_LAYER_III", "int16"),
    ],
)
def test_samples_keep_their_type(kind: str, subtype: str, dtype: Any) -> None:
    raw = file_of(noise(4000, 2), kind, subtype)
    signal = read_signal(raw)
    assert (signal.form.dtype, signal.form.rate, signal.size) == (dtype, 8000, (4000,))
    plain = soundfile.read(io.BytesIO(raw), dtype=dtype, always_2d=True)[0]
    assert to_samples(signal).dtype == dtype
    slack = {"int16": 0, "int32": 128, "float32": signal.gain * 2**-23}[dtype]
    lossy = 1 if subtype in ("VORBIS", "MPEG_LAYER_III") else 0  # libsndfile rounds otherwise
    error = np.abs(to_samples(signal).astype(np.float64) - plain).max()
    assert error <= slack + lossy


def test_opus_is_read() -> None:
    assert read_signal(file_of(noise(), "OGG", "OPUS", rate=48_000)).size == (20_000,)


@pytest.mark.parametrize(
    ("kind", "subtype", "missing"),
    [
        ("WAV", "PCM_16", 3),
        ("AIFF", "PCM_16", 3),
        ("AU", "PCM_16", 3),
        ("FLAC", "PCM_16", 3),
        ("OGG", "VORBIS", 3),
        ("OGG", "OPUS", 3),
        ("MP3", "MPEG_LAYER_III", 2000),
    ],
)
def test_sound_that_breaks_off_is_refused(
    kind: str, subtype: str, missing: int, tmp_path: Path
) -> None:
    raw = file_of(noise(), kind, subtype, rate=48_000)
    assert read_signal(raw).size == (20_000,)
    for cut in (missing, len(raw) // 2):
        (tmp_path / "a.wav").write_bytes(raw[:-cut])
        with pytest.raises(DataError, match=r"(sound|recording) .*a\.wav.*; take another copy"):
            read_signal(tmp_path / "a.wav")


def test_sound_with_a_hole_is_refused() -> None:
    raw = bytearray(file_of(noise(60_000), "OGG", "VORBIS"))
    raw[len(raw) // 2] ^= 255
    with pytest.raises(DataError, match=r"the recording a\.ogg breaks off after 4\d,\d{3} samples"):
        read_signal(bytes(raw), name="a.ogg")


def test_a_file_from_a_pipe_is_whole() -> None:
    raw = bytearray(file_of(noise(), "WAV", "PCM_16"))
    raw[40:44] = b"\xff" * 4  # the length of the sound was not known
    assert read_signal(bytes(raw)).size == (20_000,)


@pytest.mark.parametrize("raw", [b"RIFF" + bytes(40), b"fLaC" + bytes(90), b"ID3" + bytes(40)])
def test_what_is_no_sound_is_refused(raw: bytes) -> None:
    with pytest.raises(DataError, match=r"cannot read the sound a\.wav: .*; take another copy"):
        read_signal(raw, name="a.wav")


def test_a_recording_without_sound_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected sound in a\.wav, found no samples"):
        read_signal(file_of(noise(0), "WAV", "PCM_16"), name="a.wav")
    with pytest.raises(DataError, match="found no samples"):
        from_samples(np.zeros((0, 2), np.int16), rate=8000)


def test_a_file_may_hold_samples_that_are_not_finite() -> None:
    samples = np.zeros(9, np.float32)
    samples[4] = np.inf
    with pytest.raises(DataError, match=r"finite samples in a\.wav, found infinity"):
        read_signal(file_of(samples, "WAV", "FLOAT"), name="a.wav")
    with pytest.raises(DataError, match="finite samples in the sound, found infinity"):
        from_samples(np.array([0, 1e300]), rate=8000)


def test_tensors_have_their_channels_first() -> None:
    samples = noise(100, 2)
    signal = read_signal((torch.from_numpy(samples.T.copy()), 8000))
    assert (to_samples(signal) == samples).all()
    assert read_signal((samples[:, 0], 8000)).channels == 1


@pytest.mark.parametrize(
    ("samples", "rate", "said"),
    [
        (np.zeros((2, 9000), np.int16), 8000, r"found \(2, 9000\); in NumPy arrays channels come"),
        (np.zeros((2, 2, 2), np.int16), 8000, r"of the shape \(samples,\) or"),
        (np.zeros(9, np.int64), 8000, "samples of int16, int32 or a float type .*, found int64"),
        (np.zeros(9, np.uint8), 8000, "found uint8"),
        (np.zeros(9, np.int16), 0, "whole number of samples a second for the sound, found 0"),
        (np.zeros(9, np.int16), 8000.5, "found 8000.5"),
    ],
)
def test_samples_of_another_form_are_refused(samples: np.ndarray, rate: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_signal((samples, rate))


# --------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_every_type_can_be_written(suffix: str, dtype: str, tmp_path: Path) -> None:
    scale = {"int16": 1, "int32": 2**16, "float32": 2**-15}[dtype]
    samples = (noise(9000, 2) * np.float64(scale)).astype(dtype)
    signal = from_samples(samples, rate=16_000)
    write_signal(signal, tmp_path / f"a{suffix}")
    back = read_signal(tmp_path / f"a{suffix}")
    assert (back.channels, back.form.rate) == (2, 16_000)
    if suffix in (".wav", ".flac"):
        full = {"int16": 1, "int32": 1, "float32": 1 if suffix == ".wav" else 2**31}[dtype]
        assert np.abs(to_samples(back) / full - samples).max() <= abs(scale) * 2**-7


def test_long_sound_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = from_samples(noise(1000, 2), rate=8000)
    monkeypatch.setattr("attar.data.media.audio.BLOCK", 64)
    write_signal(signal, tmp_path / "a.flac")
    assert (to_samples(read_signal(tmp_path / "a.flac")) == noise(1000, 2)).all()


def test_a_file_that_cannot_hold_it_is_refused(tmp_path: Path) -> None:
    signal = from_samples(noise(100, 9), rate=8000)
    with pytest.raises(ConfigError, match=r"a \.flac file cannot hold the sound, 9 channels of"):
        write_signal(signal, tmp_path / "a.flac")
    with pytest.raises(ConfigError, match=r"a \.mp3 file cannot hold"):
        write_signal(from_samples(noise(100), rate=1234), tmp_path / "a.mp3")
    with pytest.raises(ConfigError, match=r"a file for sound \(\.wav, \.flac, \.ogg, \.mp3\)"):
        write_signal(signal, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
    assert suffixes_of(signal.form)[0] == ".wav"
    write_signal(signal, tmp_path / "a.wav")
    assert read_signal(tmp_path / "a.wav").channels == 9


def test_what_is_no_sound_does_not_become_one() -> None:
    with pytest.raises(DataError, match=r"expected sound, found the array, .*kind image.*\.png"):
        to_samples(read_signal(np.zeros((2, 2), np.uint8)))
