"""The example runs as written."""

import importlib.util
import tempfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "codec.py"


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("codec_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "EPOCHS", 8)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: str(tmp_path))
    example.main()
    told = capsys.readouterr().out
    right = int(told.partition(" of 16 test pictures")[0].split()[-1])
    assert right > 8, told  # half of them are photographs
