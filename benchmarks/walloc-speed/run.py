"""How many megapixels a second does one core encode and decode, beside an autoencoder, picture
formats and the official transform?

Ratio: ours at 4x, from a picture to a JPEG-LS file of latents, over the encoder of an autoencoder
of Stable Diffusion's shape, which writes none. Seconds are those of the processor, and everything
has one thread, so that other work on the machine slows both sides alike.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import peers
import torch
from common import finish, parse
from PIL import Image

from attar.coding.containers import Container
from attar.coding.latent_file import from_bytes
from attar.coding.wavelets import inverse_packet_transform, packet_transform, project
from attar.data.media import Signal, from_pil, from_samples, open_media, read_signal, to_pil
from attar.data.media import to_samples as samples_of
from attar.evaluation import image_formats
from attar.methods.walloc import WaveletCodec, WaveletCodecConfig, fit

Ways = dict[str, Callable[[], Any]]

TARGET, OVER_OFFICIAL, STEP = 50.0, 2.0, 0.06
#: levels and latent channels
PICTURES = {"4x": (3, 48), "16x": (3, 12), "16x, 2 levels": (2, 3)}
SOUND = {"5x": 108, "20x": 27}
FILES: tuple[Container, ...] = ("jpegls", "webp", "zstd")
#: Pillow's own quality; of JPEG 2000, whose own is lossless, bits per pixel
QUALITY = {"jpeg": 75, "webp": 80, "avif": 75, "jpeg2000": 2}
#: of the picture that networks get, which take seconds for it
SMALL = (384, 256)
#: seconds that a measurement takes at least
LONG_ENOUGH = 0.02


def seconds(work: Callable[[], Any]) -> float:
    """Of the processor, for one call."""
    calls, began = 0, time.process_time()
    while calls == 0 or time.process_time() - began < LONG_ENOUGH:
        work()
        calls += 1
    return (time.process_time() - began) / calls


def speeds(ways: Ways, size: float, *, rounds: int) -> dict[str, float]:
    """Millions of pixels or samples a second: medians of rounds, every other one backwards."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            found[name].append(size / seconds(ways[name]) / 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def codecs(photos: Path) -> dict[str, WaveletCodec]:
    """The closed form of each shape."""
    some = list(open_media(photos, max_items=20))
    made = {}
    for name, (levels, latents) in PICTURES.items():
        made[name] = WaveletCodec(WaveletCodecConfig(levels=levels, latent_channels=latents))
        fit(made[name], some, step=STEP)
        made[name].eval()
    return made


