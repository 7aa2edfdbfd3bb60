"""What the trainings on latents in `examples/` share."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attar.data.pictures import COUNTS

pytest.importorskip("PIL")
pytest.importorskip("sklearn")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    import latent_tasks

    yield latent_tasks
    sys.modules.pop("latent_tasks")


def test_of_demo_only_photographs_are_taken(shared: Any) -> None:
    splits = shared.photographs()
    assert {name: len(found) for name, found in splits.items()} == {
        name: counts["photograph"] for name, counts in COUNTS.items()
    }


def test_folding_keeps_neighbours_at_one_position(shared: Any) -> None:
    sound = torch.arange(24.0).view(2, 1, 12)
    folded = shared.folded(sound, channels=4)
    assert folded.shape == (2, 4, 3)
    assert folded[0, :, 1].tolist() == [4, 5, 6, 7]
    assert torch.equal(shared.unfolded(folded), sound)


def test_a_lower_rate_keeps_low_tones_and_loses_high_ones(shared: Any) -> None:
    time = torch.arange(64) / 64
    low, high = (torch.sin(2 * torch.pi * n * time) for n in (5, 20))
    fewer = shared.resampled(torch.stack([low, high]), length=16)
    assert torch.allclose(fewer[0], low[::4], atol=1e-6)
    assert fewer[1].abs().max() < 1e-5
    assert torch.allclose(shared.resampled(fewer[0], length=64), low, atol=1e-6)


def test_the_scale_keeps_proportions_of_channels_and_can_be_undone(shared: Any) -> None:
    values = torch.randn(50, 2, 9, generator=torch.Generator().manual_seed(0))
    values = values * torch.tensor([4.0, 1.0]).view(1, 2, 1) + 3
    scale = shared.Scale.of(values)
    scaled = scale(values)
    assert scaled.square().mean().item() == pytest.approx(1, rel=1e-5)
    assert scaled.mean((0, 2)).abs().max() < 1e-5
    ratio = scaled.std((0, 2)) / values.std((0, 2))
    assert ratio[0].item() == pytest.approx(ratio[1].item(), rel=1e-5)
    assert torch.allclose(scale.undo(scaled), values, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "kept_shape"), [((6, 3, 16, 16), (6, 48, 4, 4)), ((6, 1, 64), (6, 4, 16))]
)
def test_latents_of_all_channels_are_the_signal(
    shared: Any, shape: tuple[int, ...], kept_shape: tuple[int, ...]
) -> None:
    signals = torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5
    codec = shared.fitted(signals, levels=2, reduction=1, step=0.001)
    kept = shared.latents(codec, signals, rows=4)
    assert kept.shape == kept_shape
    assert torch.allclose(codec.reconstruct(kept), signals, atol=0.01)
    assert torch.allclose(kept, codec.features(signals), atol=0.0006)  # rounded
    assert not torch.equal(kept, codec.features(signals))


def test_digits_and_words_change_a_part_of_each_ground(shared: Any) -> None:
    grounds = np.full((20, 32, 32, 3), 200, np.uint8)
    assert len(shared.with_digits(grounds, split="test")) == 20
    for one in grounds:
        rows, columns = np.nonzero((one != 200).any(2))
        assert 6 < np.ptp(rows) < 12
        assert 0 < np.ptp(columns) < 12
    grounds = np.full((20, 32, 32, 3), 20, np.uint8)
    words = shared.with_words(grounds, seed=3)
    assert set(words.tolist()) <= set(range(len(shared.WORDS)))
    assert all((one > 100).any() for one in grounds)


def test_digits_of_test_are_not_in_train(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = np.arange(10.0)[:, None].repeat(64, 1)
    monkeypatch.setattr(shared, "load_digits", lambda return_X_y: (scans, np.arange(10)))
    grounds = {split: np.zeros((200, 12, 12, 3), np.uint8) for split in ("train", "test")}
    labels = {split: shared.with_digits(one, split=split) for split, one in grounds.items()}
    assert not {*labels["train"]} & {*labels["test"]}
    assert {*labels["train"]} | {*labels["test"]} == set(range(10))


def test_batches_give_every_row_once(shared: Any) -> None:
    columns = {"features": torch.arange(10.0), "label": torch.arange(10)}
    batches = shared.Tensors(columns, shuffle=True, batch_size=4)
    torch.manual_seed(0)
    found = [batch["label"] for batch in batches]
    assert len(found) == len(batches) == 3
    rows = torch.cat(found).tolist()
    assert sorted(rows) == list(range(10))
    assert rows != list(range(10))


def test_a_network_learns_what_can_be_seen(shared: Any) -> None:
    torch.manual_seed(0)
    labels = torch.arange(64) % 2
    features = torch.randn(64, 2, 4, 4) * 0.1
    features[:, 1] += labels.view(-1, 1, 1)
    rows = shared.Tensors({"features": features, "label": labels}, shuffle=True, batch_size=16)
    network = shared.Network(2, classes=2, width=8, layers=2)
    shared.train(network, rows, epochs=8)
    assert shared.accuracy(network, rows) == 1
    assert shared.Network(2, dims=1, outputs=5)(torch.zeros(3, 2, 16)).shape == (3, 5, 16)


def test_neither_a_mixture_nor_its_melody_is_too_loud(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import latent_separation as separation

    tone = np.sin(np.arange(separation.LENGTH) / 9.0)
    monkeypatch.setattr(separation, "melodies", lambda count, **_: np.stack([tone] * count))
    monkeypatch.setattr(separation, "bells_and_noise", lambda rng: rng.random() - 0.9 * tone)
    for part in separation.mixtures(3, split="train"):  # one cancels the other
        assert part.abs().amax((1, 2)).le(0.5 + 1e-6).all()
    sys.modules.pop("latent_separation")
