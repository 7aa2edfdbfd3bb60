"""`codec evaluate`: a codec beside known formats, measured where the codec is placed."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attar.codec import decoding, evaluate, evaluating
from attar.codec.evaluating import EvaluateCodecConfig
from shelves import codec, folder_of_pictures


def test_a_codec_is_measured_and_decodes_on_the_device_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = list[bool]()

    @contextmanager
    def placed(made: Any) -> Any:
        inside.append(True)
        yield made
        inside.clear()

    for module in (evaluating, decoding):
        monkeypatch.setattr(module, "placed", placed)
    measure, decompress = evaluating.measure, type(codec()).decompress

    def measured(*args: Any, **options: Any) -> Any:
        assert inside
        return measure(*args, **options)

    def decompressed(*args: Any, **options: Any) -> Any:
        assert inside
        return decompress(*args, **options)

    monkeypatch.setattr(evaluating, "measure", measured)
    pictures = folder_of_pictures(tmp_path / "pictures")
    evaluate(codec(), pictures, config=EvaluateCodecConfig(baselines=("lanczos",)))
    file = tmp_path / "a.walloc"
    file.write_bytes(codec().compress(next(iter(evaluating.open_splits(pictures).values()))[0]))
    monkeypatch.setattr(type(codec()), "decompress", decompressed)
    decoding.decode(codec(), file)
    decoding.decode(codec(), encoded(pictures, tmp_path), output_dir=tmp_path / "out")
    assert not inside


def encoded(pictures: Path, place: Path) -> Path:
    from attar.codec import encode

    encode(codec(), pictures, output_dir=place / "latents")
    return place / "latents"
