"""`attar export`."""

from attar.cli.output import ExitCode, Output, require_folder_option, show, show_pairs
from attar.conversion.export import Format, Weights, export_lines
from attar.conversion.export import export as export_model


def export(
    model: str,
    *,
    format: Format = "gguf",
    quantize: Weights | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    output_dir: Output = None,
) -> int:
    """Write a model for another program: a decoder as a GGUF file for llama.cpp, Ollama and LM
    Studio (per-layer results too), or an encoder as an ONNX file.

    Example: `attar export my-model-half --quantize q8_0 -o my-model-gguf`

    The file is then read back and compared with the model.

    Parameters
    ----------
    model
        A folder, a GGUF file or a name on the Hugging Face Hub.
    format
        gguf for decoders, onnx for encoders with or without a head.
    quantize
        The type of the weights. For gguf: f16 (default), f32, bf16, q8_0 or q4_0; the last two take
        about 8.5 and 4.5 bits each. For onnx: f32 (default), f16 or int8, a quarter of f32.
    revision
        Branch, tag or commit on the Hub.
    trust_remote_code
        Run modelling code that comes with the checkpoint.
    output_dir
        Where the file goes; must be new or empty.
    """
    folder = require_folder_option(output_dir)
    run = export_model(
        model,
        format=format,
        quantize=quantize,
        revision=revision,
        trust_remote_code=trust_remote_code,
        output_dir=folder,
    )
    show_pairs(export_lines(run))
    for note in run.details["notes"]:
        show(f"Note: {note}.")
    show(f"\nWritten to {folder}.")
    if format == "gguf":
        show(f"Try it: llama-cli -m {folder / run.details['file']} -p Hello")
    return ExitCode.DONE