def pictures(kodak: Path) -> dict[str, Image.Image]:
    """One of thumbnail size, one of Kodak's, and several of them joined."""
    files = sorted(kodak.glob("*.png"))[:6]
    parts = [Image.open(file).convert("RGB") for file in files]
    parts = [
        one if one.width > one.height else one.transpose(Image.Transpose.ROTATE_90) for one in parts
    ]
    width, height = parts[0].size
    joined = Image.new("RGB", (2 * width, 3 * height))
    for number, one in enumerate(parts):
        joined.paste(one, (number % 2 * width, number // 2 * height))
    found = [parts[2].crop((96, 96, 144, 144)), parts[2], joined]
    return {f"{one.width} x {one.height}": one for one in found}


def coding(codec: WaveletCodec, signal: Signal, *, back: Callable[[Signal], Any]) -> Ways:
    """A codec both ways, to latents and to files."""
    latents = codec.encode(signal)
    files = {name: codec.compress(signal, container=name) for name in FILES}
    for name, file in files.items():
        stored = from_bytes(file, name=name).stages[0]
        assert np.array_equal(stored, latents.stages[0])
    ways: Ways = {"encode latents": lambda: codec.encode(signal)}
    ways["decode latents"] = lambda: back(codec.decode(latents))
    for name, file in files.items():
        ways[f"encode {name}"] = lambda name=name: codec.compress(signal, container=name)
        ways[f"decode {name}"] = lambda file=file: back(codec.decompress(file))
    return ways


def of_picture(codec: WaveletCodec, picture: Image.Image) -> Ways:
    """`coding`, with the way from a Pillow picture and back to one."""
    ways = coding(codec, from_pil(picture), back=to_pil)
    ways["encode latents"] = lambda: codec.encode(from_pil(picture))
    for file in FILES:
        ways[f"encode {file}"] = lambda file=file: codec.compress(from_pil(picture), container=file)
    return ways


def formats(picture: Image.Image) -> tuple[Ways, dict[str, float]]:
    """Picture formats both ways, and how many bits a pixel takes."""
    ways, bits = Ways(), {}
    for name in image_formats.available_formats():
        form = image_formats.FORMATS[name]
        options = form.options(QUALITY[name], 3)

        def write(form: Any = form, options: Any = options) -> bytes:
            file = io.BytesIO()
            picture.save(file, form.pillow, **options)
            return file.getvalue()

        def read(file: bytes = write()) -> Image.Image:
            found = Image.open(io.BytesIO(file))
            found.load()
            return found

        ways |= {f"encode {name}": write, f"decode {name}": read}
        bits[name] = 8 * len(write()) / (picture.width * picture.height)
    return ways, bits


def transforms(signal: torch.Tensor, weights: Mapping[str, torch.Tensor], official: Any) -> Ways:
    """The transform, alone and with the linear layer of an encoder; ours and the official one."""
    dims = signal.dim() - 2
    levels = 3 if dims == 2 else 8
    ours = packet_transform(signal, levels=levels)
    ways: Ways = {
        "transform": lambda: packet_transform(signal, levels=levels),
        "inverse": lambda: inverse_packet_transform(ours, levels=levels),
    }
    for name, weight in weights.items():
        ways[f"encoder {name}"] = lambda w=weight: project(signal, w, levels=levels)
    if official is None:
        return ways
    codec = peers.official_codec(official, dims=dims)
    torch.testing.assert_close(codec.wavelet_analysis(signal, J=levels), ours, atol=1e-4, rtol=0)
    ways |= {
        "official transform": lambda: codec.wavelet_analysis(signal, J=levels),
        "official inverse": lambda: codec.wavelet_synthesis(ours, J=levels),
    }
    layer = torch.nn.functional.conv2d if dims == 2 else torch.nn.functional.conv1d
    for name, weight in weights.items():
        kernel = weight.view(*weight.shape, *[1] * dims)
        ways[f"official encoder {name}"] = lambda k=kernel: layer(
            codec.wavelet_analysis(signal, J=levels), k
        )
    return ways


def networks(picture: Image.Image, autoencoders: Mapping[str, Any]) -> Ways:
    """Autoencoders both ways, and the decoders of ours that are networks."""
    signal = from_pil(picture)
    whole, ways = 2 * signal.values[None], Ways()
    for name, model in autoencoders.items():
        latents = model.encode(whole).latent_dist.mode()
        ways[f"encode {name}"] = lambda m=model: m.encode(whole).latent_dist.mode()
        ways[f"decode {name}"] = lambda m=model, z=latents: m.decode(z).sample
    conv: dict[str, Any] = {"decoder": "conv", "decoder_width": 128, "decoder_blocks": 4}
    for name, config in {
        "linear decoder, 16x": WaveletCodecConfig(latent_channels=12),
        "conv decoder, 16x": WaveletCodecConfig(latent_channels=12, **conv),
        "decoder of the paper, 16x": WaveletCodecConfig.paper("rgb_16x"),
    }.items():
        codec = WaveletCodec(config).eval()
        stored = codec.encode(signal)
        ways[f"decode {name}"] = lambda codec=codec, stored=stored: codec.decode(stored)
    return ways


def recordings(clip: Signal, other: Signal, *, official: Any) -> Ways:
    """Sound: ours and formats both ways, and the transform."""
    ways, weights = Ways(), {}
    for name, latents in SOUND.items():
        config = WaveletCodecConfig(ndim=1, channels=2, levels=8, latent_channels=latents)
        codec = WaveletCodec(config)
        fit(codec, [other], step=STEP / 8)
        own = coding(codec.eval(), clip, back=samples_of)
        ways |= {f"{way}, {name}": work for way, work in own.items()}
        weights[name] = codec.analysis.weight
    blocks = clip.values[None, :, : clip.size[0] // 2**16 * 2**16]
    ways |= transforms(blocks, weights, official)
    samples, rate = samples_of(clip), 48_000  # what Opus takes: only speed counts here
    for name, (container, subtype) in {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}.items():
        ways |= sound_format(samples, rate=rate, container=container, subtype=subtype, name=name)
    return ways


def sound_format(samples: Any, *, rate: int, container: str, subtype: str, name: str) -> Ways:
    """A format of libsndfile both ways, with its own settings."""
    import soundfile

    def write() -> bytes:
        file = io.BytesIO()
        options = {"samplerate": rate, "channels": samples.shape[1], "subtype": subtype}
        with soundfile.SoundFile(file, "w", format=container, **options) as out:
            for start in range(0, len(samples), 2**14):
                out.write(samples[start : start + 2**14])
        return file.getvalue()

    data = write()
    read = {"dtype": "int16", "always_2d": True}
    return {
        f"encode {name}": write,
        f"decode {name}": lambda: soundfile.read(io.BytesIO(data), **read),
    }


def show(title: str, found: Mapping[str, float]) -> None:
    print(f"{title}")
    for name, value in found.items():
        print(f"  {name:40} {value:10.3f}", flush=True)


@torch.inference_mode()
def main() -> None:
    parser = parse(__doc__ or "")
    parser.add_argument("--peers", type=Path, help="folder with further packages, see README.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    quick, images, sound = args.quick, args.data / "images", args.data / "audio"
    rounds, slow = (2, 1) if quick else (5, 3)
    left_out = list(image_formats.missing_formats().values())
    autoencoders = peers.autoencoders(args.peers)
    if quick:
        autoencoders = dict(list(autoencoders.items())[:1])
    official = peers.official(args.peers)
    left_out += [] if autoencoders else ["diffusers is not installed: no autoencoder."]
    left_out += [] if official else ["walloc is not installed: no official transform."]
    made, details = codecs(images / "photos" / "train"), dict[str, Any]()
    for size, picture in list(pictures(images / "kodak").items())[: 2 if quick else None]:
        ways, bits = formats(picture)
        for name, codec in made.items():
            own = of_picture(codec, picture)
            ways |= {f"{way}, {name}": work for way, work in own.items()}
            for file in FILES:
                stored = len(codec.compress(from_pil(picture), container=file))
                bits[f"{name}, {file}"] = 8 * stored / (picture.width * picture.height)
        weights = {name: made[name].analysis.weight for name in ("4x", "16x")}
        ways |= transforms(from_pil(picture).values[None], weights, official)
        found = speeds(ways, picture.width * picture.height, rounds=rounds)
        details[size] = {"speeds": found, "bits_per_pixel": bits}
        show(f"{size}, MP/s", found)
    usual = details["768 x 512"]["speeds"]
    crop = pictures(images / "kodak")["768 x 512"].crop((0, 0, *SMALL))
    crop = crop.crop((64, 64, 192, 192)) if quick else crop
    found = speeds(networks(crop, autoencoders), crop.width * crop.height, rounds=slow)
    details["networks"] = {"picture": crop.size, "speeds": found}
    show(f"{crop.width} x {crop.height}, MP/s", found)
    clips = [read_signal(file) for file in sorted(sound.glob("K*.ogg"))]
    length = (10 if quick else 30) * 44_100
    clip, other = (from_samples(samples_of(one)[:length], rate=44_100) for one in clips[:2])
    heard = speeds(recordings(clip, other, official=official), 2 * length, rounds=rounds)
    details["sound"] = heard
    show("sound, millions of samples a second", heard)

    ours, alone = usual["encode jpegls, 4x"], usual["encode latents, 4x"]
    vae = found.get("encode VAE, Stable Diffusion")
    pairs = [("transform", "official transform")] if official else []
    pairs += [(f"encoder {n}", f"official encoder {n}") for n in ("4x", "16x") if official]
    gains = {name: usual[name] / usual[other] for name, other in pairs}
    over_official = min(gains.values(), default=None)
    line = {
        "claim": "walloc-speed",
        "figure": round(ours, 2),
        "unit": "megapixels a second on one core, a picture of 768 x 512 to a file, at 4x",
        "baseline": f"encoder of an autoencoder of Stable Diffusion's shape: {vae or 0:.4f}",
        "ratio": round(ours / vae, 1) if vae else None,
        "target": TARGET,
        "over_official": round(over_official, 2) if over_official else None,
        "without_file": round(alone / vae, 1) if vae else None,
        "ok": bool(
            vae and ours / vae >= TARGET and over_official and over_official >= OVER_OFFICIAL
        ),
        "note": f"Without a file {alone:.1f} MP/s. JPEG {usual['encode jpeg']:.0f}. "
        + " ".join(left_out),
    }
    finish(__file__, line, details | {"gains": gains, "left_out": left_out}, args)


if __name__ == "__main__":
    main()
