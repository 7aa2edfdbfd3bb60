"""Make the studies that Attar ships: pipelines tried on data sets of several kinds.

    python benchmarks/distiller-recommender/studies.py --workers 2

Every study is resumed where it stopped, and any number of workers may run. `--install` copies the
finished ones into the package.
"""

import argparse
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from labelled import CORPORA, corpus, flat, keep, teacher

from attar import artefacts
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.search import SearchConfig, search
from attar.search.storage import STUDY_FILE
from attar.train.students import StudentInit

PACKAGED = Path(__file__).resolve().parents[2] / "src/attar/methods/distiller/studies"
TRIALS = 20  # of each start of the student, so 40 of each data set
ROWS = {"train": 1_000, "validation": 1_000, "test": 500}
LABELLED = 500  # of the training rows; the others teach through the teacher
#: how the student starts -> its shape, steps, batch and learning rate
STARTS: dict[StudentInit, dict[str, Any]] = {
    "cut": {"width": None, "steps": 100, "batch": 16, "rate": 2e-4},
    "random": {"width": 128, "steps": 200, "batch": 16, "rate": 1e-3},
}
#: What draws the pipelines. Four data sets share theirs, so that pipelines can be compared across
#: data; the others draw their own, so that all together cover more of the space.
SHARED: dict[StudentInit, int] = {"cut": 0, "random": 0}
SEEDS: dict[str, dict[StudentInit, int]] = {
    "rte": {"cut": 8, "random": 9},
    "python-stdlib:package": {"cut": 10, "random": 11},
    "python-stdlib:docstring": {"cut": 12, "random": 13},
}


def rows_of(name: str, data: Path) -> Path:
    """The rows that all trials of a data set see: few, so that a trial takes seconds."""
    return keep(corpus(name, data), ROWS, artefacts.home() / "benchmarks" / "studied" / flat(name))


def study(name: str, init: StudentInit, data: Path) -> Path:
    """Run one study to its end, beside other workers; the file."""
    folder = artefacts.home() / "benchmarks" / "studies" / f"{flat(name)}-{init}"
    start = STARTS[init]
    training = DistillConfig(
        max_steps=start["steps"],
        per_device_train_batch_size=start["batch"],
        learning_rate=start["rate"],
        context=CORPORA[name].length,
        limit_labels=LABELLED,
        logging_steps=start["steps"],
        seed=SEEDS.get(name, SHARED)[init],
    )
    search(
        None,
        rows_of(name, data),
        teacher=teacher(name, data),
        student_layers=2,
        student_width=start["width"],
        student_init=init,
        output_dir=folder,
        config=SearchConfig(trials=TRIALS, recommended=0, prune=False),
        training=training,
    )
    return folder / STUDY_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--only", nargs="*", default=list(CORPORA), help="data sets")
    parser.add_argument("--install", action="store_true", help="copy finished studies and end")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.install:
        install()
        return
    for name in args.only:
        teacher(name, args.data)  # with all threads
        rows_of(name, args.data)
    if args.workers > 1:
        command = [sys.executable, __file__, "--data", str(args.data), "--only", *args.only]
        started = [subprocess.Popen(command) for _ in range(args.workers)]
        if any([worker.wait() for worker in started]):
            sys.exit("a worker failed; run this again to go on")
        return
    torch.set_num_threads(1)
    for name in args.only:
        for init in STARTS:
            study(name, init, args.data)


def install() -> None:
    """Copy the finished studies into the package."""
    PACKAGED.mkdir(exist_ok=True)
    for file in sorted((artefacts.home() / "benchmarks" / "studies").glob(f"*/{STUDY_FILE}")):
        trials = file.read_text(encoding="utf-8").splitlines(keepends=True)
        if len(trials) < TRIALS:
            print(f"left out, not finished: {file.parent.name}")
            continue
        (PACKAGED / f"{file.parent.name}.jsonl").write_text(
            "".join(trials[:TRIALS]), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
