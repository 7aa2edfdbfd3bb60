"""The verb `codec evaluate`: bits, numbers and fidelity beside those of known formats."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from attar import checkpoint
from attar.codec import baselines as known
from attar.codec.drawings import Curve
from attar.codec.measuring import average, measure, quality_of
from attar.codec.opening import load_codec, placed, spread
from attar.codec.page import Shown, codec_page
from attar.codec.tables import Measured, measured_table
from attar.coding.containers import choose
from attar.data.data import Data, DataLike
from attar.data.media import MediaRows, open_splits
from attar.data.media.signals import own_channels
from attar.data.pictures import DEMO
from attar.errors import ConfigError, DataError, check_types, did_you_mean, require
from attar.evaluation.audio_formats import MOST_CHANNELS
from attar.evaluation.rates import RatePoint
from attar.methods.walloc import PAPER, WaveletCodec
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.report.tables import Table
from attar.runtime import Bar

logger = logging.getLogger(__name__)

REPORT = "report.html"
OWN = "codec"
# fmt: off
Baseline = Literal[
    "lanczos", "colour", "jpeg", "webp", "avif", "jpeg2000", "resample", "flac", "opus", "vorbis"
]
# fmt: on
_FINER = (4.0, 2.0, 1.0, 0.5)  # times the step that the codec has


@dataclass(frozen=True, kw_only=True)
class EvaluateCodecConfig:
    """What a codec is measured on and compared with."""

    baselines: tuple[Baseline, ...] | None = None
    """Separated by commas. Of pictures: lanczos and colour (smaller pictures with as many numbers),
    jpeg, webp, avif, jpeg2000; of sound: resample, flac, opus, vorbis. Unset: all that this machine
    can write; of arrays, and of sound with more than 8 channels, none."""
    max_items: int = 24
    """Pictures or recordings that are measured, spread over the data."""
    container: str = "auto"
    """How integers are stored: jpegls, webp, png or zstd; auto is jpegls where its plug-in is
    installed."""
    repeats: int = 1
    """How often encoding and decoding are timed; the median counts."""
    shown: int = 8
    """Items that the report shows."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("max_items", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.shown >= 0, "shown", self.shown, "zero or more")
        choose(self.container)


