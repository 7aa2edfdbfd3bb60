"""An encoder, with its head if it has one, as an ONNX file that is checked in onnxruntime."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal

import onnxruntime
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.conversion.onnx_graph import ONE_FILE, Graph, slim
from attar.conversion.onnx_quantise import to_float16, to_int8
from attar.errors import CompatibilityError
from attar.models import has_cache, inference, positions_of

Weights = Literal["f32", "f16", "int8"]
"""The type of the weights in a file."""

#: largest relative difference of outputs, `|a - b| / |a|`. f32: that of other kernels. f16: weights
#: are off by 0.05% at most, and outputs by about as much. int8: wrong weights give about 1.4; with
#: inputs in eight bits too the logits of small random encoders move by 0.01 to 0.04, and the hidden
#: states of MiniLM, which has outliers, by 0.17 where tokens come from the whole vocabulary
_LIMITS: Mapping[Weights, float] = MappingProxyType({"f32": 1e-3, "f16": 0.02, "int8": 0.3})
#: the first operators that have attention as one of them; and those for models with rotary
#: positions, for which torch writes 23 in a way that onnxruntime does not take
_OPSET, _ROTARY_OPSET = 23, 20
#: outputs with one number for each token
_ENDS = ("start_logits", "end_logits")
#: rows and tokens of the batch that is traced, and of those that are compared
_TRACED = (2, 12)
_COMPARED = ((1, 1), (2, 12), (3, 7), (16, 48))


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


def write(
    path: Path, model: PreTrainedModel, *, inputs: list[str], quantize: Weights = "f32"
) -> list[str]:
    """Write the file, for any batch size and any length that the model reads.

    Args:
        path: a new file.
        model: in float32, on the CPU.
        inputs: names from `inputs_of`.
        quantize: the type of its weights. f16 is computed in float32.

    Returns:
        The names of the outputs.

    Raises:
        CompatibilityError: the model cannot be traced.
    """
    traced = _Traced(model, inputs)
    given = tuple(_batch(model, inputs, shape=_TRACED).values())
    rows, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=positions_of(model))
    heavy = sum(weight.nbytes for weight in model.parameters()) > ONE_FILE
    rotary = any("Rotary" in type(module).__name__ for module in model.modules())
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
                opset_version=_ROTARY_OPSET if rotary else _OPSET,
                external_data=heavy,
                verbose=False,
            )
        except Exception as error:  # from torch.export, onnxscript and others
            raise CompatibilityError(
                f"cannot write {model.name_or_path or 'this model'} ({type(model).__name__}) as "
                f"ONNX: torch cannot trace it ({' '.join(str(error).split())[:200]})"
            ) from error
    if quantize != "f32" or not heavy:  # notes are nothing beside so many weights
        graph = Graph.read(path)
        slim(graph)
        if quantize != "f32":
            (to_int8 if quantize == "int8" else to_float16)(graph)
        graph.write(path)
    return outputs


class FileClassifier(nn.Module):
    """A classifier's ONNX file, called like the model that it was written of: keyword tensors give
    an output with `logits` `(N, C)`. It computes with as many threads as torch has at the time.

    Args:
        path: the file.
        model: that it was written of, on the CPU; it is asked for all but its answers.
    """

    def __init__(self, path: Path, model: PreTrainedModel) -> None:
        super().__init__()
        self._path, self._sessions = path, dict[int, onnxruntime.InferenceSession]()
        self.model, self.config, self.device = model, model.config, model.device

    def get_input_embeddings(self) -> nn.Module:
        """Of the model."""
        return self.model.get_input_embeddings()

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """Logits of a batch."""
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.log_severity_level, options.intra_op_num_threads = 4, threads
            self._sessions[threads] = onnxruntime.InferenceSession(
                self._path, options, providers=["CPUExecutionProvider"]
            )
        session = self._sessions[threads]
        given = {value.name: inputs[value.name].numpy() for value in session.get_inputs()}
        (logits,) = session.run(["logits"], given)
        return SimpleNamespace(logits=torch.from_numpy(logits))


def verify(
    path: Path,
    model: PreTrainedModel,
    *,
    inputs: list[str],
    quantize: Weights = "f32",
    batches: Sequence[Mapping[str, Tensor]] | None = None,
) -> dict[str, float]:
    """Run a file in onnxruntime and compare it with the model.

    Args:
        path: the file.
        model: in float32, on the CPU.
        inputs: names from `inputs_of`.
        quantize: the type of the weights in the file, on which the limit depends.
        batches: what they are compared on, as a tokenizer gives it. None: padded batches of several
            shapes, with tokens from the whole vocabulary.

    Returns:
        The largest `relative_difference` of an output, `|a - b| / |a|` over all rows;
        the `largest_difference` of a single value and the `mean_difference`; of a model that has
        classes also `same_class`, the share of rows, or of words, with the same class.

    Raises:
        CompatibilityError: the file gives other outputs than the model.
    """
    most = positions_of(model) or max(tokens for _, tokens in _COMPARED)
    if batches is None:
        shapes = [(rows, min(tokens, most)) for rows, tokens in _COMPARED]
        batches = [_batch(model, inputs, shape=shape) for shape in shapes]
    pairs = _outputs(path, model, inputs=inputs, batches=batches)
    every = torch.cat([(a - b).abs().flatten() for a, b in pairs.values()])
    relative = [float((a - b).norm() / a.norm().clamp(min=1e-30)) for a, b in pairs.values()]
    check = {
        "relative_difference": max(relative),
        "largest_difference": float(every.max()),
        "mean_difference": float(every.mean()),
    }
    if "logits" in pairs and pairs["logits"][0].shape[-1] > 1:
        several = getattr(model.config, "problem_type", None) == "multi_label_classification"
        check["same_class"] = _same_class(*pairs["logits"], several=several)
    if not check["relative_difference"] <= _LIMITS[quantize]:
        what = "written as ONNX" if quantize == "f32" else f"written as ONNX in {quantize}"
        remedy = "" if quantize == "f32" else "; write it in f32, or train it longer"
        raise CompatibilityError(
            f"this model cannot be {what}: in onnxruntime its outputs differ by "
            f"{check['relative_difference']:.2g} (relative), and {_LIMITS[quantize]:g} is the "
            f"most{remedy}; nothing was kept"
        )
    return check


def _same_class(ours: Tensor, theirs: Tensor, *, several: bool) -> float:
    """Share of rows `(N, C)` with the same class, or of classes that are on or off alike."""
    if several:
        return float(((ours > 0) == (theirs > 0)).float().mean())
    return float((ours.argmax(-1) == theirs.argmax(-1)).float().mean())


def _outputs(
    path: Path,
    model: PreTrainedModel,
    *,
    inputs: list[str],
    batches: Sequence[Mapping[str, Tensor]],
) -> dict[str, tuple[Tensor, Tensor]]:
    """Outputs of the model and of the file for each text, or for each word that is no padding."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
        answers: list[Any] = [
            session.run(None, {name: batch[name].numpy() for name in inputs}) for batch in batches
        ]
    except Exception as error:  # onnxruntime's have no base of their own
        raise CompatibilityError(
            f"onnxruntime {onnxruntime.__version__} cannot run what torch wrote of this "
            f"{type(model).__name__} ({' '.join(str(error).split())[:200]}); nothing was kept"
        ) from error
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for batch, theirs in zip(batches, answers, strict=True):
        with inference(model):
            ours = _Traced(model, inputs)(*(batch[name] for name in inputs))
        text = batch["attention_mask"].bool()
        for (name, a), b in zip(ours.items(), map(torch.from_numpy, theirs), strict=True):
            if a.shape[:2] == text.shape and (a.ndim == 3 or name in _ENDS):
                a, b = a[text], b[text]
            found.setdefault(name, []).append((a, b))
    whole = {
        name: [torch.cat(side) for side in zip(*parts, strict=True)]
        for name, parts in found.items()
    }
    return {name: (a, b) for name, (a, b) in whole.items()}


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
