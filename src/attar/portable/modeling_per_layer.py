"""A transformers model whose layers differ in width, as `per_layer_config` of its config says.

transformers writes and reads `per_layer_config`, but its model classes still build every layer from
the global widths. This mixin rebuilds each layer from its own config. The file needs transformers
alone and travels with every per-layer checkpoint, so that
`AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` works where Attar is not
installed.
"""


class PerLayerMixin:
    """Put before a transformers model class; `layers_path` names the list of layers inside the
    model.
    """

    layers_path = "model.layers"

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        layers = self.get_submodule(self.layers_path)
        for i, layer in enumerate(layers):
            layers[i] = type(layer)(config.per_layer_config[i], layer_idx=i)
        self.post_init()
