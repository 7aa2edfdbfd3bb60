"""An encoder, with its head if it has one, as an ONNX file that is checked in onnxruntime."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.errors import CompatibilityError
from attar.models import has_cache, inference, positions_of

#: relative difference of outputs that other kernels may cause in float32
_ROUNDING = 1e-3
#: rows and tokens of the batch that is traced, and of those that are compared
_TRACED = (2, 12)
_COMPARED = ((1, 1), (2, 12), (3, 7))
#: bytes of weights above which they go to a file of their own, as protobuf ends at 2 GB
_ONE_FILE = 1_500_000_000


def require_encoder(model: PreTrainedModel) -> None:
    """Refuse a model that generates text.

    Raises:
        CompatibilityError: it does.
    """
    both = model.config.is_encoder_decoder
    if has_cache(model) or both:
        remedy = "no other format takes it either" if both else "export it with --format gguf"
        raise CompatibilityError(
            f"only encoders can be exported to ONNX, and {model.name_or_path or 'this model'} is a "
            f"{type(model).__name__}, which generates text; {remedy}"
        )


class _Traced(nn.Module):
    """A model as a function of tensors alone, whose outputs have names."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        output = self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=True)
        return {name: value for name, value in output.items() if isinstance(value, Tensor)}


def inputs_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Names of the model's inputs for a text."""
    types = "token_type_ids"
    return ["input_ids", "attention_mask", *([types] * (types in tokenizer.model_input_names))]


def write(path: Path, model: PreTrainedModel, *, inputs: list[str]) -> list[str]:
    """Write the file, for any batch size and any length that the model reads.

    Args:
        path: a new file.
        model: in float32, on the CPU.
        inputs: names from `inputs_of`.

    Returns:
        The names of the outputs.

    Raises:
        CompatibilityError: the model cannot be traced.
    """
    traced = _Traced(model, inputs)
    given = tuple(_batch(model, inputs, shape=_TRACED).values())
    rows, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=positions_of(model))
    heavy = sum(weight.nbytes for weight in model.parameters()) > _ONE_FILE
    with _quiet(), inference(model):
        outputs = list(traced(*given))
        try:
            torch.onnx.export(
                traced,
                given,
                path,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes={"inputs": tuple({0: rows, 1: tokens} for _ in given)},
                dynamo=True,
                external_data=heavy,
                verbose=False,
            )
        except Exception as error:  # from torch.export, onnxscript and others
            raise CompatibilityError(
                f"cannot write {model.name_or_path or 'this model'} ({type(model).__name__}) as "
                f"ONNX: torch cannot trace it ({' '.join(str(error).split())[:200]})"
            ) from error
    return outputs


def verify(path: Path, model: PreTrainedModel, *, inputs: list[str]) -> dict[str, float]:
    """Run a file in onnxruntime and compare it with the model, on padded batches of several shapes.

    Returns:
        The largest `relative_difference` of an output, `|a - b| / |a|`, and the
        `largest_difference` of a single value.

    Raises:
        CompatibilityError: the file gives other outputs than the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    most = positions_of(model) or max(tokens for _, tokens in _COMPARED)
    largest = relative = 0.0
    for rows, tokens in _COMPARED:
        batch = _batch(model, inputs, shape=(rows, min(tokens, most)))
        theirs: Any = session.run(None, {name: value.numpy() for name, value in batch.items()})
        with inference(model):
            ours = _Traced(model, inputs)(*batch.values())
        for a, b in zip(ours.values(), map(torch.from_numpy, theirs), strict=True):
            if a.shape[:2] == batch["input_ids"].shape:  # outputs at padding are meaningless
                text = batch["attention_mask"].bool()
                a, b = a[text], b[text]
            difference = a - b
            largest = max(largest, float(difference.abs().max()))
            relative = max(relative, float(difference.norm() / a.norm().clamp(min=1e-30)))
    if not relative <= _ROUNDING:
        raise CompatibilityError(
            "this model cannot be written as ONNX: in onnxruntime its outputs differ by "
            f"{relative:.2g} (relative); nothing was kept"
        )
    return {"relative_difference": relative, "largest_difference": largest}


def _batch(
    model: PreTrainedModel, inputs: list[str], *, shape: tuple[int, int]
) -> dict[str, Tensor]:
    """Rows of ids spread over the vocabulary, of which all but the first end in padding."""
    rows, tokens = shape
    vocabulary = len(model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]
    ids = (torch.arange(rows * tokens) * 7919 % vocabulary).view(rows, tokens)
    mask = torch.ones_like(ids)
    mask[1:, (tokens + 1) // 2 :] = 0
    whole = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: whole[name] for name in inputs}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of the exporter about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
