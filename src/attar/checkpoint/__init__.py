"""Loading and saving models as ordinary Hugging Face checkpoints."""

from attar.checkpoint.forms import (
    MODELLING_FILE,
    accept_widths,
    follow_config,
    has_stock_form,
    per_layer_class,
)
from attar.checkpoint.fresh import fresh, lacks_weights
from attar.checkpoint.identity import fingerprint, name_of, tokenizer_fingerprint
from attar.checkpoint.loading import load, load_body, model_of, read_config
from attar.checkpoint.saving import save
from attar.checkpoint.tokenizers import load_document_tokenizer, load_tokenizer, tokenizer_of

__all__ = [
    "MODELLING_FILE",
    "accept_widths",
    "fingerprint",
    "follow_config",
    "fresh",
    "has_stock_form",
    "lacks_weights",
    "load",
    "load_body",
    "load_document_tokenizer",
    "load_tokenizer",
    "model_of",
    "name_of",
    "per_layer_class",
    "read_config",
    "save",
    "tokenizer_fingerprint",
    "tokenizer_of",
]
