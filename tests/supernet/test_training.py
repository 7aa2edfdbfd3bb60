"""`supernet train`: what it writes, how it goes on, and what it refuses before it begins."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

import attar
import encoders
import scene
import supernets
import tiny
from attar import checkpoint
from attar.arch import Arch
from attar.errors import AttarError, CompatibilityError, ConfigError, DataError
from attar.evaluation.likelihood import nll
from attar.evaluation.masked import masked_loss
from attar.methods.autodistil import AutoDistilConfig, rank
from attar.search.space_files import read_spaces
from attar.search.supernet_files import load_supernets, read_description
from attar.supernet.opening import Opened
from attar.supernet.training import corners

SPACES = read_spaces(supernets.SPACES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("supernets")


@pytest.fixture(scope="module")
def teacher(root: Path) -> tuple[Path, Path]:
    return supernets.write_teacher(root)


@pytest.fixture(scope="module")
def whole(teacher: tuple[Path, Path], root: Path) -> attar.Run:
    return supernets.train(*teacher, root / "whole")


def same(one: Path, other: Path) -> None:
    for name, net in load_supernets(one).items():
        for key, tensor in load_supernets(other)[name].state_dict().items():
            assert torch.equal(net.state_dict()[key], tensor), key


def test_the_folder_holds_ordinary_checkpoints(whole: attar.Run, root: Path) -> None:
    description = read_description(root / "whole")
    assert description.spaces == SPACES
    assert description.method == "autodistil"
    assert Path(description.teacher or "").resolve() == (root / "teacher").resolve()
    for name, space in SPACES.items():
        parent = attar.load(root / "whole" / name)
        assert Arch.of(parent).layers[-1] == space.largest.layers[-1]
        assert Arch.of(parent).num_hidden_layers == 3  # of the teacher, of which students have some
        assert len(attar.load_tokenizer(root / "whole" / name)) == parent.config.vocab_size


def test_the_record_has_both_ends_before_and_after(whole: attar.Run, root: Path) -> None:
    rows = whole.details["networks"]
    assert [(row["space"], row["which"]) for row in rows] == [
        (name, which) for name in SPACES for which in ("largest", "smallest")
    ]
    opened = Opened.load(root / "whole")
    method = opened.method(None)
    held_out = method.rows(str(root / "text"), opened.tokenizer, split="validation")
    assert len(held_out) == 8
    for row in rows:
        net, arch = opened.supernets[row["space"]], Arch.from_dict(row["arch"])
        [ranked] = rank(net, method.model, held_out, archs=[arch])
        assert row["loss"] == pytest.approx(ranked.loss, rel=1e-6)
        assert row["loss"] != row["loss_before"]
        assert row["params"] == net.extract(arch).num_parameters()
        assert "published_params" not in row  # whose formulas are those of BERT
    assert whole.details["trainings"]["small"]["steps"] == 4
    assert "small, largest" in str(attar.Run.load(root / "whole"))


class Killed(BaseException):
    pass


def test_it_goes_on_after_a_kill_between_and_within_spaces(
    teacher: tuple[Path, Path], whole: attar.Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import attar.methods.autodistil as method

    fit, began = method.fit, list[int]()

    def killed(*args: Any, config: attar.SupernetConfig, **options: Any) -> Any:
        began.append(1)
        if len(began) == 2:
            half = replace(config, max_steps=2, lr_scheduler_type="constant")
            fit(*args, config=half, **options)
            raise Killed
        return fit(*args, config=config, **options)

    constant = replace(supernets.QUICK, lr_scheduler_type="constant")
    supernets.train(*teacher, root / "straight", config=constant)
    monkeypatch.setattr(method, "fit", killed)
    with pytest.raises(Killed):
        supernets.train(*teacher, root / "out", config=constant)
    assert not (root / "out").exists()
    with pytest.raises(ConfigError, match="finish it with resume"):
        supernets.train(*teacher, root / "out", config=constant)
    monkeypatch.setattr(method, "fit", lambda *a, **o: began.append(1) or fit(*a, **o))
    before = (root / "out.partial" / "small" / "model.safetensors").stat().st_mtime_ns
    supernets.train(*teacher, root / "out", config=constant, resume=True)
    assert len(began) == 3  # the first space is not trained again
    assert (root / "out" / "small" / "model.safetensors").stat().st_mtime_ns == before
    same(root / "out", root / "straight")
    assert not (root / "out" / "state").exists()


def test_spaces_in_proportion_to_the_teacher(teacher: tuple[Path, Path], root: Path) -> None:
    run = supernets.train(*teacher, root / "compact", space="compact", k=2)
    assert list(read_description(root / "compact").spaces) == ["smallest", "largest"]
    assert run.settings["space"] == "compact"


def test_a_model_in_memory_is_a_teacher_too(teacher: tuple[Path, Path], root: Path) -> None:
    model = attar.load(teacher[0])
    model.name_or_path = model.config.name_or_path = ""
    words, text = attar.load_tokenizer(teacher[0]), str(teacher[1])
    options: dict[str, Any] = {"space": supernets.SPACES["large"], "config": supernets.QUICK}
    out = root / "memory"
    attar.supernet.train(model, text, tokenizer=words, output_dir=out, **options)
    assert list(load_supernets(out)) == ["whole"]
    with pytest.raises(ConfigError, match="does not say which model it was made of"):
        Opened.load(out).method(None)
    assert Opened.load(out).method(model).model is model


def test_every_choice_of_a_space_is_seen_at_a_corner() -> None:
    for space in SPACES.values():
        found = list(corners(space))
        assert {space.largest, space.smallest} <= set(found)
        assert len(found) == len(set(found))
        for arch in space.enumerate():
            for at, gene in enumerate(space.genes_of(arch)):
                if gene in (0, space.choices[at] - 1):
                    assert any(space.genes_of(one)[at] == gene for one in found)


# -------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "autodistill"}, "method must be one of autodistil"),
        ({"space": "compakt"}, "space must be one of compact"),
        ({"space": {}}, "expected a space, or several by name"),
        ({"space": "none.yaml"}, "the file 'none.yaml' cannot be read"),
        ({"space": "compact", "k": 4}, "k must be one of 1, 2, 3"),
        (
            {"space": supernets.SPACES["large"] | {"hidden_size": 64}},
            "does not contain|with 1 to 32",
        ),
        (
            {"space": supernets.SPACES["large"] | {"num_key_value_heads": 2}},
            "expected 2 query heads for each key/value head",
        ),
        ({"config": replace(supernets.QUICK, context=999)}, "context must be at most 64"),
        (
            {"distillation": AutoDistilConfig(relation_heads=64)},
            "relation heads",
        ),
        ({"distillation": AutoDistilConfig(mlm_weight=1.0)}, "mlm_weight must be 0"),
    ],
)
def test_what_cannot_be_trained_is_told_before(
    options: dict[str, Any], said: str, teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(AttarError, match=said):
        supernets.train(*teacher, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_another_model_is_refused(
    teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    text = teacher[1]
    checkpoint.save(tiny.model("llama"), tmp_path / "small", tokenizer=scene.tokenizer(text))
    with pytest.raises(CompatibilityError, match="expected a tokenizer of at most 64 ids"):
        supernets.train(tmp_path / "small", text, tmp_path / "out")


def test_a_network_that_no_class_can_hold_is_told_before(
    teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    words = scene.tokenizer(teacher[1])
    model = tiny.model("gpt2", vocab_size=len(words))
    checkpoint.save(model, tmp_path / "gpt2", tokenizer=words)
    space = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    space |= {"head_dim": 8, "intermediate_size": 48}
    with pytest.raises(CompatibilityError, match="'whole' does not suit the model: this model"):
        supernets.train(tmp_path / "gpt2", teacher[1], tmp_path / "out", space=space)
    assert not (tmp_path / "out.partial").exists()


# --------------------------------------------------------------------------- mixture of supernets


@pytest.fixture(scope="module")
def encoder(root: Path) -> tuple[Path, Path]:
    """A masked language model with its tokenizer, and text of its words."""
    words, rows, text = encoders.tokenizer(), encoders.documents(), root / "words"
    text.mkdir()
    for split in rows:
        (text / f"{split}.txt").write_text("\n".join(rows[split]["text"]))
    model = tiny.model("bert", auto=AutoModelForMaskedLM)
    checkpoint.save(model, root / "bert", tokenizer=words)
    return root / "bert", text


@pytest.mark.parametrize("kind", ["teacher", "encoder"])
def test_a_mixture_is_trained_saved_and_loaded(
    kind: str, root: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model, text = request.getfixturevalue(kind)
    space = None if kind == "encoder" else supernets.SPACES["small"]
    options: dict[str, Any] = {"method": "mixture-of-supernets", "space": space}
    run = supernets.train(model, text, tmp_path / "out", **options)
    opened = Opened.load(tmp_path / "out")
    with pytest.raises(DataError, match=r"cannot be read; name it as teacher \(--teacher\)"):
        opened.method(None)  # it lies elsewhere, and no record names a place on a machine
    net, method = opened.supernets["whole"], opened.method(model)
    assert method.unit == ("nats per masked token" if kind == "encoder" else "nats per token")
    held_out = method.rows(str(text), opened.tokenizer, split="validation")
    scorer = method.scorer(held_out, batch_size=3)
    for row in run.details["networks"]:
        arch = Arch.from_dict(row["arch"])
        assert row["loss"] == pytest.approx(scorer(net, [arch])[0], rel=1e-5)
        dense = net.extract(arch)
        ids = tiny.ids()
        torch.testing.assert_close(dense(input_ids=ids)[0], net(arch, input_ids=ids)[0])
        if kind == "encoder":
            assert row["loss"] == pytest.approx(masked_loss(dense, held_out), rel=1e-4)
        else:
            assert row["loss"] == pytest.approx(
                nll(dense, held_out.batch(range(8))["input_ids"]), rel=1e-4
            )
    plain = dict(read_description(tmp_path / "out").providers)["mixture"]
    assert plain["experts"] == 2
    assert len(net.providers.state_dict()) > 0


def test_a_mixture_starts_from_random_weights_where_it_is_asked(
    teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "method": "mixture-of-supernets",
        "space": supernets.SPACES["small"],
        "mixture": attar.MixtureConfig(init="random", experts=3, router="layer"),
    }
    run = supernets.train(*teacher, tmp_path / "out", **options)
    uniform = math.log(len(attar.load_tokenizer(teacher[0])))
    for row in run.details["networks"]:
        assert row["loss_before"] == pytest.approx(uniform, abs=0.05)


def test_options_and_models_of_another_method_are_refused(
    teacher: tuple[Path, Path], tmp_path: Path
) -> None:
    model, text = teacher
    with pytest.raises(ConfigError, match="experts is an option of mixture"):
        supernets.train(model, text, tmp_path / "out", mixture=attar.MixtureConfig(experts=4))
    given: dict[str, Any] = {"method": "mixture-of-supernets"}
    taught = AutoDistilConfig(relation="kl")
    with pytest.raises(ConfigError, match="relation is an option of autodistil"):
        supernets.train(model, text, tmp_path / "out", distillation=taught, **given)
    with pytest.raises(ConfigError, match="space must be homogeneous, or a YAML file"):
        supernets.train(model, text, tmp_path / "out", **(given | {"space": "compact"}))
    words = attar.load_tokenizer(model)
    bare = tiny.model("llama", auto=AutoModel, vocab_size=len(words))
    checkpoint.save(bare, tmp_path / "bare", tokenizer=words)
    with pytest.raises(CompatibilityError, match="needs a model that predicts tokens"):
        supernets.train(tmp_path / "bare", text, tmp_path / "out", **given)


@pytest.mark.parametrize("method", ["autodistil", "mixture-of-supernets"])
def test_a_number_of_sub_spaces_beside_a_space_is_refused(
    method: Any, teacher: tuple[Path, Path], root: Path
) -> None:
    with pytest.raises(ConfigError, match="k must be left out: it is of AutoDistil's own spaces"):
        supernets.train(*teacher, root / "twice", method=method, k=2)
    assert not (root / "twice").exists()
