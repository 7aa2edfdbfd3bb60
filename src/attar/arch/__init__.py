"""`Arch`: a frozen description of one network's widths; `Space`: the networks to choose from.

The keys are those of transformers' configs and of their `per_layer_config`, so that an `Arch` can
be written into a config as it stands.
"""

from attar.arch.network import Arch, LayerShape, layer_keys
from attar.arch.space import Genes, PerLayer, Space, neurons_of

__all__ = ["Arch", "Genes", "LayerShape", "PerLayer", "Space", "layer_keys", "neurons_of"]
