"""What may stand for data."""

from typing import Any

import pytest
from datasets import Dataset

from attar.data.data import Data
from attar.errors import ConfigError


def test_a_plain_source_stands_for_its_data() -> None:
    rows = Dataset.from_dict({"text": ["one"]})
    assert Data.of("folder") == Data("folder")
    assert Data.of(rows).source is rows
    assert Data.of(Data("folder", text_column="body")).text_column == "body"


@pytest.mark.parametrize("source", ["", None, 3, ["a text"]])
def test_what_is_no_data_is_refused(source: Any) -> None:
    with pytest.raises(ConfigError, match="data must be a file, a folder"):
        Data.of(source)
