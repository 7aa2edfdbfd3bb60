"""`codec evaluate`: a codec beside known formats, measured where the codec is placed."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile
from PIL import Image

import signals
from attar.codec import baselines, decoding, encode, evaluate, evaluating
from attar.codec.evaluating import EvaluateCodecConfig
from attar.data.media import read_signal
from attar.evaluation.fidelity import spatial_scores
from shelves import codec, folder_of_pictures, sound_codec


def test_a_codec_is_measured_and_decodes_on_the_device_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = list[bool]()

    @contextmanager
    def placed(made: Any) -> Any:
        inside.append(True)
        yield made
        inside.clear()

    for module in (evaluating, decoding):
        monkeypatch.setattr(module, "placed", placed)
    measure, decompress = evaluating.measure, type(codec()).decompress

    def measured(*args: Any, **options: Any) -> Any:
        assert inside
        return measure(*args, **options)

    def decompressed(*args: Any, **options: Any) -> Any:
        assert inside
        return decompress(*args, **options)

    monkeypatch.setattr(evaluating, "measure", measured)
    pictures = folder_of_pictures(tmp_path / "pictures")
    evaluate(codec(), pictures, config=EvaluateCodecConfig(baselines=("lanczos",)))
    file = tmp_path / "a.walloc"
    file.write_bytes(codec().compress(next(iter(evaluating.open_splits(pictures).values()))[0]))
    monkeypatch.setattr(type(codec()), "decompress", decompressed)
    decoding.decode(codec(), file)
    decoding.decode(codec(), encoded(pictures, tmp_path), output_dir=tmp_path / "out")
    assert not inside


def encoded(pictures: Path, place: Path) -> Path:
    encode(codec(), pictures, output_dir=place / "latents")
    return place / "latents"


def test_what_a_format_cannot_hold_is_left_out_with_a_note(tmp_path: Path) -> None:
    for number in range(2):
        samples = signals.samples(3000, seed=number)
        soundfile.write(tmp_path / f"{number}.wav", samples, 700_000)
    options = EvaluateCodecConfig(baselines=("flac", "resample"))
    run = evaluate(sound_codec(), tmp_path, config=options)
    assert [row["name"] for row in run.details["rows"]] == ["codec", "resample"]
    (note,) = run.details["missing"]
    assert note.startswith("flac is left out: ")


def test_of_stereo_it_is_told_where_the_error_lies(tmp_path: Path) -> None:
    for number, channels in enumerate((2, 1)):
        samples = signals.samples(3000, seed=number, channels=channels)
        soundfile.write(tmp_path / f"{number}.wav", samples, 8000)
    run = evaluate(sound_codec(), tmp_path, config=EvaluateCodecConfig(baselines=("flac",)))
    own, flac = run.details["rows"]
    pair = [read_signal(tmp_path / "0.wav")]
    pair.append(sound_codec().decode(sound_codec().encode(pair[0])))
    expected = spatial_scores(*(one.values for one in pair))
    assert own["scores"]["srdr"] == pytest.approx(expected.srdr)
    assert own["scores"]["ssdr"] == pytest.approx(expected.ssdr)
    assert flac["scores"]["srdr"] == 100


def test_transparent_pictures_are_no_baselines_and_that_is_told(tmp_path: Path) -> None:
    made = signals.codec(channels=4)
    for number in range(2):
        array = signals.pixels(24, 20, channels=4, seed=number)
        Image.fromarray(array).save(tmp_path / f"{number}.png")
    asked = EvaluateCodecConfig(baselines=("lanczos",))
    assert "without alpha" in evaluate(made, tmp_path, config=asked).details["missing"][0]
    for file in tmp_path.iterdir():
        Image.open(file).convert("RGB").save(file)
    assert not evaluate(made, tmp_path, config=asked).details["missing"]


@pytest.mark.parametrize("ratio", [1.0, 1.3, 2.4, 2.5, 16.0])
def test_the_shrink_of_colours_has_as_many_numbers_as_the_codec(ratio: float) -> None:
    ((_, scored),) = baselines.settings("colour", sound=False, ratio=ratio)
    assert scored(signals.picture(300, 240)).ratio == pytest.approx(ratio, rel=0.02)
