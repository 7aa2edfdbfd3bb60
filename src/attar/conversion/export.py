"""The verb `export`: a model in the format of another program."""

import copy
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.artefacts import require_space
from attar.checkpoint.companions import keep_companions
from attar.checkpoint.gguf import CARD_KEYS, is_gguf
from attar.conversion.gguf_shape import Quantize
from attar.errors import MissingExtraError, require
from attar.report.artefact import artefact
from attar.report.parent_card import inherited
from attar.report.record import Run
from attar.report.units import digits, size
from attar.runtime import place

Format = Literal["gguf", "onnx"]
Weights = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "int8"]
#: the types that a format has, the default one first
_WEIGHTS: Mapping[str, tuple[Weights, ...]] = MappingProxyType(
    {"gguf": ("f16", "f32", "bf16", "q8_0", "q4_0"), "onnx": ("f32", "f16", "int8")}
)
#: packages of each format; the extra that installs them has the name of the format
_PACKAGES = {"gguf": ("gguf",), "onnx": ("onnx", "onnxscript", "onnxruntime")}
#: bytes to spare for all but the weights
_HEADER = 2**24


def export(
    model: str | Path | PreTrainedModel,
    *,
    format: Format = "gguf",
    quantize: Weights | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    output_dir: str | Path,
) -> Run:
    """Write a model for another program: a decoder as a GGUF file for llama.cpp, Ollama and LM
    Studio (per-layer results too), or an encoder as an ONNX file.

    The file is then read back and compared with the model.

    Args:
        model: folder, Hub name or a model.
        format: gguf for decoders, onnx for encoders with or without a head.
        quantize: the type of the weights. GGUF: f32, f16, bf16, and q8_0 and q4_0, which take about
            8.5 and 4.5 bits a number. ONNX: f32, f16 (computed in float32), and int8: matrices and
            embeddings in eight bits, inputs of matrices quantised when they are computed.
            None: f16 for GGUF, f32 for ONNX.
        tokenizer: None: the model's own.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run modelling code that comes with the checkpoint.
        output_dir: where the file goes; must be new or empty.

    Returns:
        The record. Its `details` hold `file`, its `bytes`, the `architecture`, the result of the
        comparison (`check`) and `notes`; for GGUF also llama.cpp's name of the `tokenizer`, for
        ONNX the `inputs` and `outputs`, and where the bytes of the file are (`parts`).

    Raises:
        CompatibilityError: the format cannot hold this model or its tokenizer, or the file gives
            other outputs than the model; the message says why.
        ConfigError: an option is none of those above.
        DataError: the model cannot be read.
        MissingExtraError: the packages of the format are not installed.
        ResourceError: there is no room for the file.
    """
    formats = get_args(Format)
    require(format in formats, "format", format, f"one of {', '.join(formats)}")
    kinds = _WEIGHTS[format]
    quantize = quantize or kinds[0]
    expected = f"one of {', '.join(kinds)} where the format is {format}"
    require(quantize in kinds, "quantize", quantize, expected)
    require_packages(format)
    name = checkpoint.name_of(model)
    settings = {"model": name, "format": format, "quantize": quantize}
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with artefact(output_dir, command="export", settings=settings) as work:
        if work.main:
            loaded = checkpoint.model_of(model, **options)
            tokenizer = checkpoint.tokenizer_of(model, tokenizer, **options)
            if format == "onnx":
                written = write_onnx(
                    work.folder,
                    loaded,
                    tokenizer=tokenizer,
                    quantize=quantize,  # pyright: ignore[reportArgumentType]
                )
                work.run.details = written
                keep_companions(name, work.folder)
            else:
                own = loaded if loaded is not model else copy.deepcopy(loaded)
                file = work.folder / f"{_stem(name)}-{quantize.upper()}.gguf"
                work.run.details = _gguf(
                    file,
                    own,
                    tokenizer,
                    quantize=quantize,  # pyright: ignore[reportArgumentType]
                    card=inherited(name),
                )
    return work.run


def _stem(name: str) -> str:
    """What a model is called in the name of its file."""
    if is_gguf(name):
        return Path(name.rpartition(":")[2]).stem
    return Path(name).resolve().name if name else "model"


