"""Pictures in every mode of Pillow's that means something, and none that does not."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps

from attar.data.media import from_pil, read_signal, suffixes_of, to_pil, write_signal
from attar.errors import ConfigError, DataError


def gradient(mode: str, size: tuple[int, int] = (7, 5)) -> Image.Image:
    width, height = size
    pixels = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3) * 2
    return Image.fromarray(pixels).convert(mode)


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


@given(
    pixels=arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
    )
)
def test_a_picture_comes_back(pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    signal = from_pil(image)
    back = to_pil(signal)
    assert (back.mode, back.size) == (image.mode, image.size)
    assert back.tobytes() == image.tobytes()
    colours = pixels if pixels.shape[2] in (1, 3) else pixels[..., : signal.channels]
    assert np.allclose(signal.values.permute(1, 2, 0).numpy(), colours / 255 - 0.5, atol=1e-6)


@given(pixels=arrays.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_grey_of_16_bits_comes_back(pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    signal = read_signal(file_of(image, "PNG"))
    assert (signal.form.dtype, signal.form.mode) == ("uint16", "I;16")
    assert np.allclose(signal.values[0].numpy(), pixels / 65535 - 0.5, atol=1e-6)
    back = to_pil(signal)
    assert back.mode == "I;16"
    assert (np.asarray(back) == pixels).all()


@pytest.mark.parametrize(
    ("mode", "decoded"),
    [
        *(("1", "1"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA")),
        *(("CMYK", "RGB"), ("YCbCr", "RGB"), ("HSV", "RGB"), ("RGBX", "RGB"), ("RGBa", "RGBA")),
        ("La", "LA"),
    ],
)
def test_every_mode_comes_back_as_a_sensible_one(mode: str, decoded: str) -> None:
    image = (
        gradient("RGBA").convert(mode)
        if mode == "RGBa"
        else gradient("RGB").convert("LA" if mode == "La" else mode)
    )
    image = image.convert(mode)
    signal = from_pil(image)
    back = to_pil(signal)
    assert (signal.form.mode, signal.channels) == (mode, len(decoded) - decoded.endswith("A"))
    assert (back.mode, back.size) == (decoded, image.size)
    plain = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    assert back.tobytes() == image.convert(plain).convert(decoded).tobytes()


def test_a_mean_of_noise_is_black_or_white_again() -> None:
    signal = from_pil(gradient("L").convert("1"))
    signal.values.mul_(0.1)
    assert to_pil(signal).tobytes() == gradient("L").convert("1").tobytes()


def test_transparent_places_are_kept() -> None:
    clear = gradient("RGBA")
    clear.putpixel((0, 0), (9, 8, 7, 0))
    assert from_pil(clear).channels == 4
    assert to_pil(from_pil(clear)).tobytes() == clear.tobytes()
    palette = gradient("P")
    marked = read_signal(file_of(palette, "PNG", transparency=palette.getpixel((0, 0))))
    assert (marked.form.mode, marked.channels) == ("P", 4)
    assert to_pil(marked).getpixel((0, 0))[3] == 0  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    grey = read_signal(file_of(gradient("L"), "PNG", transparency=gradient("L").getpixel((3, 3))))
    assert (grey.form.mode, grey.channels, to_pil(grey).mode) == ("L", 2, "LA")


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_photograph_stands_upright(kind: str, orientation: int) -> None:
    image = gradient("RGB", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = file_of(image, kind, exif=exif, **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    assert to_pil(read_signal(raw)).tobytes() == expected.tobytes()
    assert (expected.size == image.size) == (orientation not in (5, 6, 7, 8))


BROKEN = [
    b"Exif\0\0garbage that is no TIFF at all",
    b"Exif\0\0MM\0*\0\0G\x08\0\x02\x01\x0e\0\x02\0\0\0\x06",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x0e\0\x02\0",
]


@pytest.mark.parametrize("exif", BROKEN)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_metadata_does_not_matter(kind: str, exif: bytes) -> None:
    raw = file_of(gradient("RGB", (6, 4)), kind, exif=exif)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert read_signal(raw).size == (4, 6)
    assert not warned


def test_another_broken_tag_leaves_a_photograph_upright() -> None:
    tags = struct.pack(">HHHII", 2, 0x0152, 2, 6, 38) + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + tags + b"\0\0\0\0heQlo\0"
    raw = file_of(gradient("RGB", (6, 4)), "JPEG", exif=exif)
    with pytest.raises(struct.error):
        ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    assert read_signal(raw).size == (6, 4)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_several_frames_are_refused(kind: str) -> None:
    others = [gradient("RGB").rotate(90)]
    raw = file_of(gradient("RGB"), kind, save_all=True, append_images=others)
    with pytest.raises(DataError, match=r"single picture in a\.gif, found 2 frames; save each"):
        read_signal(raw, name="a.gif")


def test_previews_behind_a_photograph_do_not_matter() -> None:
    image = gradient("RGB", (16, 16))
    raw = file_of(image, "MPO", save_all=True, append_images=[gradient("RGB", (8, 8))])
    assert read_signal(raw).size == (16, 16)


def png(color_type: int, channels: int) -> bytes:
    """A picture of 2 x 2 pixels with 16 bits for each channel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + b"\x12\x34" * channels * 2
    head = struct.pack(">IIBBBBB", 2, 2, 16, color_type, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "raw", [png(2, 3), png(4, 2), png(6, 4), b"P6 2 2 65535 " + b"\x12\x34" * 12]
)
def test_colour_of_16_bits_is_not_cut_to_8(raw: bytes) -> None:
    with pytest.raises(DataError, match=r"8 bits for each channel of colour in a\.png, found 16"):
        read_signal(raw, name="a.png")


