"""`supernet export` and `supernet evaluate`: networks on their own, and beside those that were
trained alone."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import attar
import scene
import supernets
import tiny
from attar.arch import Arch
from attar.errors import AttarError, CompatibilityError, ConfigError, DataError
from attar.report.record import Run
from attar.search.ranking import read_ranking, write_ranking
from attar.supernet.evaluating import EvaluateSupernetConfig, gap_table
from attar.supernet.exporting import ARCH_FILE
from attar.supernet.opening import Opened, row_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supernets")
    supernets.train(*supernets.write_teacher(folder), folder / "net")
    return folder


@pytest.fixture(scope="module")
def opened(root: Path) -> Opened:
    return Opened.load(root / "net")


@pytest.fixture(scope="module")
def ranking(root: Path, opened: Opened) -> Path:
    method, rows = opened.method(None), []
    for name, net in opened.supernets.items():
        for i, arch in enumerate(net.space.enumerate()):
            rows.append(row_of(net, arch, method=method, name=name, loss=float(i * 7 % 10)))
    (root / "ranking").mkdir()
    write_ranking(root / "ranking", rows)
    return root / "ranking"


# --------------------------------------------------------------------------------------- exporting


def test_a_network_is_exported_with_its_weights_and_both_sizes(
    root: Path, opened: Opened, tmp_path: Path
) -> None:
    net = opened.supernets["small"]
    arch = list(net.space.enumerate())[3]
    out = tmp_path / "out"
    run = attar.supernet.export(root / "net", arch=arch.to_json(), output_dir=out)
    exported = attar.load(out)
    assert Arch.of(exported).layers == arch.layers
    logits = exported(input_ids=tiny.ids())[0]
    assert torch.equal(logits, net(arch, input_ids=tiny.ids())[0])
    assert attar.load_tokenizer(out).get_vocab() == opened.tokenizer.get_vocab()
    stored = json.loads((out / ARCH_FILE).read_text())
    assert Arch.from_dict(stored["arch"]) == arch
    assert stored["params"] == exported.num_parameters()
    embeddings = exported.get_input_embeddings().weight.numel()
    assert stored["params"] - stored["params_without_embeddings"] == embeddings
    assert run.details["class"] == type(exported).__name__
    assert run.cost["after"]["params"] == stored["params"]


def test_a_network_can_be_named_in_every_way(
    root: Path, opened: Opened, ranking: Path, tmp_path: Path
) -> None:
    spaces, rows = opened.description.spaces, read_ranking(ranking)
    for number, (options, arch) in enumerate(
        [
            ({"arch": "largest"}, spaces["large"].largest),
            ({"arch": "smallest"}, spaces["small"].smallest),
            ({"arch": "largest", "space": "small"}, spaces["small"].largest),
            ({"ranking": ranking}, rows[0]["arch"]),
            ({"arch": "best", "ranking": str(ranking / "rank.csv")}, rows[0]["arch"]),
            ({"arch": 3, "ranking": ranking}, rows[2]["arch"]),
            ({"arch": "3", "ranking": ranking}, rows[2]["arch"]),
            ({"arch": rows[4]["arch"].to_dict()}, rows[4]["arch"]),
        ]
    ):
        given: dict[str, Any] = dict(options)
        run = attar.supernet.export(root / "net", output_dir=tmp_path / str(number), **given)
        assert Arch.from_dict(run.details["arch"]) == arch
        assert Arch.of(attar.load(tmp_path / str(number))).layers == arch.layers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "name the folder that attar supernet search wrote as ranking"),
        ({"arch": 2}, "name the folder that attar supernet search wrote as ranking"),
        ({"arch": "biggest"}, "expected best, largest, smallest"),
        ({"arch": "{}"}, "expected best, largest, smallest"),
        ({"arch": "largest", "space": "tiny"}, "has no space 'tiny'; it has small, large"),
        ({"ranking": "none"}, "rank.csv; 'none' cannot be read"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    options: dict[str, Any], said: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(AttarError, match=said):
        attar.supernet.export(root / "net", output_dir=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_row_or_ranking_is_one_sentence(
    root: Path, ranking: Path, opened: Opened, tmp_path: Path
) -> None:
    def export(**options: Any) -> Run:
        return attar.supernet.export(root / "net", output_dir=tmp_path / "out", **options)

    with pytest.raises(ConfigError, match=r"a row from 1 to \d+ of the ranking; found 99"):
        export(arch=99, ranking=ranking)
    other = opened.description.spaces["small"].smallest.to_dict() | {"hidden_size": 12}
    with pytest.raises(ConfigError, match=r"no space of the supernet .* has the network"):
        export(arch=other)
    text = (ranking / "rank.csv").read_text()
    for damage in ("", "rank,space\n", text.replace("layers", "lairs"), text.replace("{", "")):
        (tmp_path / "rank.csv").write_text(damage)
        with pytest.raises(DataError, match="is damaged"):
            export(ranking=tmp_path / "rank.csv")
    with pytest.raises(DataError, match=r"holds no supernet\.json"):
        attar.supernet.export(root / "teacher", output_dir=tmp_path / "out")


def test_the_ranking_reads_back(ranking: Path) -> None:
    with (ranking / "rank.csv").open(newline="") as stream:
        rows = list(csv.DictReader(io.StringIO(stream.read())))
    assert [row["rank"] for row in rows] == [str(i + 1) for i in range(len(rows))]
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses)
    best = json.loads((ranking / "pareto.json").read_text())
    assert [rows[one["rank"] - 1]["params"] for one in best] == [str(one["params"]) for one in best]
    names = ("params", "macs", "loss")
    for row in rows:
        assert any(all(one[name] <= float(row[name]) for name in names) for one in best)


# ------------------------------------------------------------------------------------------- gap


def test_the_gap_report_has_inherited_and_standalone_losses(root: Path, opened: Opened) -> None:
    config = EvaluateSupernetConfig(n_random=1, standalone_steps=2)
    run = attar.supernet.evaluate(root / "net", str(root / "text"), config=config)
    networks = run.details["networks"]
    assert [one["which"] for one in networks] == ["largest", "smallest", "random"] * 2
    assert len({json.dumps(one["arch"]) for one in networks}) == len(networks)
    assert -1 <= run.details["rank_correlation"] <= 1
    method = opened.method(None)
    held_out = method.rows(str(root / "text"), opened.tokenizer, split="test")
    scorer = method.scorer(held_out, batch_size=7)
    for one in networks:
        net, arch = opened.supernets[one["space"]], Arch.from_dict(one["arch"])
        assert one["loss"] == pytest.approx(scorer(net, [arch])[0], rel=1e-5)
        assert one["loss_alone"] not in (None, one["loss"])
    assert "alone" in gap_table(run).text()
    plain = attar.supernet.evaluate(
        root / "net", str(root / "text"), config=EvaluateSupernetConfig(n_random=0)
    )
    assert [one["loss_alone"] for one in plain.details["networks"]] == [None] * 4
    assert "alone" not in gap_table(plain).text()


def test_a_network_alone_is_trained_as_a_supernet_of_one(root: Path, opened: Opened) -> None:
    space = opened.description.spaces["large"]
    config = EvaluateSupernetConfig(n_random=0, standalone_steps=4)
    run = attar.supernet.evaluate(root / "net", str(root / "text"), config=config)
    found = next(
        one
        for one in run.details["networks"]
        if (one["space"], one["which"]) == ("large", "largest")
    )
    only = {name: [values[-1]] for name, values in space.to_dict().items()}
    supernets.train(root / "teacher", root / "text", root / "one", space=only)
    alone = Opened.load(root / "one")
    method = alone.method(None)
    held_out = method.rows(str(root / "text"), alone.tokenizer, split="test")
    [loss] = method.scorer(held_out, batch_size=32)(alone.supernets["whole"], [space.largest])
    assert found["loss_alone"] == pytest.approx(loss, rel=1e-5)


def test_networks_that_were_trained_alone_are_not_trained_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import attar.methods.autodistil as method

    config = EvaluateSupernetConfig(n_random=0, standalone_steps=2)
    given: dict[str, Any] = {"config": config, "output_dir": tmp_path / "out"}
    fit, began = method.fit, list[int]()

    def killed(*args: Any, **options: Any) -> Any:
        began.append(1)
        if len(began) == 3:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(method, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        attar.supernet.evaluate(root / "net", str(root / "text"), **given)
    run = attar.supernet.evaluate(root / "net", str(root / "text"), resume=True, **given)
    assert len(began) == 5
    straight = attar.supernet.evaluate(root / "net", str(root / "text"), config=config)
    assert run.details["networks"] == straight.details["networks"]


def test_another_teacher_must_read_the_same_tokens(root: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for split in ("train", "validation", "test"):
        (text / f"{split}.txt").write_text("other words make another tokenizer\n" * 60)
    other = scene.write_parent(tmp_path / "other", text)
    with pytest.raises(CompatibilityError, match="supernet and its teacher must share one"):
        attar.supernet.evaluate(root / "net", str(root / "text"), teacher=str(other))
