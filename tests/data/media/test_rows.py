"""Folders, archives, tables and data sets as rows that are decoded when they are asked for."""

import io
import json
import logging
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

from attar.data.data import Data
from attar.data.media import MediaRows, open_media, open_splits, read_signal
from attar.errors import ConfigError, DataError


def png(level: int) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (4, 3), (level, 0, 0)).save(out, format="PNG")
    return out.getvalue()


def flac(level: int) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.array([0, level], np.int16), 8000, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, raw in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    return folder


def level(rows: MediaRows, index: int) -> int:
    return round((float(rows[index].values[0, 0, 0]) + 0.5) * 255)


def test_a_folder_is_one_split(tmp_path: Path) -> None:
    files = {
        "b.png": png(2),
        "a.PNG": png(1),
        "deep/er/c.jpg": png(3),
        ".hidden.png": b"",
        ".cache/d.png": b"",
        "x.txt": b"x",
    }
    splits = open_splits(fill(tmp_path, files))
    rows = splits["train"]
    assert list(splits) == ["train"]
    assert (rows.column, rows.table.column_names) == ("image", ["image", "file_name"])
    assert rows.names == ["a.PNG", "b.png", "deep/er/c.jpg"]
    assert [level(rows, i) for i in range(len(rows))] == [1, 2, 3]
    assert rows[0].name == str(tmp_path / "a.PNG")
    assert level(rows, -1) == 3
    assert len(list(rows)) == 3
    assert rows.source(1) == tmp_path / "b.png"
    with pytest.raises(IndexError):
        rows[3]


def test_folders_at_the_top_are_splits_and_below_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("train/cat/1.png", "train/dog/2.png", "val/dog/1.png", "test/cat/3.png")
    files = {name: png(i) for i, name in enumerate(names)}
    with caplog.at_level(logging.WARNING):
        splits = open_splits(fill(tmp_path, files | {"other.png": png(9)}))
    assert "left out 1 files in" in caplog.text
    assert list(splits) == ["train", "validation", "test"]
    assert splits["train"].table["label"] == [0, 1]
    assert splits["validation"].table.features["label"].names == ["cat", "dog"]
    assert splits["validation"].table["label"] == [1]
    assert splits["validation"].names == ["dog/1.png"]
    assert level(open_media(tmp_path, split="test"), 0) == 3
    with pytest.raises(ConfigError, match=r"has train, validation, test, found 'tets'.*'test'"):
        open_media(tmp_path, split="tets")


@pytest.mark.parametrize(
    "names",
    [("a/1.png", "2.png"), ("a/1.png", "a/2.png"), ("a/b/1.png",), ("a/1.png", "b/c/2.png")],
)
def test_other_folders_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    rows = open_media(fill(tmp_path, {name: png(1) for name in names}))
    assert "label" not in rows.table.column_names
    assert rows.names == sorted(names)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_adds_its_columns(tmp_path: Path, kind: str) -> None:
    rows = [
        {"file_name": "b.png", "text": "two", "n": 2},
        {"file_name": "a.png", "text": "one", "n": 1},
    ]
    csv = "file_name,text,n\n" + "".join(f"{r['file_name']},{r['text']},{r['n']}\n" for r in rows)
    text = csv if kind == "csv" else "".join(json.dumps(row) + "\n" for row in rows)
    fill(tmp_path, {"test/a.png": png(1), "test/b.png": png(2)})
    (tmp_path / "test" / f"metadata.{kind}").write_text(text)
    found = open_media(tmp_path)
    assert found.table["text"] == ["one", "two"]
    assert found.table["n"] == [1, 2]
    assert level(found, 1) == 2
    fill(tmp_path, {"test/c.png": png(3)})
    with pytest.raises(DataError, match=rf"metadata\.{kind}, found none for c\.png; correct it"):
        open_media(tmp_path)