def test_grey_of_16_bits_in_32_is_read() -> None:
    signal = read_signal(b"P5 2 1 65535 " + b"\x12\x34\xff\xff")
    assert (signal.form.dtype, signal.form.mode) == ("uint16", "I")
    assert np.asarray(to_pil(signal)).tolist() == [[0x1234, 0xFFFF]]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.new("F", (2, 2)), "of 8 or 16 bits in the picture, found mode F with numbers"),
        (Image.new("I", (2, 2), 70_000), "found mode I with numbers whose range is not known"),
        (Image.new("I", (2, 2), -1), "found mode I with numbers whose range is not known"),
        (Image.new("RGB", (0, 3)), "found one without pixels"),
    ],
)
def test_a_picture_without_a_meaning_is_refused(image: Image.Image, said: str) -> None:
    with pytest.raises(DataError, match=said):
        from_pil(image)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000"])
def test_a_picture_that_breaks_off_is_refused(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    raw = file_of(Image.fromarray(noise), kind)
    file = tmp_path / "half.png"
    file.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match=r"cannot read the picture .*half\.png: .*; take another"):
        read_signal(file)


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "JPEG"), ("I;16", "PNG")])
def test_a_picture_that_is_not_read_yet_may_break_off(mode: str, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 255)
    raw = file_of(deep if mode == "I;16" else Image.fromarray(noise), kind)
    with pytest.raises(DataError, match=f"cannot read the picture, a picture of mode {mode}: "):
        from_pil(Image.open(io.BytesIO(raw[: len(raw) // 2])))


@pytest.mark.parametrize(
    "raw", [b"%PDF-1.7 or so", file_of(gradient("RGB"), "EPS"), b"\0" * 99, b"x"]
)
def test_what_is_no_picture_is_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(raw)
    with pytest.raises(DataError, match=r"expected a picture, found .*a\.png, which Pillow cannot"):
        read_signal(tmp_path / "a.png")


@pytest.mark.parametrize("limit", [30, 60])
def test_a_picture_of_too_many_pixels_is_refused(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = file_of(gradient("RGB", (10, 10)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"found a larger one in a\.png; cut it up"):
        read_signal(raw, name="a.png")


# --------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_files_keep_every_pixel(mode: str, suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(35, dtype=np.uint16).reshape(5, 7) * 99)
    image = image if mode == "I;16" else gradient(mode)
    if mode in ("LA", "RGBA"):
        image.putpixel((1, 1), (9, 0) if mode == "LA" else (9, 8, 7, 0))
    signal = from_pil(image)
    file = tmp_path / f"a{suffix}"
    if (mode, suffix) == ("I;16", ".webp"):
        with pytest.raises(ConfigError, match=rf"a {suffix} file cannot hold .* of mode {mode}"):
            write_signal(signal, file)
        assert not list(tmp_path.iterdir())
        return
    write_signal(signal, file)
    back = to_pil(read_signal(file))
    assert back.size == image.size
    if suffix == ".webp":  # has colour only
        image = image.convert("RGBA" if mode.endswith("A") else "RGB")
    assert back.convert(image.mode).tobytes() == image.tobytes()


def test_jpeg_is_close(tmp_path: Path) -> None:
    write_signal(from_pil(gradient("RGB", (32, 32))), tmp_path / "a.jpg")
    back = read_signal(tmp_path / "a.jpg")
    assert back.form.mode == "RGB"
    with pytest.raises(
        ConfigError, match=r"a \.jpg file cannot hold the picture, a picture of mode"
    ):
        write_signal(from_pil(Image.new("RGBA", (2, 2))), tmp_path / "b.jpg")


def test_a_picture_has_the_name_of_one(tmp_path: Path) -> None:
    signal = from_pil(gradient("L"))
    with pytest.raises(ConfigError, match=r"a file for a picture \(\.png, .*\), found '.*a\.wav'"):
        write_signal(signal, tmp_path / "a.wav")
    assert suffixes_of(signal.form)[0] == ".png"
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="already exists"):
        write_signal(signal, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"mine"


def test_what_is_no_picture_does_not_become_one() -> None:
    sound = read_signal((np.arange(9, dtype=np.int16), 8000))
    with pytest.raises(DataError, match=r"expected a picture, found the sound.*kind audio.*\.wav"):
        to_pil(sound)
    with pytest.raises(DataError, match=r"of kind array; write it to a \.npy"):
        to_pil(read_signal(np.zeros((2, 2, 3), np.uint16)))
