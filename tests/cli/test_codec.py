"""The verbs of `attar codec`: the whole way, the same in Python, and mistakes in one sentence."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import attar
from attar.codec.dataset import load_compressed
from attar.codec.opening import load_codec
from attar.coding.latent_file import describe
from attar.data.media import read_signal
from attar.data.pictures import demo_pictures
from attar.report.record import Run
from scene import run

SMALL = "--levels 2 --reduction 4 --max-items 4 --eval-items 2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, sound and an array as a user has them, and a codec for each."""
    root = tmp_path_factory.mktemp("codec")
    crops = [
        picture.crop((0, 0, 60 + i, 50)) for i, (_, picture) in enumerate(demo_pictures("test"))
    ]
    for i, picture in enumerate(crops[:6]):
        place = root / "photos" / ("even" if i % 2 == 0 else "odd")
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{i}.png")
    crops[0].save(root / "photo.png")
    clear = crops[0].convert("RGBA")
    clear.putpixel((0, 0), (1, 2, 3, 4))
    clear.save(root / "clear.png")
    rng = np.random.default_rng(0)
    soundfile.write(root / "sound.wav", rng.uniform(-0.5, 0.5, (3000, 2)), 8000)
    np.save(root / "cube.npy", rng.integers(0, 60000, (16, 24, 5)).astype(np.uint16))
    np.save(root / "floats.npy", np.zeros((8, 8, 3)))
    (root / "table.csv").write_text("a,b\n1,2\n")
    (root / "words.png").write_text("no picture")
    (root / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for data, name in (("photos", "mine"), ("photos", "other"), ("cube.npy", "cubes")):
            step = "0.1" if name == "other" else "0.06"
            assert (
                run(shlex.split(f"codec train --data {data} {SMALL} --step {step} -o {name}")) == 0
            )
        assert (
            run(shlex.split("codec train --data sound.wav --levels 4 --reduction 2 -o heard")) == 0
        )
        for made, data in (("other", "photo"), ("mine", "made")):
            typed = f"codec encode {made} --data photo.png -o {data}.walloc"
            assert run(shlex.split(typed)) == 0
        assert run(shlex.split("codec encode mine --data photos -o latents")) == 0
    whole = (root / "made.walloc").read_bytes()
    (root / "short.walloc").write_bytes(whole[:-20])
    (root / "wrong.walloc").write_bytes(whole[:-20] + bytes(20))
    return root


@pytest.fixture
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, from which commands are run."""
    monkeypatch.chdir(folder)
    return folder


def typed(line: str) -> int:
    return run(["codec", *shlex.split(line)])


def test_a_file_there_and_back(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "photo.walloc"
    assert typed(f"encode mine --data photo.png -o {made}") == 0
    said = capsys.readouterr().out
    size = made.stat().st_size
    bits = 8 * size / (60 * 50 * 3)
    assert said == (
        f"{size:,} bytes, {bits:.3f} bits for each number, 3.85 times fewer numbers: {made}\n"
    )
    assert typed(f"decode mine --data {made}") == 0
    assert capsys.readouterr().out == f"1 file written: {tmp_path / 'photo.png'}\n"
    back = read_signal(tmp_path / "photo.png").values
    assert back.shape == (3, 50, 60)
    assert (back - read_signal("photo.png").values).abs().mean() < 0.05


def test_the_command_line_does_what_python_does(there: Path, tmp_path: Path) -> None:
    config = attar.CodecConfig(levels=2, reduction=4.0, max_items=4, eval_items=2)
    attar.codec.train(data="photos", config=config, output_dir=tmp_path / "mine")
    one, other = load_codec(tmp_path / "mine"), load_codec("mine")
    assert one.fingerprint == other.fingerprint
    assert all(torch.equal(v, other.state_dict()[n]) for n, v in one.state_dict().items())
    found, wrote = Run.load(tmp_path / "mine"), Run.load("mine")
    assert found.settings == wrote.settings
    assert found.quality == wrote.quality
    attar.codec.encode("mine", "photo.png", output_file=tmp_path / "p.walloc")
    assert (tmp_path / "p.walloc").read_bytes() == Path("made.walloc").read_bytes()
    attar.codec.encode("mine", "photos", output_dir=tmp_path / "latents")
    for shard in Path("latents").glob("*.parquet"):
        assert (tmp_path / "latents" / shard.name).read_bytes() == shard.read_bytes()
    attar.codec.decode(None, "latents", output_dir=tmp_path / "python")
    assert typed(f"decode --data latents -o {tmp_path / 'typed'}") == 0
    files = {p.relative_to(tmp_path / "typed"): p for p in (tmp_path / "typed").rglob("*.png")}
    assert len(files) == 6
    for name, file in files.items():
        assert (tmp_path / "python" / name).read_bytes() == file.read_bytes()


def test_options_arrive(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = str(tmp_path)
    assert typed(f"train --data photos {SMALL} --stages 2 -o {here}/staged") == 0
    assert typed(f"encode {here}/staged --data photo.png --container png -o {here}/p.walloc") == 0
    assert "3.85 times fewer numbers" in capsys.readouterr().out
    header = describe((tmp_path / "p.walloc").read_bytes(), name="p")
    assert [stage["container"] for stage in header["stages"]] == ["png", "png"]
    for stages in (1, 2):
        made = f"{here}/{stages}.npy"
        line = f"decode {here}/staged --data {here}/p.walloc --stages {stages} -o {made}"
        assert typed(line) == 0
    original = read_signal("photo.png").values
    coarse, fine = (read_signal(tmp_path / f"{n}.npy").values for n in (1, 2))
    assert (fine - original).square().mean() < (coarse - original).square().mean()
    assert typed(f"encode mine --data photos --columns label -o {here}/few") == 0
    columns = load_compressed(tmp_path / "few")["train"].column_names
    assert columns == ["latents", "signal_size", "label"]


def test_a_data_set_has_what_trains_on_it(there: Path) -> None:
    loader = attar.codec.LatentLoader("latents", batch_size=4, crop=12)
    batch = next(iter(loader))
    assert batch["features"].shape == (4, 12, 12, 12)
    assert batch["label"].tolist() == [0, 0, 0, 1]


def test_an_evaluation_is_a_table_json_or_a_page(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    few = "--max-items 1 --baselines lanczos,jpeg"
    assert typed(f"evaluate mine --data photos {few} -o {tmp_path / 'report'}") == 0
    out = capsys.readouterr().out
    assert re.search(r"^codec +\d", out, re.MULTILINE)
    assert re.search(r"vs lanczos +\d", out)
    assert re.search(r"vs jpeg 30 +\d", out)
    assert "colour" not in out
    assert "<img" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert typed(f"evaluate mine --data photos {few} --json -") == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert record["command"] == "codec evaluate"
    assert record["details"]["rows"][0]["name"] == "codec"
    assert record["quality"] == Run.load(tmp_path / "report").quality
    assert record["settings"]["baselines"] == ["lanczos", "jpeg"]


def test_arrays_are_measured_without_formats(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("evaluate cubes --data cube.npy") == 0
    assert "vs" not in capsys.readouterr().out


#: what is typed -> what is said of it
MISTAKES = {
    "train --data photos": r"say where the result goes: --output-dir FOLDER",
    "train --data photos -o mine": r"'mine' is not empty",
    "train --data table.csv -o x": r"found the table table\.csv; give a picture, a recording",
    "train --data empty -o x": r"found none; give a folder of files such as \.png",
    "train --data nobody/nothing -o x": r"no file or folder 'nobody/nothing' here",
    "train --data words.png -o x": r"words\.png, which Pillow cannot read",
    "train --data photos --reduction 0.5 -o x": r"reduction must be 1 or more; found 0\.5",
    "train --data photos --reduction 900 -o x": r"reduction must be at most 192",
    "train --data photos --levels 40 -o x": r"levels must be from 1 to 12; found 40",
    "train --data photos --wavelet sinc -o x": r"wavelet must be an orthogonal or biortho",
    "train --data photos --paper rgb_2x -o x": r"paper must be one of rgb_4x",
    "train --data photos --paper stereo_5x -o x": r"photos has 2 and 3; give other data",
    "train --data photos --bits-per-sample 90 -o x": r"bits_per_sample from .* found 90",
    "train mine --data photos -o x": r"name a decoder to train with it",
    "train --data photos --decoder cov -o x": r'Did you mean "conv"\?',
    "train absent --data photos --decoder conv -o x": r"no codec named 'absent'",
    "train --config walloc/absent -o x": r"'walloc/absent' is neither a file nor a recipe",
    "encode absent --data photo.png": r"no codec named 'absent'",
    "encode photos --data photo.png": r"'photos' has no config\.json",
    "encode mine --data absent.png": r"absent\.png, found no such file",
    "encode mine --data photos": r"say where the result goes: --output-dir FOLDER",
    "encode mine --data photos -o latents": r"'latents' is not empty",
    "encode mine --data photo.png -o made.walloc": r"'made\.walloc' already exists",
    "encode mine --data photo.png --container jxl": r"one of auto, jpegls, webp, png, zstd; fou",
    "encode mine --data table.csv -o x": r"found the table table\.csv",
    "encode mine --data words.png": r"words\.png, which Pillow cannot read",
    "encode mine --data clear.png": r"without transparent places in clear\.png",
    "encode mine --data floats.npy": r"expected the range of the floats in floats\.npy",
    "encode mine --data cube.npy": r"expected 3 channels in cube\.npy, found 5",
    "encode mine --data sound.wav": r"pictures have 2 and sound has 1",
    "encode mine --data photos --columns labels -o x": r"did you mean 'label'",
    "encode mine --data photos --workers 0 -o x": r"workers must be 1 or more",
    "decode --data made.walloc": r"expected the codec that encoded 'made\.walloc', found none",
    "decode mine --data photo.walloc": r"those of the codec \w+\.\.\. in photo\.walloc",
    "decode mine --data absent.walloc": r"'absent\.walloc': No such file",
    "decode mine --data photo.png": r"photo\.png, which begins with",
    "decode mine --data short.walloc": r"short\.walloc breaks off",
    "decode mine --data wrong.walloc": r"wrong\.walloc",
    "decode mine --data made.walloc -o photo.png": r"'photo\.png' already exists",
    "decode mine --data made.walloc -o x.wav": r"a file for a picture .* found 'x\.wav'",
    "decode mine --data made.walloc --stages 2 -o x.png": r"stages must be 1 to 1",
    "decode --data photos -o x": r"that attar codec encode wrote, found none at 'photos'",
    "decode --data latents": r"say where the result goes: --output-dir FOLDER",
    "decode other --data latents -o x": r"expected latents of the codec",
    "evaluate mine --data photos --baselines gif": r'Invalid value "gif"',
    "evaluate mine --data photos --baselines flac": r"baselines must be one of lanczos",
    "evaluate cubes --data cube.npy --baselines jpeg": r"no baselines for arrays",
    "evaluate mine --data sound.wav": r"pictures have 2 and sound has 1",
    "evaluate mine --data table.csv": r"found the table table\.csv",
    "evaluate heard --data photos": r"pictures have 2 and sound has 1",
    "evaluate mine --data photos --max-items 0": r"max_items must be at least 1",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_sentence(
    line: str, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(there.rglob("*"))
    assert typed(line) == 2
    out, said = capsys.readouterr()
    assert out == ""
    said = said[said.rindex("attar: ") :]
    assert re.fullmatch(r"attar: [^\n]+\n", said), said
    assert re.search(MISTAKES[line], said), said
    assert len(said) < 400
    assert sorted(there.rglob("*")) == before


def test_a_codec_of_transparent_pictures_takes_them(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = tmp_path / "with-alpha"
    assert typed(f"train --data clear.png {SMALL} -o {place}") == 0
    assert typed(f"encode {place} --data clear.png -o {tmp_path / 'c.walloc'}") == 0
    assert typed(f"decode {place} --data {tmp_path / 'c.walloc'}") == 0
    with Image.open(tmp_path / "c.png") as back:
        assert back.mode == "RGBA"
