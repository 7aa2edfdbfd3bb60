"""The page about a codec is whole, escaped, can be read aloud, and shows what it says."""

import base64
import io
import math
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attar.codec.drawings import Curve, picture_uri, wav_uri
from attar.codec.page import Shown, codec_page
from attar.codec.tables import Measured, measured_table, savings_table
from attar.errors import ConfigError, DataError
from attar.evaluation.rates import RatePoint
from attar.report.pages import is_report
from markup import Page
from records import HOSTILE


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def shown(*shape: int, **options: Any) -> Shown:
    facts: dict[str, Any] = {"name": "one", "rate": 0.625, "scores": {"psnr": 31.25}} | options
    return Shown(original=noise(*shape), decoded=noise(*shape, seed=1), **facts)


def recording(frames: int, **options: Any) -> Shown:
    return shown(2, frames, sampling_rate=8000, **options)


def rows() -> list[Measured]:
    scores = {"psnr": 31.254, "ms_ssim": 0.98765, "own score": 2.5}
    baseline = Measured(name="jpeg", rate=0.5, ratio=1, scores={"psnr": math.inf}, encode=9.5e7)
    result = Measured(name="codec", role="result", rate=0.625, ratio=16, scores=scores)
    return [baseline, result]


def curves() -> list[Curve]:
    points = [RatePoint(0.25, 28.0), RatePoint(0.5, 31.0), RatePoint(1.0, 34.0)]
    doubled = [RatePoint(2 * rate, quality) for rate, quality in points]
    lossless = RatePoint(9.0, math.inf)
    single = Curve(name="single", points=points[:1])
    own = Curve(name="codec", points=points, role="result")
    return [own, Curve(name="jpeg", points=[*doubled, lossless]), single]


def read(path: Path) -> tuple[Page, str]:
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    return page, text


def data_of(uri: str) -> bytes:
    return base64.b64decode(uri.split("base64,")[1])


@pytest.mark.parametrize("kind", ["pictures", "recordings"])
def test_page_is_whole_escaped_and_needs_no_network(tmp_path: Path, kind: str) -> None:
    sounds = [recording(frames, name=HOSTILE) for frames in (3000, 2000)]
    items = sounds if kind == "recordings" else [shown(3, 20, 30, name=HOSTILE)] * 2
    hostile = Measured(name=HOSTILE, scores={HOSTILE: 1.0})
    named = Curve(name=HOSTILE, points=curves()[0].points)
    path = codec_page(
        items,
        tmp_path / "new" / "page.html",
        measured=[*rows(), hostile],
        curves=[*curves(), named],
        title=HOSTILE,
        notes=[HOSTILE],
    )
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    page, text = read(path)
    assert is_report(text.encode()[:1024])
    assert not page.tags & {"script", "link", "iframe"}
    assert all(address.startswith(("#", "data:")) for address in page.fetched)
    assert "url(http" not in text
    assert "@import" not in text
    ids = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not any(name.startswith("on") for _, attributes in page.seen for name in attributes)
    with pytest.raises(ConfigError, match="cannot write"):
        codec_page([], path / "below" / "page.html")


def test_all_that_is_seen_or_heard_is_named(tmp_path: Path) -> None:
    page, _ = read(codec_page([shown(3, 20, 30)], tmp_path / "a.html", curves=curves()))
    alts = [attributes["alt"] for tag, attributes in page.seen if tag == "img"]
    assert alts == [
        "one, original",
        "one, decoded: 0.625 bits per pixel, PSNR 31.25 dB",
        "one, decoded less original, 8 times; grey where they are equal",
    ]
    charts = [attributes for tag, attributes in page.seen if tag == "svg"]
    assert [chart["role"] for chart in charts] == ["img"]
    assert charts[0]["aria-label"] == "PSNR (dB) over bits per pixel of codec, jpeg, single"
    quoted = Curve(name='a" class="b', points=curves()[0].points)
    page, _ = read(codec_page([], tmp_path / "q.html", curves=[quoted]))
    chart = next(attributes for tag, attributes in page.seen if tag == "svg")
    assert chart["aria-label"] == 'PSNR (dB) over bits per pixel of a" class="b'
    page, text = read(codec_page([recording(3000)], tmp_path / "b.html"))
    players = [attributes for tag, attributes in page.seen if tag == "audio"]
    assert [player["aria-label"] for player in players] == ["one, original", "one, decoded"]
    assert all("controls" in player for player in players)
    charts = [attributes for tag, attributes in page.seen if tag == "svg"]
    assert charts[0]["aria-label"] == "Spectrograms of one: original, decoded, and their difference"
    assert text.count("<image ") == 3
    assert 'lang="en"' in text