def test_metadata_names_each_file_once(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": png(1)})
    file = tmp_path / "metadata.csv"
    file.write_text("file_name,n\na.png,1\na.png,2\n")
    with pytest.raises(DataError, match="found one file twice"):
        open_media(tmp_path)
    file.write_text("file,n\na.png,1\n")
    with pytest.raises(DataError, match=r"expected a column 'file_name' in .*, found file, n"):
        open_media(tmp_path)
    assert open_media(tmp_path / "a.png").names == ["a.png"]


def test_arrays_and_sound_have_folders_too(tmp_path: Path) -> None:
    raw = io.BytesIO()
    np.save(raw, np.full((2, 2, 5), 7, np.uint8))
    rows = open_media(fill(tmp_path / "arrays", {"a.npy": raw.getvalue()}))
    assert (rows.column, rows[0].channels) == ("array", 5)
    rows = open_media(fill(tmp_path / "sound", {"a.flac": flac(8)}))
    assert (rows.column, rows[0].gain) == ("audio", 4)
    assert isinstance(rows.table.features["audio"], Audio)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.txt": b"x"}, "expected pictures, sound or arrays, .*, found none; give a folder"),
        ({"a.png": b"x", "b.wav": b"x"}, "found 1 of kind image and 1 of kind audio"),
    ],
)
def test_a_folder_of_no_kind_is_refused(tmp_path: Path, files: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_media(fill(tmp_path, files))


def test_a_broken_item_is_named_and_others_are_read(tmp_path: Path) -> None:
    rows = open_media(fill(tmp_path, {"a.png": png(1)[:40], "b.png": png(2), "c.png": b"text"}))
    with pytest.raises(DataError, match=r"expected a picture, found .*a\.png"):
        rows[0]
    assert level(rows, 1) == 2
    with pytest.raises(DataError, match=r"expected a picture, found .*c\.png"):
        rows[2]
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png, found no such file"):
        rows[1]


# ------------------------------------------------------------------------------------- archives


def tar(path: Path, files: dict[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


def test_an_archive_is_a_folder(tmp_path: Path) -> None:
    files = {"./train/1_a.flac": flac(10), "./train/0_b.flac": flac(20), "./test/1.flac": flac(6)}
    path = tar(tmp_path / "sound.tar", files | {"./notes.txt": b"x", "./train/._1_a.flac": b"x"})
    splits = open_splits(path)
    assert splits["train"].names == ["0_b.flac", "1_a.flac"]
    assert [signal.gain for signal in splits["train"]] == [10, 5]
    assert splits["test"][0].gain == 3
    assert splits["test"].source(0) == flac(6)
    assert splits["test"][0].name == f"test/1.flac in {path}"
    again = pickle.loads(pickle.dumps(splits["test"]))  # to another process
    assert again[0].gain == 3


def test_archives_that_are_packed_or_break_off_are_refused(tmp_path: Path) -> None:
    packed = tar(tmp_path / "a.tar", {"a.flac": flac(1)}, "w:gz")
    with pytest.raises(DataError, match=r"cannot read the archive .*a\.tar: .*; unpack it, if"):
        open_splits(packed)
    path = tar(tmp_path / "b.tar", {"a.flac": flac(1), "b.flac": flac(9) * 999})
    rows = open_media(path)
    path.write_bytes(path.read_bytes()[:5000])
    assert rows[0].gain == 0.5
    with pytest.raises(DataError, match=r"b\.tar breaks off in b\.flac"):
        rows[1]


# ---------------------------------------------------------------------------- data sets in memory


def test_a_data_set_keeps_its_columns() -> None:
    cells = [{"bytes": png(i), "path": "same.png" if i < 2 else None} for i in range(4)]
    features = Features({"picture": Image(), "label": Value("int64")})
    table = Dataset.from_dict({"picture": cells, "label": [5, 6, 7, 8]}, features=features)
    splits = open_splits(
        DatasetDict(
            {"train": table.with_format("torch", columns=["label"]), "dev": table.select([2, 0])}
        )
    )
    rows = splits["train"]
    assert (rows.column, rows.table["label"]) == ("picture", [5, 6, 7, 8])
    assert [level(rows, i) for i in range(4)] == [0, 1, 2, 3]
    assert rows.names == ["000000-same.png", "000001-same.png", "000002", "000003"]
    assert rows.select([3, 1]).names == ["000000", "same.png"]
    assert rows.select(range(1, 3)).names == ["same.png", "000001"]
    assert rows[0].name == "row 0 of the given data set (same.png)"
    assert rows[-1].name == "row 3 of the given data set"
    assert level(splits["validation"], 0) == 2
    assert len(open_media(table, max_items=3)) == 3
    assert len(open_media(table, max_items=99)) == 4
    with pytest.raises(ConfigError, match="max_items must be at least 1; found 0"):
        open_media(table, max_items=0)


def test_sound_is_decoded_without_torchcodec(tmp_path: Path) -> None:
    file = fill(tmp_path, {"a.flac": flac(8)}) / "a.flac"
    cells = [{"bytes": flac(6), "path": None}, {"bytes": None, "path": str(file)}]
    plain = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}})
    table = Dataset.from_dict({"audio": cells}, features=plain)
    rows = open_media(table.cast_column("audio", Audio(sampling_rate=8000)))
    assert [signal.gain for signal in rows] == [3, 4]
    assert rows.names == ["000000", "a.flac"]
    assert open_media(Data(table, media_column="audio"))[1].gain == 4


