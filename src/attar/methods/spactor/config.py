"""Options of SpacTor's first stage."""

from dataclasses import dataclass
from typing import Literal

from attar.errors import ConfigError, check_types, require


@dataclass(frozen=True, kw_only=True)
class SpacTorConfig:
    """The first stage: how tokens are replaced, and what each part of the loss weighs."""

    tau: float = 0.25
    """Steps of the first stage; below 1, a share of all steps, of which it must leave some to each
    stage; 0: span corruption alone; as many as max_steps: no second stage. Paper: about a quarter
    of the baseline's steps."""
    mlm_probability: float = 0.15
    """Share of the tokens of text, outside the spans, that are masked for the generator."""
    w_rtd: float = 1.0
    """Weight of replaced-token detection, beside 1 for span corruption."""
    w_mlm: float = 0.1
    """Weight of the generator's loss."""
    generator_layers: float = 1 / 3
    """Layers of the generator; below 1, a share of the encoder's."""
    generator_embedding: Literal["tied", "none", "gdes"] = "tied"
    """tied: generator and model share one table of embeddings; none: each has its own; gdes: the
    model adds a table of its own to that of the generator, to which it sends no gradient
    (DeBERTaV3)."""
    temperature: float = 1.0
    """Of the samples that replace tokens."""
    rtd_on_special: bool = False
    """Ask of sentinels and ends of texts, too, whether they were replaced, which they never are."""
    logits_at: Literal["masked", "all"] = "masked"
    """Where the generator computes logits; all gives the same training and costs more."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("tau", "w_rtd", "w_mlm"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        share, temperature = self.mlm_probability, self.temperature
        require(0 <= share < 1, "mlm_probability", share, "from 0 to below 1")
        require(temperature > 0, "temperature", temperature, "above 0")
        layers = self.generator_layers
        fine = 0 < layers < 1 or (layers >= 1 and layers % 1 == 0)
        require(fine, "generator_layers", layers, "a number of layers, or a share above 0")

    @property
    def mask_share(self) -> float:
        """Share of the tokens of text whose places the collator draws; 0 without a first stage."""
        return self.mlm_probability if self.tau else 0.0

    def switch(self, max_steps: int) -> int:
        """The step after which the first stage ends, tau in steps.

        Raises:
            ConfigError: it is not within the run, or is a share that gives a stage no step.
        """
        if self.mlm_probability == 0:  # nothing is replaced, and nothing is there to be found
            return 0
        steps = round(self.tau * max_steps) if self.tau < 1 else self.tau
        if steps > max_steps or steps % 1:
            raise ConfigError(
                f"expected tau within the run, a whole number of steps up to {max_steps} or a "
                f"share of them below 1, found {self.tau:g}; lower tau, or raise max_steps"
            )
        if 0 < self.tau < 1 and steps in (0, max_steps):
            stage = "first" if steps == 0 else "second"
            raise ConfigError(
                f"tau={self.tau:g} as a share of {max_steps} steps leaves the {stage} stage none, "
                f"as it rounds to {steps}; give tau in steps, from 0 to {max_steps}, or raise "
                "max_steps"
            )
        return int(steps)
