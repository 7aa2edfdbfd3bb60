"""A method with its options, and supernets from disk with what they are compared by."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.arch import Arch
from attar.compatibility import require_same_tokenizer
from attar.errors import ConfigError, DataError, require
from attar.evaluation.likelihood import require_finite
from attar.measure.cost import cost_of
from attar.methods.autodistil import AutoDistilConfig
from attar.methods.mixture_of_supernets import MixtureConfig
from attar.recipes import options_from
from attar.report.record import Paper
from attar.runtime import place
from attar.search.bottlenecks import KIND as BOTTLENECKS
from attar.search.bottlenecks import make_bottlenecks
from attar.search.elastic_training import SupernetConfig
from attar.search.ranking import Row, embeddings_of
from attar.search.supernet import Supernet
from attar.search.supernet_files import (
    FILE,
    Description,
    MakeProvider,
    load_supernets,
    read_description,
)
from attar.supernet.by_autodistil import PAPER as AUTODISTIL
from attar.supernet.by_autodistil import AutoDistil
from attar.supernet.by_mixture import KIND, MixtureOfSupernets, make_mixture
from attar.supernet.by_mixture import PAPER as MIXTURE
from attar.supernet.methods import Method, MethodName
from attar.supernet.rows import vocabulary_of

PAPERS: Mapping[MethodName, Paper] = MappingProxyType(
    {"autodistil": AUTODISTIL, "mixture-of-supernets": MIXTURE}
)
#: what makes the providers of each kind
PROVIDERS: Mapping[str, MakeProvider] = MappingProxyType(
    {KIND: make_mixture, BOTTLENECKS: make_bottlenecks}
)


def require_method(name: str) -> None:
    """Refuse an unknown method.

    Raises:
        ConfigError: there is none of this name.
    """
    require(name in PAPERS, "method", name, f"one of {', '.join(PAPERS)}")


def method_of(
    name: MethodName,
    model: PreTrainedModel,
    *,
    config: SupernetConfig,
    distillation: AutoDistilConfig = AutoDistilConfig(),
    mixture: MixtureConfig = MixtureConfig(),
    distill: float = 0.0,
) -> Method:
    """A method with its options.

    Args:
        name: of the method.
        model: what parents are made of.
        config: of the training.
        distillation: of AutoDistil; its `init` is that of the other method, too.
        mixture: of Mixture-of-Supernets.
        distill: likewise, in place.

    Raises:
        CompatibilityError: the model does not suit it.
        ConfigError: there is none of this name.
    """
    require_method(name)
    if name == "mixture-of-supernets":
        init = "random" if mixture.init == "random" else distillation.init
        if init == "random":
            mixture = replace(mixture, init="random")
        return MixtureOfSupernets(model, mixture, config, init, distill)
    return AutoDistil(model, distillation, config)


def read_model(
    model: str | Path | PreTrainedModel, *, name: str, init: str, seed: int
) -> PreTrainedModel:
    """What supernets are made of, in float32.

    Args:
        model: folder, Hub name or model. For a Mixture-of-Supernets that starts from random
            weights a folder with a config alone is enough.
        name: of the method.
        init: what of the model is kept.
        seed: of random weights.

    Raises:
        ConfigError: a folder has no weights, and they are needed.
        DataError: it cannot be read.
    """
    if isinstance(model, str | Path) and str(model) and checkpoint.lacks_weights(model):
        if name == "mixture-of-supernets" and init == "random":
            return checkpoint.fresh(model, seed=seed)
        raise ConfigError(
            f"expected a checkpoint in {str(model)!r}, found a config without weights; give a "
            "trained model, or start a mixture-of-supernets from random weights with init random "
            "(--init random)"
        )
    return checkpoint.model_of(model, dtype=torch.float32)


@dataclass(frozen=True)
class Opened:
    """Supernets from disk.

    Attributes:
        folder: as it was given.
        description: of all of them.
        supernets: by the names of their spaces, in float32 and in evaluation mode.
        tokenizer: theirs.
    """

    folder: Path
    description: Description
    supernets: Mapping[str, Supernet]
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, folder: str | Path) -> "Opened":
        """Read a folder that `attar supernet train` wrote.

        Raises:
            CompatibilityError: a parent does not hold its space.
            ConfigError: it is no folder's name.
            DataError: the folder, or something in it, is missing or damaged.
        """
        given = folder if isinstance(folder, str) else type(folder).__name__
        named = isinstance(folder, str | Path) and str(folder) != ""
        require(named, "model", given, "a folder that attar supernet train wrote")
        description = read_description(folder)
        if description.method not in PAPERS:
            raise DataError(
                f"the supernet {str(folder)!r} was trained with {description.method!r}, which this "
                f"attar does not know; use the version that wrote it"
            )
        supernets = load_supernets(folder, providers=PROVIDERS)
        first = next(iter(description.spaces))
        tokenizer = checkpoint.load_tokenizer(Path(folder) / first)
        return cls(Path(folder), description, supernets, tokenizer)

    def only(self, space: str) -> "Opened":
        """One of several supernets.

        Raises:
            ConfigError: there is none of this name.
        """
        spaces = self.description.spaces
        require(space in spaces, "space", space, f"one of {', '.join(spaces)}")
        described = replace(self.description, spaces={space: spaces[space]})
        return replace(self, description=described, supernets={space: self.supernets[space]})

    @property
    def config(self) -> SupernetConfig:
        """How they were trained."""
        return self._options(SupernetConfig, self.description.training)

    def method(
        self, model: str | Path | PreTrainedModel | None, *, config: SupernetConfig | None = None
    ) -> Method:
        """Their method, with the options that they were trained with.

        Args:
            model: what they were made of, of AutoDistil the teacher; None: the one that the
                description names.
            config: other options of the training.

        Raises:
            CompatibilityError: its tokenizer is another.
            ConfigError: it was never stored, and none is given.
            DataError: it cannot be read.
        """
        named = model if model is not None else self.description.teacher
        if not named:
            raise ConfigError(
                f"the supernet {str(self.folder)!r} does not say which model it was made of, as "
                "that was never stored; name it as teacher (--teacher)"
            )
        try:
            loaded = read_model(
                named,
                name=self.description.method,
                init=str(self.description.options.get("init")),
                seed=self.config.seed,
            )
        except DataError as error:
            if model is not None:
                raise
            raise DataError(
                f"the model that the supernet {str(self.folder)!r} was made of cannot be read; "
                f"name it as teacher (--teacher): {error}"
            ) from error
        if name := checkpoint.name_of(named):
            sides = ("the supernet", "its teacher")
            require_same_tokenizer(self.tokenizer, checkpoint.load_tokenizer(name), sides=sides)
        options = self.description.options
        config = config or self.config
        if self.description.method == "autodistil":
            return AutoDistil(loaded, self._options(AutoDistilConfig, options), config)
        try:
            stored = dict(self.description.providers)[KIND]
            mixture = self._options(MixtureConfig, stored)
            return MixtureOfSupernets(loaded, mixture, config, options["init"], options["distill"])
        except (KeyError, ConfigError) as error:
            raise DataError(
                f"{self.folder / FILE} is damaged (it lacks {error}); train the supernet again"
            ) from error

    def _options(self, kind: type, stored: Mapping[str, Any]) -> Any:
        try:
            return options_from(stored, kind, source=str(self.folder / FILE))
        except (ConfigError, TypeError) as error:
            raise DataError(
                f"{self.folder / FILE} is damaged ({error}); train the supernet again"
            ) from error

    def place(self) -> None:
        """Put all where this process computes."""
        for supernet in self.supernets.values():
            place(supernet)


def row_of(
    supernet: Supernet, arch: Arch, *, method: Method, name: str, loss: float | None = None
) -> Row:
    """What a network is and costs, counted from its tensors.

    Args:
        supernet: that it is of.
        arch: its widths.
        method: whose formulas are shown beside.
        name: of the supernet.
        loss: held-out loss.

    Raises:
        DataError: the loss is not finite.
    """
    if loss is not None:
        sound = all(bool(torch.isfinite(p).all()) for p in method.model.parameters())
        require_finite(supernet.parent if sound else method.model, loss)
    skeleton = supernet.child(arch).skeleton
    return Row(
        space=name,
        arch=arch,
        loss=loss,
        cost=cost_of(skeleton, cache=False),
        embeddings=embeddings_of(skeleton),
        published=method.published_size(arch, vocabulary=vocabulary_of(supernet.parent)),
    )
