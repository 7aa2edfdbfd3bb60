"""Sound in chunks of any length is the whole recording, to the bit, and so it comes back."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import signals
from attar.data.media import fit_channels, read_signal
from attar.data.media.recordings import open_recording
from attar.errors import ConfigError, DataError
from attar.methods.walloc import WaveletCodec
from attar.methods.walloc.padding import crop, pad, pads_of
from attar.methods.walloc.streaming import (
    StreamEncoder,
    can_stream,
    decode_chunks,
    halo_of,
    joined,
)

CODECS = {
    "one level": {"levels": 1, "latent_channels": 1},
    "three levels": {"levels": 3, "latent_channels": 5},
    "stages": {"levels": 2, "latent_channels": 2, "stages": 3},
    "companded": {"levels": 4, "latent_channels": 7, "quantizer": "gauss_compand", "bits": 8},
    "eight levels": {"levels": 8, "latent_channels": 27},
    "haar": {"levels": 3, "latent_channels": 4, "wavelet": "haar"},
}


@cache
def made(name: str, *, channels: int = 2) -> WaveletCodec:
    options: dict[str, Any] = CODECS[name]
    return signals.codec(ndim=1, channels=channels, step=1e-3, **options)


def whole(codec: WaveletCodec, values: torch.Tensor) -> list[np.ndarray]:
    """The latents of (C, L) at once."""
    with torch.inference_mode():
        padded = pad(values[None], pads_of(tuple(values.shape[1:]), config=codec.config))
        return [stage[0].numpy() for stage in codec.integers(padded)]


def streamed(codec: WaveletCodec, array: np.ndarray, sizes: list[int]) -> tuple[Any, list[int]]:
    """Latents of samples (L, C) in chunks of these lengths, the last one of what is left, and how
    many positions there were after each."""
    signal = read_signal((array, 8000))
    stream = StreamEncoder(codec, gain=signal.gain, mean=signal.mean)
    parts, start = [], 0
    for size in [*sizes, len(array)]:
        parts.append(stream.feed(torch.from_numpy(array[start : start + size].T)))
        start += size
    counts = [part[0].shape[1] for part in parts]
    return joined([*parts, stream.finish()]), counts


@pytest.mark.parametrize("name", CODECS)
def test_encoding_in_blocks_is_the_definition(name: str) -> None:
    codec = made(name)
    for length in (1, 100, 40_000):
        signal = signals.sound(length)
        for stage, other in zip(
            codec.encode(signal).stages, whole(codec, signal.values), strict=True
        ):
            # in another order of summation, so that what lies halfway may go either way
            assert stage.shape == other.shape
            apart = np.abs(stage.astype(int) - other)
            assert apart.max() <= 1 + (codec.config.stages > 1) * 4
            assert (apart > 0).mean() < 0.001


@pytest.mark.parametrize("name", CODECS)
def test_every_chunk_size_gives_the_same_integers(name: str) -> None:
    codec = made(name)
    array = signals.samples(36_000)
    expected = codec.encode(read_signal((array, 8000))).stages
    for size in (500, 4096, 36_000):
        found, _ = streamed(codec, array, [size] * (36_000 // size))
        for stage, other in zip(found, expected, strict=True):
            assert np.array_equal(stage, other)


@settings(max_examples=15)
@given(length=st.integers(1, 2500), data=st.data())
def test_any_cuts_give_the_same_integers(length: int, data: st.DataObject) -> None:
    codec = made("three levels")
    array = signals.samples(length)
    sizes = data.draw(st.lists(st.integers(0, 700), max_size=6))
    found, _ = streamed(codec, array, sizes)
    (expected,) = codec.encode(read_signal((array, 8000))).stages
    assert np.array_equal(found[0], expected)


@pytest.mark.parametrize(("wavelet", "levels"), [("bior4.4", 1), ("haar", 3), ("db2", 2)])
@pytest.mark.parametrize("length", [0, 999, 20_001])
def test_a_position_comes_as_soon_as_no_later_sample_can_change_it(
    wavelet: str, levels: int, length: int
) -> None:
    every = {"latent_channels": 2 * 2**levels, "wavelet": wavelet, "levels": levels}
    codec = signals.codec(ndim=1, channels=2, step=1e-4, **every)
    array = signals.samples(40_000)
    signal = read_signal((array, 8000))
    ((expected,), counts) = streamed(codec, array, [length])
    other = array.copy()
    other[length:] *= -1
    stream = StreamEncoder(codec, gain=signal.gain, mean=signal.mean)
    (changed,) = joined([stream.feed(torch.from_numpy(other.T)), stream.finish()])
    assert counts[0] == (expected == changed).all(axis=0).argmin() > 0


def test_what_is_kept_does_not_grow() -> None:
    codec = made("three levels")
    stream = StreamEncoder(codec, gain=10_000.0, mean=0.0)

    def kept() -> int:
        return sum(v.numel() for v in vars(stream).values() if isinstance(v, torch.Tensor))

    before = kept()
    for n in range(10):
        stream.feed(torch.from_numpy(signals.samples(20_000, seed=n).T))
    assert kept() == before < 100_000


@cache
def circular(ndim: int, levels: int) -> WaveletCodec:
    options = {"levels": levels, "latent_channels": 4, "boundary": "circular"}
    return signals.codec(ndim=ndim, channels=2, **options)


@given(shift=st.integers(0, 7), levels=st.sampled_from([1, 2, 3]), ndim=st.sampled_from([1, 2]))
def test_latents_move_with_a_circular_signal(shift: int, levels: int, ndim: int) -> None:
    codec = circular(ndim, levels)
    x = signals.values(codec, batch=1, positions=8)
    moved = x.roll(shift * codec.config.block, dims=-1)
    with torch.inference_mode():
        features = codec.features(x)
        assert torch.allclose(codec.features(moved), features.roll(shift, dims=-1), atol=1e-5)
        unlike = codec.features(x.roll(shift * codec.config.block + 1, dims=-1))
        assert not torch.allclose(unlike, features.roll(shift, dims=-1), atol=1e-3)


@pytest.mark.parametrize(
    ("subtype", "dtype"), [("PCM_16", np.int16), ("PCM_24", np.int32), ("FLOAT", np.float32)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_file_in_chunks_is_the_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtype: str, dtype: Any, channels: int
) -> None:
    for room in ("signals", "recordings"):
        monkeypatch.setattr(f"attar.data.media.{room}.BLOCK", 1000)
    codec = made("three levels")
    array = signals.samples(9_500, channels=channels)
    scaled = array.astype(np.int32) << 16 if dtype == np.int32 else array
    scaled = array.astype(np.float32) / 2**15 if dtype == np.float32 else scaled
    file = tmp_path / "a.wav"
    soundfile.write(file, scaled, 8000, subtype=subtype)
    recording = open_recording(file)
    assert recording is not None
    chunked, at_once = codec.encode_recording(recording), codec.encode(read_signal(file))
    assert np.array_equal(chunked.stages[0], at_once.stages[0])
    for name in ("size", "before", "form", "gain", "mean", "codec"):
        assert getattr(chunked, name) == getattr(at_once, name)


def test_what_is_no_wav_file_is_read_at_once(tmp_path: Path) -> None:
    for name, options in {"a.flac": {}, "b.ogg": {}, "c.wav": {"subtype": "ULAW"}}.items():
        soundfile.write(tmp_path / name, signals.samples(500), 8000, **options)
        assert (open_recording(tmp_path / name) is None) == (name != "c.wav")
    (tmp_path / "d.wav").write_bytes(b"RIFF")
    assert open_recording(tmp_path / "d.wav") is None
    assert open_recording(tmp_path / "none.wav") is None


def test_a_wav_file_that_breaks_off_or_is_empty_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", signals.samples(5000), 8000)
    raw = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(raw[:-7001])
    with pytest.raises(DataError, match="breaks off after 3,249 samples"):
        open_recording(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", signals.samples(0), 8000)
    with pytest.raises(DataError, match="found no samples"):
        open_recording(tmp_path / "b.wav")
    bad = np.full((50, 2), np.nan, np.float32)
    soundfile.write(tmp_path / "c.wav", bad, 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"found NaN \(100 of 100\)"):
        open_recording(tmp_path / "c.wav")
    (tmp_path / "d.wav").write_bytes(raw[:12] + b"nonsense" * 9)
    with pytest.raises(DataError, match="cannot read the sound"):
        open_recording(tmp_path / "d.wav")


def test_a_recording_with_other_channels_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", signals.samples(500, channels=3), 8000)
    recording = open_recording(tmp_path / "a.wav")
    assert recording is not None
    with pytest.raises(DataError, match=r"expected 2 channels .*a.wav, found 3"):
        made("one level").encode_recording(recording)


@pytest.mark.parametrize(
    "options",
    [
        {"levels": 1, "latent_channels": 1},
        {"levels": 8, "latent_channels": 40, "post_filter": 129},
        {"levels": 4, "latent_channels": 7, "decoder": "conv", "decoder_blocks": 2},
        {"levels": 4, "latent_channels": 7, "decoder": "conv", "post_filter": 31},
    ],
)
def test_decoding_in_chunks_is_decoding_at_once(options: dict[str, Any]) -> None:
    codec = signals.codec(ndim=1, channels=2, decoder_width=8, linear_skip=False, **options)
    signal = signals.sound(40_000)
    latents = codec.encode(signal)
    stages = [torch.from_numpy(stage)[None] for stage in latents.stages]
    with torch.inference_mode():
        at_once = codec.reconstruct(codec.dequantise(stages), tile=None)
    at_once = crop(at_once, before=latents.before, size=latents.size)[0]
    chunks = list(decode_chunks(codec, latents))
    assert len(chunks) > 1
    assert (torch.cat(chunks, 1) - at_once).abs().max() < 1e-6
    assert torch.equal(codec.decode(latents).values, torch.cat(chunks, 1).clamp(-0.5, 0.5))


def test_some_codecs_decode_the_whole_alone() -> None:
    for options in (
        {"ndim": 2, "channels": 3},
        {"ndim": 1, "boundary": "circular"},
        {"ndim": 1, "decoder": "walloc", "decoder_width": 12},
        {"ndim": 1, "levels": 2, "post_filter": 129},  # longer than the padding
    ):
        codec = signals.codec(**{"channels": 2, "latent_channels": 4, **options})
        assert halo_of(codec) is None
        item = signals.picture(20, 20) if options["ndim"] == 2 else signals.sound(700)
        assert codec.decode(codec.encode(item)).size == item.size


def test_some_codecs_encode_the_whole_alone() -> None:
    for options in (
        {"ndim": 2, "channels": 2},
        {"ndim": 1, "boundary": "circular"},
        {"ndim": 1, "encoder": "full", "encoder_width": 8, "encoder_blocks": 1},
    ):
        codec = signals.codec(**{"channels": 2, "latent_channels": 4, **options})
        assert not can_stream(codec.config)
        with pytest.raises(ConfigError, match="expected a codec of sound with the boundary open"):
            StreamEncoder(codec, gain=1.0, mean=0.0)


def test_a_stream_refuses_what_is_no_sound() -> None:
    codec = made("one level")
    with pytest.raises(ConfigError, match="gain must be zero or more"):
        StreamEncoder(codec, gain=-1.0, mean=0.0)
    stream = StreamEncoder(codec, gain=1.0, mean=0.0)
    with pytest.raises(DataError, match="found no samples"):
        stream.finish()
    stream.feed(torch.zeros(2, 7))
    with pytest.raises(DataError, match=r"\(2, n\), found \(3, 7\)"):
        stream.feed(torch.zeros(3, 7))
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match=r"expected finite samples, found some .* after 7"):
            stream.feed(torch.full((2, 3), bad))
    assert stream.samples == 7


def test_silence_is_zeros_whatever_the_mean() -> None:
    codec = made("one level")
    stream = StreamEncoder(codec, gain=0.0, mean=12.0)
    quiet = joined([stream.feed(torch.full((2, 90), 12.0)), stream.finish()])
    signal = read_signal((np.full((90, 2), 12, np.int16), 8000))
    assert np.array_equal(quiet[0], codec.encode(signal).stages[0])
    mono = fit_channels(signals.sound(90, channels=1), 2)
    assert codec.encode(mono).form.channels == 1
