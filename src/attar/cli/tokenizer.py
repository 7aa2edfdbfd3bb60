"""`attar tokenizer`: train, encode, decode, evaluate, compress and decompress."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.data import Text, TextOptions
from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    command,
    note,
    noun,
    paired,
    parse_list,
    require_folder_option,
    require_target,
    show,
    show_or_write,
)
from attar.data.corpus import decode_corpus, encode_corpus, encoded_table
from attar.evaluation.tokenizers import BASELINES, evaluate_tokenizer, score_table
from attar.methods.equal_info import EqualInfoConfig, compress, decompress, train_tokenizer

_OPTIONS = Group("Tokenizer options", sort_key=3)
File = Annotated[Path | None, Parameter(alias="-o")]


def train(
    *,
    data: Text = TextOptions(),
    byte_model: str | None = None,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[EqualInfoConfig, Parameter(name="*", group=_OPTIONS)] = EqualInfoConfig(),
) -> int:
    """Make a tokenizer whose ids are equal-information windows of a byte model's code.

    Example: `attar tokenizer train --data python-stdlib --window-bits 12 -o my-tokenizer`

    Parameters
    ----------
    byte_model
        Folder or Hub name of a causal language model over bytes to use instead of fitting one.
    output_dir
        Where the tokenizer goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = train_tokenizer(
        data.whole(),
        config=config,
        byte_model=byte_model,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    for split, density in run.quality.items():
        show(
            f"{split}: {density['bytes_per_window']:.2f} bytes per window, "
            f"{density['bytes_per_id']:.2f} per id"
        )
    after = command("tokenizer", "evaluate", folder, *data.words())
    show(f"\nWritten to {folder}. Next: {after}")
    return ExitCode.DONE


def encode(
    model: str,
    *,
    data: Text = TextOptions(),
    context: int | None = None,
    workers: int = 1,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
) -> int:
    """Encode a text into Parquet shards of ids, which `attar pretrain` and Trainer read.

    Example: `attar tokenizer encode my-tokenizer --data books.txt --workers 2 -o books-ids`

    Parameters
    ----------
    model
        Folder of a tokenizer that `attar tokenizer train` made.
    context
        Ids in a row, all of one length; a document a row when not given.
    workers
        Processes; the shards do not depend on it.
    output_dir
        Where the shards go; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = encode_corpus(
        model,
        data.whole(),
        context=context,
        workers=workers,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(encoded_table(run))
    after = command("pretrain", "--data", folder, "-o", f"{folder}-model")
    show(f"\nWritten to {folder}. Next: {after}")
    return ExitCode.DONE


def decode(model: str, *, output_file: File = None) -> int:
    """Write the documents of an encoded folder as .jsonl, with the columns split and text.

    Parameters
    ----------
    model
        A folder that `attar tokenizer encode` wrote, with the tokenizer in it.
    output_file
        The .jsonl file; must not exist. The folder's name with .jsonl when not given.
    """
    run = decode_corpus(model, output_file=output_file)
    show(f"{run.details['documents']:,} documents written to {run.settings['output_file']}")
    return ExitCode.DONE


def evaluate(
    model: str,
    *,
    data: Text = TextOptions(),
    baselines: str = ",".join(BASELINES),
    max_bytes: int = 1_000_000,
    verify: bool = False,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
) -> int:
    """Compare a tokenizer with bytes, subwords and plain compression, on held-out text.

    How much text an id holds is not how well a model learns from it: train one with each tokenizer
    (`attar pretrain --tokenizer`) and compare bits per byte.

    Parameters
    ----------
    model
        Folder of a tokenizer that `attar tokenizer train` made.
    baselines
        Baselines, separated by commas: bytes, bpe (always included), unigram, static ac, ac, gzip.
    max_bytes
        Bytes of the test split that are read.
    verify
        Also check the tokenizer: its hash, its strings, and that texts and random bytes decode to
        what was encoded.
    output_dir
        Write the record (attar.json) into this folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = evaluate_tokenizer(
        model,
        data.whole(),
        baselines=parse_list(baselines),
        max_bytes=max_bytes,
        verify=verify,
        output_dir=output_dir,
        recipe=recipe,
    )
    text = score_table(run)
    if verify:
        checked = paired((name, f"{count:,}") for name, count in run.details["verified"].items())
        text += (
            f"\n\nThe tokenizer passed all checks. Decoded to exactly what was encoded:\n{checked}"
        )
    show_or_write(run.to_dict(), text, target=json_to)
    return ExitCode.DONE


def compress_file(model: str, file: Path, *, output_file: File = None) -> int:
    """Compress any file into windows, checked while it is written; xz usually compresses better.

    Parameters
    ----------
    model
        Folder of a tokenizer that `attar tokenizer train` made; it is needed to get the file back.
    file
        What to compress.
    output_file
        Where it goes; the file's name with .eqiw when not given.
    """
    run = compress(model, file, output_file=output_file)
    before, after = run.details["bytes_before"], run.details["bytes_after"]
    share = f", {8 * after / before:.3f} bits per byte" if before else ""
    show(f"Compressed {before:,} bytes to {after:,}{share}: {run.settings['output_file']}")
    return ExitCode.DONE


def decompress_file(
    model: str, file: Path, *, output_file: File = None, recover: bool = False
) -> int:
    """Restore a file that `attar tokenizer compress` wrote.

    Parameters
    ----------
    model
        Folder of the tokenizer that it was written with.
    file
        The compressed file.
    output_file
        Where the original goes; the name without .eqiw when not given.
    recover
        Write all that can be read of a damaged file, and report what is lost.
    """
    run = decompress(model, file, output_file=output_file, recover=recover)
    show(f"{run.details['bytes_after']:,} bytes written to {run.settings['output_file']}")
    for sentence in run.details["damage"]:
        note(f"damaged: {sentence}")
    return ExitCode.FAILED if run.details["damage"] else ExitCode.DONE


def __getattr__(name: str) -> App:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return noun(
        "tokenizer",
        "Make and use a tokenizer that a language model built (Equal-Info Windows).",
        {
            "train": train,
            "encode": encode,
            "decode": decode,
            "evaluate": evaluate,
            "compress": compress_file,
            "decompress": decompress_file,
        },
    )
