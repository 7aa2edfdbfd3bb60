"""The feed-forward networks of any known model."""

from transformers import PreTrainedModel

from attar.families.body import Body
from attar.families.encoder_decoder import EncoderDecoder, is_encoder_decoder


def feed_forward_modules(model: PreTrainedModel) -> list[tuple[str, ...]]:
    """Names in the model of the linear modules of every feed-forward network, one tuple per layer,
    its output last; of an encoder-decoder those of the encoder, then those of the decoder.

    Raises:
        CompatibilityError: the model is of no known family.
    """
    if is_encoder_decoder(model):
        return [
            stack.feed_forward(index)
            for stack in EncoderDecoder(model).stacks
            for index in range(len(stack.layers))
        ]
    body = Body(model)
    names = (*body.family.mlp_in, body.family.mlp_out)
    return [
        tuple(body.layer_prefix(index) + name for name in names)
        for index in range(len(body.layer_list))
    ]
