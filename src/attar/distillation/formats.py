"""What of a student lies on disk, in each number format, and how many bytes it takes."""

import copy
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from transformers import PreTrainedModel, PreTrainedTokenizerFast, RobertaForSequenceClassification

from attar import checkpoint
from attar.checkpoint.sources import bars_on_terminals
from attar.conversion.export import write_onnx
from attar.data.vocabulary import save_vocabulary
from attar.distillation.config import BYTES_PER_PARAMETER, Storage
from attar.methods.compressor import EncoderShape, StudentCosts

#: folder of the file that counts where weights are stored in int8
ONNX_FOLDER = "onnx-int8"
#: that a name, a width and two places in a file may be longer by
_DIGITS = 8
#: bytes of a quantised ONNX file besides its numbers, and of each layer, as measured from 2 layers
#: to 12; every plan that is listed is exported to see
_GRAPH = (1_800, 740)
#: bytes of config.json, which hardly depend on the shape
_CONFIG = 900
_PARTS = {"model.safetensors": "weights", "model.onnx": "weights", "config.json": "config"}


def save(
    student: PreTrainedModel,
    folder: Path,
    *,
    tokenizer: PreTrainedTokenizerFast,
    storage: Storage,
) -> str:
    """Write a student: a checkpoint, and for int8 a quantised ONNX file in a folder beside it.

    Returns:
        The form of the checkpoint, as from `checkpoint.save`.

    Raises:
        CompatibilityError: the quantised file answers otherwise than the student; nothing is kept
            of it.
        MissingExtraError: the packages of ONNX are not installed.
    """
    if storage == "int8":
        shutil.rmtree(folder / ONNX_FOLDER, ignore_errors=True)  # of a run that was interrupted
        (folder / ONNX_FOLDER).mkdir()
        _write_int8(student, folder / ONNX_FOLDER, tokenizer=tokenizer)
    form = checkpoint.save(student.half() if storage == "float16" else student, folder)
    save_vocabulary(tokenizer, folder)
    return form


def as_stored(student: PreTrainedModel, folder: Path, *, storage: Storage) -> Any:
    """What answers as the files that count do: the student itself, or for int8 what reads its
    quantised file."""
    if storage != "int8":
        return student
    from attar.conversion.onnx import FileClassifier  # needs packages that may be absent

    return FileClassifier(folder / ONNX_FOLDER / "model.onnx", student)


def bytes_on_disk(folder: Path, *, storage: Storage) -> dict[str, int]:
    """Bytes of what a program needs to run a student that was saved: `weights` (for int8 with the
    graph), `tokenizer` and `config`."""
    parts = {"weights": 0, "tokenizer": 0, "config": 0}
    for file in (folder / ONNX_FOLDER if storage == "int8" else folder).iterdir():
        if file.name in _PARTS:
            parts[_PARTS[file.name]] += file.stat().st_size
        elif file.name.startswith("tokenizer"):
            parts["tokenizer"] += file.stat().st_size
    return parts


def bytes_of(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, storage: Storage
) -> dict[str, int]:
    """`bytes_on_disk` of a student in float32 that is not saved."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        if storage == "int8":
            (folder / ONNX_FOLDER).mkdir()
            _write_int8(_as_trained(student), folder / ONNX_FOLDER, tokenizer=tokenizer)
        else:
            with bars_on_terminals():
                (student.half() if storage == "float16" else student).save_pretrained(folder)
            student.float()
            save_vocabulary(tokenizer, folder)
        return bytes_on_disk(folder, storage=storage)


def costs(storage: Storage) -> StudentCosts:
    """How the bytes of students are counted before they are built."""
    fixed, each = _overhead(storage)
    counted = StudentCosts(
        bytes_per_param=BYTES_PER_PARAMETER[storage],
        config_bytes=_CONFIG,
        overhead_bytes=fixed,
        layer_overhead_bytes=each,
    )
    if storage != "int8":
        return counted
    # norms, biases and a scale for each output of a linear layer are in float16
    return replace(counted, vector_bytes=2, channel_bytes=2)


def _write_int8(
    student: PreTrainedModel, folder: Path, *, tokenizer: PreTrainedTokenizerFast
) -> None:
    write_onnx(folder, student, tokenizer=tokenizer, quantize="int8")
    save_vocabulary(tokenizer, folder)  # in fewer bytes


def _as_trained(student: PreTrainedModel) -> PreTrainedModel:
    """A copy in which no bias is zero and no norm is one: those would not be written."""
    moved = copy.deepcopy(student)
    generator = torch.Generator().manual_seed(0)
    for p in moved.parameters():
        p.data += 0.01 * torch.randn(p.shape, generator=generator)
    return moved


def _overhead(storage: Storage) -> tuple[int, int]:
    """Bytes of a student's file besides its numbers, and of each layer of it: the graph, or names
    and shapes."""
    if storage == "int8":
        return _GRAPH
    one, two = _besides_numbers(1), _besides_numbers(2)
    return 2 * one - two, two - one


@cache
def _besides_numbers(layers: int) -> int:
    widths = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
    shape = EncoderShape(vocab_size=300, num_hidden_layers=layers, **widths)
    with torch.random.fork_rng():
        student = RobertaForSequenceClassification(shape.config(outputs=2, context=62))
    tensors = student.state_dict()
    numbers = sum(tensor.nbytes for tensor in tensors.values())
    # numbers of layers and places in the file have more digits in a larger model
    return len(safetensors_bytes(tensors)) - numbers + _DIGITS * len(tensors)
