"""What a mistake of the user's looks like: one sentence, exit code 2, and nothing left behind."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, BloomForCausalLM, T5Config, T5ForConditionalGeneration

import scene
import tiny
from attar import checkpoint
from scene import run

QUICK = "--windows 4 --context 16 --method random"
_PRUNE = "prune {root}/model --data {root}/text -o {out}"
_HEAL = "heal {root}/model --teacher {root}/model --data {root}/text -o {out} --context 16"
_TRAIN = "pretrain --data {root}/text -o {out} --vocab-size 280 --context 16"
#: name -> (the command, what the sentence says); `{root}` is the folder of `world`, `{out}` one
#: that must not come to be
MISTAKES: dict[str, tuple[str, str]] = {
    # what is typed
    "no such verb": ("prun", r"[Dd]id you mean .?prune"),
    "no such option": (f"{_PRUNE} --budgett blocks<=50%", r"budgett.*[Dd]id you mean .*--budget"),
    "no such training option": (f"{_TRAIN} --learning-rat 1", r"[Dd]id you mean .*learning-rate"),
    "no model": ("prune -o {out}", "MODEL|model"),
    "data without its option": (
        "evaluate {root}/model {root}/text",
        "expected attar evaluate MODEL, then options; found .*text as well.*--data .*text",
    ),
    "options before a recipe": ("run -o {out} pocket/1m", "recipe first.*found -o"),
    "no teacher": ("heal {root}/model -o {out}", "teacher"),
    "not a number": (f"{_PRUNE} --budget blocks<=50% --step abc", "abc"),
    "not a method": (f"{_PRUNE} --budget blocks<=50% --method sparsegpt", "sparsegpt.*wanda"),
    "out of range": (f"{_PRUNE} --budget blocks<=50% --step 2", r"step must be"),
    "no output folder": ("prune {root}/model --budget blocks<=50%", "--output-dir"),
    "no output folder to train": ("pretrain", "--output-dir"),
    "no budget": (_PRUNE, "--budget"),
    "plan and budget": (
        f"{_PRUNE} --apply {{root}} --budget blocks<=50%",
        "one of the two; found both",
    ),
    "bad shape": (f"{_TRAIN} --hidden-size 30 --num-attention-heads 4", "num_attention_heads"),
    "bad decay": (f"{_TRAIN} --adam-beta2 1", "adam_beta2 must be at least 0 and below 1"),
    "no schedule": (
        f"{_TRAIN} --lr-scheduler-type polynomial --learning-rate 1e-7",
        "learning_rate must be above 1e-07",
    ),
    "too large a vocabulary": (
        _TRAIN.replace("280", "1000000000"),
        "vocab_size must be at most 10",
    ),
    "two vocabularies": (f"{_TRAIN} --tokenizer {{root}}/model", "leave out vocab_size=280 or"),
    "too high a rank": (f"{_HEAL} --lora-r 10000", r"lora_r must be at most \d+, the rank of"),
    "bad rate": (f"{_TRAIN} --learning-rate=-1", "learning_rate"),
    "bad cache": (f"{_HEAL} --teacher-cache top5", "teacher_cache"),
    "bad repeats": ("cost {root}/model --repeats 0", "repeats must be 1"),
    # recipes
    "no recipe": (f"{_TRAIN} --config pocket/2m", r"pocket/2m.*did you mean pocket/"),
    "no recipe file": (f"{_TRAIN} --config {{root}}/no.yaml", r"neither a file nor a recipe"),
    "a folder as recipe": (f"{_TRAIN} --config {{root}}", r"neither a file nor a recipe"),
    "recipe without a name": ("recipe show", "needs a name"),
    "recipe of another verb": (f"{_TRAIN} --config bonsai/paper", "is for attar prune"),
    "unknown key": (
        f"{_TRAIN} --config {{root}}/unknown.yaml",
        r"learning_rat.*[Dd]id you mean .*learning.rate",
    ),
    "YAML that breaks off": (f"{_TRAIN} --config {{root}}/broken.yaml", r"broken\.yaml"),
    "YAML with two colons": (f"{_TRAIN} --config {{root}}/colons.yaml", r"colons\.yaml.*line 1"),
    "YAML that is a list": (f"{_TRAIN} --config {{root}}/list.yaml", r"mapping.*list\.yaml"),
    "YAML without names": (f"{_TRAIN} --config {{root}}/numbers.yaml", r"mapping.*numbers\.yaml"),
    "YAML that is no text": (f"{_TRAIN} --config {{root}}/bytes.yaml", r"bytes\.yaml"),
    "wrong type in YAML": (f"{_TRAIN} --config {{root}}/type.yaml", r"many"),
    # budgets
    "a word as budget": (f"{_PRUNE} --budget half", r"expected a budget such as"),
    "a wrong constraint": (f"{_PRUNE} --budget size<=5MB", r"unknown constraint 'size'"),
    "a wrong unit": (f"{_PRUNE} --budget latency<=5", r"needs a unit"),
    "more than all": (f"{_PRUNE} --budget blocks<=150%", r"at most 100%"),
    "out of reach": (
        f"{_PRUNE} --budget blocks<=1% {QUICK}",
        r"out of reach: the least blocks .* is \d+",
    ),
    # models
    "no such folder": ("cost {root}/nowhere", "no model at"),
    "no such name": ("cost nobody/no-such-model", "no model named"),
    "no checkpoint": ("cost {root}/text", "no config.json"),
    "unsupported decoder": (
        "prune {root}/bloom --budget blocks<=50% --data {root}/text -o {out} " + QUICK,
        "'bloom'.*llama|llama.*'bloom'",
    ),
    "encoder-decoder": (
        "prune {root}/t5 --budget blocks<=50% --data {root}/text -o {out} " + QUICK,
        "'t5'",
    ),
    "score of an encoder-decoder": (
        "evaluate {root}/t5 --data {root}/text",
        "expected a causal language model",
    ),
    "healing an encoder-decoder": (_HEAL.replace("model", "t5", 1), "T5|t5"),
    "foreign tokenizer, prune": (
        _PRUNE.replace("model", "wide") + " --budget blocks<=50% " + QUICK,
        "does not fit the model",
    ),
    "foreign tokenizer, evaluate": ("evaluate {root}/wide --data {root}/text", "does not fit"),
    "foreign tokenizer, heal": (
        _HEAL.replace("{root}/model", "{root}/wide") + " --max-steps 1",
        "tokenizer",
    ),
    "teacher of another tokenizer": (
        _HEAL.replace("--teacher {root}/model", "--teacher {root}/other"),
        "tokenizer",
    ),
    "teacher of another size": (
        _HEAL.replace("--teacher {root}/model", "--teacher {root}/small"),
        "vocabulary",
    ),
    "no tokenizer": (
        _PRUNE.replace("model", "mute") + " --budget blocks<=50% " + QUICK,
        "tokenizer",
    ),
    "weights that break off": (
        _PRUNE.replace("model", "cut") + " --budget blocks<=50% " + QUICK,
        "damaged",
    ),
    "a config that breaks off": (
        _PRUNE.replace("model", "badconfig") + " --budget blocks<=50% " + QUICK,
        "damaged",
    ),
    "a config of other shapes": (
        _PRUNE.replace("model", "shapes") + " --budget blocks<=50% " + QUICK,
        "does not fit its config|damaged",
    ),
    "NaN weights, prune": (
        _PRUNE.replace("model", "nan") + " --budget blocks<=50% " + QUICK,
        "not finite|damaged",
    ),
    "NaN weights, evaluate": ("evaluate {root}/nan --data {root}/text", "NaN"),
    "NaN weights, heal": (
        _HEAL.replace("{root}/model --t", "{root}/nan --t") + " --max-steps 2",
        "not finite|NaN|diverged",
    ),
    "NaN teacher": (
        _HEAL.replace("--teacher {root}/model", "--teacher {root}/nan") + " --max-steps 2",
        "not finite|NaN|diverged",
    ),
    # data
    "no such file": (_PRUNE.replace("/text", "/no.txt") + " --budget blocks<=50%", r"no\.txt"),
    "no such data set": ("evaluate {root}/model --data nobody/nothing", "nobody/nothing"),
    "no such split": ("evaluate {root}/model --data {root}/text --split some", "some"),
    "text of another kind": ("evaluate {root}/model --data {root}/bytes.yaml", r"bytes\.yaml"),
    "too little text to prune": (
        f"{_PRUNE} --budget blocks<=50% --windows 100000",
        "lower windows or context",
    ),
    "too little text to train on": (
        _TRAIN.replace("/text", "/little").replace("--context 16", "--context 4000"),
        "at least one block of 4000 tokens",
    ),
    "too small a vocabulary": (_TRAIN.replace("280", "10"), "vocabulary of at least 257"),
    "too long a window": (_HEAL.replace("context 16", "context 4096"), "context must be at most"),
    "too long a context": (
        "evaluate {root}/model --data {root}/text --context 4096",
        "context.*4096|4096.*context",
    ),
    # folders
    "a taken folder": (
        _PRUNE.replace("{out}", "{root}/text") + " --budget blocks<=50%",
        "is not empty",
    ),
    "a file in place of the folder": (
        _PRUNE.replace("{out}", "{root}/unknown.yaml") + " --budget blocks<=50%",
        "is a file",
    ),
    "an unfinished run": (
        _PRUNE.replace("{out}", "{root}/begun") + " --budget blocks<=50%",
        "--resume",
    ),
    "a file above the folder": (
        _PRUNE.replace("{out}", "{root}/unknown.yaml/x") + " --budget blocks<=50%",
        r"unknown\.yaml",
    ),
    "a file above the folder to train": (
        _TRAIN.replace("{out}", "{root}/unknown.yaml/x"),
        r"unknown\.yaml",
    ),
    "no place for JSON": ("cost {root}/model --json {root}/no/x.json --no-measure", "cannot write"),
    "no place for the page": (
        "compare {root}/run --html {root}/unknown.yaml/x.html",
        r"unknown\.yaml",
    ),
    # plans and records
    "no plan": (f"{_PRUNE} --apply {{root}}/text", "no plan"),
    "a damaged plan": (f"{_PRUNE} --apply {{root}}/broken.json", "plan"),
    "a plan that is no text": (f"{_PRUNE} --apply {{root}}/bytes.yaml", r"plan"),
    "a plan of another model": (f"{_PRUNE} --apply {{root}}/plan.json", "another model|plan"),
    "no record": ("compare {root}/text", "no run record"),
    "a damaged record": ("compare {root}/broken.json", "record"),
}
# Runs the commands one after the other as `attar` would, and reads what really goes to stderr.
_DRIVER = """
import contextlib, gc, io, json, os, sys, tempfile, traceback
gc.disable()  # which the imports would call again and again
from attar.cli.app import run
answers = []
for argv in json.load(sys.stdin):
    with tempfile.TemporaryFile("w+") as said, contextlib.redirect_stdout(io.StringIO()) as out:
        os.dup2(said.fileno(), 2)
        try:
            code = run(argv)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        said.seek(0)
        answers.append([int(code), out.getvalue(), said.read()])
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good model, and everything that can be wrong."""
    root = tmp_path_factory.mktemp("world")
    text = scene.write_text(root / "text", words=2400)
    scene.write_text(root / "little", words=120)
    model = scene.write_parent(root / "model", text)
    words = scene.tokenizer(text)
    loud = scene.write_text(root / "loud", words=2400) / "train.txt"
    loud.write_text(loud.read_text().upper())
    other = scene.tokenizer(root / "loud")  # of the same size, with other entries
    checkpoint.save(tiny.model("llama", vocab_size=len(words)), root / "other", tokenizer=other)
    fewer = scene.tokenizer(text, vocab_size=280)
    checkpoint.save(tiny.model("llama", vocab_size=len(fewer)), root / "small", tokenizer=fewer)
    sizes: dict[str, Any] = {"vocab_size": len(words), "pad_token_id": 0}
    bloom = BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=1, n_head=2, **sizes))
    checkpoint.save(bloom.eval(), root / "bloom", tokenizer=words)
    t5 = T5Config(d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=2, **sizes)
    t5.decoder_start_token_id = 0
    checkpoint.save(T5ForConditionalGeneration(t5).eval(), root / "t5", tokenizer=words)
    checkpoint.save(tiny.model("llama", vocab_size=270), root / "wide", tokenizer=words)
    for name in ("mute", "cut", "badconfig", "shapes", "nan"):
        shutil.copytree(model, root / name)
    for file in (root / "mute").glob("token*"):
        file.unlink()
    weights = root / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-200])
    (root / "badconfig" / "config.json").write_text('{"model_type": "lla')
    config = json.loads((model / "config.json").read_text())
    (root / "shapes" / "config.json").write_text(json.dumps(config | {"intermediate_size": 56}))
    tensors = load_file(root / "nan" / "model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, root / "nan" / "model.safetensors", metadata={"format": "pt"})
    (root / "unknown.yaml").write_text("learning_rat: 0.1\n")
    (root / "broken.yaml").write_text("learning_rate: [0.1\nmax_steps: 3\n")
    (root / "colons.yaml").write_text("learning_rate: 0.1: 3\n")
    (root / "list.yaml").write_text("- 1\n- 2\n")
    (root / "numbers.yaml").write_text("1: 2\n")
    (root / "type.yaml").write_text("max_steps: many\n")
    (root / "bytes.yaml").write_bytes(b"\xff\xfe\x00 max_steps")
    (root / "broken.json").write_text('{"format": 1, "layers": [')
    row = {"layer": 0, "kv_groups": [0, 1, 9], "neurons": [0]}
    (root / "plan.json").write_text(json.dumps({"format": 1, "layers": [row]}))
    (root / "begun.partial" / "state").mkdir(parents=True)
    (root / "run").mkdir()
    record = {"schema": 1, "command": "pretrain"}
    (root / "run" / "attar.json").write_text(json.dumps(record))
    return root


@pytest.fixture(scope="module")
def answers(world: Path) -> dict[str, tuple[int, str, str]]:
    """Exit code, stdout and stderr of every mistake, all made in one process."""
    commands = []
    for number, (command, _) in enumerate(MISTAKES.values()):
        out = world / "out" / str(number)
        commands.append([p.format(root=world, out=out) for p in command.split(" ")])
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return dict(zip(MISTAKES, map(tuple, json.loads(done.stdout)), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_exit_code_2_and_leaves_nothing(
    mistake: str, answers: dict[str, tuple[int, str, str]], world: Path
) -> None:
    code, out, err = answers[mistake]
    assert code == 2, err
    assert not out or mistake.startswith("no place"), "figures are not lost for want of a file"
    assert err.startswith("attar: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert re.search(MISTAKES[mistake][1], err), err
    number = list(MISTAKES).index(mistake)
    for left in (f"out/{number}", f"out/{number}.partial"):
        assert not (world / left).exists()


def test_mistakes_leave_no_folders_at_all(
    answers: dict[str, tuple[int, str, str]], world: Path
) -> None:
    assert len(answers) == len(MISTAKES)
    with contextlib.suppress(FileNotFoundError):
        assert list((world / "out").iterdir()) == []
    assert list(world.glob("*.partial")) == [world / "begun.partial"]


def test_the_least_that_is_named_can_be_had(
    answers: dict[str, tuple[int, str, str]], world: Path, tmp_path: Path
) -> None:
    err = answers["out of reach"][2]
    least = float(err.split("give this model is ")[1].split(" ")[0])
    command = f"prune {world}/model --data {world}/text -o {tmp_path}/out {QUICK}"
    budget = f"blocks<={least:.0f}"
    assert run([*command.split(), "--budget", budget]) == 0
    stored = json.loads((tmp_path / "out" / "attar.json").read_text())
    assert stored["cost"]["after"]["block_params"] == least
