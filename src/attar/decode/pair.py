"""A target and its draft, ready to be trained or measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import check_pair, require_same_tokenizer
from attar.data.prompts import Prompt
from attar.decode.agreement import Texts
from attar.errors import ConfigError
from attar.models import computing, positions_of
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
        self, prompts: Sequence[Prompt], *, temperature: float, max_new_tokens: int, seed: int
    ) -> Texts:
        """What the target writes behind some prompts.

        Args:
            prompts: of which the token ids are read.
            temperature: 0 takes the likeliest token.
            max_new_tokens: of a text, at most.
            seed: of the first text; the next one has the next number.
        """
        place(self.target)
        with computing(self.target):
            return Texts.of(
                self.target,
                [prompt.ids for prompt in prompts],
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                seed=seed,
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
        draft: folder or Hub name, or a model.
        tokenizer: None: the target's, which must be the draft's too where both are named.

    Raises:
        CompatibilityError: they differ in tokenizer or kind, or the draft is the larger one.
        DataError: one of them cannot be read.
    """
    loaded = checkpoint.model_of(target), checkpoint.model_of(draft)
    check_pair(*loaded)
    if tokenizer is None:
        tokenizer = checkpoint.tokenizer_of(target)
        if not isinstance(draft, PreTrainedModel):
            require_same_tokenizer(
                checkpoint.load_tokenizer(draft), tokenizer, sides=("draft", "target")
            )
    return Pair(*loaded, tokenizer, stops_of(loaded[0], tokenizer))


def stops_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Tokens that end a text: those of the model's generation config, else the tokenizer's."""
    ends: Any = getattr(model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        return ()
    return tuple(ends) if isinstance(ends, list) else (ends,)
