"""Batches of latents: what is in them, in which order, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from attar.codec import LatentLoader, batches, compress_dataset
from attar.codec import loader as loader_module
from attar.codec.dataset import load_compressed
from attar.codec.source import codec_of
from attar.coding.latent_file import from_bytes
from attar.data.media import open_splits
from attar.errors import ConfigError, DataError
from attar.methods.walloc.codec import WaveletCodec
from shelves import codec, folder_of_pictures, folder_of_sounds, sound_codec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine pictures of two sizes, and so of two grids: (6, 7) and (5, 7)."""
    place = tmp_path_factory.mktemp("loader")
    pictures = folder_of_pictures(place / "pictures", count=9, odd=True)
    compress_dataset(codec(), pictures, output_dir=place / "latents")
    return place / "latents"


@pytest.fixture(scope="module")
def rows(folder: Path) -> Dataset:
    return load_compressed(folder)["train"]


def stages(rows: Dataset, row: int) -> list[torch.Tensor]:
    latents = from_bytes(rows[row]["latents"], name="row")
    return [torch.from_numpy(stage)[None] for stage in latents.stages]


def passes(loader: LatentLoader, count: int = 1) -> list[dict[str, Any]]:
    return [batch for _ in range(count) for batch in loader]


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(one, other, strict=True)
    )


def numbered(folder: Path, **options: Any) -> LatentLoader:
    """A loader of rows with their number as a column."""
    table = load_compressed(folder)["train"]
    table = table.add_column("number", list(range(len(table))))  # pyright: ignore[reportCallIssue]
    return LatentLoader(table, codec(), columns=["number"], **options)


@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=40),
    size=st.integers(1, 7),
    seed=st.none() | st.integers(0, 9),
)
def test_a_pass_has_each_row_once_and_batches_of_one_grid(
    sizes: list[int], size: int, seed: int | None
) -> None:
    grids = np.array([[2, side] for side in sizes])
    options: Any = {"size": size, "seed": None if seed is None else [seed, 0]}
    found = batches.batches_of(grids, drop_last=False, **options)
    assert sorted(np.concatenate([rows for rows, _ in found]).tolist()) == list(range(len(sizes)))
    assert all(len(np.unique(grids[rows], axis=0)) == 1 for rows, _ in found)
    assert all(places.shape == (len(rows), 2) for rows, places in found)
    if seed is not None:  # each row has a place of its own
        assert len(np.unique(np.concatenate([places for _, places in found]), axis=0)) == len(sizes)
    full = batches.batches_of(grids, drop_last=True, **options)
    assert all(len(rows) == size for rows, _ in full)
    assert len(full) == sum(len(rows) == size for rows, _ in found)


def test_features_are_those_of_the_codec_times_one_factor(folder: Path, rows: Dataset) -> None:
    loader = LatentLoader(folder, batch_size=4)
    total = count = 0.0
    read = numbered(folder, batch_size=4, scale=loader.scale)
    for batch, other in zip(loader, read, strict=True):
        assert torch.equal(batch["features"], other["features"])
        for features, row in zip(batch["features"], other["number"].tolist(), strict=True):
            direct = codec().dequantise(stages(rows, row))[0] * loader.scale
            torch.testing.assert_close(features, direct)
            assert batch["label"].dtype == torch.int64
        total += float(batch["features"].square().sum())
        count += batch["features"].numel()
    assert total / count == pytest.approx(1, rel=1e-5)
    assert LatentLoader(folder, split="test").scale == loader.scale
    assert LatentLoader(rows, codec()).scale == pytest.approx(loader.scale)
    assert len(loader) == len(passes(loader)) == 3  # 3 rows of one grid, and 6 of the other


def test_a_companded_codec_and_one_of_several_stages(tmp_path: Path) -> None:
    pictures = folder_of_pictures(tmp_path / "pictures", count=2)
    for number, options in enumerate(({"quantizer": "gauss_compand", "bits": 8}, {"stages": 2})):
        made = codec(**options)
        compress_dataset(made, pictures, output_dir=tmp_path / str(number))
        table = load_compressed(tmp_path / str(number))["train"]
        [batch] = passes(LatentLoader(tmp_path / str(number)))
        scale = LatentLoader(tmp_path / str(number)).scale
        direct = torch.cat([made.dequantise(stages(table, row)) for row in (0, 1)])
        torch.testing.assert_close(batch["features"], direct * scale)
        [batch] = passes(LatentLoader(tmp_path / str(number), output="latents"))
        whole = [torch.stack(stages(table, row), 1)[0] for row in (0, 1)]
        found = batch["latents"] if number else batch["latents"][:, None]
        assert torch.equal(found, torch.stack(whole))
        assert batch["latents"].dtype == torch.int16
        [batch] = passes(LatentLoader(tmp_path / str(number), output="signal"))
        signal = made.decode(from_bytes(table[1]["latents"], name="row"))
        torch.testing.assert_close(batch["signal"][1], signal.values)


