"""`supernet search`: rankings without training, budgets, evolution, workers, and a proxy task."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import attar
import encoders
import supernets
import tiny
from attar import checkpoint
from attar.arch import Arch
from attar.budget import Cost, Latency
from attar.cli.app import run as run_command
from attar.errors import AttarError, BudgetError, ConfigError, DataError
from attar.methods.autodistil import rank
from attar.report.record import Run
from attar.search.ranking import read_ranking
from attar.supernet import members as members_module
from attar.supernet.members import Members
from attar.supernet.opening import Opened
from attar.supernet.proxy import held_out
from attar.supernet.searching import SupernetSearchConfig, search_table


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supernets")
    supernets.train(*supernets.write_teacher(folder), folder / "net")
    return folder


@pytest.fixture(scope="module")
def opened(root: Path) -> Opened:
    return Opened.load(root / "net")


@pytest.fixture(scope="module")
def found(root: Path) -> Run:
    return search(root, root / "all")


def search(root: Path, out: Path, **options: Any) -> Run:
    return attar.supernet.search(root / "net", str(root / "text"), output_dir=out, **options)


def members_of(folder: Path) -> list[tuple[str, Arch]]:
    return [(row["space"], row["arch"]) for row in read_ranking(folder)]


# --------------------------------------------------------------------------------------- ranking


def test_all_networks_are_ranked_as_the_method_does(root: Path, opened: Opened, found: Run) -> None:
    method = opened.method(None)
    rows = method.rows(str(root / "text"), opened.tokenizer, split="validation")
    expected = {
        (name, one.arch): one
        for name, net in opened.supernets.items()
        for one in rank(net, method.model, rows)
    }
    ranked = read_ranking(root / "all")
    assert {(row["space"], row["arch"]) for row in ranked} == set(expected)
    losses = [float(row["loss"]) for row in ranked]
    assert losses == sorted(losses)
    for row in ranked:
        one = expected[row["space"], row["arch"]]
        assert float(row["loss"]) == pytest.approx(one.loss, rel=1e-5)
        assert int(row["params"]) == one.cost.params
        assert int(row["macs"]) == one.cost.macs
    assert found.details["scored"] == found.details["networks_of_space"] == len(expected)
    assert found.budget is None
    assert "1, " in search_table(found).text()


def test_the_best_network_is_written_as_a_model(root: Path, opened: Opened, found: Run) -> None:
    name, arch = members_of(root / "all")[0]
    model = attar.load(root / "all" / "model")
    logits = opened.supernets[name](arch, input_ids=tiny.ids())[0]
    assert torch.equal(model(input_ids=tiny.ids())[0], logits)
    words = attar.load_tokenizer(root / "all" / "model")
    assert words.get_vocab() == opened.tokenizer.get_vocab()
    assert found.cost["after"]["params"] == model.num_parameters()
    stored = json.loads((root / "all" / "model" / "arch.json").read_text())
    assert (stored["space"], Arch.from_dict(stored["arch"])) == (name, arch)
    exported = attar.supernet.export(
        root / "net", ranking=root / "all", output_dir=root / "exported"
    )
    assert exported.details["arch"] == stored["arch"]


def test_the_same_command_continues(root: Path, found: Run) -> None:
    kept = shutil.copytree(root / "all", root / "again")
    for name in ("rank.csv", "pareto.json", "attar.json"):
        (kept / name).unlink()
    again = search(root, kept)
    before, after = ((root / name / "rank.csv").read_text() for name in ("all", "again"))
    assert before == after
    assert again.details["networks"] == found.details["networks"]
    changed = supernets.train(
        root / "teacher", root / "text", root / "other", space=supernets.SPACES["large"]
    )
    with pytest.raises(ConfigError, match="was made with other settings"):
        attar.supernet.search(root / "other", str(root / "text"), output_dir=kept)
    assert changed.details["networks"]


def test_a_storage_is_shared_by_workers(root: Path, found: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    config = SupernetSearchConfig(storage=url)
    search(root, tmp_path / "one" / "out", config=config)
    run = search(root, tmp_path / "two" / "out", config=config)  # another machine: nothing is left
    assert members_of(tmp_path / "two" / "out") == members_of(root / "all")
    assert run.details["loss"] == found.details["loss"]
    with pytest.raises(ConfigError, match="was made with other settings"):
        search(root, tmp_path / "two" / "out", config=config, budget="params<=20k")


def test_evolution_finds_networks_of_all_spaces(root: Path, found: Run, tmp_path: Path) -> None:
    config = SupernetSearchConfig(
        strategy="evolution", population=6, parents=3, mutations=3, crossovers=3, iterations=4
    )
    run = search(root, tmp_path / "out", config=config)
    losses = {json.dumps(one["arch"]): one["loss"] for one in found.details["networks"]}
    for one in run.details["networks"]:
        assert one["loss"] == losses.get(json.dumps(one["arch"]), one["loss"])
    assert run.details["scored"] <= 12
    assert run.details["loss"] >= found.details["loss"]


def test_genes_stand_for_networks(opened: Opened) -> None:
    whole = Members(opened.description.spaces)
    every = list(whole)
    assert len(every) == len(set(every)) == whole.size
    for one in every:
        genes = whole.genes_of(one)
        assert len(genes) == len(whole.choices)
        assert all(gene < n for gene, n in zip(genes, whole.choices, strict=True))
        assert whole.decode(genes) == one
    assert {whole.genes_of(whole.decode((1, *(n - 1 for n in whole.choices[1:]))))}


# --------------------------------------------------------------------------------------- budgets


@pytest.mark.usefixtures("found")
def test_the_best_within_a_budget_is_the_best_of_those_that_meet_it(
    root: Path, tmp_path: Path
) -> None:
    run = search(root, tmp_path / "out", budget="params<=9k, macs<=50%")
    with (root / "all" / "rank.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    parent = run.cost["before"]["macs"]
    fine = [r for r in rows if int(r["params"]) <= 9000 and int(r["macs"]) <= parent / 2]
    assert members_of(tmp_path / "out") == [(r["space"], Arch.from_json(r["arch"])) for r in fine]
    assert run.budget is not None
    assert run.budget["met"]
    assert attar.load(tmp_path / "out" / "model").num_parameters() == int(fine[0]["params"])
    assert run.budget["constraints"][0]["achieved"] == int(fine[0]["params"])


def test_a_space_can_be_searched_alone(root: Path, tmp_path: Path) -> None:
    search(root, tmp_path / "out", space="large")
    assert {name for name, _ in members_of(tmp_path / "out")} == {"large"}
    with pytest.raises(ConfigError, match="space must be one of small, large; found 'tiny'"):
        search(root, tmp_path / "none", space="tiny")


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("params<=3k", "no candidate keeps the limits: the nearest .* has params 5.43 k, "),
        ("latency<=50%", "expected a limit on latency in milliseconds, found a percentage"),
        ("width<=5k", "unknown constraint 'width'"),
    ],
)
def test_a_budget_out_of_reach_names_the_nearest_network(
    budget: str, said: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=said):
        search(root, tmp_path / "out", budget=budget)
    assert not (tmp_path / "out" / "model").exists()


def timed(model: Any, **_: Any) -> Cost:
    """Milliseconds that are parameters, as if they had been measured."""
    time = Latency(model.num_parameters() / 1000, 0.0)
    return Cost(0, 0, 0, 0, 0, prefill=time, decode=time, timed={"prompt_tokens": 1})


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("most", [99, 11])
def test_times_are_measured_and_those_of_others_predicted(
    most: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members_module, "measure", timed)
    monkeypatch.setattr(members_module, "TIMED", most)
    run = search(root, tmp_path / "out", budget="prefill<=20ms")
    assert run.budget is not None
    assert run.budget["met"]
    ranked = read_ranking(tmp_path / "out")
    if most == 99:
        whole = read_ranking(root / "all")
        assert len(ranked) == sum(int(row["params"]) <= 20_000 for row in whole)
    else:
        assert "rank correlation" in run.details["timing"]
    for row in ranked[:10]:
        assert float(row["prefill_ms"]) == int(row["params"]) / 1000
    assert "prefill" in search_table(run).text()


def test_a_budget_that_is_not_met_as_timed_is_exit_code_3(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def slower(model: Any, **options: Any) -> Cost:
        calls.append(1)
        cost = timed(model)
        return cost if len(calls) <= 12 else Cost(**{**vars(cost), "prefill": Latency(99.0, 0)})

    monkeypatch.setattr(members_module, "measure", slower)
    command = ["supernet", "search", str(root / "net"), "--data", str(root / "text")]
    out = tmp_path / "out"
    assert run_command([*command, "--budget", "prefill<=20ms", "-o", str(out)]) == 3
    assert (out / "model" / "config.json").is_file()
    record = Run.load(out)
    assert record.budget is not None
    assert not record.budget["met"]


# ------------------------------------------------------------------------------------ proxy task


@pytest.fixture(scope="module")
def labelled(root: Path) -> tuple[Path, Path]:
    """An encoder, and a file of labelled rows that it can read."""
    rows, words = encoders.documents(120), encoders.tokenizer()
    folder = root / "labelled"
    folder.mkdir()
    for split in rows:
        rows[split].to_json(folder / f"{split}.jsonl")
    text = root / "plain"
    text.mkdir()
    for split in rows:
        (text / f"{split}.txt").write_text("\n".join(rows[split]["text"]))
    checkpoint.save(tiny.model("bert"), root / "bert", tokenizer=words)
    space = {"num_hidden_layers": [1, 2], "hidden_size": [16, 32], "num_attention_heads": [2, 4]}
    space |= {"intermediate_size": 32, "head_dim": 8}
    supernets.train(root / "bert", text, root / "bert-net", space=space)
    return text, folder


def test_the_best_are_tried_on_a_task_and_its_test_rows_are_scored_once(
    root: Path, labelled: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import attar.train.labelled_task as task_module

    text, rows = labelled
    score, scored = task_module.score_on, list[list[str]]()

    def seen(model: Any, documents: Any, **options: Any) -> dict[str, float]:
        scored.append(documents["text"])
        return score(model, documents, **options)

    monkeypatch.setattr(task_module, "score_on", seen)
    config = SupernetSearchConfig(top=4, proxy_epochs=(1.0, 2.0), proxy_context=32)
    options: dict[str, Any] = {"proxy": rows, "config": config, "output_dir": tmp_path / "out"}
    run = attar.supernet.search(root / "bert-net", str(text), **options)
    known = encoders.documents(120)
    chooses = [texts for texts in scored if texts != known["test"]["text"]]
    assert len(scored) == 4 + 2 + 1
    assert len(chooses) == 6
    trained = set(known["train"]["text"])
    assert all(set(texts) < trained for texts in chooses)
    assert scored[-1] == known["test"]["text"]
    assert not any(set(texts) & set(known["validation"]["text"]) - trained for texts in scored)
    proxy = run.details["proxy"]
    assert [len(rung["scored"]) for rung in proxy["rungs"]] == [4, 2]
    assert proxy["measure"] == "accuracy"
    best = proxy["rungs"][-1]["scored"][0]
    assert run.details["arch"] == best["arch"]
    model = attar.load(tmp_path / "out" / "model")
    assert Arch.of(model).to_dict()["layers"] == best["arch"]["layers"]
    scored.clear()
    again = attar.supernet.search(root / "bert-net", str(text), **options)
    assert scored == []  # what is known is not done again
    assert again.details["proxy"] == proxy


def test_rows_that_choose_are_apart_from_those_that_train() -> None:
    rows = encoders.documents(100)["train"]
    train, chooses = held_out(rows)
    assert len(train) + len(chooses) == 100
    assert 5 <= len(chooses) <= 20
    assert not set(train["text"]) & set(chooses["text"])
    assert held_out(rows)[1]["text"] == chooses["text"]


def test_a_proxy_that_does_not_fit_is_one_sentence(root: Path, tmp_path: Path) -> None:
    fits = attar.SupernetSearchConfig(proxy_context=32)
    with pytest.raises(ConfigError, match="proxy_context must be at most 64"):
        search(root, tmp_path / "out", proxy=tmp_path / "none.csv")
    with pytest.raises(DataError, match="none"):
        search(root, tmp_path / "out", proxy=tmp_path / "none.csv", config=fits)
    (tmp_path / "few.csv").write_text("text,label\ngood,1\nbad,0\n")
    with pytest.raises(AttarError, match=r"few\.csv"):
        search(root, tmp_path / "out", proxy=tmp_path / "few.csv", config=fits)


# -------------------------------------------------------------------------- the command line


@pytest.mark.usefixtures("found")
def test_the_command_line_does_what_python_does(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(root / "text")]
    space = tmp_path / "space.yaml"
    space.write_text(json.dumps(supernets.SPACES))
    options = [
        f"--{name.replace('_', '-')}={getattr(supernets.QUICK, name)}"
        for name in ("max_steps", "per_device_train_batch_size", "learning_rate", "context")
    ]
    options += ["--save-steps=2", "--eval-sequences=8", "--space", str(space)]
    net = tmp_path / "net"
    command = ["supernet", "train", str(root / "teacher"), *data, *options]
    assert run_command([*command, "-o", str(net)]) == 0
    assert "attar supernet search" in capsys.readouterr().out
    one, other = Run.load(net), Run.load(root / "net")
    assert one.details["networks"] == other.details["networks"]
    assert one.settings["space"] == other.settings["space"]
    out, teacher = tmp_path / "out", ["--teacher", str(root / "teacher")]
    assert run_command(["supernet", "search", str(net), *data, *teacher, "-o", str(out)]) == 0
    assert "rank.csv, pareto.json and model" in capsys.readouterr().out
    assert (out / "rank.csv").read_text() == (root / "all" / "rank.csv").read_text()
    command = ["supernet", "export", str(net), "--ranking", str(out), "--arch", "2"]
    assert run_command([*command, "-o", str(tmp_path / "second")]) == 0
    assert "as LlamaForCausalLM, a class of transformers" in capsys.readouterr().out
    command = ["supernet", "evaluate", str(net), *data, *teacher, "--n-random", "1", "--json", "-"]
    assert run_command(command) == 0
    printed = json.loads(capsys.readouterr().out)
    config = attar.EvaluateSupernetConfig(n_random=1)
    run = attar.supernet.evaluate(root / "net", str(root / "text"), config=config)
    assert printed["details"]["networks"] == run.details["networks"]


def test_mistakes_on_the_command_line_are_one_sentence(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for words, said in (
        (["search", str(root / "teacher"), "-o", out], "holds no supernet.json"),
        (["export", str(root / "net"), "-o", out], "name the folder that attar supernet search"),
        (["train", str(root / "teacher"), "--method", "mos", "-o", out], "mixture-of-supernets"),
        (["train", str(root / "teacher")], "say where the result goes"),
        (["evaluate", str(root / "net"), "--n-random", "-1"], "n_random must be zero or more"),
    ):
        assert run_command(["supernet", *words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
