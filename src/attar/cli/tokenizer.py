"""`attar tokenizer`: fit, encode, decode, report, verify, train-lm, compress and decompress."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.app import ExitCode, parse_list, require_folder_option
from attar.cli.output import bits_lines, note, require_target, show, show_pairs, write_json
from attar.coding.archive import compress, decompress
from attar.data.corpus import decode_corpus, encode_corpus
from attar.data.text import load_text
from attar.errors import ConfigError
from attar.evaluation.tokenizers import BASELINES, Row, tokenizer_report, verify
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import fit_tokenizer, load_equal_info
from attar.report.record import Run
from attar.report.tables import Table
from attar.train.pretrain import PretrainConfig, pretrain

_OPTIONS = Group("Tokenizer options", sort_key=1)
_TRAINING = Group("Model and training options", sort_key=1)
_FEW = 10_000  # bytes of text below which a report warns


def fit(
    *,
    data: str = "python-stdlib",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    byte_model: str | None = None,
    data_config: str | None = None,
    text_column: str = "text",
    resume: bool = False,
    options: Annotated[EqualInfoConfig, Parameter(name="*", group=_OPTIONS)] = EqualInfoConfig(),
) -> int:
    """Make a tokenizer whose ids are equal-information windows of a byte model's code.

    Example: `attar tokenizer fit --data python-stdlib --window-bits 12 -o my-tokenizer`

    Parameters
    ----------
    data
        Text for the byte model: a Hub name, a .txt, .jsonl, .parquet, .csv or .tsv file (also
        .gz), a folder of them, or python-stdlib.
    output_dir
        Where the tokenizer goes; must be new or empty.
    byte_model
        Folder or Hub name of a causal language model over bytes to use instead of fitting one.
    data_config
        The configuration of a Hub data set.
    text_column
        The column that holds the text.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = fit_tokenizer(
        data,
        output_dir=folder,
        config=options,
        byte_model=byte_model,
        data_config=data_config,
        text_column=text_column,
        resume=resume,
    )
    for split, found in run.quality.items():
        show(
            f"{split}: {found['bytes_per_window']:.2f} bytes for each window, "
            f"{found['bytes_per_id']:.2f} for each id"
        )
    show(f"\nWritten to {folder}. Next: attar tokenizer report {folder} --data {data}")
    return ExitCode.DONE