def test_signals_are_what_the_codec_decodes(folder: Path, rows: Dataset) -> None:
    seen = 0
    for batch in numbered(folder, output="signal", batch_size=4):
        for signal, row in zip(batch["signal"], batch["number"].tolist(), strict=True):
            direct = codec().decode(from_bytes(rows[row]["latents"], name="row"))
            torch.testing.assert_close(signal, direct.values)
            seen += 1
    assert seen == len(rows)


def test_crops_are_parts_of_the_whole_on_the_grid(folder: Path, rows: Dataset) -> None:
    crop, places = (3, 5), set[tuple[int, int]]()
    for batch in passes(numbered(folder, output="latents", crop=crop, shuffle=True), 3):
        assert batch["grid"].tolist() == [list(crop)] * len(batch["grid"])
        for part, row in zip(batch["latents"], batch["number"].tolist(), strict=True):
            whole = stages(rows, row)[0][0]
            fits = [
                (top, left)
                for top in range(whole.shape[1] - 2)
                for left in range(whole.shape[2] - 4)
                if torch.equal(part, whole[:, top : top + 3, left : left + 5])
            ]
            assert len(fits) == 1
            places.update(fits)
    assert len(places) > 6  # of 12
    middle = passes(numbered(folder, output="latents", crop=crop))[0]
    whole = stages(rows, int(middle["number"][0]))[0][0]
    assert torch.equal(middle["latents"][0], whole[:, 1:4, 1:6])  # of a grid (5, 7)


def test_a_crop_of_a_signal_is_that_of_the_same_positions(folder: Path) -> None:
    options: Any = {"crop": (3, 5), "shuffle": True, "seed": 4, "batch_size": 3}
    signals = passes(numbered(folder, output="signal", **options))
    whole = {}
    for batch in numbered(folder, output="signal", batch_size=1):
        whole[int(batch["number"][0])] = batch["signal"][0]
    for batch in signals:
        assert batch["signal"].shape[1:] == (3, 12, 20)
        for part, row in zip(batch["signal"], batch["number"].tolist(), strict=True):
            height, width = whole[row].shape[1:]
            if (height, width) != (20, 28):  # these have padding, which is in the crop
                continue
            starts = [
                (top, left)
                for top in range(0, height - 11, 4)
                for left in range(0, width - 19, 4)
                if torch.allclose(part, whole[row][:, top : top + 12, left : left + 20])
            ]
            assert len(starts) == 1


def test_what_is_smaller_than_a_crop_ends_in_zeros(folder: Path, rows: Dataset) -> None:
    for batch in numbered(folder, crop=(6, 9), output="latents"):
        for part, grid, row in zip(
            batch["latents"], batch["grid"].tolist(), batch["number"].tolist(), strict=True
        ):
            whole = stages(rows, row)[0][0]
            assert tuple(grid) == whole.shape[1:]
            assert torch.equal(part[:, : grid[0], : grid[1]], whole)
            assert part.abs().sum() == whole.abs().sum()
    for batch in numbered(folder, crop=(6, 9), output="signal"):
        assert batch["signal"].shape[1:] == (3, 24, 36)
        assert not batch["signal"][..., 28:].any()


def test_a_seed_tells_all_whoever_reads(folder: Path) -> None:
    options: Any = {"crop": 4, "shuffle": True, "seed": 3, "batch_size": 2}
    here = LatentLoader(folder, **options)
    first, second = passes(here), passes(here)
    assert not same(first, second)
    here.set_epoch(0)
    assert same(passes(here), first)
    there = LatentLoader(folder, num_workers=2, **options)
    assert same(passes(there, 2), [*first, *second])
    assert not same(passes(LatentLoader(folder, **{**options, "seed": 4})), first)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_that_is_left_early_counts(folder: Path, workers: int) -> None:
    options: Any = {"crop": 4, "shuffle": True, "batch_size": 2}
    both, loader = passes(LatentLoader(folder, **options), 2), None
    loader = LatentLoader(folder, num_workers=workers, **options)
    assert same([next(iter(loader))], both[:1])
    assert same(passes(loader), both[len(loader) :])


class Group:
    """Stands for one of three processes."""

    num_processes = 3

    def __init__(self, index: int) -> None:
        self.process_index = index


def test_processes_share_a_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: Any = {"batch_size": 2, "shuffle": True}  # five batches
    alone = [batch["number"].tolist() for batch in numbered(folder, **options)]
    parts = []
    for index in range(3):
        monkeypatch.setattr(loader_module, "processes", lambda index=index: Group(index))
        loader = numbered(folder, **options)
        parts.append([batch["number"].tolist() for batch in loader])
        assert len(loader) == len(parts[-1]) == 2
    together = [part[step] for step in range(2) for part in parts]
    assert together == [*alone, alone[0]]


