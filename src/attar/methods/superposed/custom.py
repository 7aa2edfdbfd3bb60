"""Superposed Decoding as transformers finds it in a folder: `custom_generate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.decode.ngrams import NGramStore, StoredNGrams
from attar.methods.superposed.config import SuperposedConfig
from attar.methods.superposed.decoder import SuperposedDecoder
from attar.methods.superposed.tune import tuned_for

FOLDER = "custom_generate"
"""Where transformers looks for `generate.py` and `requirements.txt`."""
_CODE = '''\
"""Superposed Decoding: several drafts of a text for the passes of one. It needs the package attar.

drafts = model.generate(ids, custom_generate=FOLDER, trust_remote_code=True, num_drafts=3)
"""

from attar.methods.superposed.custom import generate as generate
'''


def save_custom_generate(folder: str | Path) -> Path:
    """Write the folder that transformers takes as `custom_generate`; that of a model will do.

    Returns:
        The file with the code, which loads `generate` of this module.
    """
    place = artefacts.expanded(folder) / FOLDER
    artefacts.make_folder(place)
    artefacts.write_text(place / "requirements.txt", "attar\n")
    artefacts.write_text(place / "generate.py", _CODE)
    return place / "generate.py"


def generate(
    inputs: Tensor | None = None,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    num_drafts: int = 3,
    store: str | Path | StoredNGrams | None = None,
    superposed: Mapping[str, Any] | None = None,
    **options: Any,
) -> Tensor:
    """Drafts of each prompt, `(B * num_drafts, T)`; what `model.generate` calls.

    Args:
        inputs: token ids, `(B, T)`.
        model: is given by transformers.
        tokenizer: None: the model's own.
        num_drafts: of each prompt.
        store: n-grams; see `generate_drafts`.
        superposed: further options of `SuperposedConfig`, by name.
        options: others of `generate`, such as `max_new_tokens`.

    Raises:
        ConfigError: an option does not fit, or the tokenizer is not known.
        CompatibilityError: the model cannot read mixtures of embeddings, or the store is of another
            tokenizer.
    """
    words = checkpoint.tokenizer_of(model, tokenizer)
    if isinstance(store, str | Path):
        store = NGramStore.load(store, tokenizer=words)
    given: dict[str, Any] = {**(superposed or {}), "k": num_drafts}
    config = tuned_for(model, store, config=SuperposedConfig(**given))
    decoder = SuperposedDecoder(model, words, config=config, store=store)
    kind: Any = type(model)  # the model's own `generate` may be this function
    return kind.generate(model, inputs, custom_generate=decoder, num_drafts=num_drafts, **options)
