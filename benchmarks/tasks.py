"""Zero-shot tasks for lm-evaluation-harness from local files: no download."""

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: name -> prompt and answers, in the harness's templates; the wording is that of its own tasks
TASKS: dict[str, dict[str, Any]] = {
    "attar_rte": {
        "doc_to_text": "{{sentence1}}\nQuestion: {{sentence2}} True or False?\nAnswer:",
        "doc_to_choice": ["True", "False"],
    },
    "attar_sst2": {
        "doc_to_text": "{{sentence}}\nQuestion: Is this sentence positive or negative?\nAnswer:",
        "doc_to_choice": ["negative", "positive"],
    },
}


def write_tasks(data: Path, folder: Path) -> list[str]:
    """Write the tasks and their rows into a folder; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        "attar_rte": _rte(data / "rte" / "dev.tsv.gz"),
        "attar_sst2": _sst2(data / "sst2" / "dev.tsv"),
    }
    for name, found in rows.items():
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"validation": str(file)}},
            "output_type": "multiple_choice",
            "validation_split": "validation",
            "doc_to_target": "{{label}}",
            "metric_list": [{"metric": "acc"}],
            **TASKS[name],
        }
        # JSON is YAML
        (folder / f"{name}.yaml").write_text(json.dumps(task), encoding="utf-8")
    return list(rows)


def _rte(file: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            label = int(row["label"] == "not_entailment")
            yield {"sentence1": row["sentence1"], "sentence2": row["sentence2"], "label": label}


def _sst2(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        sentence, label = line.rsplit("\t", 1)
        yield {"sentence": sentence, "label": int(label)}