def test_latents_of_another_codec_are_refused(folder: Path, rows: Dataset) -> None:
    with pytest.raises(DataError, match=r"found those of the codec \w{12}\.\.\. in row 0"):
        LatentLoader(folder, codec(step=0.1))
    with pytest.raises(DataError, match="expected latents of 1 axes"):
        LatentLoader(folder, sound_codec())
    other = codec(step=0.1).compress(open_splits("demo")["test"][0], container="zstd")
    mixed = [*rows["latents"][:2], other]
    table = Dataset.from_dict({"latents": mixed})
    with pytest.raises(DataError, match="in row 2"):
        passes(LatentLoader(table, codec(), batch_size=1))
    table = Dataset.from_dict({"latents": [mixed[0], mixed[1][:-9]]})
    with pytest.raises(DataError, match="row 1 breaks off"):
        passes(LatentLoader(table, codec(), batch_size=1))


def test_columns_become_tensors_or_lists(folder: Path, rows: Dataset) -> None:
    [first, *_] = LatentLoader(folder, columns=["file_name", "label"], batch_size=3)
    assert isinstance(first["file_name"], list)
    assert first["label"].dtype == torch.int64
    with pytest.raises(ConfigError, match=r"found 'labell'; .*did you mean 'label'"):
        LatentLoader(folder, columns=["labell"])
    table: Any = Dataset.from_dict({"latents": rows["latents"][:2], "price": [1.5, None]})
    with pytest.raises(DataError, match="expected a number in column 'price' of row 1"):
        passes(LatentLoader(table, codec()))
    with pytest.raises(ConfigError, match="expected no column named 'grid'"):
        LatentLoader(table.rename_column("price", "grid"), codec())


def test_what_is_not_there_is_told(folder: Path, rows: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which has train, test, found 'validation'"):
        LatentLoader(folder, split="validation")
    with pytest.raises(ConfigError, match="expected a codec for rows without a folder"):
        LatentLoader(rows)
    with pytest.raises(DataError, match="expected a folder that attar codec encode wrote"):
        LatentLoader(tmp_path)
    with pytest.raises(DataError, match="expected a folder that attar codec encode wrote"):
        LatentLoader("someone/latents")
    with pytest.raises(DataError, match="expected rows with a column 'latents'"):
        LatentLoader(Dataset.from_dict({"a": [1]}), codec())
    for wrong in ({"output": "decoded"}, {"batch_size": 0}, {"crop": (3,)}, {"crop": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be"):
            LatentLoader(folder, **wrong)  # pyright: ignore[reportArgumentType]


def test_sound_of_several_lengths(tmp_path: Path) -> None:
    compress_dataset(sound_codec(), folder_of_sounds(tmp_path / "wav"), output_dir=tmp_path / "a")
    [batch] = passes(LatentLoader(tmp_path / "a", crop=90, batch_size=3))
    assert batch["features"].shape == (3, 4, 90)
    assert len(set(batch["grid"].flatten().tolist())) > 1
    lengths = [batch["signal"].shape for batch in LatentLoader(tmp_path / "a", output="signal")]
    assert lengths == [(1, 2, 300), (1, 2, 310), (1, 2, 320)]


def test_a_codec_of_the_callers_stays_where_it_is(folder: Path) -> None:
    own = WaveletCodec(codec().config)
    assert codec_of(own, None, device="meta").analysis.weight.device.type == "meta"
    assert own.analysis.weight.device.type == "cpu"
    assert codec_of(own, None, device="cpu") is own
    assert codec_of(None, folder).fingerprint == codec().fingerprint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output": "pixels"}, "output must be one of features, latents, signal"),
        ({"batch_size": 2.5}, "batch_size must be a whole number; found 2.5"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"crop": 1.5}, "crop must be a whole number or a list"),
        ({"crop": [2, 0]}, "crop must be 2 numbers of positions"),
        ({"columns": "label"}, "columns must be a list, each text; found 'label'"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"seed": "a"}, "seed must be a whole number"),
        ({"scale": float("nan")}, "scale must be a finite number"),
        ({"scale": 0.0}, "scale must be above 0"),
        ({"device": "gpu"}, "device must be cpu.*found 'gpu'"),
        ({"device": "cuda:99"}, "device must be cpu.*found 'cuda:99'"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(
    folder: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        LatentLoader(folder, **options)


def test_what_is_no_data_set_is_told(tmp_path: Path) -> None:
    for data in (None, 3, [1]):
        with pytest.raises(DataError, match=f"found {type(data).__name__}; give one of these"):
            LatentLoader(data)  # pyright: ignore[reportArgumentType]
