"""Text that was encoded beforehand: a folder of ids, and the tokenizer that gives it back."""

from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from attar.data.text import SPLITS, progress_only_on_terminals
from attar.errors import DataError

NAME = "{split}-{i:05d}-of-{n:05d}.parquet"
"""The files of a split, with a column `input_ids`."""


def is_encoded(source: object) -> bool:
    """Whether this is a folder that `attar tokenizer encode` wrote."""
    if not isinstance(source, str | Path):
        return False
    return (
        bool(encoded_files(source, "train")) and (Path(source) / "tokenizer_config.json").exists()
    )


def encoded_files(folder: str | Path, split: str) -> list[Path]:
    """The files of a split, in order."""
    return sorted(Path(folder).expanduser().glob(f"{split}-*-of-*.parquet"))


def load_encoded(folder: str | Path) -> DatasetDict:
    """The rows of ids in an encoded folder, by split.

    Raises:
        DataError: a split has no files, or one is missing or damaged.
    """
    found = DatasetDict()
    for split in SPLITS:
        files = encoded_files(folder, split)
        whole = int(files[0].stem.rpartition("-")[2]) if files else 0
        if not files or len(files) != whole:
            raise DataError(
                f"expected {whole or 'some'} files of the split {split} in {str(folder)!r}, found "
                f"{len(files)}; encode the text again"
            )
        try:
            for file in files:
                _check(file)
            with progress_only_on_terminals():
                rows = datasets.load_dataset(
                    "parquet", data_files=[str(file) for file in files], split="train"
                )
        except Exception as error:
            raise DataError(
                f"cannot read the ids in {str(folder)!r}, a file may be damaged "
                f"({' '.join(str(error).split())[:200]}); encode the text again"
            ) from error
        assert isinstance(rows, Dataset)  # one split, not streamed
        found[split] = rows
    return found


def _check(file: Path) -> None:
    """Compare a file with the checksums in it, which `datasets` does not."""
    with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
        for _ in opened.iter_batches():
            pass
