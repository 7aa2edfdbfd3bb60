"""`attar supernet train`: one supernet for each space, one after the other."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.arch import Arch, Space
from attar.data.data import STDLIB, Data, DataLike
from attar.data.sources import Source
from attar.errors import CompatibilityError, ConfigError, require
from attar.foreign import read_json
from attar.measure.cost import cost_of
from attar.methods.autodistil import AutoDistilConfig
from attar.methods.mixture_of_supernets import MixtureConfig
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import Artefact, artefact
from attar.report.record import Run
from attar.runtime import place, processes
from attar.search.bottlenecks import KIND as BOTTLENECKS
from attar.search.elastic_training import SupernetConfig
from attar.search.ranking import Row
from attar.search.space_files import read_spaces
from attar.search.supernet import Draws
from attar.search.supernet_files import (
    Description,
    check_name,
    save_supernet,
    write_description,
)
from attar.supernet.methods import Method, MethodName, Scorer, rules_of
from attar.supernet.opening import PAPERS, method_of, read_model, require_method, row_of
from attar.supernet.rows import require_fit, require_vocabulary

logger = logging.getLogger(__name__)

_FINISHED = "finished.json"
_SUB_SPACES = 3  # as published
_BATCH = 32  # held-out rows in one forward pass; makes no difference to the result


@takes_recipe("supernet train")
def train(
    model: str | Path | PreTrainedModel,
    data: DataLike = STDLIB,
    *,
    method: MethodName = "autodistil",
    space: str | Path | Mapping[str, Any] | None = None,
    k: int = _SUB_SPACES,
    config: SupernetConfig | str = SupernetConfig(),
    distillation: AutoDistilConfig = AutoDistilConfig(),
    mixture: MixtureConfig = MixtureConfig(),
    distill: float = 0.0,
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train weight-sharing supernets, of which every network can be used as it stands.

    The folder gets `supernet.json`, and for each space a folder with its supernet, an ordinary
    checkpoint as wide as the space. Under `torchrun` all processes train together and the first
    one writes.

    Args:
        model: folder, Hub name or model; of AutoDistil the teacher, which is not changed. A
            Mixture-of-Supernets with `init` random needs no weights: a folder with a config.json
            and a tokenizer is enough.
        data: text, whatever `attar.data.load_text` takes; for an encoder-decoder pairs of texts,
            as for `attar.data.pairs.load_pairs`. The training split trains, and networks are
            compared on the validation split.
        method: autodistil, or mixture-of-supernets.
        space: a YAML file with a space, or with several by name; what it would hold; or the name
            of spaces in proportion to the model. None: the method's own.
        k: sub-spaces of `compact`: 3, as published, 2 or 1.
        config: options of the training; or the name or path of a recipe.
        distillation: options of AutoDistil; its `init` is that of both methods.
        mixture: options of Mixture-of-Supernets; its seed is that of the training.
        distill: weight of in-place distillation from the largest network of each step, from 0 to
            1, of Mixture-of-Supernets; 0, as published: every network learns from the text alone.
        tokenizer: None: the one in the model's folder.
        output_dir: where the supernets go; they appear when all are complete.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings. Supernets that are finished are
            not trained again.

    Returns:
        The record: held-out losses of the largest and the smallest network of each space before
        and after, and their costs, in `details.networks`.

    Raises:
        CompatibilityError: the model does not contain a space, a network of it cannot be saved for
            transformers, or the tokenizer is not the model's.
        ConfigError: a space is none, the output folder is taken, the settings differ from those of
            the run to resume, or training diverged.
        DataError: the model or the text cannot be read.
    """
    config, recipe = configured(config, SupernetConfig, recipe=recipe)
    require_method(method)
    _require_own(method, distillation, mixture, distill=distill)
    mixture = replace(mixture, seed=config.seed)
    data, given = Data.of(data), _written(space)
    published = method == "autodistil" and not isinstance(given, Mapping)
    require(k == _SUB_SPACES or published, "k", k, "left out: it is of AutoDistil's own spaces")
    settings = {
        "model": checkpoint.name_of(model),
        **data.settings(),
        "method": method,
        "space": given if isinstance(given, str | None) else _plain(given),
        "k": k,
        **asdict(config),
        **_own_settings(method, distillation, mixture, distill=distill),
    }
    with artefact(
        output_dir,
        command="supernet train",
        method=method,
        paper=PAPERS[method],
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        loaded = read_model(model, name=method, init=settings["init"], seed=config.seed)
        tokenizer = checkpoint.tokenizer_of(model, tokenizer)
        require_fit(loaded, tokenizer, context=config.context)
        way = method_of(
            method,
            loaded,
            config=config,
            distillation=distillation,
            mixture=mixture,
            distill=distill,
        )
        spaces = given if isinstance(given, Mapping) else way.default_spaces(given, k=k)
        require_vocabulary(spaces, tokenizer)
        rows, held_out = (
            way.rows(data, tokenizer, split=split) for split in ("train", "validation")
        )
        scorer = way.scorer(held_out, batch_size=_BATCH)
        job = _Job(work, way, tokenizer, config, rows, held_out, scorer)
        work.run.cost["before"] = cost_of(loaded).to_dict()
        networks = {name: job.checked(name, one) for name, one in spaces.items()}
        trained = {name: job.trained(name, one) for name, one in spaces.items()}
        if work.main:
            write_description(
                work.folder,
                Description(
                    method,
                    spaces,
                    **rules_of(config, loaded),
                    providers=way.providers + _bottlenecks(spaces),
                    teacher=settings["model"] or None,
                    options=way.options,
                    training=asdict(config),
                ),
            )
        _record(work.run, networks, trained, unit=way.unit)
    return work.run


def _require_own(
    method: MethodName,
    distillation: AutoDistilConfig,
    mixture: MixtureConfig,
    *,
    distill: float,
) -> None:
    """Refuse options of the other method, by the names that they are typed with."""
    if method == "autodistil":
        other, foreign = "mixture-of-supernets", _changed(mixture, MixtureConfig())
        foreign += ["distill"] if distill else []
    else:
        other, foreign = "autodistil", _changed(distillation, AutoDistilConfig())
        foreign = [name for name in foreign if name != "init"]  # of both methods
    if foreign:
        raise ConfigError(
            f"{foreign[0]} is an option of {other}, and the method is {method}: leave it out, or "
            f"take the method {other}"
        )


def _changed(options: AutoDistilConfig | MixtureConfig, defaults: object) -> list[str]:
    """Names of the options that are not the default."""
    usual = vars(defaults)
    return [name for name, value in vars(options).items() if value != usual[name]]


def _own_settings(
    method: MethodName,
    distillation: AutoDistilConfig,
    mixture: MixtureConfig,
    *,
    distill: float,
) -> dict[str, Any]:
    if method == "autodistil":
        return asdict(distillation)
    own = {name: value for name, value in asdict(mixture).items() if name not in ("init", "seed")}
    init = "random" if mixture.init == "random" else distillation.init
    return own | {"init": init, "distill": distill}


def _written(space: str | Path | Mapping[str, Any] | None) -> str | dict[str, Space] | None:
    """Spaces that are written out, or the name of those that depend on the model."""
    if space is None:
        return None
    if isinstance(space, str | Path) and not _is_file(space):
        return str(space)
    return read_spaces(space)


def _is_file(space: str | Path) -> bool:
    return Path(space).suffix in (".yaml", ".yml") or Path(space).is_file()


def _plain(spaces: Mapping[str, Space]) -> dict[str, Any]:
    return {name: space.to_dict() for name, space in spaces.items()}


def _bottlenecks(spaces: Mapping[str, Space]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Kind and options of what all supernets have beside the method's own, where one needs it."""
    needed = any("hidden_size" in space.per_layer for space in spaces.values())
    return ((BOTTLENECKS, {}),) if needed else ()


@dataclass(frozen=True)
class _Job:
    """What all spaces of a run share."""

    work: Artefact
    method: Method
    tokenizer: PreTrainedTokenizerBase
    config: SupernetConfig
    rows: Source
    held_out: Source
    scorer: Scorer

    def checked(self, name: str, space: Space) -> list[Row]:
        """Everything that could fail after the training, before it; the largest and the smallest
        network as they are before it."""
        check_name(name)
        supernet, ends = self.method.start(space, self.rows), ends_of(space)
        try:
            for arch in corners(space):
                supernet.child(arch)
            if self.work.main:
                for arch in ends:
                    with TemporaryDirectory(dir=self.work.state, prefix="check-") as scratch:
                        checkpoint.save(supernet.extract(arch), scratch)
        except (CompatibilityError, ConfigError) as error:
            raise CompatibilityError(
                f"the space {name!r} does not suit the model: {error}"
            ) from error
        place(supernet)
        losses = self.scorer(supernet, ends)
        return [
            row_of(supernet, arch, method=self.method, name=name, loss=loss)
            for arch, loss in zip(ends, losses, strict=True)
        ]

    def trained(self, name: str, space: Space) -> dict[str, Any]:
        """Losses of the ends after the training, and its log; trains unless that is done."""
        state = self.work.sub_state(name)
        assert state is not None
        marker, stamp = state / _FINISHED, [self.rows.fingerprint(), self.held_out.fingerprint()]
        if marker.exists():
            done = read_json(marker, "the state of a finished supernet")
            if done.pop("rows") != stamp:
                raise ConfigError(
                    "the text has changed since the interrupted run began; delete the .partial "
                    "folder to start over"
                )
            logger.info("%s is trained already", name)
            return done
        logger.info("training %s, a space of %d networks", name, space.size)
        supernet = self.method.start(space, self.rows)
        config, trainer = self.config, state / "trainer"
        training = self.method.train(
            supernet,
            Draws(space, config.sampling, n_random=config.n_random, seed=config.seed),
            self.rows,
            state_dir=trainer,
            resume=self.work.resuming,
        )
        place(supernet)
        done = {"after": self.scorer(supernet, ends_of(space)), **asdict(training)}
        if self.work.main:
            place(supernet, "cpu")
            save_supernet(self.work.folder, name, supernet, tokenizer=self.tokenizer)
            state.mkdir(parents=True, exist_ok=True)
            artefacts.write_text(marker, json.dumps(done | {"rows": stamp}))
            shutil.rmtree(trainer, ignore_errors=True)
        processes().wait_for_everyone()
        return done


def ends_of(space: Space) -> list[Arch]:
    """The largest network and the smallest, which may be one."""
    return list(dict.fromkeys((space.largest, space.smallest)))


def corners(space: Space) -> Iterator[Arch]:
    """The largest and the smallest network, and those that differ from one of them in one choice:
    where a space does not fit, one of these does not."""
    top, bottom = [n - 1 for n in space.choices], [0] * len(space.choices)
    seen: set[Arch] = set()
    for start, other in ((top, bottom), (bottom, top)):
        for at in range(-1, len(top)):
            genes = [other[i] if i == at else gene for i, gene in enumerate(start)]
            if (arch := space.decode(genes)) not in seen:
                seen.add(arch)
                yield arch


def _record(
    run: Run,
    before: Mapping[str, Sequence[Row]],
    trained: Mapping[str, dict[str, Any]],
    *,
    unit: str,
) -> None:
    networks = []
    for name, rows in before.items():
        for row, loss in zip(rows, trained[name]["after"], strict=True):
            which = "largest" if row is rows[0] else "smallest"
            stored = replace(row, loss=loss).to_dict()
            networks.append({**stored, "which": which, "loss_before": row.loss})
            quality = {f"{unit} before": row.loss, unit: loss}
            baseline = {"name": f"{name}, {which}", "cost": row.cost.to_dict(), "quality": quality}
            run.baselines.append(baseline)
    logs = {name: {k: v for k, v in one.items() if k != "after"} for name, one in trained.items()}
    run.details = {"split": "validation", "unit": unit, "networks": networks, "trainings": logs}
