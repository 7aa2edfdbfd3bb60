"""A model that costs more and says the same: layers and neurons whose outputs are zero."""

import torch
from transformers import LlamaForCausalLM, PreTrainedModel


@torch.no_grad()
def grow(model: PreTrainedModel, *, layers: int, neurons: int) -> LlamaForCausalLM:
    """A Llama with more layers and wider feed-forward layers, of the same function.

    What is added has random weights and is computed like the rest, but its last projection is zero.
    The model's own layers are spread among the new ones.
    """
    config = type(model.config)(**model.config.to_dict())
    config.num_hidden_layers, config.intermediate_size = layers, neurons
    torch.manual_seed(0)
    grown = LlamaForCausalLM(config).to(model.dtype).eval()
    old = model.config.num_hidden_layers
    places = {round(i * (layers - 1) / max(1, old - 1)): i for i in range(old)}
    assert len(places) == old, "no room for the model's own layers"
    stored, made = model.state_dict(), grown.state_dict()
    for name, weight in made.items():
        parts = name.split(".")
        if parts[:2] != ["model", "layers"]:
            weight.copy_(stored[name])
            continue
        number = int(parts[2])
        if number not in places:
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
            continue
        parts[2] = str(places[number])
        own = stored[".".join(parts)]
        if name.endswith("down_proj.weight"):
            weight.zero_()
            weight[:, : own.shape[1]] = own
        elif "mlp" in name:
            weight[: own.shape[0]] = own
        else:
            weight.copy_(own)
    grown.generation_config = model.generation_config
    return grown