def _gguf(
    file: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    quantize: Quantize,
    card: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a GGUF file, with the licence and languages of the model's card, and check it; returns
    the details of the record."""
    # imported here, as the package gguf may be absent
    from attar.conversion import gguf, gguf_check, gguf_shape, gguf_tokenizer

    place(model)
    shape = gguf_shape.shape_of(model)
    vocabulary = gguf_tokenizer.vocabulary_of(tokenizer, model)
    entries = gguf.entries_of(model, shape, quantize=quantize)
    notes = [*shape.notes, *vocabulary.notes]
    for kind, names in gguf.coarser(entries, quantize).items():
        several = len(names) > 1
        what, others = (f"{len(names)} matrices", ", ...") if several else ("a matrix", "")
        which = f"{what} ({names[0]}{others})"
        notes.append(f"{quantize} cannot hold {which}, stored in {kind.lower()}")
    batch = gguf_check.batch_of(tokenizer, model)
    logits = gguf_check.logits_of(model, batch)
    needed = sum(entry.bytes for entry in entries) + _HEADER
    require_space(file.parent, needed=needed, what=f"the {quantize} of this model")
    written: dict[str, Any] = {"shape": shape, "entries": entries, "quantize": quantize}
    name = file.stem.rpartition("-")[0]
    about = {key: card[told] for told, key in CARD_KEYS.items() if told in card}
    if isinstance(languages := about.get(CARD_KEYS["language"]), str):
        about[CARD_KEYS["language"]] = [languages]
    metadata = {"general.name": name, **about, **vocabulary.values}
    gguf.write(file, model, metadata=metadata, **written)
    check = gguf_check.verify(file, model, batch=batch, logits=logits, **written)
    return {
        "file": file.name,
        "bytes": file.stat().st_size,
        "architecture": shape.form.arch,
        "tokenizer": vocabulary.values["tokenizer.ggml.pre"],
        "check": check,
        "notes": notes,
    }


def require_packages(format: Format) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        MissingExtraError: which package, and what to do.
    """
    for package in _PACKAGES[format]:
        if find_spec(package) is None:
            raise MissingExtraError(
                f"writing {format.upper()} needs the package {package}, which is not installed; "
                f"run pip install '.[{format}]' in the checkout of Attar"
            )


def write_onnx(
    folder: Path,
    model: PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase,
    quantize: Literal["f32", "f16", "int8"] = "f32",
    batches: Sequence[Mapping[str, Tensor]] | None = None,
) -> dict[str, Any]:
    """Write `model.onnx`, `config.json` and the tokenizer's files, and compare the file with the
    model.

    Args:
        folder: there, and without such files.
        model: an encoder, with its head if it has one; stays as it is.
        tokenizer: the model's.
        quantize: the type of the weights, as `export` has it.
        batches: tokenized texts on which the file is compared with the model. None: batches made of
            the whole vocabulary.

    Returns:
        `file`, its `bytes`, and where they are (`parts`: `matrices`, `vectors` and the `graph`,
        which is everything but the weights); bytes of each of the `files` of the folder;
        `architecture`, `inputs`, `outputs`, `check` and `notes`.

    Raises:
        CompatibilityError: the model generates text, cannot be traced, or the file gives other
            outputs.
        MissingExtraError: the packages are not installed.
        ResourceError: there is no room.
    """
    require_packages("onnx")
    # imported here, as the package onnxruntime may be absent
    from attar.conversion import onnx
    from attar.conversion.onnx_graph import parts_of

    onnx.require_encoder(model)
    here = {(weight.dtype, weight.device.type) for weight in model.parameters()}
    if here != {(torch.float32, "cpu")}:
        place(model := copy.deepcopy(model).float(), "cpu")
    needed = sum(weight.nbytes for weight in model.parameters()) + _HEADER
    require_space(folder, needed=needed, what="this model in f32")
    inputs, file = onnx.inputs_of(tokenizer), folder / "model.onnx"
    outputs = onnx.write(file, model, inputs=inputs, quantize=quantize)
    check = onnx.verify(file, model, inputs=inputs, quantize=quantize, batches=batches)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {
        "file": file.name,
        "bytes": sum(part.stat().st_size for part in folder.glob(f"{file.name}*")),
        "parts": parts_of(file),
        "files": {each.name: each.stat().st_size for each in sorted(folder.glob("*.*"))},
        "architecture": type(model).__name__,
        "weights": quantize,
        "inputs": inputs,
        "outputs": outputs,
        "check": check,
        "notes": [],
    }


def export_lines(run: Run) -> list[tuple[str, str]]:
    """The record of an export as pairs of label and text."""
    details = run.details
    check = details["check"]
    difference = check["largest_difference"]
    close = f"within {digits(difference)}" if difference else "equal"
    lines = [("file", f"{details['file']}  ({size(details['bytes'])})")]
    if "tokenizer" in details:
        text = f"{details['architecture']}, pre-tokenizer {details['tokenizer']}"
        same = f"{100 * check['same_token']:.0f}% of {check['positions']} positions"
        compared = f"same next token at {same}, logits {close}"
    else:
        text, compared = details["architecture"], f"outputs {close}"
        if details["weights"] != "f32":
            compared += f", {digits(100 * check['relative_difference'])}% off on the whole"
            if "same_class" in check:
                compared += f", same class {100 * check['same_class']:.0f}% of the time"
        parts = ", ".join(f"{name} {size(part)}" for name, part in details["parts"].items())
        lines.append(("weights", f"{details['weights']}: {parts}"))
        lines.append(("inputs", ", ".join(details["inputs"])))
        lines.append(("outputs", ", ".join(details["outputs"])))
    return [*lines, ("architecture", text), ("verified", compared)]
