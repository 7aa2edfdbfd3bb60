"""The peers of the benchmark, which Attar does not depend on: autoencoders of diffusers, and the
official package of the paper."""

import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

#: of Stable Diffusion's: widths, and whether there are 1x1 layers around the latents
_SHAPE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
_LATENTS = {
    "VAE, Stable Diffusion": {"latent_channels": 4},
    "VAE, Stable Diffusion 3": {
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
}


def autoencoders(folder: Path | None) -> dict[str, Any]:
    """KL autoencoders by name, with random weights, as speed does not depend on them; none without
    diffusers."""
    _look_in(folder)
    try:
        diffusers = import_module("diffusers")
    except ImportError:
        return {}
    return {name: diffusers.AutoencoderKL(**_SHAPE, **own).eval() for name, own in _LATENTS.items()}


def official(folder: Path | None) -> Any | None:
    """The module of the package `walloc`, or None where it or what it imports is missing.

    It takes two names for its files from torchvision, of which there is no build for every build of
    PyTorch. They are not called here, so that a torchvision that cannot be imported is replaced
    while `walloc` is.
    """
    _look_in(folder)
    try:
        import_module("diffusers")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import_module("torchvision")
            except (ImportError, RuntimeError):
                return _without_torchvision()
            return import_module("walloc.walloc")
    except ImportError:
        return None


def official_codec(official: Any, *, dims: int) -> Any:
    """Its codec of three levels along two axes, or of eight along one."""
    shape = {"latent_bits": 8, "lightweight_encode": True, "Ne": 768, "Nd": 32, "latent_dim": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what PyTorch will drop
        if dims == 2:
            return official.Codec2D(channels=3, J=3, **shape)
        return official.Codec1D(channels=2, J=8, post_filter=False, **shape)


def _without_torchvision() -> Any:
    transforms = ModuleType("torchvision.transforms")
    transforms.__dict__.update(ToPILImage=object, PILToTensor=object)
    stands = {"torchvision": ModuleType("torchvision"), transforms.__name__: transforms}
    sys.modules.update(stands)
    try:
        return import_module("walloc.walloc")
    finally:
        for name in stands:
            del sys.modules[name]


def _look_in(folder: Path | None) -> None:
    """Behind everything else, so that what Attar runs on stays as it is."""
    if folder is not None and (place := str(folder.absolute())) not in sys.path:
        sys.path.append(place)
