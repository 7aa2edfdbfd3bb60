"""What every search refuses before it begins."""

from types import SimpleNamespace

import pytest

from attar.errors import ConfigError
from attar.search.search import require_one_process


def test_a_launch_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_one_process()
    launch = SimpleNamespace(num_processes=2)
    monkeypatch.setattr("attar.search.search.processes", lambda: launch)
    with pytest.raises(ConfigError, match="a search runs in one process, found 2"):
        require_one_process()
