"""`attar recipe` lists, shows and copies what ships."""

from pathlib import Path

import pytest
import yaml

from attar.cli.recipe import recipe
from attar.errors import ConfigError
from attar.recipes import recipes
from scene import verb


def test_recipes_are_listed_shown_and_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(recipe, "list") == 0
    listed = capsys.readouterr().out
    for name, file in recipes().items():
        assert name in listed
        assert verb(recipe, "show", name) == 0
        assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(file.read_text())
        assert verb(recipe, "copy", name, str(tmp_path)) == 0
        copy = tmp_path / f"{name.split('/')[1]}.yaml"
        assert copy.read_text() == file.read_text()
        with pytest.raises(ConfigError, match="exists already"):
            verb(recipe, "copy", name, str(tmp_path))
        copy.unlink()
    with pytest.raises(ConfigError, match="did you mean"):
        verb(recipe, "show", next(iter(recipes())) + "x")
    with pytest.raises(ConfigError, match="needs a name"):
        verb(recipe, "show")
