"""`codec train`: from data to a codec in a folder, resumed to the same, and continued without harm
to what was encoded before."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file

import signals
from attar.codec import training as room
from attar.codec.config import CodecConfig
from attar.codec.evaluating import EvaluateCodecConfig, evaluate
from attar.codec.opening import load_codec
from attar.codec.training import step_for, train
from attar.errors import ConfigError, DataError
from attar.methods.walloc.objective import mean_squared_error
from attar.report.record import Run

CLOSED = CodecConfig(step=0.01, levels=2, reduction=4, max_items=8, eval_items=2, bf16=False)
TRAINED = replace(
    CLOSED,
    decoder="conv",
    decoder_width=8,
    decoder_blocks=1,
    crop=16,
    max_steps=6,
    save_steps=2,
    logging_steps=2,
    warmup_steps=2,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 8), ("test", 2)):
        (folder / split).mkdir()
        for n in range(count):
            array = signals.pixels(40, 48, seed=n + (split == "test") * 99)
            Image.fromarray(array).save(folder / split / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def closed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closed") / "codec"
    train(data=str(pictures), config=CLOSED, output_dir=folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_closed_form_is_recorded_and_saved(closed: Path) -> None:
    run = Run.load(closed)
    codec = load_codec(closed)
    assert run.details["fingerprint"] == codec.fingerprint
    assert run.details["items"] == {"train": 8, "held out": 2}
    assert codec.config.latent_channels == 12
    assert not codec.training
    assert {row["name"] for row in run.details["rows"]} == {"closed form", "lanczos", "colour"}
    scores = run.quality["after"]
    assert scores["ratio"] == pytest.approx(4, rel=0.1)
    assert scores["psnr"] > 28
    assert run.cost["after"]["params"] == sum(p.numel() for p in codec.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"train_encoder": True, "domain": "signal", "rate_weight": 0.03},
        {"train_encoder": True, "published_schedule": True, "warmup_steps": 3},
    ],
)
def test_an_interrupted_training_resumes_to_the_same_codec(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    config = replace(TRAINED, **options)
    calls = 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return mean_squared_error(*args, **kwargs)

    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr(room, "mean_squared_error", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(data=str(pictures), config=config, output_dir=cut)
    assert not cut.exists()
    train(data=str(pictures), config=config, output_dir=cut, resume=True)
    train(data=str(pictures), config=config, output_dir=whole)
    one, other = weights(cut), weights(whole)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    first, second = Run.load(cut), Run.load(whole)
    assert first.details["fingerprint"] == second.details["fingerprint"]
    for name in ("psnr", "rate"):
        assert first.quality["after"][name] == second.quality["after"][name]


def test_a_decoder_for_a_codec_leaves_its_files_as_they_are(
    pictures: Path, closed: Path, tmp_path: Path
) -> None:
    before = load_codec(closed)
    item = signals.picture(40, 48, seed=5)
    raw = before.compress(item)
    run = train(closed, str(pictures), config=TRAINED, output_dir=tmp_path / "grown")
    grown = load_codec(tmp_path / "grown")
    assert grown.fingerprint == before.fingerprint == run.details["fingerprint"]
    assert grown.compress(item) == raw
    assert grown.config.decoder == "conv"
    assert not torch.equal(grown.decompress(raw).values, before.decompress(raw).values)
    assert run.quality["after"]["psnr"] == pytest.approx(run.quality["before"]["psnr"], abs=1)
    assert run.quality["after"]["rate"] == run.quality["before"]["rate"]
    assert torch.equal(weights(closed)["steps"], grown.steps)
    # and once more, from where it is
    again = train(tmp_path / "grown", str(pictures), config=TRAINED, output_dir=tmp_path / "more")
    assert again.quality["before"]["psnr"] == pytest.approx(run.quality["after"]["psnr"])
    assert again.details["fingerprint"] == before.fingerprint


def test_a_trained_encoder_is_another_codec(pictures: Path, closed: Path, tmp_path: Path) -> None:
    config = replace(CLOSED, train_encoder=True, crop=16, max_steps=2)
    run = train(closed, str(pictures), config=config, output_dir=tmp_path / "other")
    raw = load_codec(closed).compress(signals.picture(20, 20))
    assert run.details["fingerprint"] != Run.load(closed).details["fingerprint"]
    with pytest.raises(DataError, match="expected latents of the codec"):
        load_codec(tmp_path / "other").decompress(raw)


def test_a_full_encoder_learns(pictures: Path, tmp_path: Path) -> None:
    shape = {"encoder": "full", "encoder_width": 8, "encoder_blocks": 1, "train_encoder": True}
    steps = {"reduction": 16.0, "max_steps": 50, "learning_rate": 2e-3, "crop": 40}
    full = replace(TRAINED, **shape, **steps)
    run = train(data=str(pictures), config=full, output_dir=tmp_path / "full")
    codec = load_codec(tmp_path / "full")
    assert codec.encoder is not None
    assert codec.encoder.get_parameter("last.weight").any()
    assert run.quality["after"]["psnr"] > run.quality["before"]["psnr"]
    assert run.cost["after"]["encoder_params"] == 5_014


@pytest.mark.parametrize("bits", [0.8, 3.0])
def test_a_step_is_found_for_the_bits_that_are_asked_for(
    pictures: Path, tmp_path: Path, bits: float
) -> None:
    config = replace(CLOSED, bits_per_sample=bits)
    run = train(data=str(pictures), config=config, output_dir=tmp_path / "codec")
    codec = load_codec(tmp_path / "codec")
    rows = [signals.picture(40, 48, seed=n) for n in range(8)]
    taken = 8 * sum(len(codec.compress(row)) for row in rows) / (len(rows) * 40 * 48)
    assert taken == pytest.approx(bits, rel=0.02)
    assert taken <= bits
    assert float(codec.steps[0]) == pytest.approx(run.details["step"])


def test_bits_that_no_step_takes_are_refused() -> None:
    codec = signals.codec()
    rows = [signals.picture(40, 48)]
    for bits in (1e-3, 1e3):
        with pytest.raises(ConfigError, match=r"expected bits_per_sample from \d"):
            step_for(codec, rows, bits=bits)
    with pytest.raises(ConfigError, match="signals must be one or more"):
        step_for(codec, [], bits=1.0)


def test_a_codec_of_sound(tmp_path: Path) -> None:
    folder = tmp_path / "sound"
    folder.mkdir()
    for n in range(3):
        soundfile.write(folder / f"{n}.wav", signals.samples(4000, seed=n), 8000)
    config = replace(TRAINED, levels=4, crop=100, max_steps=2)
    with pytest.raises(ConfigError, match="expected the domain signal with a codec that filters"):
        published = replace(config, paper="stereo_5x")
        train(data=str(folder), config=published, output_dir=tmp_path / "codec")
    run = train(data=str(folder), config=config, output_dir=tmp_path / "codec")
    codec = load_codec(tmp_path / "codec")
    assert (codec.config.ndim, codec.config.channels, codec.config.boundary) == (1, 2, "open")
    assert run.details["items"] == {"train": 2, "held out": 1}
    assert {"snr", "si_sdr", "psnr"} <= run.quality["after"].keys()
    assert run.details["sound"]
    assert all(math.isfinite(v) for v in run.quality["after"].values())


@pytest.mark.parametrize("reduction", [1.0, 100.0])
def test_what_no_smaller_signal_matches_is_compared_with_the_nearest(
    tmp_path: Path, reduction: float
) -> None:
    """With padding, latents may be more numbers than there were; resampled sound has 64 times fewer
    at most."""
    folder = tmp_path / "data"
    folder.mkdir()
    for n in range(2):
        if reduction == 1:
            Image.fromarray(signals.pixels(33, 35, seed=n)).save(folder / f"{n}.png")
        else:
            soundfile.write(folder / f"{n}.wav", signals.samples(40000, seed=n), 8000)
    config = CodecConfig(reduction=reduction, max_items=1, eval_items=1)
    run = train(data=str(folder), config=config, output_dir=tmp_path / "codec")
    own, smaller, *_ = run.details["rows"]
    assert own["ratio"] < 1 if reduction == 1 else own["ratio"] > 64
    assert smaller["ratio"] == pytest.approx(1 if reduction == 1 else 64, rel=0.01)


def test_a_run_that_diverges_or_fails_leaves_nothing(pictures: Path, tmp_path: Path) -> None:
    wild = replace(TRAINED, learning_rate=1e30, warmup_steps=0, max_grad_norm=0)
    with pytest.raises(ConfigError, match="lower learning_rate"):
        train(data=str(pictures), config=wild, output_dir=tmp_path / "codec")
    with pytest.raises(DataError, match="there is no file or folder"):
        train(data=str(tmp_path / "none"), config=CLOSED, output_dir=tmp_path / "codec")
    with pytest.raises(ConfigError, match="bits_per_sample from"):
        strange = replace(CLOSED, bits_per_sample=1e4)
        train(data=str(pictures), config=strange, output_dir=tmp_path / "codec")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction": 0.5}, "reduction must be 1 or more"),
        ({"levels": 0}, "levels must be from 1 to 12"),
        ({"levels": 13}, "levels must be from 1 to 12"),
        ({"stages": 0}, "stages must be at least 1"),
        ({"bits": 17}, "bits must be from 2 to 16"),
        ({"decoder_blocks": -1}, "decoder_blocks must be from 0 to 1024"),
        ({"decoder_width": 0}, "decoder_width must be at least 1"),
        ({"paper": "rgb_5x"}, "paper must be one of rgb_4x"),
        ({"stages": 2, "quantizer": "gauss_compand"}, "the quantizer step with several stages"),
        ({"step": 0.0}, "step must be above 0"),
        ({"bits_per_sample": 0.0}, "bits_per_sample must be above 0"),
        ({"crop": 0}, "crop must be at least 1"),
        ({"max_items": 0}, "max_items must be at least 1"),
        ({"eval_items": 0}, "eval_items must be at least 1"),
        ({"rate_weight": -0.1}, "rate_weight must be zero or more"),
        ({"decoder": "huge"}, "decoder must be one of linear, conv, walloc"),
        ({"bits_per_sample": 1.0, "quantizer": "gauss_compand"}, "companded latents have none"),
        ({"bits_per_sample": 1.0, "paper": "rgb_16x"}, "companded latents have none"),
        ({"encoder": "full"}, "expected train_encoder with the encoder full"),
        ({"rate_weight": 0.03}, "expected train_encoder with a rate_weight"),
        (
            {"published_schedule": True, "rate_weight": 0.03, "train_encoder": True},
            "found both",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CodecConfig(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction": 1e4}, "reduction must be at most 48"),
        ({"paper": "stereo_5x"}, "is for 1 axes and 2 channels"),
        ({"wavelet": "db0"}, "wavelet must be an orthogonal"),
        ({"decoder": "walloc", "decoder_width": 40}, "decoder_width must be a multiple of 32"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_and_leaves_nothing(
    pictures: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(data=str(pictures), config=replace(CLOSED, **options), output_dir=tmp_path / "codec")
    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_is_given_is_trained_further_or_refused(
    pictures: Path, closed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "codec"
    with pytest.raises(ConfigError, match="can only be trained further"):
        train(closed, str(pictures), config=CLOSED, output_dir=out)
    with pytest.raises(ConfigError, match="expected no paper with a codec that is given"):
        train(closed, str(pictures), config=replace(CLOSED, paper="rgb_16x"), output_dir=out)
    for ignored in ({"levels": 1}, {"reduction": 2.0}, {"step": 0.5}, {"bits_per_sample": 1.0}):
        config = replace(TRAINED, **ignored)
        with pytest.raises(ConfigError, match=f"expected no {next(iter(ignored))} with a codec"):
            train(closed, str(pictures), config=config, output_dir=out)
    folder = tmp_path / "sound"
    folder.mkdir()
    soundfile.write(folder / "a.wav", signals.samples(4000), 8000)
    with pytest.raises(DataError, match="expected a signal of 2 axes besides channels, found 1"):
        train(closed, str(folder), config=TRAINED, output_dir=out)
    assert not out.exists()


def test_sound_of_more_channels_than_files_hold_is_measured_alone(tmp_path: Path) -> None:
    folder = tmp_path / "sound"
    folder.mkdir()
    for n in range(2):
        samples = np.tile(signals.samples(4000, seed=n), (1, 5))
        soundfile.write(folder / f"{n}.wav", samples, 200_000)
    config = replace(CLOSED, levels=4)
    run = train(data=str(folder), config=config, output_dir=tmp_path / "codec")
    assert [row["name"] for row in run.details["rows"]] == ["closed form"]
    run = evaluate(tmp_path / "codec", str(folder))
    assert [row["name"] for row in run.details["rows"]] == ["codec"]
    with pytest.raises(ConfigError, match="expected no baselines for arrays, or sound of more"):
        asked = EvaluateCodecConfig(baselines=("flac",))
        evaluate(tmp_path / "codec", str(folder), config=asked)


def test_grey_of_16_bits_is_shrunk_as_it_looks(tmp_path: Path) -> None:
    grey = signals.pixels(40, 48)[..., 0]
    rows = {}
    for bits, array in ((8, grey), (16, grey.astype(np.uint16) * 257)):
        folder = tmp_path / str(bits)
        folder.mkdir()
        Image.fromarray(array).save(folder / "a.png")
        run = train(data=str(folder), config=CLOSED, output_dir=tmp_path / f"codec{bits}")
        rows[bits] = {row["name"]: row["scores"] for row in run.details["rows"]}
    for name in ("lanczos", "colour"):
        assert rows[8][name] == pytest.approx(rows[16][name])