def pixels(uri: str | None) -> Any:
    assert uri
    with Image.open(io.BytesIO(data_of(uri))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_pictures_are_the_pixels_and_their_enlarged_difference(tmp_path: Path) -> None:
    levels = torch.randint(0, 256, (3, 9, 11), generator=torch.Generator().manual_seed(0))
    changed = (levels + torch.randint(-9, 10, (3, 9, 11))).clamp(0, 255)
    item = Shown(name="x", original=levels / 255 - 0.5, decoded=changed / 255 - 0.5)
    page, text = read(codec_page([item], tmp_path / "p.html", amplification=10))
    images = [pixels(attributes["src"]) for tag, attributes in page.seen if tag == "img"]
    for image, expected in zip(images, (levels, changed), strict=False):
        assert np.array_equal(image, expected.permute(1, 2, 0).numpy())
    difference = 127.5 + 10 * (changed - levels).permute(1, 2, 0).numpy()
    assert np.abs(images[2] - np.clip(difference, 0, 255)).max() <= 0.5
    assert "Differences are decoded less original, 10 times" in text
    assert text.count('class="small"') == 3


def test_large_pictures_and_long_recordings_are_cut(tmp_path: Path) -> None:
    item = shown(1, 40, 60)
    page, text = read(codec_page([item] * 5, tmp_path / "p.html", side=16, max_items=2))
    images = [attributes for tag, attributes in page.seen if tag == "img"]
    assert len(images) == 6
    assert (images[0]["width"], images[0]["height"]) == ("16", "16")
    middle = ((item.original[0, 12:28, 22:38] + 0.5) * 255).round()
    assert np.array_equal(pixels(images[0]["src"])[..., 0], middle.numpy())
    assert "the middle 16 x 16 of 60 x 40 pixels" in text
    assert "2 of 5 items are shown." in text
    page, text = read(codec_page([recording(80_000)], tmp_path / "s.html", seconds=0.5))
    assert "0.625 bits per sample, PSNR 31.25 dB · the first 0.5 s of 10 s" in text
    player = next(attributes for tag, attributes in page.seen if tag == "audio")
    with wave.open(io.BytesIO(data_of(player["src"] or ""))) as file:
        assert (file.getnframes(), file.getnchannels(), file.getframerate()) == (4000, 2, 8000)
    _, text = read(codec_page([shown(4, 8, 8)], tmp_path / "m.html"))
    assert "channels 1 to 3 of 4" in text
    item = shown(2, 8, 8)
    page, text = read(codec_page([item], tmp_path / "m.html"))
    assert "channel 1 of 2" in text
    image = next(attributes for tag, attributes in page.seen if tag == "img")
    first = ((item.original[0] + 0.5) * 255).round()
    assert np.array_equal(pixels(image["src"])[..., 0], first.numpy())


def test_sounds_are_the_samples() -> None:
    values = torch.tensor([[0.5, -0.5, 0.25], [0.0, 0.1, -0.1]])
    with wave.open(io.BytesIO(data_of(wav_uri(values, rate=8000)))) as file:
        samples = np.frombuffer(file.readframes(9), "<i2").reshape(-1, 2)
    assert samples.tolist() == [[32767, 0], [-32767, 6553], [16384, -6553]]
    with wave.open(io.BytesIO(data_of(wav_uri(noise(6, 50), rate=8000)))) as file:
        assert (file.getnchannels(), file.getnframes()) == (1, 50)


def test_one_pixel_one_sample_and_silence_are_shown(tmp_path: Path) -> None:
    read(codec_page([shown(1, 1, 1)], tmp_path / "a.html"))
    read(codec_page([recording(1)], tmp_path / "b.html"))
    still = torch.zeros(1, 3000)
    item = Shown(name="silence", original=still, decoded=still, sampling_rate=8000)
    read(codec_page([item], tmp_path / "c.html"))
    _, text = read(codec_page([], tmp_path / "d.html"))
    assert "items are shown" not in text
    assert pixels(picture_uri(torch.full((1, 2, 2), 7.0))).tolist() == [[[255] * 3] * 2] * 2


def test_table_puts_results_first_and_drops_empty_columns() -> None:
    table = measured_table(rows(), unit="pixel")
    heads = ["", "bits per pixel", "dimension ratio", "PSNR (dB)", "MS-SSIM", "own score"]
    assert table.columns == [*heads, "encode Mpixels/s"]
    assert table.rows == [
        ["codec", "0.625", "16x", "31.25", "0.9877", "2.500", "-"],
        ["  vs jpeg", "0.500", "1x", "∞", "-", "-", "95"],
    ]
    assert [record["role"] for record in table.records] == ["result", "baseline"]
    sound = measured_table(
        [Measured(name="x", decode=1.25e6, scores={"si_sdr": -math.inf})], unit="sample"
    )
    assert sound.columns == ["", "SI-SDR (dB)", "decode Msamples/s"]
    assert sound.rows == [["  vs x", "-∞", "1.25"]]


def test_savings_are_of_results_against_baselines(tmp_path: Path) -> None:
    table = savings_table(curves(), quality="psnr")
    assert table.columns == ["", "against", "bits at equal PSNR"]
    assert table.rows == [["codec", "jpeg", "-50.0%"]]
    far = Curve(name="far", points=[RatePoint(1.0, 50.0), RatePoint(2.0, 60.0)])
    assert savings_table([curves()[0], far], quality="psnr").rows == []
    _, text = read(codec_page([], tmp_path / "p.html", curves=curves(), quality="ms_ssim"))
    assert "bits at equal MS-SSIM" in text
    assert text.count("<svg") == 1
    _, text = read(codec_page([], tmp_path / "p.html", curves=[Curve(name="x", points=[])]))
    assert "<svg" not in text


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "p.html"
    for bad, words in (
        ([shown(3, 4)], "or a recording .C, T. with its sampling rate; found the shape .3, 4. and"),
        ([shown(5)], "expected a picture"),
        ([Shown(name="n", original=noise(1, 4, 4), decoded=noise(1, 4, 5))], "n: .* of one shape"),
        ([shown(3, 4, 4), recording(50)], "write a page for each"),
        ([shown(3, 0, 4)], "not empty"),
    ):
        with pytest.raises(DataError, match=words):
            codec_page(bad, target)
    bounds: list[dict[str, Any]] = [
        {"max_items": 0},
        {"side": -1},
        {"seconds": 0.0},
        {"amplification": math.inf},
    ]
    for bound in bounds:
        with pytest.raises(ConfigError, match=f"{next(iter(bound))} must be a finite number above"):
            codec_page([], target, **bound)
    assert not target.exists()
