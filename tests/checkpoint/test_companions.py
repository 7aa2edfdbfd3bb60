"""A pruned sentence-transformers folder still makes one vector of a text."""

import json
from pathlib import Path

from attar.checkpoint.companions import MODULES_FILE, keep_companions


def test_pooling_and_settings_go_along(tmp_path: Path) -> None:
    parent, pruned = tmp_path / "parent", tmp_path / "pruned"
    (parent / "1_Pooling").mkdir(parents=True)
    pruned.mkdir()
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "Normalize"},  # has no files
        {"idx": 3, "name": "3", "path": "../outside", "type": "hostile"},
    ]
    (parent / MODULES_FILE).write_text(json.dumps(modules))
    (parent / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (parent / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    (parent / "model.safetensors").write_text("the parent's own")
    (tmp_path / "outside").mkdir()
    copied = keep_companions(parent, pruned)
    assert copied == [MODULES_FILE, "sentence_bert_config.json", "1_Pooling"]
    files = {str(f.relative_to(pruned)) for f in pruned.rglob("*") if f.is_file()}
    assert files == {MODULES_FILE, "sentence_bert_config.json", "1_Pooling/config.json"}


def test_another_model_has_none(tmp_path: Path) -> None:
    (tmp_path / "pruned").mkdir()
    assert keep_companions(tmp_path, tmp_path / "pruned") == []
    assert keep_companions("", tmp_path / "pruned") == []
    assert list((tmp_path / "pruned").iterdir()) == []