@takes_recipe("codec evaluate")
def evaluate(
    model: str | Path | WaveletCodec,
    data: DataLike = DEMO,
    *,
    config: EvaluateCodecConfig | str = EvaluateCodecConfig(),
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Measure a codec and its baselines on the same items.

    Args:
        model: a codec, its folder or its name on the Hub.
        data: whatever `attar.data.media.open_splits` takes; the split `test` or `validation` is
            measured, and everything where there is neither.
        config: baselines, and how many items.
        output_dir: where the record and the report with pictures or players go; None keeps the
            record in memory.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: `details["rows"]`, of which `score_table` makes a table.

    Raises:
        ConfigError: there is no such baseline, or the output folder is taken.
        DataError: the data cannot be read, or does not suit the codec.
    """
    config, recipe = configured(config, EvaluateCodecConfig, recipe=recipe)
    codec, data = load_codec(model), Data.of(data)
    sound = codec.config.ndim == 1
    for name in config.baselines or ():
        expected = f"one of {', '.join(known.names(sound=sound))}"
        hint = did_you_mean(name, known.names(sound=sound))
        require(name in known.names(sound=sound), "baselines", name, expected + hint)
    with artefact(
        output_dir,
        command="codec evaluate",
        method="walloc",
        paper=PAPER,
        settings={"model": checkpoint.name_of(model), **data.settings(), **asdict(config)},
        recipe=recipe,
    ) as work:
        if work.main:
            rows = spread(_measured_split(data), config.max_items)
            asked = _asked(rows, config=config, sound=sound)
            with placed(codec):
                own, shown, transparent = _own(codec, rows, config=config)
                curves = [_own_curve(codec, rows, own, config=config)]
            measured = [own]
            missing = [s for n, s in known.missing(sound=sound).items() if n in asked]
            if asked and transparent:
                missing.append(
                    "Of transparent pictures the baselines are given the colours alone, without "
                    "alpha: compare them with the codec on opaque ones."
                )
            for name in asked:
                try:
                    points = _baseline(name, rows, ratio=own.ratio or 1.0, config=config)
                except (ConfigError, DataError) as error:  # the codec has read all rows
                    missing.append(f"{name} is left out: {error}")
                    continue
                measured += points
                if len(points) > 1:
                    curves.append(Curve(name=name, points=[_point(one) for one in points]))
            work.run.quality = {OWN: quality_of(own)}
            work.run.details |= {
                "rows": [asdict(one) for one in measured],
                "curves": [{"name": c.name, "points": [list(p) for p in c.points]} for c in curves],
                "items": len(rows),
                "missing": missing,
                "sound": sound,
            }
            if work.path is not None:
                notes = [f"Means over {len(rows)} items of {data.name}.", *missing]
                title = f"Codec {checkpoint.name_of(model)}"
                report = work.path / REPORT
                codec_page(
                    shown, report, measured=measured, curves=curves, title=title, notes=notes
                )
    return work.run


def score_table(run: Run) -> Table:
    """The rows of a record of `evaluate`."""
    rows = [Measured(**row) for row in run.details["rows"]]
    return measured_table(rows, unit="sample" if run.details["sound"] else "pixel")


def _asked(rows: MediaRows, *, config: EvaluateCodecConfig, sound: bool) -> Sequence[str]:
    """The baselines that are measured: none of what known formats do not take.

    Raises:
        ConfigError: of such data, some are asked for.
    """
    taken = known.takes(rows[0])
    if config.baselines and not taken:
        raise ConfigError(
            "expected no baselines for arrays, or sound of more than "
            f"{MOST_CHANNELS} channels, which {rows.origin} has, found "
            f"{', '.join(config.baselines)}; leave them out, as these take pictures or sound alone"
        )
    return config.baselines or (known.names(sound=sound) if taken else ())


def _measured_split(data: Data) -> MediaRows:
    splits = open_splits(data)
    for name in ("test", "validation"):
        if name in splits:
            return splits[name]
    return next(iter(splits.values()))


def _own(
    codec: WaveletCodec, rows: MediaRows, *, config: EvaluateCodecConfig
) -> tuple[Measured, list[Shown], bool]:
    """Scores of the codec, what the report shows, and whether a picture is transparent."""
    items, shown, transparent = [], list[Shown](), False
    names = rows.names
    for row, signal in enumerate(_watched(rows, "the codec")):
        scores, decoded = measure(codec, signal, container=config.container, repeats=config.repeats)
        items.append(scores)
        transparent |= known.transparent(signal)
        if len(shown) < config.shown:
            shown.append(
                Shown(
                    name=names[row],
                    original=own_channels(signal).values,
                    decoded=own_channels(decoded).values,
                    rate=scores.bits / scores.rated,
                    scores=scores.scores,
                    sampling_rate=signal.form.rate,
                )
            )
    return average(items, name=OWN, role="result"), shown, transparent


def _own_curve(
    codec: WaveletCodec, rows: MediaRows, own: Measured, *, config: EvaluateCodecConfig
) -> Curve:
    """The codec with coarser and finer steps; a companded one has but one rate."""
    points = [_point(own)]
    if codec.compander is None:
        for factor in _FINER:
            if factor != 1.0:
                other = deepcopy(codec)
                other.steps.mul_(factor)
                items = [
                    measure(other, signal, container=config.container)[0]
                    for signal in _watched(rows, f"the codec with {factor:g} times the step")
                ]
                points.append(_point(average(items, name=OWN)))
    return Curve(name=OWN, points=points, role="result")


def _baseline(
    name: str, rows: MediaRows, *, ratio: float, config: EvaluateCodecConfig
) -> Sequence[Measured]:
    sound = name in known.AUDIO
    return [
        average([scored(signal) for signal in _watched(rows, label)], name=label)
        for label, scored in known.settings(name, sound=sound, ratio=ratio, repeats=config.repeats)
    ]


def _watched(rows: MediaRows, what: str) -> Bar:
    return Bar(rows, total=len(rows), desc=f"measuring {what}", unit="item", leave=False)


def _point(measured: Measured) -> RatePoint:
    return RatePoint(measured.rate or 0.0, measured.scores["psnr"])
