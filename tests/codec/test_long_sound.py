"""`codec encode` of a WAV file reads it in chunks, to the bytes of the whole."""

from pathlib import Path

import pytest
import soundfile

import signals
from attar.codec import encoding
from attar.codec.encoding import encode
from attar.data.media import read_signal, to_samples
from attar.errors import DataError


def test_a_wav_file_is_never_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = signals.codec(ndim=1, channels=2, levels=4)
    soundfile.write(tmp_path / "a.wav", signals.samples(9000), 8000)
    signal = read_signal(tmp_path / "a.wav")
    expected = codec.compress(signal)
    with monkeypatch.context() as patch:
        patch.delattr(encoding, "read_signal")
        run = encode(codec, tmp_path / "a.wav")
        mono = encode(codec, str(tmp_path / "a.wav"), output_file=tmp_path / "b.walloc")
    assert (tmp_path / "a.wav.walloc").read_bytes() == expected
    assert (tmp_path / "b.walloc").read_bytes() == expected
    assert run.details == mono.details
    assert run.details["bytes"] == len(expected)
    assert run.details["bits"] == 8 * len(expected) / signal.values.numel()
    back = to_samples(codec.decompress(expected))
    assert back.shape == (9000, 2)


def test_what_cannot_be_read_in_chunks_is_read_at_once(tmp_path: Path) -> None:
    circular = signals.codec(ndim=1, channels=2, levels=4, boundary="circular")
    opened = signals.codec(ndim=1, channels=2, levels=4)
    soundfile.write(tmp_path / "a.wav", signals.samples(900), 8000)
    soundfile.write(tmp_path / "b.flac", signals.samples(900), 8000)
    for codec, name in ((circular, "a.wav"), (opened, "b.flac")):
        encode(codec, tmp_path / name)
        expected = codec.compress(read_signal(tmp_path / name))
        assert (tmp_path / f"{name}.walloc").read_bytes() == expected


def test_a_wav_file_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    codec = signals.codec(ndim=1, channels=2, levels=4)
    soundfile.write(tmp_path / "a.wav", signals.samples(900), 8000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-100])
    with pytest.raises(DataError, match="breaks off after 875 samples"):
        encode(codec, tmp_path / "a.wav")
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
