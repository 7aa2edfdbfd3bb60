"""A search that is killed in the middle goes on where it was, to the same bits."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import processes
import scene
from attar.cli import app
from scene import run

SEARCH = ["--windows=8", "--context=32", "--ffn-block=8", "--evaluations=12", "--step=0.1"]


def command(root: Path, out: str, *more: str) -> list[str]:
    given = ["prune", str(root / "parent"), "--data", str(root / "text")]
    return [*given, "--budget", "blocks<=50%", "-o", str(root / out), *SEARCH, *more]


def attar(argv: list[str], stderr: Path) -> None:
    """Be the command line."""
    # a test run in the background would hand down that interrupts are ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with stderr.open("w") as err:
        os.dup2(err.fileno(), sys.stderr.fileno())
    app.main(argv)


def stopped(argv: list[str], state: Path, step: int, how: signal.Signals) -> tuple[int, str]:
    """Start `attar`, and send it a signal in the middle of a step; its exit code and stderr."""
    file, said = state / f"step-{step:03d}.jsonl", state.parents[1] / "stderr"
    process = processes.start(attar, argv, said)
    until = time.monotonic() + 120
    while not file.exists() or file.read_text().count("\n") < 5:
        assert process.is_alive(), said.read_text()
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(process.pid or 0, how)
    process.join(timeout=60)
    assert process.exitcode is not None
    return process.exitcode, said.read_text()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    scene.write_parent(folder / "parent", scene.write_text(folder / "text"))
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_killed_and_interrupted_equals_uninterrupted(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = root / "out.partial" / "state"
    code, _ = stopped(command(root, "out"), state, 2, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (root / "out").exists()
    done = (state / "step-000.jsonl").read_bytes()

    assert run(command(root, "out")) == 2  # not by accident over the unfinished run
    assert "--resume" in capsys.readouterr().err
    assert run([*command(root, "out", "--resume"), "--seed", "1"]) == 2  # nor with other settings
    assert "seed" in capsys.readouterr().err

    code, err = stopped(command(root, "out", "--resume"), state, 3, signal.SIGINT)
    assert code == 130
    kept = f"what is done is in '{root}/out.partial'"
    assert err.endswith(f"attar: interrupted: continue with --resume; {kept}\n")
    assert "Traceback" not in err
    assert (state / "step-000.jsonl").read_bytes() == done

    assert run(command(root, "out", "--resume")) == 0
    assert run(command(root, "whole")) == 0
    for name in ("model.safetensors", "plan.json", "config.json"):
        assert (root / "out" / name).read_bytes() == (root / "whole" / name).read_bytes(), name
    assert not (root / "out.partial").exists()
    steps = [
        [
            {k: v for k, v in step.items() if k != "seconds"}
            for step in json.loads((root / folder / "attar.json").read_text())["details"]["steps"]
        ]
        for folder in ("out", "whole")
    ]
    assert len(steps[0]) > 4
    assert steps[0] == steps[1]
