"""The verb `codec train`: principal components of the data, and a network where it is asked for."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar import checkpoint
from attar.codec.baselines import smaller_signals
from attar.codec.config import CodecConfig
from attar.codec.measuring import average, measure, quality_of, rated
from attar.codec.opening import (
    common_form,
    load_codec,
    placed,
    save_codec,
    spread,
    train_and_held_out,
)
from attar.codec.tables import Measured
from attar.coding.latent_file import to_bytes
from attar.coding.wavelets import wavelet_filters
from attar.data.data import Data, DataLike
from attar.data.media import MediaRows, Signal
from attar.data.pictures import DEMO
from attar.data.sources import Batch
from attar.errors import ConfigError, require
from attar.methods.walloc import PAPER, WaveletCodec, WaveletCodecConfig, fit
from attar.methods.walloc.objective import Crops, mean_squared_error, rate_and_distortion
from attar.methods.walloc.padding import pad, pads_of, suited
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import Artefact, artefact
from attar.report.record import Run
from attar.runtime import place
from attar.train.schedules import LogCosinePlateau
from attar.train.trainer import Schedule, Term, Training
from attar.train.trainer import fit as fit_network

logger = logging.getLogger(__name__)

_CROPS = {1: 32768, 2: 128}
_SEARCH_ITEMS = 24  # whose bits are counted for each step that is tried
_TRIES = 12
#: options of an encoder under the names of its configuration
_SHAPE = (
    *("levels", "bits", "wavelet", "quantizer", "stages"),
    *("encoder", "encoder_width", "encoder_blocks"),
)


@takes_recipe("codec train")
def train(
    model: str | Path | WaveletCodec | None = None,
    data: DataLike = DEMO,
    *,
    config: CodecConfig | str = CodecConfig(),
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Fit a codec to pictures, sound or arrays, and save it.

    The closed form takes seconds to minutes and is a codec as it stands; `config.decoder` names a
    network to train on top of it. Encoder and files stay as they are, unless
    `config.train_encoder`.

    Args:
        model: a codec to train further, whose shape stays but for the decoder's network; a loaded
            one is trained in place, unless it gets another network. None: a new one.
        data: whatever `attar.data.media.open_splits` takes. The split `train` is used to fit, and
            `validation` or `test` to measure; every tenth item where there are no splits.
        config: shape and training; or the name or path of a recipe.
        output_dir: where the codec goes; it appears when it is complete.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: bits, numbers and fidelity of held-out items after
        the closed form and after training, and of smaller signals of as many numbers;
        `details["rows"]` as in the record of `codec evaluate`.

    Raises:
        ConfigError: options do not go together, the folder is taken, or training diverged.
        DataError: the data cannot be read, or does not suit the codec.
    """
    config, recipe = configured(config, CodecConfig, recipe=recipe)
    data = Data.of(data)
    wavelet_filters(config.wavelet)  # before anything is read
    settings = {
        **({} if model is None else {"model": checkpoint.name_of(model)}),
        **data.settings(),
        **asdict(config),
    }
    with artefact(
        output_dir,
        command="codec train",
        method="walloc",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        rows, held_out = train_and_held_out(data)
        codec = _begun(model, rows, config=config)
        details: dict[str, Any] = {"items": {"train": len(rows), "held out": len(held_out)}}
        if model is None:
            details |= _fitted(codec, spread(rows, config.max_items), config=config)
        rows_measured = spread(held_out, config.eval_items)
        # a network that replaces the linear decoder has no closed form
        begun = "closed form" if model is None and codec.synthesis is not None else "before"
        measured: list[Measured] = []
        smaller: list[Measured] = []
        if work.main:  # before the training, which is lost where a measurement fails after it
            measured.append(_scores(codec, rows_measured, name=begun))
            smaller = smaller_signals(rows_measured, ratio=measured[0].ratio or 1.0)
        if config.trains:
            training = _trained(codec, rows, config=config, work=work)
            details |= {"seconds": training.seconds, "log": training.log}
        if work.main:
            if config.trains:
                measured.append(_scores(codec, rows_measured, name="trained"))
                work.run.quality["before"] = quality_of(measured[0])
            work.run.quality["after"] = quality_of(measured[-1])
            details["rows"] = [asdict(one) for one in [*measured, *smaller]]
            details["sound"] = codec.config.ndim == 1
            work.run.details |= details | {"fingerprint": codec.fingerprint}
            work.run.cost = {"after": parameters(codec)}
            save_codec(codec, work.folder)
    return work.run


def parameters(codec: WaveletCodec) -> dict[str, int]:
    """Parameters of the encoder, and of all."""
    parts: list[nn.Module | None] = [codec.analysis, codec.encoder]
    encoder = sum(p.numel() for part in parts if part is not None for p in part.parameters())
    return {"encoder_params": encoder, "params": sum(p.numel() for p in codec.parameters())}


def _begun(
    model: str | Path | WaveletCodec | None, rows: MediaRows, *, config: CodecConfig
) -> WaveletCodec:
    """The codec that is given, with the network that is asked for, or a new one."""
    torch.manual_seed(config.seed)
    if model is None:
        ndim, channels = common_form(rows)
        shape = config.shape(ndim=ndim, channels=channels)
        if (shape.ndim, shape.channels) != (ndim, channels):
            raise ConfigError(
                f"the configuration {config.paper} is for {shape.ndim} axes and {shape.channels} "
                f"channels, but {rows.origin} has {ndim} and {channels}; give other data, or leave "
                "out paper"
            )
        _require_domain(shape, config)
        return WaveletCodec(shape).eval()
    given = load_codec(model)
    _require_domain(given.config, config)
    if config.paper is not None:
        raise ConfigError(
            f"expected no paper with a codec that is given, found {config.paper}, which is the "
            "shape of a new one; leave one of them out"
        )
    if not config.trains:
        raise ConfigError(
            "a codec that is given can only be trained further; name a decoder to train with it "
            "(--decoder conv), or train_encoder"
        )
    _require_own_shape(given, config)
    options = ("decoder", "decoder_width", "decoder_blocks")
    asked = {name: getattr(config, name) for name in options}
    if config.decoder == "linear" or all(getattr(given.config, n) == v for n, v in asked.items()):
        return given
    shape = WaveletCodecConfig(**{**given.config.to_diff_dict(), **asked})
    grown = WaveletCodec(shape)
    kept = {n: v for n, v in given.state_dict().items() if not n.startswith("decoder.")}
    grown.load_state_dict(kept, strict=False)
    return grown.eval()


def _require_own_shape(given: WaveletCodec, config: CodecConfig) -> None:
    """Refuse options of the shape that a codec which is given does not have."""
    own, plain = given.config, CodecConfig()
    fine = {name: getattr(config, name) == getattr(own, name) for name in _SHAPE}
    fine["reduction"] = round(own.coefficients / config.reduction) == own.latent_channels
    fine["step"] = bool(given.steps.isclose(torch.tensor(config.step)).all())
    fine["bits_per_sample"] = False
    for name, same in fine.items():
        value = getattr(config, name)
        if not same and value != getattr(plain, name):
            raise ConfigError(
                f"expected no {name} with a codec that is given, which keeps its encoder's shape "
                f"and steps, found {value}; leave it out, or train a new codec"
            )


def _require_domain(shape: WaveletCodecConfig, config: CodecConfig) -> None:
    """Refuse a training that would leave the filter of the decoded signal as it began."""
    if shape.post_filter and config.trains and config.domain == "wavelet":
        raise ConfigError(
            "expected the domain signal with a codec that filters the decoded signal, as the "
            "paper's of sound do, found wavelet; give it (--domain signal)"
        )


def _fitted(codec: WaveletCodec, rows: MediaRows, *, config: CodecConfig) -> dict[str, Any]:
    """The closed form, with the step that takes the bits that are asked for."""
    report = fit(codec, rows, step=config.step)
    found = {"closed_form": asdict(report), "step": config.step}
    if config.bits_per_sample is None:
        return found
    signals = list(spread(rows, _SEARCH_ITEMS))
    step = step_for(codec, signals, bits=config.bits_per_sample)
    return found | {"step": step}


def step_for(codec: WaveletCodec, signals: Sequence[Signal], *, bits: float) -> float:
    """Set the codec's step so that files take so many bits for each pixel, or sample of sound, by
    bisection of its logarithm; returns it.

    Raises:
        ConfigError: files have more bits than this at the step 1, or fewer at the step 1e-4.
    """
    require(bool(signals), "signals", 0, "one or more")
    low, high = math.log(1e-4), 0.0
    total = sum(rated(signal.values) for signal in signals)
    # transformed once: what a step changes is how their features are rounded
    begun = [(codec.encode(signal), _features(codec, signal)) for signal in signals]

    def taken(log_step: float) -> float:
        codec.steps.fill_(math.exp(log_step))
        return (
            sum(
                8
                * len(to_bytes(replace(latents, stages=_stages(codec, features)), container="auto"))
                for latents, features in begun
            )
            / total
        )

    most, least = taken(low), taken(high)
    if not least <= bits <= most:
        raise ConfigError(
            f"expected bits_per_sample from {least:.3g} to {most:.3g} for this data and reduction, "
            f"found {bits:g}; ask for another number, or change reduction"
        )
    for _ in range(_TRIES):
        middle = (low + high) / 2
        low, high = (middle, high) if taken(middle) > bits else (low, middle)
    codec.steps.fill_(math.exp(high))
    return math.exp(high)


@torch.inference_mode()
def _features(codec: WaveletCodec, signal: Signal) -> Tensor:
    """Features (1, c, *grid) of a whole signal."""
    values = suited(signal, config=codec.config).values[None].to(codec.device)
    return codec.features(pad(values, pads_of(signal.size, config=codec.config)))


def _stages(codec: WaveletCodec, features: Tensor) -> tuple[NDArray[np.int16], ...]:
    """int16 (c, *grid) of features (1, c, *grid), for each stage."""
    return tuple(stage[0].cpu().numpy() for stage in codec.integers_of(features))


def _scores(codec: WaveletCodec, rows: MediaRows, *, name: str) -> Measured:
    with placed(codec):
        items = [measure(codec, signal)[0] for signal in rows]
    return average(items, name=name, role="result")


def _trained(
    codec: WaveletCodec, rows: MediaRows, *, config: CodecConfig, work: Artefact
) -> Training:
    """Train the network, and the encoder where that is asked for."""
    size = config.crop or _CROPS[codec.config.ndim]
    size = -(-size // codec.config.block) * codec.config.block
    each = -(-config.rows_seen // len(rows))
    crops = Crops(rows, config=codec.config, size=size, seed=config.seed, each=each)
    frozen = [] if config.train_encoder or config.paper else [codec.analysis, codec.encoder]
    for part in frozen:
        if part is not None:
            part.requires_grad_(False)

    def compute(network: nn.Module, batch: Batch) -> dict[str, Term]:
        assert isinstance(network, WaveletCodec)
        error, levels = mean_squared_error(network, batch["signal"], domain=config.domain)
        if not config.rate_weight:
            return {"loss": Term(error, per="items")}
        both = rate_and_distortion(error, levels, rate_weight=config.rate_weight)
        return {"loss": Term(both, per="items"), "mse": Term(error, weight=0.0, per="items")}

    schedule: Schedule | None = None
    if config.published_schedule:
        schedule = partial(LogCosinePlateau, warmup_steps=round(config.warmup_steps))
    try:
        return fit_network(
            codec,
            crops,
            config=config,
            state_dir=work.sub_state("checkpoints"),
            resume=work.resuming,
            compute=compute,
            schedule=schedule,
        )
    finally:
        codec.requires_grad_(True)
        place(codec, "cpu")
