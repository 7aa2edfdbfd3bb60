"""What `import attar` loads; the layers are contracts of import-linter."""

import importlib.resources
import json
import subprocess
import sys

HEAVY = ("torch", "transformers", "datasets", "peft", "matplotlib", "pandas")


def modules_after(statement: str) -> set[str]:
    """Names of all modules loaded in a fresh interpreter that runs `statement`."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_attar_stays_light() -> None:
    loaded = modules_after("import attar")
    assert "attar" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_probe_sees_a_heavy_import() -> None:
    assert "pandas" in modules_after("import attar, pandas")


def test_the_errors_and_the_version_need_nothing_heavy() -> None:
    loaded = modules_after("import attar.errors; attar.__version__")
    assert loaded.isdisjoint(HEAVY)


def test_the_package_is_marked_as_typed() -> None:
    assert (importlib.resources.files("attar") / "py.typed").is_file()