def encode(
    tokenizer: str,
    *,
    data: str = "python-stdlib",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    block_size: int | None = None,
    workers: int = 1,
    data_config: str | None = None,
    text_column: str = "text",
    resume: bool = False,
) -> int:
    """Encode a text into Parquet shards of ids, which `attar pretrain` and Trainer read.

    Example: `attar tokenizer encode my-tokenizer --data books.txt --workers 2 -o books-ids`

    Parameters
    ----------
    tokenizer
        Folder of a tokenizer that `attar tokenizer fit` made.
    data
        A Hub name, a .txt, .jsonl, .parquet, .csv or .tsv file (also .gz), a folder of them, or
        python-stdlib.
    output_dir
        Where the shards go; must be new or empty.
    block_size
        Ids in a row, all of one length; a document a row when not given.
    workers
        Processes; the shards do not depend on it.
    data_config
        The configuration of a Hub data set.
    text_column
        The column that holds the text.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = encode_corpus(
        tokenizer,
        data,
        output_dir=folder,
        block_size=block_size,
        workers=workers,
        data_config=data_config,
        text_column=text_column,
        resume=resume,
    )
    show(_encoded(run))
    show(f"\nWritten to {folder}. Next: attar pretrain --data {folder} -o my-model")
    return ExitCode.DONE


def _encoded(run: Run) -> str:
    rows = [
        [
            split,
            *(f"{found[key]:,}" for key in ("documents", "bytes", "ids")),
            f"{found['bytes_per_id']:.2f}",
        ]
        for split, found in run.quality.items()
    ]
    return str(Table(["Split", "Documents", "Bytes", "Ids", "Bytes per id"], rows))


def decode(encoded: str, *, output_file: Annotated[Path, Parameter(alias="-o")]) -> int:
    """Write the documents of an encoded folder as .jsonl, with the columns split and text.

    Parameters
    ----------
    encoded
        A folder that `attar tokenizer encode` wrote.
    output_file
        The .jsonl file; must not exist.
    """
    count = decode_corpus(encoded, output_file=output_file)
    show(f"{count:,} documents written to {output_file}")
    return ExitCode.DONE


def report(
    tokenizer: str,
    *,
    data: str = "python-stdlib",
    baselines: str = ",".join(BASELINES),
    max_bytes: int = 1_000_000,
    data_config: str | None = None,
    text_column: str = "text",
    json_to: Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
) -> int:
    """Put a tokenizer beside bytes, subwords and plain compression, on text none has seen.

    How much text an id holds is not how well a model learns from it: train one with each tokenizer
    (`attar tokenizer train-lm`) and compare bits per byte.

    Parameters
    ----------
    tokenizer
        Folder of a tokenizer that `attar tokenizer fit` made.
    data
        Its training split fits the baselines, its test split is measured.
    baselines
        Some of bytes, bpe, unigram, static ac, ac and gzip, with commas; bpe always is there.
    max_bytes
        Bytes of the test split that are read.
    data_config
        The configuration of a Hub data set.
    text_column
        The column that holds the text.
    json_to
        Write the figures as JSON to this file; `-` prints JSON instead of the table.
    """
    require_target(json_to)
    found = load_equal_info(tokenizer)
    documents = load_text(data, config=data_config, text_column=text_column)
    rows = tokenizer_report(
        found,
        documents["test"]["text"],
        train_texts=documents["train"]["text"],
        baselines=parse_list(baselines),
        max_bytes=max_bytes,
    )
    if rows[0].bytes < _FEW:
        note(
            f"warning: read {rows[0].bytes:,} bytes only, figures are rough; give more text or a "
            "larger --max-bytes"
        )
    if json_to != "-":
        show(_compared(rows))
    if json_to:
        write_json(json_to, {"data": data, "rows": [row.to_dict() for row in rows]})
    return ExitCode.DONE


def _compared(rows: list[Row]) -> str:
    head = [
        "Tokenizer",
        "Ids",
        "Bytes per id",
        "Ids per kB",
        "Uniform",
        "Unigram",
        "Stable",
        "MB/s",
    ]
    body = [
        [
            row.name,
            f"{row.vocabulary:,}",
            f"{row.bytes_per_id:.2f}",
            f"{row.ids_per_kilobyte:.0f}",
            f"{row.uniform:.3f}",
            f"{row.unigram:.3f}",
            f"{row.stability:.0%}",
            f"{row.megabytes_per_second:.3g}",
        ]
        for row in rows
    ]
    return (
        f"{Table(head, body)}\n\nOn {rows[0].bytes:,} bytes, of which the arithmetic coders read "
        "100,000 at most. Uniform, Unigram: bits per byte of a model that has learned "
        "nothing, and of one that knows how often each id occurs. Stable: share of the ids of "
        "200 characters that stay when the first word is another. What a model learns takes a "
        "training to say: attar tokenizer train-lm."
    )


def check(
    tokenizer: str,
    *,
    data: str = "python-stdlib",
    data_config: str | None = None,
    text_column: str = "text",
) -> int:
    """Check a tokenizer: its hash, its strings, and that texts and random bytes come back.

    Parameters
    ----------
    tokenizer
        Folder of a tokenizer that `attar tokenizer fit` made.
    data
        Text whose test split is encoded and decoded.
    data_config
        The configuration of a Hub data set.
    text_column
        The column that holds the text.
    """
    found = load_equal_info(tokenizer)
    documents = load_text(data, config=data_config, text_column=text_column)
    checked = verify(found, documents["test"]["text"])
    lines = [(name, f"{count:,} in order") for name, count in checked.items()]
    if "strings" not in checked:
        lines.append(("strings", f"not listed for windows of {found.window_bits} bits"))
    show_pairs([("dictionary", found.codec["sha256"]), *lines])
    return ExitCode.DONE


def train_lm(
    tokenizer: str,
    *,
    data: str = "python-stdlib",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    resume: bool = False,
    options: Annotated[PretrainConfig, Parameter(name="*", group=_TRAINING)] = PretrainConfig(),
) -> int:
    """Train a small language model with a tokenizer, and say what its bits per byte are worth.

    Example: `attar tokenizer train-lm my-tokenizer --max-steps 500 -o my-model`

    Parameters
    ----------
    tokenizer
        Folder or Hub name of any tokenizer.
    data
        Text to train on, best not what the tokenizer was fitted on.
    output_dir
        Where the model goes; must be new or empty.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = pretrain(data, config=options, output_dir=folder, tokenizer=tokenizer, resume=resume)
    found = run.details["bits_per_byte"]
    show(str(run))
    show("")
    show_pairs(bits_lines(found))
    show(f"\nWritten to {folder}. Next: attar evaluate {folder} --bpb")
    return ExitCode.DONE


def squeeze(
    tokenizer: str, file: Path, *, output_file: Annotated[Path | None, Parameter(alias="-o")] = None
) -> int:
    """Compress any file into windows, checked while it is written; xz mostly makes it smaller.

    Parameters
    ----------
    tokenizer
        Folder of a tokenizer that `attar tokenizer fit` made; it is needed to get the file back.
    file
        What to compress.
    output_file
        Where it goes; the file's name with .eqiw when not given.
    """
    target = output_file or Path(f"{file}.eqiw")
    before, after = compress(file, tokenizer=load_equal_info(tokenizer), output_file=target)
    share = f", {8 * after / before:.3f} bits for each byte" if before else ""
    show(f"{before:,} bytes are {after:,}{share}, in {target}")
    return ExitCode.DONE


def unsqueeze(
    tokenizer: str,
    file: Path,
    *,
    output_file: Annotated[Path | None, Parameter(alias="-o")] = None,
    recover: bool = False,
) -> int:
    """Get a file back that `attar tokenizer compress` wrote.

    Parameters
    ----------
    tokenizer
        Folder of the tokenizer that it was written with.
    file
        The compressed file.
    output_file
        Where the original goes; the name without .eqiw when not given.
    recover
        Of a damaged file write all that can be read, and say what is lost.
    """
    if output_file is None and file.suffix != ".eqiw":
        raise ConfigError(f"say where the result goes: --output-file (found {file})")
    target = output_file or file.with_suffix("")
    found = decompress(
        file, tokenizer=load_equal_info(tokenizer), output_file=target, recover=recover
    )
    show(f"{found.bytes:,} bytes written to {target}")
    for one in found.damage:
        note(f"damaged: {one}")
    return ExitCode.FAILED if found.damage else ExitCode.DONE


app = App(
    name="tokenizer",
    help="Make and use a tokenizer that a language model built (Equal-Info Windows).",
)
app.command(fit)
app.command(encode)
app.command(decode)
app.command(report)
app.command(check, name="verify")
app.command(train_lm, name="train-lm")
app.command(squeeze, name="compress")
app.command(unsqueeze, name="decompress")
