"""A transformers model whose layers differ in width, as `per_layer_config` of its config says.

transformers writes and reads `per_layer_config`, but its model classes still build every layer from
the global widths. The classes here rebuild each layer from its own config: `PerLayerX` stands for
every model class `X` of transformers. The file needs transformers alone and travels with every
checkpoint that such a model is saved to (`save_pretrained`, Trainer), so that
`AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` works where Attar is not
installed.
"""

import transformers
from torch import nn

PREFIX = "PerLayer"


class PerLayerMixin:
    """Put before a transformers model class."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        count = config.num_hidden_layers
        lists = (m for m in self.modules() if isinstance(m, nn.ModuleList) and len(m) == count)
        layers = next(lists)  # the outermost comes first
        for i, layer in enumerate(layers):
            layers[i] = type(layer)(config.per_layer_config[i], layer_idx=i)
        self.post_init()

    def save_pretrained(self, *args, **kwargs):
        """Save it under the module's own names: transformers renames nothing when it reads a class
        that is not its own.
        """
        return super().save_pretrained(*args, **{"save_original_format": False, **kwargs})


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
