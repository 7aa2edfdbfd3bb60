"""A target and its draft, ready to be trained or measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import check_pair
from attar.data.prompts import Prompt
from attar.decode.agreement import Texts
from attar.errors import CompatibilityError, ConfigError
from attar.methods.distillspec.config import DistillSpecConfig
from attar.models import positions_of
from attar.runtime import place


@dataclass(frozen=True)
class Pair:
    """Both models and their tokenizer.

    Attributes:
        stops: tokens that end a text of the target.
    """

    target: PreTrainedModel
    draft: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stops: tuple[int, ...]

    def texts(
        self, prompts: Sequence[Prompt], *, config: DistillSpecConfig, temperature: float
    ) -> Texts:
        """What the target writes behind some prompts."""
        place(self.target)
        return Texts.of(
            self.target,
            [prompt.ids for prompt in prompts],
            temperature=temperature,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
            stops=self.stops,
        )

    def require_room(self, tokens: int) -> None:
        """Refuse texts that are longer than one of the models can read.

        Raises:
            ConfigError: they are.
        """
        for name, model in (("target", self.target), ("draft", self.draft)):
            most = positions_of(model)
            if most is not None and tokens > most and not model.config.is_encoder_decoder:
                raise ConfigError(
                    f"prompt_tokens and max_new_tokens are {tokens} together, but the {name} has "
                    f"{most} positions; lower one of them"
                )


def load_pair(
    target: str | Path | PreTrainedModel,
    draft: str | Path | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Pair:
    """Load both, and check that the draft can serve the target.

    Args:
        target: folder or Hub name, or a model.
        draft: likewise.
        tokenizer: None: the target's, which must be the draft's too where both are named.

    Raises:
        CompatibilityError: they differ in tokenizer or kind, or the draft is the larger one.
        DataError: one of them cannot be read.
    """
    models = [
        model if isinstance(model, PreTrainedModel) else checkpoint.load(model)
        for model in (target, draft)
    ]
    check_pair(models[0], models[1])
    if tokenizer is None:
        tokenizer = checkpoint.load_tokenizer(checkpoint.name_of(target))
        if not isinstance(draft, PreTrainedModel):
            _require_same(checkpoint.load_tokenizer(draft), tokenizer)
    return Pair(models[0], models[1], tokenizer, stops_of(models[0], tokenizer))


def _require_same(draft: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> None:
    if checkpoint.tokenizer_fingerprint(draft) != checkpoint.tokenizer_fingerprint(target):
        raise CompatibilityError(
            f"target and draft must share one tokenizer, but those of {target.name_or_path} and "
            f"{draft.name_or_path} differ; take a draft of the target's family, or make one with "
            "attar draft init"
        )


def stops_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Tokens that end a text: those of the model's generation config, else the tokenizer's."""
    found: Any = getattr(model.generation_config, "eos_token_id", None)
    if found is None:
        found = tokenizer.eos_token_id
    if found is None:
        return ()
    return tuple(found) if isinstance(found, list) else (found,)
