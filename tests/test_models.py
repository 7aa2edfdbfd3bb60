"""Facts read off a model: when it is cast, and what separates documents."""

import pytest
import torch

from attar import models
from attar.models import AUTOCAST_FROM, autocast


def test_autocast_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch.nn.Linear(AUTOCAST_FROM, 1, bias=False)
    small = torch.nn.Linear(8, 8)
    ones = torch.ones(2, 2)
    monkeypatch.setattr(models, "native_bfloat16", lambda: True)
    with autocast(large):
        assert (ones @ ones).dtype == torch.bfloat16
    for module in (small, large.half(), torch.nn.Identity()):
        with autocast(module):
            assert (ones @ ones).dtype == torch.float32
    monkeypatch.setattr(models, "native_bfloat16", lambda: False)
    with autocast(large.float()):
        assert (ones @ ones).dtype == torch.float32