def test_columns_of_paths_and_bytes_can_be_named(tmp_path: Path) -> None:
    file = str(fill(tmp_path, {"a.png": png(7)}) / "a.png")
    table = Dataset.from_dict({"file": [file], "raw": [png(8)], "n": [1], "none": [None]})
    rows = open_media(Data(table, media_column="file"))
    assert (level(rows, 0), rows.names) == (7, ["a.png"])
    rows = open_media(Data(table, media_column="raw"))
    assert (level(rows, 0), rows.names) == (8, ["000000"])


def test_the_column_must_be_known() -> None:
    cell = {"bytes": png(1), "path": None}
    features = Features(
        {"image": Image(), "mask": Image(), "text": Value("string"), "n": Value("int8")}
    )
    table = Dataset.from_dict(
        {"image": [cell], "mask": [None], "text": ["a"], "n": [1]}, features=features
    )
    streamed: Any = table.to_iterable_dataset()
    for data, said in (
        (table, "found several: image, mask .*; name it with media_column"),
        (table.select_columns(["text"]), r"found none \(columns: text\)"),
        (Data(table, media_column="imgae"), "expected a column 'imgae' .*; did you mean 'image'"),
        (Data(table, media_column="n"), "pictures or sound in column 'n' of .*, found Value"),
        (table.select([]).select_columns(["image"]), "found none in train"),
        (streamed, "data must be a file, a folder"),
    ):
        with pytest.raises((DataError, ConfigError), match=said):
            open_media(data)
    rows = open_media(Data(table, media_column="mask"))
    with pytest.raises(DataError, match=r"a file in column 'mask' of row 0 of .*, found nothing"):
        rows[0]
    twice = DatasetDict({"val": table, "validation": table})
    with pytest.raises(DataError, match="expected each split once"):
        open_media(Data(twice, media_column="image"))


def test_parquet_is_read(tmp_path: Path) -> None:
    table = Dataset.from_dict(
        {"image": [{"bytes": png(i), "path": None} for i in range(3)]},
        features=Features({"image": Image()}),
    )
    for name in ("train-0.parquet", "train-1.parquet", "test-0.parquet"):
        table.to_parquet(tmp_path / "shards" / name)
    splits = open_splits(tmp_path / "shards")
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 6, "test": 3}
    assert level(splits["train"], 5) == 2
    assert len(open_media(tmp_path / "shards" / "test-0.parquet")) == 3
    (tmp_path / "a.csv").write_text("text\nx\n")
    with pytest.raises(DataError, match="expected pictures or sound, found the table"):
        open_media(tmp_path / "a.csv")


# ------------------------------------------------------------------------------------ other names


def test_names_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").touch()
    for source, said in (
        ("no/such/place", "there is no file or folder 'no/such/place'"),
        ("nobody/nothing", "there is no file or folder 'nobody/nothing' here, and the Hugging"),
        (str(tmp_path / "a.xyz"), r"expected a file of a known kind, found .*a\.xyz; give a pict"),
    ):
        with pytest.raises(DataError, match=said):
            open_splits(source)
    with pytest.raises(ConfigError, match="leave config"):
        open_splits(Data("demo", config="x"))


def test_demo_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # is not meant
    splits = open_splits("demo")
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 64, "test": 16}
    assert splits["train"][40].values.shape == (3, 256, 256)
    label = splits["test"].table.features["label"]
    assert label.names == ["photograph", "text", "shapes"]
    rows = zip(splits["test"].names, splits["test"].table["label"], strict=True)
    assert all(label.int2str(number) in name for name, number in rows)
    assert len(set(splits["train"].names)) == 64


def test_shared_data(shared_data: Path) -> None:
    kodak = open_media(shared_data / "images" / "kodak")
    assert (len(kodak), kodak[0].values.shape) == (12, (3, 512, 768))
    photos = open_splits(shared_data / "images" / "photos")
    assert {split: len(rows) for split, rows in photos.items()} == {"train": 160, "test": 40}
    digits = open_splits(shared_data / "audio" / "spoken-digits.tar")
    assert {split: len(rows) for split, rows in digits.items()} == {"train": 1500, "test": 300}
    assert digits["test"][0].form.rate == 8000
    sound = open_media(shared_data / "audio")
    assert len(sound) == 6
    assert torch.equal(sound[0].values, read_signal(sound.source(0)).values)


def test_a_name_that_is_no_utf_8_is_told(tmp_path: Path) -> None:
    name = os.fsdecode(b"na\xefve.png")
    Pillow.new("RGB", (4, 4)).save(tmp_path / "a.png")
    try:
        (tmp_path / "a.png").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(DataError, match=r"UTF-8 in .*found 'na\\udcefve\.png'; rename the file"):
        open_splits(tmp_path)
