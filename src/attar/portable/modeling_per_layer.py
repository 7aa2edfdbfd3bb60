"""A transformers model whose layers differ in width, as `per_layer_config` of its config says, or
whose heads have a size of their own.

transformers writes and reads `per_layer_config`, but its model classes still build every layer from
the global widths. The classes here rebuild each layer from its own config: `PerLayerX` stands for
every model class `X` of transformers. The file needs transformers alone and travels with every
checkpoint that such a model is saved to (`save_pretrained`, Trainer), so that
`AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` works where Attar is not
installed.

BERT, RoBERTa and ModernBERT compute the size of a head as `hidden_size / num_attention_heads`; here
`head_dim` gives it, where the config has it. Layers of BERT and RoBERTa may have a `hidden_size` of
their own: with `layer_connectors` in the config, linear maps lead from the width of each layer to
that of the next, and from the last back to the width of the embeddings.
"""

from contextlib import contextmanager

import transformers
from torch import nn

PREFIX = "PerLayer"
#: types of models whose stock classes compute the head size, and whose attention is rebuilt here
OWN_HEAD_SIZE = ("bert", "roberta", "modernbert")
#: those whose layers may have hidden widths of their own
CONNECTED = ("bert", "roberta")

HEADS = (
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
)


class PerLayerMixin:
    """Put before a transformers model class."""

    def __init__(self, config, *args, **kwargs):
        connected = getattr(config, "layer_connectors", False)
        if connected and config.model_type not in CONNECTED:
            raise ValueError(
                f"layer_connectors expects a model of type {' or '.join(CONNECTED)}, found "
                f"{config.model_type}"
            )
        with _one_head(config, where=connected or _head_size(config)):
            super().__init__(config, *args, **kwargs)
        count = config.num_hidden_layers
        lists = (m for m in self.modules() if isinstance(m, nn.ModuleList) and len(m) == count)
        layers = next(lists)  # the outermost comes first
        for i, layer in enumerate(layers):
            layers[i] = _build(type(layer), config.per_layer_config[i], i)
        if connected:
            _connect(layers, config)
        self.post_init()

    def save_pretrained(self, *args, **kwargs):
        """Save it under the module's own names: transformers renames nothing when it reads a class
        that is not its own. The config of an encoder names the classes of all heads, as it is
        fine-tuned under one that it does not have yet.
        """
        if self.config.model_type in OWN_HEAD_SIZE:
            self.config.auto_map = _classes(type(self.config))
        return super().save_pretrained(*args, **{"save_original_format": False, **kwargs})


def _head_size(config):
    """Channels of a head where they are not those that the stock class computes; else None."""
    size = getattr(config, "head_dim", None)
    if config.model_type not in OWN_HEAD_SIZE or not size:
        return None
    return None if config.num_attention_heads * size == config.hidden_size else size


@contextmanager
def _one_head(config, *, where):
    """Let the stock class take a number of heads that does not divide the width: one head, for as
    long as it builds modules that are replaced afterwards.
    """
    heads = config.num_attention_heads
    if where:
        config.num_attention_heads = 1
    try:
        yield
    finally:
        if config.num_attention_heads != heads:
            config.num_attention_heads = heads


def _build(kind, config, index):
    """One layer of the stock class, whose heads may have a size of their own."""
    heads, size = config.num_attention_heads, _head_size(config)
    with _one_head(config, where=size):
        layer = kind(config, layer_idx=index)
    if not size:
        return layer
    width, inner = config.hidden_size, heads * size
    if config.model_type == "modernbert":
        attention = layer.attn
        attention.head_dim = size
        attention.Wqkv = _linear(width, 3 * inner, like=attention.Wqkv)
        attention.Wo = _linear(inner, width, like=attention.Wo)
        return layer
    attention, output = layer.attention.self, layer.attention.output
    attention.num_attention_heads, attention.attention_head_size = heads, size
    attention.all_head_size, attention.scaling = inner, size**-0.5
    for name in ("query", "key", "value"):
        setattr(attention, name, _linear(width, inner, like=getattr(attention, name)))
    output.dense = _linear(inner, width, like=output.dense)
    return layer


def _connect(layers, config):
    """Linear maps from the width of each layer to that of the next, from the embeddings' to the
    first, and from the last layer's back to theirs.
    """
    before = config.hidden_size
    for i, layer in enumerate(layers):
        width = config.per_layer_config[i].hidden_size
        layer.connector = nn.Linear(before, width)
        layer.register_forward_pre_hook(_enter)
        before = width
    layers[-1].connector_out = nn.Linear(before, config.hidden_size)
    layers[-1].register_forward_hook(_leave)


def _enter(layer, args):
    return (layer.connector(args[0]), *args[1:])


def _leave(layer, args, output):
    return layer.connector_out(output)


def _linear(inputs, outputs, *, like):
    return nn.Linear(inputs, outputs, bias=like.bias is not None)


def _classes(config):
    """For every auto class of transformers that knows this config class, the class here."""
    found = {}
    for auto in HEADS:
        mapping = getattr(transformers, auto)._model_mapping
        if config in mapping:
            name = f"{PREFIX}{mapping[config].__name__}"
            found[auto] = f"{__name__.rpartition('.')[2]}.{name}"
    return found


def _auto_class(name):
    """The auto class of transformers that loads this model class."""
    task = "CausalLM" if name.endswith("LMHeadModel") else name.rpartition("For")[2]
    found = f"AutoModelFor{task}"
    return found if hasattr(transformers, found) else "AutoModel"


def __getattr__(name):
    """Make `PerLayerX` when it is asked for: one class, which pickles, too."""
    base = getattr(transformers, name.removeprefix(PREFIX), None)
    if not name.startswith(PREFIX) or base is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # with an `_auto_class`, transformers copies this file and names it in the config
    own = {"__module__": __name__, "_auto_class": _auto_class(base.__name__)}
    globals()[name] = made = type(name, (PerLayerMixin, base), own)
    return made
