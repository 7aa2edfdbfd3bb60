"""Data sets of latents: what is in them, the same whoever works, whole after a kill."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Image, load_dataset

import processes
from attar.codec import compressing, dataset
from attar.codec.dataset import compress_dataset, load_compressed
from attar.coding.latent_file import from_bytes
from attar.data import shards
from attar.data.media import open_splits, read_signal
from attar.errors import ConfigError, DataError, MissingExtraError, ResourceError
from attar.methods.walloc import PAPER, WaveletCodec
from attar.report.record import Run
from shelves import codec, folder_of_pictures, folder_of_sounds, picture, sound_codec

WRITE_TABLE = shards.parquet.write_table


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return folder_of_pictures(tmp_path / "pictures", odd=True)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "SHARD_BYTES", 10_000)


def killed_after(count: int, patch: pytest.MonkeyPatch, *, error: Exception | None = None) -> None:
    """Behind so many shards, half a file and an error."""
    written: list[Path] = []

    def write(table: Any, file: Path, **options: Any) -> None:
        if len(written) == count:
            file.write_bytes(b"half of it")
            raise error or RuntimeError("killed")
        written.append(file)
        WRITE_TABLE(table, file, **options)

    patch.setattr(shards.parquet, "write_table", write)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.parquet"))}


def test_rows_hold_latents_and_all_other_columns(pictures: Path, tmp_path: Path) -> None:
    run = compress_dataset(codec(), pictures, output_dir=tmp_path / "latents")
    rows: Any = load_dataset(str(tmp_path / "latents"))
    source = open_splits(pictures)
    for split, signals in source.items():
        found = rows[split]
        assert found.features["label"] == ClassLabel(names=["cat", "dog"])
        assert found["file_name"] == signals.table["file_name"]
        assert found["label"] == signals.table["label"]
        for row, signal in zip(found, signals, strict=True):
            latents = from_bytes(row["latents"], name="row")
            direct = codec().encode(signal)
            assert all(
                np.array_equal(*pair) for pair in zip(latents.stages, direct.stages, strict=True)
            )
            assert tuple(row["signal_size"]) == signal.size == latents.size
    counted = run.quality["train"]
    assert counted["rows"] == 6
    assert counted["bytes before"] == sum(
        file.stat().st_size for file in (pictures / "train").rglob("*.png")
    )
    assert counted["bytes"] == sum(map(len, rows["train"]["latents"]))
    assert counted["numbers"] == sum(signal.values.numel() for signal in source["train"])
    assert run.details["codec"] == codec().fingerprint
    assert run.paper == PAPER
    inside = WaveletCodec.from_pretrained(tmp_path / "latents" / "codec")
    assert inside.fingerprint == codec().fingerprint
    assert Run.load(tmp_path / "latents").quality == run.quality


def test_a_data_set_in_memory_and_one_of_sound(tmp_path: Path) -> None:
    table = Dataset.from_dict({"text": ["a", "b"], "picture": [picture(0), picture(1)]})
    table = table.cast_column("picture", Image())
    compress_dataset(codec(), table, output_dir=tmp_path / "a [x]")
    assert load_compressed(tmp_path / "a [x]")["train"]["text"] == ["a", "b"]
    compress_dataset(sound_codec(), folder_of_sounds(tmp_path / "wav"), output_dir=tmp_path / "b")
    found = load_compressed(tmp_path / "b")["train"]
    assert found["signal_size"] == [[300], [310], [320]]
    assert found["file_name"] == ["0.wav", "1.wav", "2.wav"]


def test_shards_do_not_depend_on_the_number_of_workers(
    pictures: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress_dataset(codec(), pictures, output_dir=tmp_path / "here")
    assert len(contents(tmp_path / "here")) > 3
    monkeypatch.setattr(shards, "get_context", lambda _: processes.context())
    compress_dataset(codec(), pictures, output_dir=tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "here")


def test_a_killed_run_goes_on_to_the_same_bytes(
    pictures: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compress_dataset(codec(), pictures, output_dir=tmp_path / "whole")
    with monkeypatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(RuntimeError, match="killed"):
            compress_dataset(codec(), pictures, output_dir=tmp_path / "out")
    with pytest.raises(ConfigError, match="was started with codec="):
        compress_dataset(codec(step=0.1), pictures, output_dir=tmp_path / "out", resume=True)
    run = compress_dataset(codec(), pictures, output_dir=tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert run.quality == whole.quality
    assert not (tmp_path / "out" / "state").exists()


def test_a_full_disk_is_told_and_shards_stay(
    pictures: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(2, monkeypatch, error=OSError(28, "No space left on device"))
    with pytest.raises(ResourceError, match=r"the disk is full; make room .*--resume"):
        compress_dataset(codec(), pictures, output_dir=tmp_path / "out")
    assert len(contents(tmp_path / "out.partial")) == 2
    assert not (tmp_path / "out").exists()


def test_a_broken_picture_is_named_or_left_out(pictures: Path, tmp_path: Path) -> None:
    broken = pictures / "train" / "cat" / "1.png"
    broken.write_bytes(broken.read_bytes()[:90])
    with pytest.raises(DataError, match=r"cat/1\.png"):
        compress_dataset(codec(), pictures, output_dir=tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
    run = compress_dataset(codec(), pictures, output_dir=tmp_path / "out", skip_broken=True)
    assert run.quality["train"]["rows"] == 5
    assert run.details["skipped"] == 1
    assert "cat/1.png" in run.details["broken"][0]
    rows = load_compressed(tmp_path / "out")["train"]
    assert "cat/1.png" not in rows["file_name"]
    assert rows["label"] == [0, 0, 1, 1, 1]
    before = sum(file.stat().st_size for file in (pictures / "train").rglob("*.png"))
    assert run.quality["train"]["bytes before"] == before - 90


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="expected at least one row of the split train"):
        compress_dataset(
            codec(), tmp_path / "pictures", output_dir=tmp_path / "out", skip_broken=True
        )


def test_columns_are_chosen_and_their_names_looked_at(pictures: Path, tmp_path: Path) -> None:
    compress_dataset(codec(), pictures, output_dir=tmp_path / "a", columns=["label"])
    names = load_compressed(tmp_path / "a")["train"].column_names
    assert names == ["latents", "signal_size", "label"]
    with pytest.raises(ConfigError, match=r"found 'labell'; .*did you mean 'label'"):
        compress_dataset(codec(), pictures, output_dir=tmp_path / "b", columns=["labell"])
    table = Dataset.from_dict({"latents": ["a"], "picture": [picture(0)]})
    table = table.cast_column("picture", Image())
    with pytest.raises(ConfigError, match="expected no column named 'latents'"):
        compress_dataset(codec(), table, output_dir=tmp_path / "b")
    compress_dataset(codec(), table, output_dir=tmp_path / "b", columns=[])


def test_what_is_encoded_anew_in_the_same_place_is_read_anew(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for step in (0.05, 0.1):
        compress_dataset(codec(step=step), pictures, output_dir=tmp_path / "out")
        rows: Any = load_dataset(str(tmp_path / "out"), split="train")
        found.append(from_bytes(rows[0]["latents"], name="row").codec)
        (tmp_path / "out").rename(tmp_path / f"moved-{step}")
    assert found == [codec(step=step).fingerprint[:32] for step in (0.05, 0.1)]


def test_a_shard_that_is_missing_or_damaged_is_told(
    pictures: Path, tmp_path: Path, small_shards: None
) -> None:
    compress_dataset(codec(), pictures, output_dir=tmp_path / "out")
    shard = sorted((tmp_path / "out").glob("train-*.parquet"))[1]
    shard.write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match="a file may be damaged"):
        load_compressed(tmp_path / "out")
    shard.unlink()
    with pytest.raises(DataError, match="files of the split train"):
        load_compressed(tmp_path / "out")
    with pytest.raises(DataError, match="expected a folder that attar codec encode wrote"):
        load_compressed(pictures)


def test_ray_is_an_extra(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[ray\]'"):
        compress_dataset(codec(), pictures, output_dir=tmp_path / "out", engine="ray")
    with pytest.raises(ConfigError, match="engine must be processes or ray"):
        compress_dataset(codec(), pictures, output_dir=tmp_path / "o", engine="spark")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's
def test_ray_writes_the_same_shards(
    pictures: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    compress_dataset(codec(), pictures, output_dir=tmp_path / "here")
    with monkeypatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(RuntimeError, match="killed"):
            compress_dataset(codec(), pictures, output_dir=tmp_path / "out")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        for folder in ("out", "fresh"):
            compress_dataset(
                codec(),
                pictures,
                output_dir=tmp_path / folder,
                engine="ray",
                workers=2,
                resume=True,
            )
            assert contents(tmp_path / folder) == contents(tmp_path / "here")
        (pictures / "train" / "cat" / "1.png").write_bytes(b"\x89PNG")
        with pytest.raises(DataError, match=r"cat/1\.png"):
            compress_dataset(codec(), pictures, output_dir=tmp_path / "bad", engine="ray")
    finally:
        ray.shutdown()


def test_files_are_not_copied_for_other_processes(pictures: Path, tmp_path: Path) -> None:
    rows = open_splits(pictures)["train"]
    there = shards.on_disk(DatasetDict({"train": rows.table}), tmp_path)["train"]
    assert there["image"] == rows.table["image"]
    assert there["label"] == rows.table["label"]
    assert there.cache_files


def test_sizes_of_rows_are_those_of_their_files(pictures: Path) -> None:
    [rows] = [rows for split, rows in open_splits(pictures).items() if split == "train"]
    found = compressing.sizes_of(rows) - compressing._LEAST
    sizes = [(pictures / "train" / name).stat().st_size for name in rows.table["file_name"]]
    assert found.tolist() == sizes
    raw = [Path(rows.table[i]["image"]["path"]).read_bytes() for i in range(len(rows))]
    table = Dataset.from_dict({"image": [{"bytes": one} for one in raw]})
    inside = open_splits(table.cast_column("image", Image()))["train"]
    assert (compressing.sizes_of(inside) - compressing._LEAST).tolist() == sizes
    assert read_signal(raw[0]).size == rows[0].size
