"""`codec encode` and `codec decode`: one file or a whole data set, and back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from PIL import Image

from attar.codec import decode, encode
from attar.codec.dataset import load_compressed
from attar.coding.latent_file import describe
from attar.data.media import open_splits, read_signal
from attar.errors import ConfigError, DataError
from shelves import codec, folder_of_pictures, folder_of_sounds, picture, sound, sound_codec


def pixels(file: Path) -> Any:
    return np.asarray(Image.open(file))


def test_a_picture_becomes_a_file_and_a_picture(tmp_path: Path) -> None:
    picture(0, (21, 27)).save(tmp_path / "a.png")
    run = encode(codec(), tmp_path / "a.png")
    raw = (tmp_path / "a.png.walloc").read_bytes()
    assert run.details["bytes"] == len(raw)
    assert run.details["bits"] == pytest.approx(8 * len(raw) / (21 * 27 * 3))
    assert run.details["reduction"] == pytest.approx(21 * 27 * 3 / (6 * 6 * 7))
    assert run.settings["container"] in ("jpegls", "webp")
    again = decode(codec(), tmp_path / "a.png.walloc", output_file=tmp_path / "b.png")
    assert again.details == {"files": 1}
    direct = codec().decode(codec().encode(read_signal(tmp_path / "a.png")))
    found = read_signal(tmp_path / "b.png").values - direct.values
    assert found.abs().max() <= 0.5 / 255 + 1e-6
    decode(codec(), tmp_path / "a.png.walloc", output_file=tmp_path / "c.tif")
    assert np.array_equal(pixels(tmp_path / "c.tif"), pixels(tmp_path / "b.png"))
    with pytest.raises(ConfigError, match=r"a\.png' already exists"):
        decode(codec(), tmp_path / "a.png.walloc")


def test_what_is_in_memory_needs_a_name_for_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give output_file"):
        encode(codec(), picture(0))
    encode(codec(), picture(0), output_file=tmp_path / "a.walloc", container="zstd")
    said = describe((tmp_path / "a.walloc").read_bytes(), name="a")
    assert said["size"] == (20, 28)
    assert said["stages"][0]["container"] == "zstd"
    decode(codec(), tmp_path / "a.walloc")
    assert (tmp_path / "a.png").exists()


def test_a_recording_comes_back_as_one(tmp_path: Path) -> None:
    wav = folder_of_sounds(tmp_path / "wav", count=1) / "0.wav"
    encode(sound_codec(), wav, output_file=tmp_path / "a.walloc")
    decode(sound_codec(), tmp_path / "a.walloc")
    back = read_signal(tmp_path / "a.wav")
    assert back.form == sound(0).form
    assert (back.values - sound(0).values).abs().max() < 0.2


def test_several_stages_decode_in_part(tmp_path: Path) -> None:
    made = codec(stages=2)
    encode(made, picture(0), output_file=tmp_path / "a.walloc")
    decode(made, tmp_path / "a.walloc", output_file=tmp_path / "all.png")
    decode(made, tmp_path / "a.walloc", output_file=tmp_path / "one.png", stages=1)
    errors = [
        np.square(pixels(tmp_path / name).astype(float) - np.asarray(picture(0))).mean()
        for name in ("all.png", "one.png")
    ]
    assert errors[0] < errors[1]


def test_a_data_set_becomes_a_folder_and_pictures_again(tmp_path: Path) -> None:
    pictures = folder_of_pictures(tmp_path / "pictures", odd=True)
    encode(codec(), pictures, output_dir=tmp_path / "latents")
    run = decode(None, tmp_path / "latents", output_dir=tmp_path / "back")
    assert run.details == {"files": 8}
    before, after = open_splits(pictures), open_splits(tmp_path / "back")
    assert before.keys() == after.keys()
    for split, rows in after.items():
        assert rows.table["file_name"] == before[split].table["file_name"]
        assert rows.table["label"] == before[split].table["label"]
        for one, other in zip(rows, before[split], strict=True):
            direct = codec().decode(codec().encode(other))
            assert (one.values - direct.values).abs().max() <= 0.5 / 255 + 1e-6
    read: Any = load_dataset("imagefolder", data_dir=str(tmp_path / "back"), split="test")
    assert read.features["label"] == ClassLabel(names=["cat", "dog"])
    one = pictures / "train" / "cat" / "1.png"
    encode(codec(), one, output_dir=tmp_path / "single")  # a file becomes a data set if asked to
    assert len(load_compressed(tmp_path / "single")["train"]) == 1


def test_names_stay_in_their_folder_and_other_columns_come_along(tmp_path: Path) -> None:
    raw = codec().compress(read_signal(picture(0)), container="zstd")
    names = ["../../evil.png", "/etc/a.png", "a/b/c.png", "C:\\x\\d.png", None, "e.png", "E.png"]
    columns = {"latents": [raw] * 7, "file_name": names, "text": ["\u2615"] * 7}
    rows = Dataset.from_dict(columns)
    decode(codec(), rows, output_dir=tmp_path / "out")
    found = {file.relative_to(tmp_path / "out").as_posix() for file in tmp_path.rglob("*.png")}
    inside = ["evil", "etc/a", "a/b/c", "C/x/d", "000004", "000005-e", "000006-E"]
    assert found == {f"train/{name}.png" for name in inside}
    back = open_splits(tmp_path / "out")["train"].table
    assert back["text"] == ["\u2615"] * 7
    kinds = {"latents": Value("binary"), "label": ClassLabel(names=["..", "b/c"])}
    rows = Dataset.from_dict({"latents": [raw] * 2, "label": [0, 1]}, features=Features(kinds))
    decode(codec(), rows, output_dir=tmp_path / "classes")
    found = sorted(
        file.relative_to(tmp_path / "classes").as_posix()
        for file in (tmp_path / "classes").rglob("*.png")
    )
    assert found == ["train/bc/000001.png", "train/unnamed/000000.png"]


def test_no_row_takes_the_file_of_another(tmp_path: Path) -> None:
    raw = codec().compress(read_signal(picture(0)), container="zstd")
    names = ["a.png", "a.jpg", "000000-a.png", "x.png", "x.png/y.png", "\u753b" * 200 + ".png"]
    rows = Dataset.from_dict({"latents": [raw] * len(names), "file_name": names})
    decode(codec(), rows, output_dir=tmp_path / "out")
    found = sorted(p.relative_to(tmp_path / "out" / "train") for p in tmp_path.rglob("*.png"))
    assert len(found) == len(names)
    assert {"x.png", "x.png_/y.png", "000000-a.png"} <= {path.as_posix() for path in found}


def test_numbers_name_files(tmp_path: Path) -> None:
    raw = codec().compress(read_signal(picture(0)), container="zstd")
    rows = Dataset.from_dict({"latents": [raw] * 2, "file_name": [7, None]})
    decode(codec(), rows, output_dir=tmp_path / "out")
    found = sorted(file.name for file in (tmp_path / "out" / "train").iterdir())
    assert found == ["000001.png", "7.png"]


def test_decoding_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = codec().compress(read_signal(picture(0)), container="zstd")
    rows = Dataset.from_dict({"latents": [raw, raw[:-5]], "file_name": ["a", "b"]})
    with pytest.raises(DataError, match="b breaks off"):
        decode(codec(), rows, output_dir=tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()  # a mistake would come again
    rows = Dataset.from_dict({"latents": [raw, raw], "file_name": ["a", "b"]})
    decompress, done = type(codec()).decompress, list[str]()

    def dies(self: Any, data: bytes, *, name: str, **options: Any) -> Any:
        done.append(name)
        if len(done) == 2:
            raise KeyboardInterrupt
        return decompress(self, data, name=name, **options)

    monkeypatch.setattr(type(codec()), "decompress", dies)
    with pytest.raises(KeyboardInterrupt):
        decode(codec(), rows, output_dir=tmp_path / "out")
    first = tmp_path / "out.partial" / "train" / "a.png"
    when = first.stat().st_mtime_ns
    decode(codec(), rows, output_dir=tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "train" / "a.png").stat().st_mtime_ns == when
    assert (tmp_path / "out" / "train" / "b.png").exists()
    assert done == ["a", "b", "b"]  # what is there is not decoded again


def test_weights_are_not_hashed_for_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, count = folder_of_pictures(tmp_path / "pictures", count=10), list[str]()
    made, fingerprint = codec(), type(codec()).fingerprint

    def counted(self: Any) -> str:
        count.append(fingerprint.__get__(self))
        return count[-1]

    monkeypatch.setattr(type(made), "fingerprint", property(counted))
    encode(made, pictures, output_dir=tmp_path / "latents")
    decode(None, tmp_path / "latents", output_dir=tmp_path / "out")
    assert set(count) == {fingerprint.__get__(made)}
    assert len(count) < 12  # pictures


def test_outputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    pictures = folder_of_pictures(tmp_path / "pictures", count=2)
    with pytest.raises(ConfigError, match="expected one output"):
        encode(codec(), pictures, output_dir=tmp_path / "a", output_file=tmp_path / "b")
    with pytest.raises(ConfigError, match="expected a folder for a data set of latents"):
        encode(codec(), pictures, output_file=tmp_path / "b")
    encode(codec(), picture(0), output_file=tmp_path / "a.walloc")
    with pytest.raises(ConfigError, match="expected the codec that encoded"):
        decode(None, tmp_path / "a.walloc")
    with pytest.raises(ConfigError, match="expected output_file for a file"):
        decode(codec(), tmp_path / "a.walloc", output_dir=tmp_path / "b")
    encode(codec(), pictures, output_dir=tmp_path / "set")
    with pytest.raises(ConfigError, match="expected output_dir for a data set"):
        decode(None, tmp_path / "set")
    with pytest.raises(DataError, match="expected latents of the codec"):
        decode(codec(step=0.1), tmp_path / "a.walloc", output_file=tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()
    with pytest.raises(ConfigError, match="container must be"):
        encode(codec(), picture(0), output_file=tmp_path / "d", container="zip")


@pytest.mark.parametrize(
    "options",
    [
        {"columns": ["label"]},
        {"skip_broken": True},
        {"workers": 2},
        {"engine": "ray"},
        {"resume": True},
    ],
)
def test_options_of_data_sets_are_refused_for_a_file(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    target = tmp_path / "a.walloc"
    with pytest.raises(ConfigError, match=f"expected no {next(iter(options))} with one picture"):
        encode(codec(), picture(0), output_file=target, **options)
    assert not target.exists()


def test_metadata_is_json_whatever_the_columns_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = codec().compress(read_signal(picture(0)), container="zstd")
    columns = {"score": [float("nan"), 0.5], "parts": [[float("inf")], []], "key": [b"\xff", b"a"]}
    rows = Dataset.from_dict({"latents": [raw, raw], "file_name": ["a", "b"], **columns})
    decode(codec(), rows, output_dir=tmp_path / "out")
    text = (tmp_path / "out" / "train" / "metadata.jsonl").read_text()
    found = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert found == [
        {"file_name": "a.png", "score": None, "parts": [None]},
        {"file_name": "b.png", "score": 0.5, "parts": []},
    ]
    assert "left out of metadata.jsonl, which holds no bytes: key" in caplog.text
    assert len(open_splits(tmp_path / "out")["train"]) == 2


def test_rows_that_do_not_suit_the_codec_are_skipped_like_broken_ones(tmp_path: Path) -> None:
    pictures = folder_of_pictures(tmp_path / "pictures")
    odd = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(odd).save(pictures / "train" / "cat" / "clear.png")
    with pytest.raises(DataError, match=r"clear\.png"):
        encode(codec(), pictures, output_dir=tmp_path / "out")
    run = encode(codec(), pictures, output_dir=tmp_path / "out", skip_broken=True)
    assert run.details["skipped"] == 1
    assert "clear.png" in run.details["broken"][0]
    assert run.quality["train"]["rows"] == 6
