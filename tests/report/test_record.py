"""Records come back as written, of today and of earlier versions."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar import report
from attar.cli.output import write_json
from attar.errors import DataError
from attar.report.record import Run
from records import PAPER, make

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(settings=st.dictionaries(st.text(), JSON, max_size=4), details=st.text())
def test_a_record_comes_back_as_it_was_written(
    tmp_path: Path, settings: dict[str, Any], details: str
) -> None:
    run = make(settings=settings, details={"text": details, "nan": math.nan, "inf": -math.inf})
    path = run.save(tmp_path)
    assert path == tmp_path / "attar.json"
    assert list(tmp_path.iterdir()) == [path]
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # strict JSON
    for place in (tmp_path, path, str(path)):
        assert repr(Run.load(place).to_dict()) == repr(run.to_dict())
    assert Run.load(path).paper == PAPER
    stored = path.read_bytes()
    write_json(str(path), run.to_dict())  # as --json does
    assert path.read_bytes() == stored


def test_settings_objects_are_stored_as_what_they_stand_for(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Settings:
        rate: float
        names: frozenset[str]

    import torch

    run = make(settings={"a": Settings(0.1, frozenset("ba")), "t": torch.arange(2), 3: Path("p")})
    run.details["dtype"] = torch.bfloat16
    stored = Run.load(run.save(tmp_path))
    assert stored.settings == {"a": {"rate": 0.1, "names": ["a", "b"]}, "t": [0, 1], "3": "p"}
    assert stored.details["dtype"] == "torch.bfloat16"


def test_a_record_knows_its_machine_and_time() -> None:
    run = Run("evaluate")
    assert set(run.versions) == {"python", "torch", "transformers", "attar"}
    assert run.hardware["threads"] >= 1
    assert run.hardware["processor"]
    assert run.date.endswith("+00:00")
    assert "evaluate" in str(run)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no run record"),
        ("{", "cannot be read"),
        ("[]", "not an attar run record"),
        ('{"schema": 1}', "not an attar run record"),
        ('{"schema": 99, "command": "x"}', "schema 99"),
        ('{"schema": 1, "command": "x", "paper": {"title": 3}}', "damaged"),
        ('{"schema": 1, "command": "x", "cost": []}', "damaged"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_damaged_record_is_refused_in_one_sentence(
    tmp_path: Path, text: str | bytes | None, problem: str
) -> None:
    if text is not None:
        (tmp_path / "attar.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=problem):
        Run.load(tmp_path)


def test_a_failed_save_keeps_the_old_record(tmp_path: Path) -> None:
    run = make()
    path = run.save(tmp_path)
    old = path.read_text()
    run.details["loop"] = run.details
    with pytest.raises(RecursionError):
        run.save(tmp_path)
    assert path.read_text() == old
    assert list(tmp_path.iterdir()) == [path]


def test_reading_records_needs_no_torch() -> None:
    code = (
        "import sys, attar.report; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    path = [str(Path(report.__file__).parents[2])]
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {code}"], check=True, timeout=60
    )


def test_a_record_of_version_0_1_is_brought_to_today_s_words(tmp_path: Path) -> None:
    old = {
        "schema": 1,
        "command": "draft distill",
        "settings": {"block_size": 64, "max_tokens": 9, "seed": 1},
        "budget": {
            "asked": "params<=50%",
            "met": True,
            "constraints": [{"key": "params of blocks", "limit": 2, "achieved": 1, "met": True}],
        },
        "cost": {"after": {"params": 7, "peak_memory": 10**9}},
        "quality": {"after": {"tau at 0": 2.0, "alpha at 0": "NaN"}},
        "details": {"dpr": 0.9},
    }
    (tmp_path / "attar.json").write_text(json.dumps(old), encoding="utf-8")
    run = Run.load(tmp_path)
    assert (run.command, run.schema) == ("draft train", 2)
    assert run.settings == {"context": 64, "eval_tokens": 9, "seed": 1}
    assert run.budget is not None
    assert run.budget["constraints"][0]["key"] == "blocks"
    assert run.quality["after"]["block efficiency at T=0"] == 2.0
    assert math.isnan(run.quality["after"]["acceptance rate at T=0"])
    assert run.details == {"teacher_ratio": 0.9}
    assert run.cost == {"after": {"params": 7}}  # the memory was that of the whole process


def test_damaged_values_are_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "attar.json"
    stored = '{"schema": 2, "command": "prune", %s}'
    bad = ('"baselines": null', '"seconds": "x"', '"data": 3', '"method": []', '"command": 3')
    for text in [*(stored % one for one in bad), "[" * 100_000]:
        file.write_text(text)
        with pytest.raises(DataError, match=r"the run record .*attar\.json (is damaged|cannot)"):
            Run.load(file)
