"""What every test stands on: no network, private caches, one thread, and the shared data if there.

The environment is set at import, before anything imports torch or the Hugging Face libraries, which
read it once.
"""

import atexit
import gc
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

gc.disable()  # until everything is imported
_HOME = Path(tempfile.mkdtemp(prefix="attar-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE", "HF_TOKEN"):
    os.environ.pop(_name, None)
os.environ |= {
    "ATTAR_HOME": str(_HOME / "attar"),
    "HF_HOME": str(_HOME / "hf"),
    "HF_HUB_OFFLINE": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

# Repeatable, and without deadlines: the machines that run this are slow and shared.
settings.register_profile(
    "attar",
    deadline=None,
    derandomize=True,
    max_examples=50,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("attar")


def pytest_configure(config: pytest.Config) -> None:
    """Tests compute on the processor, in float32, wherever they run; those marked gpu are run by
    themselves, with `-m gpu`.
    """
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            _skip(items, "gpu", "no CUDA device, or not run with -m gpu")
    if importlib.util.find_spec("playwright") is None:
        _skip(items, "browser", "playwright is not installed")
    elif shutil.which("chromium") is None:
        _skip(items, "browser", "chromium is not installed")


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of every later garbage collection. Each training asks for
    several, and to walk through torch and transformers takes longer than to train a tiny model.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data beside the checkout."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return folder


@pytest.fixture(scope="module")
def briefly_timed() -> Iterator[None]:
    """What is pruned is timed once and over a single token, as no test reads how long it took."""
    from attar.measure.timing import measure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attar.pruning.run.measure", partial(measure, new_tokens=1, repeats=1))
        yield
